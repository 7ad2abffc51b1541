/**
 * Measures how much faster an update is on several threads. It runs after training, which mostly computes gradients.
 */

import { createArena } from "downhill";
import type { Entry } from "./runs.js";

export interface Speed {
  readonly title: string;
  readonly params: number;
  /** Nanoseconds per parameter: on one thread, and on all. */
  readonly one: number;
  readonly all: number;
}

const PASSES = 3;
const ROUNDS = 7;
const median = (samples: number[]) => samples.sort((a, b) => a - b)[samples.length >> 1]!;

/** Measures updates of `size` parameters on one thread and on several. */
export async function compareThreads(
  entries: readonly Entry[],
  sizes: readonly number[],
  threads: number,
): Promise<Speed[]> {
  const contests = entries
    .filter(({ wholeSet, make }) => !wholeSet && !make)
    .flatMap((entry) => sizes.map((params) => ({ entry, params, samples: [[], []] as [number[], number[]] })));
  // Several passes, because shared machines have slow moments.
  for (let pass = 0; pass < PASSES; pass++) {
    for (const { entry, params, samples } of contests) await takeTurns(entry, params, [1, threads], samples);
  }
  return contests.map(({ entry: { title }, params, samples: [one, all] }) => ({
    title,
    params,
    one: median(one),
    all: median(all),
  }));
}

/** Adds nanoseconds per parameter to the samples of each number of threads. */
async function takeTurns({ factory, options }: Entry, params: number, counts: number[], samples: number[][]) {
  const contenders = await Promise.all(
    counts.map(async (threads) => {
      const arena = await createArena({ threads });
      const w = arena.tensor("w", [params]);
      w.grad.fill(0.01);
      return { arena, optimizer: factory!([w], options) };
    }),
  );
  for (let round = 0; round < ROUNDS; round++) {
    contenders.forEach(({ optimizer }, i) => {
      for (let warm = 0; warm < 2; warm++) optimizer.step();
      const start = performance.now();
      optimizer.step();
      samples[i]!.push(((performance.now() - start) * 1e6) / params);
    });
  }
  for (const { arena } of contenders) arena.free();
}
