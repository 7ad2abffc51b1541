/**
 * Measures arms in turns, so that other programs on the machine slow all of them alike. A result is the median and the
 * minimum over the rounds.
 */

import { setTimeout } from "node:timers/promises";

/** An arm: one implementation of the work that is measured. */
export interface Arm {
  readonly name: string;
  /**
   * Returns the nanoseconds of `count` runs. Before each run, other work takes `pause` milliseconds, which are not
   * counted.
   */
  time(count: number, pause: number): number | Promise<number>;
  /** Frees what the arm holds. */
  end?(): unknown;
}

/** Nanoseconds of one run. */
export interface Timing {
  readonly median: number;
  readonly min: number;
}

export interface Budget {
  /** Milliseconds that all arms together should take. */
  readonly milliseconds: number;
  /** Milliseconds of other work before each run. Default: none. */
  readonly pause?: number;
}

/**
 * The shortest duration of a sample in nanoseconds. A sample has so many runs that neither the resolution of the clock nor
 * the time to wake a thread matters. With samples of one millisecond, two threads were measured while one was asleep.
 */
const SAMPLE = 8e6;
/** Milliseconds of rest before each turn. In this time, the threads of the arm before stop looking for work. */
const REST = 10;
/** Samples of an arm. Slow arms have at least the first number, whatever the budget. */
const [MIN_SAMPLES, MAX_SAMPLES] = [3, 51];

export const median = (samples: readonly number[]) => [...samples].sort((a, b) => a - b)[samples.length >> 1]!;

/** Keeps this thread busy for some milliseconds. */
export function busyWait(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}

/** An arm that calls a function of this process. */
export function arm(name: string, run: () => unknown, end?: () => unknown): Arm {
  const time = (count: number, pause: number) => {
    let total = 0;
    if (pause > 0) {
      for (let i = 0; i < count; i++) {
        busyWait(pause);
        const start = performance.now();
        run();
        total += performance.now() - start;
      }
    } else {
      const start = performance.now();
      for (let i = 0; i < count; i++) run();
      total = performance.now() - start;
    }
    return total * 1e6;
  };
  return { name, time, end };
}

/** An arm that awaits a function of this process. */
export function asyncArm(name: string, run: () => Promise<unknown>, end?: () => unknown): Arm {
  async function time(count: number, pause: number) {
    let total = 0;
    for (let i = 0; i < count; i++) {
      busyWait(pause);
      const start = performance.now();
      await run();
      total += performance.now() - start;
    }
    return total * 1e6;
  }
  return { name, time, end };
}

/** Measures arms in turns. */
export async function compare(arms: readonly Arm[], { milliseconds, pause = 0 }: Budget): Promise<Timing[]> {
  const counts: number[] = [];
  const costs: number[] = [];
  for (const arm of arms) {
    await arm.time(1, pause); // allocates and compiles
    const first = Math.max(1, await arm.time(1, pause));
    counts.push(Math.ceil(SAMPLE / first));
    costs.push(2 * counts.at(-1)! * (first + pause * 1e6) + REST * 1e6);
  }
  const share = (milliseconds * 1e6) / arms.length;
  const wanted = costs.map((cost) => Math.min(MAX_SAMPLES, Math.max(MIN_SAMPLES, Math.floor(share / cost))));
  const rounds = Math.max(...wanted);
  const samples = arms.map((): number[] => []);
  // A busy machine may take far longer than estimated.
  const latest = performance.now() + 3 * milliseconds;
  for (let round = 0; round < rounds; round++) {
    for (const [i, arm] of arms.entries()) {
      // A slow arm has its turn in fewer rounds, spread over all of them.
      if (Math.floor((round * wanted[i]!) / rounds) === Math.floor(((round - 1) * wanted[i]!) / rounds)) continue;
      await setTimeout(REST);
      await arm.time(counts[i]!, pause); // wakes its threads and fills its caches
      const each = (await arm.time(counts[i]!, pause)) / counts[i]!;
      samples[i]!.push(each);
      counts[i] = Math.ceil(SAMPLE / Math.max(1, each));
    }
    if (performance.now() > latest && samples.every(({ length }) => length >= MIN_SAMPLES)) break;
  }
  return samples.map((times) => ({ median: Math.round(median(times)), min: Math.round(Math.min(...times)) }));
}
