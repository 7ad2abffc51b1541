/**
 * Measures whether the values of the gradients change the speed. Every rule runs on one thread with several kinds of
 * gradients.
 */

import * as downhill from "downhill";
import { factoryIn, type Work } from "./work.js";

/** Computes the gradient of an element at a step from an ordinary gradient. */
type Kind = (ordinary: number, element: number, step: number) => number;
/** The step from which gradients that die are zero. */
const DEATH = 10;
export const kinds: Readonly<Record<string, Kind>> = {
  ordinary: (x) => x,
  dead: (x, _, step) => (step < DEATH ? x : 0),
  "dead after 1e-17": (x, _, step) => (step < DEATH ? x * 1e-17 : 0),
  "half dead": (x, element, step) => (step < DEATH || element % 128 < 64 ? x : 0),
  rare: (x, element, step) => ((element + step) % 500 === 0 ? x : 0),
  "1e-12": (x) => x * 1e-12,
  "1e-20, whose squares are subnormal": (x) => x * 1e-20,
  "1e-40, subnormal": (x) => x * 1e-40,
};

/** The number of steps. Enough for a mean of 1e-34 to become subnormal when it decays by 0.999 per step. */
const STEPS = 12_000;
/** The number of steps for rules of matrices, whose steps take longer. */
const MATRIX_STEPS = 1500;
/** The number of steps that are measured together. */
const STEPS_PER_BLOCK = 50;
/** The gradient of a changing kind repeats after so many steps. */
const PERIOD = 500;

const lowerQuartile = (samples: number[]) => samples.sort((a, b) => a - b)[samples.length >> 2]!;

/** Returns the time of the slowest steps for each kind of gradient, in nanoseconds, by the kind's name. */
export function slowestSteps({ rule, options, shapes }: Pick<Work, "rule" | "options" | "shapes">, quick: boolean) {
  const factory = factoryIn(downhill, rule);
  const steps = (factory.rule.program ? MATRIX_STEPS : STEPS) / (quick ? 4 : 1);
  // Arms take turns block by block.
  const arms = Object.entries(kinds).map(([name, kind]) => {
    const arena = downhill.createArenaSync({ threads: 1 });
    const [w] = shapes.map((shape) => arena.tensor("w", shape)) as [downhill.Tensor];
    w.data.fill(0.5);
    const ordinary = Float64Array.from(w.grad, (_, i) => 0.01 * Math.sin(i * i + 1));
    const fill = (step: number) => {
      for (let i = 0; i < ordinary.length; i++) w.grad[i] = kind(ordinary[i]!, i, step);
    };
    return {
      name,
      arena,
      fill,
      changes: name === "rare",
      optimizer: factory([w], options),
      slowest: 0,
      before: Infinity,
    };
  });
  for (let block = 0; block < steps; block += STEPS_PER_BLOCK) {
    for (const arm of arms) {
      const times: number[] = [];
      for (let step = block; step < block + STEPS_PER_BLOCK; step++) {
        if (step === 0 || step === DEATH || arm.changes) arm.fill(arm.changes ? step % PERIOD : step);
        const start = performance.now();
        arm.optimizer.step();
        times.push((performance.now() - start) * 1e6);
      }
      // A slow kind of gradient slows every step of two neighbouring blocks, other programs slow only some. So the smaller
      // of two neighbours counts. Code is compiled in the first blocks, so these do not count.
      const time = lowerQuartile(times);
      if (block > 2 * STEPS_PER_BLOCK) arm.slowest = Math.max(arm.slowest, Math.min(time, arm.before));
      arm.before = time;
    }
  }
  for (const { arena } of arms) arena.free();
  return Object.fromEntries(arms.map(({ name, slowest }) => [name, slowest]));
}
