/** How much faster an update is on several threads: measured side by side after training, as gradients take most of it. */

import { createArena } from "downhill";
import type { Entry } from "./runs.js";

export interface Speed {
  readonly title: string;
  readonly params: number;
  /** Nanoseconds a parameter: on one thread, and on all. */
  readonly one: number;
  readonly all: number;
}

const ROUNDS = 15;
const median = (samples: number[]) => samples.sort((a, b) => a - b)[samples.length >> 1]!;

/** Updates of so many parameters, on one thread and on as many as are asked for, which take turns. */
export async function compareThreads(
  entries: readonly Entry[],
  sizes: readonly number[],
  threads: number,
): Promise<Speed[]> {
  const speeds: Speed[] = [];
  for (const { title, factory, options } of entries) {
    for (const params of sizes) {
      const arenas = [await createArena({ threads: 1 }), await createArena({ threads })];
      const optimizers = arenas.map((arena) => {
        const w = arena.tensor("w", [params]);
        w.grad.fill(0.01);
        return factory([w], options);
      });
      const samples = optimizers.map((): number[] => []);
      for (let round = 0; round < ROUNDS; round++) {
        optimizers.forEach((optimizer, i) => {
          for (let warm = 0; warm < 2; warm++) optimizer.step();
          const start = performance.now();
          optimizer.step();
          samples[i]!.push(((performance.now() - start) * 1e6) / params);
        });
      }
      for (const arena of arenas) arena.free();
      speeds.push({ title, params, one: median(samples[0]!), all: median(samples[1]!) });
    }
  }
  return speeds;
}
