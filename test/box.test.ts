/** Bounds of the parameters: for every rule, as if the parameters were limited by hand after each step. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createArena } from "../ts/arena/arena.js";
import type { Tensor } from "../ts/arena/tensor.js";
import { load, save } from "../ts/checkpoint/index.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { adam, adamw, scheduleFreeAdamw, scheduleFreeSgd, sgd } from "../ts/rules/index.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { bitsOf, error, inputs } from "./harness.js";
import { type AnyFactory, factories, fitting } from "./registry.js";
import { small } from "./small.js";

const LENGTH = 83;
const STEPS = 5;
const run = inputs(LENGTH, STEPS);

function model({ rule }: AnyFactory) {
  const arena = small();
  // A neighbour on either side shows whether padding is written.
  const { low, w, high } = arena.tensors({ low: [1], w: fitting(rule, [LENGTH]), high: [1] });
  w.data.set(run.params);
  return { w, neighbours: [low, high] };
}

/** Limits parameters to bounds that are rounded to float32: -5e-324 is a zero there. */
function limit({ data }: Tensor, ...bounds: [low: number, high: number]): void {
  const [low, high] = bounds.map(Math.fround) as typeof bounds;
  data.forEach((x, i) => (data[i] = x < low ? low : x > high ? high : x));
}

describe.each(factories)("$rule.name", (factory) => {
  test("gives the bits of parameters that are limited after each step", () => {
    const ends = fc.tuple(fc.double({ min: -1, max: 1, noNaN: true }), fc.double({ min: -1, max: 1, noNaN: true }));
    const property = fc.property(ends, fc.boolean(), fc.boolean(), (ends, nonNegative, isOpen) => {
      const [low, high] = [...ends].sort((a, b) => a - b) as [number, number];
      fc.pre(!nonNegative || high >= 0 || isOpen);
      const box = [low, isOpen ? Infinity : high] as const;
      const [bounded, plain] = [model(factory), model(factory)];
      const optimizer = factory([bounded.w], { box, nonNegative, clipNorm: 1, zeroGrad: true });
      const other = factory([plain.w], { clipNorm: 1, zeroGrad: true });
      for (const grad of run.grads) {
        for (const [{ w }, by] of [[bounded, optimizer] as const, [plain, other] as const]) {
          w.grad.set(grad);
          by.step();
        }
        limit(plain.w, nonNegative ? Math.max(0, low) : low, box[1]);
        expect(bitsOf(optimizer, bounded.w)).toEqual(bitsOf(other, plain.w));
      }
      for (const { data, grad } of bounded.neighbours) expect([data[0], grad[0]]).toEqual([0, 0]);
    });
    fc.assert(property, { numRuns: 6 });
  });
});

test("is a projected gradient step, in plain double precision", () => {
  const { w } = model(sgd);
  const optimizer = sgd([w], { lr: 0.5, momentum: 0.9, box: [-0.25, 0.5] });
  let [p, m] = [[...w.data], new Array<number>(LENGTH).fill(0)];
  for (const grad of run.grads) {
    m = m.map((m, i) => 0.9 * m + grad[i]!);
    p = p.map((p, i) => Math.min(0.5, Math.max(-0.25, p - 0.5 * m[i]!)));
    w.grad.set(grad);
    optimizer.step();
  }
  expect(error(w.data, p)).toBeLessThan(1);
});

test("averages include the limited parameters", () => {
  const { w } = model(adam);
  const optimizer = adam([w], { lr: 0.3, box: [-0.1, 0.2], ema: 0.9 });
  let average: number[] = [];
  for (const grad of run.grads) {
    w.grad.set(grad);
    optimizer.step();
    average = [...w.data].map((p, i) => (average.length ? 0.9 * average[i]! + 0.1 * p : p));
    if (average.length === 0) average = [...w.data];
  }
  expect(error(optimizer.average(w), average)).toBeLessThan(1);
});

test("any number of threads gives the same bits, and each group has its own bounds", async () => {
  const results = [];
  for (const threads of [1, 3]) {
    const arena = await createArena({ threads, maxBytes: 2 ** 24 });
    const { a, b, c } = arena.tensors({ a: [300_001], b: [33], c: [50_000] });
    const optimizer = sgd([{ params: [a, b], box: [0.25, 0.5] }, { params: [c] }], { lr: 1 });
    for (const { grad } of [a, b, c]) grad.forEach((_, i) => (grad[i] = Math.sin(i)));
    optimizer.step();
    for (const { data } of [a, b]) expect(data.every((p) => p >= 0.25 && p <= 0.5)).toBe(true);
    expect(c.data.some((p) => p < 0)).toBe(true);
    results.push([a, b, c].map(({ data }) => data.slice()));
    arena.free();
  }
  expect(results[1]).toEqual(results[0]);
});

test("a NaN stays, zeros keep their sign, and bounds are rounded to float32", () => {
  const w = small().tensor("w", [4]);
  w.data.set([NaN, -0, 5, -5]);
  sgd([w], { box: [-0.1, 0.1] }).step();
  expect([...w.data]).toEqual([NaN, -0, Math.fround(0.1), Math.fround(-0.1)]);
});

test.each([scheduleFreeSgd, scheduleFreeAdamw])("the parameters for evaluation are inside: %o", (factory) => {
  const w = small().tensor("w", [LENGTH]);
  w.data.set(run.params);
  const optimizer = factory([w], { lr: 0.9, box: [-0.3, 0.3] } as object);
  for (const grad of run.grads) {
    w.grad.set(grad);
    optimizer.step();
  }
  const training = w.data.slice();
  optimizer.eval();
  expect(w.data.every((p) => Math.abs(p) <= Math.fround(0.3))).toBe(true);
  optimizer.train();
  expect(w.data).toEqual(training);
});

test("lookahead's slow weights are means of limited parameters", () => {
  const { w } = model(adamw);
  const optimizer = lookahead(adamw([w], { lr: 0.5, nonNegative: true }), { syncPeriod: 2 });
  w.data.forEach((p, i) => (w.data[i] = Math.abs(p)));
  for (const grad of run.grads) {
    w.grad.set(grad);
    optimizer.step();
    expect(w.data.every((p) => p >= 0)).toBe(true);
  }
});

test("checkpoints keep bounds, and earlier checkpoints have none", () => {
  const { w } = model(sgd);
  const file = save([w], sgd([w], { box: [0, 1] }));
  load(file, [w], sgd([w], { box: [0, 1] }));
  expect(() => load(file, [w], sgd([w]))).toThrow('groups[0].box[0] is 0 in the file, "-Infinity" here');
});

test("wrong bounds are refused", () => {
  const { w } = model(sgd);
  const make = (options: object) => () => sgd([w], options);
  expect(make({ box: [1, 0] })).toThrow(
    new RangeError(
      "sgd: box must be [low, high] with low at most high and a finite float32 number between them, got [1, 0]",
    ),
  );
  expect(make({ box: [-2, -1], nonNegative: true })).toThrow(
    new RangeError(
      "sgd: box with nonNegative must be [low, high] with low at most high and a finite float32 number between them, got [0, -1]",
    ),
  );
  expect(make({ box: [1e39, Infinity] })).toThrow(
    new RangeError(
      "sgd: box must be [low, high] with low at most high and a finite float32 number between them, got [1e+39, Infinity]",
    ),
  );
  expect(make({ box: [-Infinity, -1e39] })).toThrow(
    "sgd: box must be [low, high] with low at most high and a finite float32 number between them",
  );
  expect(make({ box: [NaN, 1] })).toThrow(new RangeError("sgd: box[0] must be in [-∞, ∞], got NaN"));
  expect(make({ box: 1 })).toThrow(new TypeError("sgd: box must be a list of 2 numbers, got 1"));
  expect(make({ box: [0] })).toThrow(new RangeError("sgd: box must have 2 numbers, got 1"));
  expect(make({ nonNegative: 1 })).toThrow(TypeError);
  expect(() => sgd([{ params: [w], box: [3, 2] }])).toThrow("sgd: groups[0].box must be [low, high]");
  expect(() => lbfgs([w], { box: [0, 1] } as object)).toThrow("lbfgs: there is no box");
  expect(() => lbfgs([w], { nonNegative: true } as object)).toThrow("lbfgs: there is no nonNegative");
});
