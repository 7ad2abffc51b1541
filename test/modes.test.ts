/** Tests of `hessian`, `eval` and `train` for every rule. */

import { describe, expect, test } from "vitest";
import { save } from "../ts/checkpoint/index.js";
import { adamw, scheduleFreeSgd, sophia } from "../ts/rules/index.js";
import { inputs } from "./harness.js";
import { oracle } from "./oracle.js";
import { factories, fitting } from "./registry.js";
import { small } from "./small.js";

const { params, grads } = inputs(37, 4);
const bytes = ({ buffer, byteOffset, byteLength }: Float32Array) => Buffer.from(buffer, byteOffset, byteLength);

describe.each(factories)("$rule.name", (factory) => {
  const { rule } = factory;

  test(`eval ${rule.evalParams ? "replaces the parameters, and train restores them" : "changes nothing"}`, () => {
    const w = small().tensor("w", fitting(rule, [37]));
    w.data.set(params);
    const optimizer = factory([w]);
    optimizer.eval();
    expect([...w.data]).toEqual([...params]);
    optimizer.train();
    for (const grad of grads) {
      w.grad.set(grad);
      optimizer.step();
    }
    const trained = w.data.slice();
    optimizer.eval();
    optimizer.eval();
    expect(w.data.some((x, i) => x !== trained[i])).toBe(rule.evalParams !== undefined);
    if (rule.evalParams) {
      const message = `${rule.name}: the parameters are those of eval(); call train() first`;
      expect(() => optimizer.step()).toThrow(message);
      expect(() => save({ w }, optimizer)).toThrow(message);
      expect(() => optimizer.swapAverages()).toThrow(message.replace(":", ": swapAverages:"));
      w.data.fill(0);
    }
    optimizer.train();
    optimizer.train();
    expect([...w.data]).toEqual([...trained]);
    optimizer.step();
    expect(optimizer.steps).toBe(5);
  });

  test.runIf(rule.evalParams)(
    "evalAsync and trainAsync run after the steps before them, and give the same bits",
    async () => {
      const arena = small();
      const [now, later] = [0, 1].map((i) => {
        const w = arena.tensor(`w${i}`, [10_007]);
        w.data.forEach((_, j) => (w.data[j] = Math.sin(j)));
        w.grad.forEach((_, j) => (w.grad[j] = Math.cos(j)));
        return { w, optimizer: factory([w], { box: [-0.9, 0.9] }) };
      }) as [any, any];
      for (let i = 0; i < 3; i++) now.optimizer.step();
      const trained = now.w.data.slice();
      now.optimizer.eval();
      later.optimizer.step();
      later.optimizer.step();
      const message = `${rule.name}: the parameters are those of eval(); call train() first`;
      const calls = [later.optimizer.stepAsync(), later.optimizer.evalAsync()];
      const isUnderWay = `${rule.name}: evalAsync() is under way; await it first`;
      for (const call of ["stepAsync", "evalAsync", "trainAsync", "flushAsync"]) {
        await expect(later.optimizer[call]()).rejects.toThrow("evalAsync() is under way; await it first");
      }
      expect(() => later.optimizer.step()).toThrow(new Error(isUnderWay)); // exactly: one title
      expect(() => save([later.w], later.optimizer)).toThrow("evalAsync() is under way; await it first");
      await Promise.all(calls);
      await later.optimizer.evalAsync();
      expect(Buffer.compare(bytes(later.w.data), bytes(now.w.data))).toBe(0);
      expect(() => later.optimizer.step()).toThrow(message);
      await later.optimizer.trainAsync();
      await later.optimizer.stepAsync();
      now.optimizer.train();
      expect(Buffer.compare(bytes(now.w.data), bytes(trained))).toBe(0);
      now.optimizer.step();
      expect(Buffer.compare(bytes(later.w.data), bytes(now.w.data))).toBe(0);
    },
  );

  test.runIf(rule.hessian === undefined)("hessian is refused", () => {
    const optimizer = factory([small().tensor("w", fitting(rule, [3]))]);
    expect(() => optimizer.hessian()).toThrow(`${rule.name}: hessian() is for rules that use one, such as sophia`);
  });
});

test("eval gives the mean of the points that were visited", () => {
  const w = small().tensor("w", [37]);
  w.data.set(params);
  const optimizer = scheduleFreeSgd([w], { lr: 0.5, weightLrPower: 0 });
  const been: Float32Array[] = [];
  for (const grad of grads) {
    w.grad.set(grad);
    optimizer.step();
    been.push(optimizer.state(w).z.slice());
  }
  optimizer.eval();
  w.data.forEach((x, i) => {
    expect(x).toBeCloseTo(been.reduce((sum, z) => sum + z[i]!, 0) / been.length, 6);
  });
});

test("estimates are averaged by the second decay, gradients stay, and steps follow the oracle", () => {
  const w = small().tensor("w", [37]);
  w.data.set(params);
  const options = { lr: 0.1, betas: [0.8, 0.7], gamma: 0.5 } as const;
  const optimizer = sophia([w], { ...options, betas: [...options.betas] });
  const states = Array.from(params, () => ({ expAvg: 0, hessian: 0 }));
  let expected = [...params];
  grads.forEach((grad, step) => {
    const estimate = grad.map((g) => 3 * g * g);
    w.grad.set(estimate);
    optimizer.hessian();
    expect([...w.grad]).toEqual([...estimate]);
    states.forEach((state, i) => (state.hessian = 0.7 * state.hessian + 0.3 * estimate[i]!));
    w.grad.set(grad);
    optimizer.step();
    const all = { ...options, eps: 1e-8, weightDecay: 1e-4, clipThreshold: 1 };
    expected = expected.map((p, i) => oracle.sophia!(all, step + 1, p, grad[i]!, states[i]!));
  });
  optimizer.state(w).hessian.forEach((h, i) => {
    expect(h).toBeCloseTo(states[i]!.hessian, 6);
  });
  w.data.forEach((x, i) => {
    expect(x).toBeCloseTo(expected[i]!, 5);
  });
});

test("eval() and train() are errors after arena.free()", () => {
  const arena = small();
  const optimizer = adamw([arena.tensor("w", [3])]);
  arena.free();
  for (const call of ["eval", "train"] as const) {
    expect(() => optimizer[call]()).toThrow(`adamw: ${call}: the arena was freed`);
  }
});

test.each([1, 2])("if a copy cannot be allocated (%d), evalAsync changes nothing", async (at) => {
  const { a, b } = small().tensors({ a: [5000], b: [5000] });
  for (const { data, grad } of [a, b]) for (const view of [data, grad]) view.fill(1);
  const optimizer = scheduleFreeSgd([a, b], { lr: 0.5 });
  optimizer.step();
  optimizer.step();
  const before = [a, b].map(({ data }) => data.slice());
  const { Float32Array: Original } = globalThis;
  let allocations = 0;
  globalThis.Float32Array = new Proxy(Original, {
    construct(target, args) {
      if (args[0] === 5000 && ++allocations === at) throw new RangeError("Array buffer allocation failed");
      return Reflect.construct(target, args);
    },
  });
  const evaluated = optimizer.evalAsync();
  await expect(evaluated).rejects.toThrow("Array buffer allocation failed");
  globalThis.Float32Array = Original;
  expect([a, b].map(({ data }) => data.slice())).toEqual(before);
  await optimizer.trainAsync();
  optimizer.step();
  expect(optimizer.steps).toBe(3);
});

test("an arena that is freed during evalAsync ends it", async () => {
  const arena = small();
  const optimizer = scheduleFreeSgd([arena.tensor("w", [10_007])]);
  optimizer.step();
  const evaluated = optimizer.evalAsync();
  arena.free();
  await expect(evaluated).rejects.toThrow("scheduleFreeSgd: evalAsync: the arena was freed");
});

test("swapAveragesAsync exchanges like swapAverages, after the steps that were called before", async () => {
  const w = small().tensor("w", [10_007]);
  w.grad.fill(1);
  const optimizer = adamw([w], { ema: 0.5 });
  optimizer.step();
  const step = optimizer.stepAsync();
  const swap = optimizer.swapAveragesAsync();
  await expect(optimizer.stepAsync()).rejects.toThrow("adamw: swapAveragesAsync() is under way; await it first");
  await Promise.all([step, swap]);
  await expect(optimizer.stepAsync()).rejects.toThrow("the parameters are the averages");
  const [data, average] = [w.data.slice(), optimizer.average(w).slice()];
  expect(Buffer.compare(bytes(data), bytes(average))).not.toBe(0);
  optimizer.swapAverages();
  expect(Buffer.compare(bytes(w.data), bytes(average))).toBe(0);
  expect(Buffer.compare(bytes(optimizer.average(w)), bytes(data))).toBe(0);
  optimizer.step();
});

test("an estimate that is not finite is averaged, skipped or an error, as `nonFinite` says", () => {
  for (const options of [{ nonFinite: "skip" }, { lossScale: "dynamic" }, { nonFinite: "throw" }, {}] as const) {
    const w = small().tensor("w", [2]);
    const optimizer = sophia([w], options);
    w.grad.set([1, Number.NaN]);
    if ("nonFinite" in options && options.nonFinite === "throw") {
      expect(() => optimizer.hessian()).toThrow(
        'sophia: hessian: the estimate of tensor "w" must be finite, got NaN at index 1; nothing was averaged',
      );
    } else optimizer.hessian();
    const isAveraged = Object.keys(options).length === 0;
    expect([...optimizer.state(w).hessian].map((h) => h === 0)).toEqual([!isAveraged, !isAveraged]);
  }
});
