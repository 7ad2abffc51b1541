/** How benches measure: what is compared takes turns, and medians are quoted. */

export const median = (samples: number[]) => samples.sort((a, b) => a - b)[samples.length >> 1]!;
export const rest = (milliseconds: number) => {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
};

/** Nanoseconds of each function, which take turns: medians of `rounds`, after `pause` milliseconds without work each. */
export function compare(functions: readonly (() => void)[], { rounds = 31, pause = 0, least = 2e5 } = {}): number[] {
  const counts = functions.map((run) => {
    const start = performance.now();
    run();
    return pause > 0 ? 1 : Math.max(1, Math.ceil(least / ((performance.now() - start) * 1e6)));
  });
  const samples = functions.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, run] of functions.entries()) {
      if (pause > 0) rest(pause);
      else for (let j = 0; j < 3; j++) run(); // wakes the threads
      const start = performance.now();
      for (let j = 0; j < counts[i]!; j++) run();
      samples[i]!.push(((performance.now() - start) * 1e6) / counts[i]!);
    }
  }
  return samples.map(median);
}
