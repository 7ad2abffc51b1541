/** How benches measure. Arms take turns, so a disturbance meets all of them; a figure is the median over the rounds. */

/** One of several ways to do the same work. */
export interface Arm {
  readonly run: () => unknown;
  /** Called before each round, untimed. */
  readonly prepare?: () => unknown;
}

export const median = (samples: number[]) => samples.sort((a, b) => a - b)[samples.length >> 1]!;

/** Keeps the thread busy for some milliseconds. */
export const rest = (milliseconds: number) => {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
};

/**
 * Nanoseconds of one run of each arm. A sample is as many runs as take `least` nanoseconds, so that short runs are not too
 * short for the clock; or one run after `pause` milliseconds of other work.
 */
export async function compare(arms: readonly Arm[], { rounds = 31, pause = 0, least = 2e5 } = {}): Promise<number[]> {
  const counts: number[] = [];
  for (const { run, prepare } of arms) {
    await prepare?.();
    run(); // allocates state and compiles
    const start = performance.now();
    run();
    counts.push(pause > 0 ? 1 : Math.max(1, Math.ceil(least / ((performance.now() - start) * 1e6))));
  }
  const samples = arms.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, { run, prepare }] of arms.entries()) {
      await prepare?.();
      if (pause > 0) rest(pause);
      else for (let j = 0; j < 3; j++) run(); // wakes the threads
      const start = performance.now();
      for (let j = 0; j < counts[i]!; j++) run();
      samples[i]!.push(((performance.now() - start) * 1e6) / counts[i]!);
    }
  }
  return samples.map(median);
}
