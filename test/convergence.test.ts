/**
 * Every rule converges: on the two functions of Optax's tests (alias_test.py), with the same start, number of steps and
 * tolerance, and on a logistic regression, to the minimum that Newton's method finds.
 */

import { describe, expect, test } from "vitest";
import { createArenaSync } from "../ts/arena/arena.js";
import { exponentialLR, warmupConstant } from "../ts/schedules/index.js";
import { factories, fitting, type RuleName } from "./registry.js";
import { numbers } from "./harness.js";

/** The rates of Optax's tests. Rules that Optax lacks have rates with which they converge. */
const options: Record<RuleName, object> = {
  sgd: { lr: 1e-3, momentum: 0.9 },
  momentum: { lr: 1e-3 },
  adagrad: { lr: 1 },
  rmsprop: { lr: 5e-3 },
  adam: { lr: 3e-2 },
  adamw: { lr: 1e-1, weightDecay: 1e-4 },
  signSgd: { lr: 2e-3 },
  signum: { lr: exponentialLR({ lr: 1e-2, gamma: 0.9995 }) },
  lion: { lr: exponentialLR({ lr: 1e-2, gamma: 0.9995 }), weightDecay: 1e-4 },
  rprop: { lr: 1e-1 },
  adadelta: { lr: 1 },
  adamax: { lr: 1e-1 },
  radam: { lr: 5e-3 },
  adabelief: { lr: 1e-2 },
  yogi: { lr: 1e-1 },
  adopt: { lr: 1e-2, betas: [0.9, 0.99] },
  ademamix: { lr: 1e-3, betas: [0.9, 0.999, 0.99] },
  simplifiedAdemamix: { lr: 1e-3 },
  adan: { lr: 1e-1 },
  nadam: { lr: 1e-2 },
  asgd: { lr: 1e-3, lambd: 0 },
  madgrad: { lr: 1e-2 },
  scheduleFreeSgd: { lr: warmupConstant({ initValue: 0, peakValue: 1e-2, warmupSteps: 5000 }) },
  scheduleFreeAdamw: { lr: warmupConstant({ initValue: 0, peakValue: 1e-2, warmupSteps: 5000 }) },
  sophia: { lr: 1e-2 },
  ftrl: { lr: 1 },
  optimisticAdam: { lr: 2e-3 },
  noisySgd: { lr: 1e-3, eta: 1e-4 },
  cocob: {},
  lamb: { lr: 1e-3 },
  lars: { lr: 1 },
  novograd: { lr: 1e-3 },
  fromage: { lr: 5e-3 },
  dog: { lr: 1 },
  dowg: { lr: 1 },
  dadaptAdamw: { lr: 1e-1 },
  prodigy: { lr: 1e-1 },
  adafactor: { lr: exponentialLR({ lr: 1e-1, gamma: 0.9995 }) },
  soap: { lr: exponentialLR({ lr: 3e-2, gamma: 0.9995 }), weightDecay: 0 },
  shampoo: { lr: exponentialLR({ lr: 1, gamma: 0.9995 }) },
  sm3: { lr: 1 },
  muon: { lr: exponentialLR({ lr: 2e-2, gamma: 0.999 }), weightDecay: 0 },
};

/**
 * Options for one rule on one function. A rate that falls, for rules whose steps have a fixed size. A larger rate, for
 * rules that are slow where slopes are small.
 */
const others: Record<string, object> = {
  "signSgd rosenbrock": { lr: exponentialLR({ lr: 2e-3, gamma: 0.9993 }) },
  "adadelta rosenbrock": { lr: 0.05 },
  "asgd regression": { lr: 0.5, lambd: 0 },
  "scheduleFreeSgd regression": { lr: 1 },
  "noisySgd regression": { lr: 0.1, eta: 1e-4 },
};

/** The number of steps, where ten thousand are too few: the number in Optax's contrib/_common_test.py. */
const longer: Record<string, number> = { "cocob rosenbrock": 30_000 };

interface Problem {
  readonly start: readonly number[];
  readonly best: readonly number[];
  readonly gradient: (x: Float32Array) => readonly number[];
  /** The diagonal of the Hessian, for rules that use one. */
  readonly curvature: (x: Float32Array) => readonly number[];
}

const parabola: Problem = {
  start: [-1, 10, 1],
  best: [1, -1, 1],
  gradient: (x) => [1, -1, 1].map((best, i) => 2 * (x[i]! - best)),
  curvature: () => [2, 2, 2],
};

const rosenbrock: Problem = {
  start: [0, 0],
  best: [1, 1],
  gradient: ([x, y]) => [2 * (x! - 1) - 400 * x! * (y! - x! ** 2), 200 * (y! - x! ** 2)],
  curvature: ([x, y]) => [2 + 1200 * x! ** 2 - 400 * y!, 200],
};

/**
 * Logistic regression on points of two classes that overlap, with a constant feature. The best weights are computed by
 * Newton's method.
 */
const regression: Problem = (() => {
  const next = numbers(5);
  const points = Array.from({ length: 60 }, (_, i) => [1, 2 * next() + (i % 2 ? 0.8 : -0.8), next()]);
  const likely = (w: ArrayLike<number>, x: number[]) =>
    1 / (1 + Math.exp(-x.reduce((sum, x, i) => sum + x * w[i]!, 0)));
  const gradient = (w: ArrayLike<number>) =>
    [0, 1, 2].map((i) => points.reduce((sum, x, n) => sum + (likely(w, x) - (n % 2)) * x[i]!, 0) / points.length);
  let best = [0, 0, 0];
  for (let round = 0; round < 20; round++) {
    const curvature = [0, 1, 2].map((i) =>
      [0, 1, 2].map((j) => points.reduce((sum, x) => sum + likely(best, x) * (1 - likely(best, x)) * x[i]! * x[j]!, 0)),
    );
    const step = solve(
      curvature,
      gradient(best).map((g) => g * points.length),
    );
    best = best.map((w, i) => w - step[i]!);
  }
  const curvature = (w: ArrayLike<number>) =>
    [0, 1, 2].map(
      (i) => points.reduce((sum, x) => sum + likely(w, x) * (1 - likely(w, x)) * x[i]! ** 2, 0) / points.length,
    );
  return { start: [0, 0, 0], best, gradient, curvature };
})();

/** Solves linear equations by Gaussian elimination. */
function solve(matrix: number[][], right: number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  for (let i = 0; i < rows.length; i++) {
    for (let j = 0; j < rows.length; j++) {
      if (i === j) continue;
      const factor = rows[j]![i]! / rows[i]![i]!;
      rows[j] = rows[j]!.map((x, k) => x - factor * rows[i]![k]!);
    }
  }
  return rows.map((row, i) => row.at(-1)! / row[i]!);
}

describe.each(factories)("$rule.name", (factory) => {
  const { name } = factory.rule;
  test.each(Object.entries({ parabola, rosenbrock, regression }))(
    "%s",
    (problem, { start, best, gradient, curvature }) => {
      const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
      const w = arena.tensor("w", fitting(factory.rule, [start.length]));
      w.data.set(start);
      const optimizer = factory([w], others[`${name} ${problem}`] ?? options[name as RuleName]);
      for (let step = 0; step < (longer[`${name} ${problem}`] ?? 10_000); step++) {
        if (factory.rule.hessian && step % 10 === 0) {
          w.grad.set(curvature(w.data));
          optimizer.hessian();
        }
        w.grad.set(gradient(w.data));
        optimizer.step();
      }
      optimizer.eval();
      const off = Math.max(...best.map((x, i) => Math.abs(w.data[i]! - x) / (0.01 + 0.01 * Math.abs(x))));
      expect(off, `${[...w.data]} for ${best}`).toBeLessThan(1);
      arena.free();
    },
  );
});
