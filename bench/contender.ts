/** Measuring several ways to do the same, side by side. */

import { measure } from "mitata"; // keeps the compiler from removing work, and batches what is too short for the clock

export interface Contender {
  readonly label: string;
  /** Before each round. */
  readonly prepare?: () => unknown;
  readonly run: () => void;
  readonly end?: () => void;
}

const ROUNDS = 3;

/** Nanoseconds of each contender's run: the median over rounds, in which they take turns, of the medians. */
export async function medians(contenders: readonly Contender[], milliseconds = 100): Promise<Map<string, number>> {
  const times = new Map<string, number[]>(contenders.map(({ label }) => [label, []]));
  for (let round = 0; round < ROUNDS; round++) {
    for (const { label, prepare, run } of contenders) {
      await prepare?.();
      const { p50 } = await measure(run, { min_cpu_time: milliseconds * 1e6, min_samples: 3, warmup_samples: 1 });
      times.get(label)!.push(p50);
    }
  }
  for (const { end } of contenders) end?.();
  return new Map([...times].map(([label, samples]) => [label, samples.sort((a, b) => a - b)[ROUNDS >> 1]!]));
}
