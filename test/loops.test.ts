/** Some kernels have a second loop without rare options. The scale of gradients is in its coefficients. */

import { describe, expect, test } from "vitest";
import type { Arena } from "../ts/arena/arena.js";
import { adam, adamw, sgd } from "../ts/rules/index.js";
import { inputs } from "./harness.js";
import { small } from "./small.js";

const { params, grads } = inputs(37, 4);

const rules = {
  adam: (arena: Arena, options: object) => adam([arena.tensor("w")], { lr: 0.1, ...options }),
  adamw: (arena: Arena, options: object) => adamw([arena.tensor("w")], { lr: 0.1, weightDecay: 0.1, ...options }),
  "sgd with momentum": (arena: Arena, options: object) =>
    sgd([arena.tensor("w")], { lr: 0.1, momentum: 0.9, ...options }),
  sgd: (arena: Arena, options: object) => sgd([arena.tensor("w")], { lr: 0.125, ...options }),
};

describe.each(Object.entries(rules))("%s", (_, make) => {
  /** The parameters and the state after some steps, if `divisor` divides the gradients. */
  function run(options: object, divisor = 1): number[][] {
    const arena = small();
    const w = arena.tensor("w", [params.length]);
    w.data.set(params);
    const optimizer = make(arena, options);
    for (const grad of grads) {
      w.grad.set(grad.map((g) => g / divisor));
      optimizer.step();
    }
    return [w.data, ...Object.values(optimizer.state(w) as Record<string, Float32Array>)].map((array) => [...array]);
  }
  /** Turns on the loop with all options. It changes no gradient. */
  const all = { clipValue: 1e30 };

  test.each([{}, { maximize: true }, { gradScale: 0.25 }, { lossScale: 1024 }])("both loops: %o", (options) => {
    expect(run(options)).toEqual(run({ ...options, ...all }));
  });

  // Powers of two change no bits. From 2^40 on, the loop with all options runs.
  test.each([-100, -41, -40, -39, 39, 40, 41, 60])("a scale of 2^%i", (exponent) => {
    const gradScale = 2 ** exponent;
    expect(run({ gradScale }, gradScale)).toEqual(run({}));
  });
});

test("adam and adamw take gradients up to 5.8e20, as PyTorch does", () => {
  for (const make of [rules.adam, rules.adamw]) {
    for (const [g, isFinite] of [
      [5e20, true],
      [7e20, false],
    ] as const) {
      for (const options of [{}, { clipValue: 1e30 }]) {
        const arena = small();
        const w = arena.tensor("w", [1]);
        const optimizer = make(arena, options);
        w.grad.fill(g);
        optimizer.step();
        expect(Number.isFinite((optimizer.state(w) as { expAvgSq: Float32Array }).expAvgSq[0])).toBe(isFinite);
      }
    }
  }
});

test.each([rules.adam, rules.sgd, rules["sgd with momentum"]])(
  "infinite parameters stay without weight decay",
  (make) => {
    const arena = small();
    const w = arena.tensor("w", [3]);
    w.data.set([Infinity, -Infinity, 1]);
    w.grad.fill(1);
    make(arena, {}).step();
    expect([...w.data.subarray(0, 2)]).toEqual([Infinity, -Infinity]);
  },
);
