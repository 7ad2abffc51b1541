/** The step of an epoch's last micro-batches, and the limit on steps that are skipped. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { load, save } from "../ts/checkpoint/index.js";
import { adamw, sgd } from "../ts/rules/index.js";
import { sam } from "../ts/wrappers/sam.js";
import { bits, inputs } from "./harness.js";
import { type AnyFactory, factories, fitting } from "./registry.js";
import { small } from "./small.js";

const run = inputs(35, 8);

function model({ rule }: AnyFactory, options: object) {
  const w = small().tensor("w", fitting(rule, [35]));
  w.data.set(run.params);
  const optimizer = (rule === sgd.rule ? sgd : factories.find((factory) => factory.rule === rule)!)([w], options);
  const give = (from: number, to: number) =>
    run.grads.slice(from, to).forEach((grad) => {
      w.grad.set(grad);
      optimizer.step();
    });
  return { w, optimizer, give, bits: () => bits({ params: w.data, state: optimizer.state(w) }) };
}

describe.each(factories)("$rule.name", (factory) => {
  test("flush() makes the step of the micro-batches that came", async () => {
    const property = fc.asyncProperty(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 0, max: 3 }),
      fc.constantFrom("mean", "sum"),
      fc.boolean(),
      async (came, more, accumulateBy, isAsync) => {
        const options = { accumulateBy, clipNorm: 1 };
        const flushed = model(factory, { ...options, accumulate: came + more });
        const plain = model(factory, { ...options, accumulate: came });
        for (const { give } of [flushed, plain]) give(0, came);
        const report = isAsync ? await flushed.optimizer.flushAsync() : { ...flushed.optimizer.flush() };
        expect(flushed.optimizer.steps).toBe(1);
        if (more > 0 && came > 0) expect(report.gradNorm).toBeGreaterThan(0);
        expect(flushed.bits()).toEqual(plain.bits());
        expect(flushed.optimizer.flush()).toEqual({ gradNorm: undefined, skipped: false, loss: undefined });
        expect(flushed.optimizer.steps).toBe(1);
      },
    );
    await fc.assert(property, { numRuns: 6 });
  });
});

test("steps continue after flush(), and checkpoints keep the micro-batches before it", () => {
  const [one, other] = [0, 1].map(() => model(sgd, { lr: 1, accumulate: 3 }));
  one!.give(0, 4);
  load(save([one!.w], one!.optimizer), [other!.w], other!.optimizer);
  for (const { optimizer, give } of [one!, other!]) {
    optimizer.flush();
    give(4, 7);
    expect(optimizer.steps).toBe(3);
  }
  expect(other!.bits()).toEqual(one!.bits());
});

test("schedules of queued steps count the step of flush()", async () => {
  const asked: number[] = [];
  const { optimizer, w } = model(sgd, { accumulate: 2, lr: (step: number) => (asked.push(step), step) });
  w.grad.fill(1);
  w.data.fill(0);
  asked.length = 0;
  const [first, ...rest] = [optimizer.stepAsync(), optimizer.stepAsync(), optimizer.stepAsync()];
  const flushed = optimizer.flushAsync();
  await Promise.all([first, ...rest, flushed, optimizer.stepAsync(), optimizer.stepAsync()]);
  expect(optimizer.steps).toBe(3);
  expect(w.data[0]).toBe(-(0 + 1 + 2));
});

test("flush() after sam needs no gradients at two points", () => {
  const w = small().tensor("w", [1]);
  const optimizer = sam(sgd([w], { lr: 1, accumulate: 2 }), { rho: 0 });
  optimizer.step(() => {
    w.grad.fill(2);
    return 0;
  });
  optimizer.flush();
  expect(w.data[0]).toBe(-2);
  optimizer.perturb();
});

describe("maxConsecutiveErrors", () => {
  const make = (options: object) => {
    const w = small().tensor("w", [2]);
    const optimizer = adamw([w], options);
    const step = (g: number) => {
      w.grad.fill(g);
      return optimizer.step().skipped;
    };
    return { w, optimizer, step };
  };

  test("is the number of steps in a row that may be skipped", () => {
    const { w, optimizer, step } = make({ nonFinite: "skip", maxConsecutiveErrors: 2 });
    expect([NaN, Infinity, 1, NaN, NaN].map(step)).toEqual([true, true, false, true, true]);
    const before = w.data.slice();
    expect(() => step(NaN)).toThrow(
      'adamw: the gradient of tensor "w" must be finite, got NaN at index 0, after 2 skipped steps in a row; nothing was updated',
    );
    expect(() => step(NaN)).toThrow(RangeError);
    expect(w.data).toEqual(before);
    expect(step(1)).toBe(false);
    expect(step(NaN)).toBe(true);
    expect(optimizer.steps).toBe(2);
  });

  test("holds for a dynamic scale of the loss, and through checkpoints", () => {
    const options = { lossScale: "dynamic", maxConsecutiveErrors: 3 };
    const [one, other] = [make(options), make(options)];
    expect([NaN, NaN].map(one.step)).toEqual([true, true]);
    load(save([one.w], one.optimizer), [other.w], other.optimizer);
    expect(other.step(NaN)).toBe(true);
    expect(() => other.step(NaN)).toThrow("after 3 skipped steps in a row");
  });

  test("is refused where no step is skipped", () => {
    expect(() => make({ maxConsecutiveErrors: 2 })).toThrow(
      'adamw: maxConsecutiveErrors needs nonFinite: "skip" or lossScale: "dynamic"; no step is skipped without them',
    );
    expect(() => make({ nonFinite: "skip", maxConsecutiveErrors: -1 })).toThrow("must be a whole number in [0, ∞]");
  });
});
