/** Tests of `hessian`, `eval` and `train` for every rule. */

import { describe, expect, test } from "vitest";
import { save } from "../ts/checkpoint/index.js";
import { adamw, scheduleFreeSgd, sophia } from "../ts/rules/index.js";
import { inputs } from "./harness.js";
import { oracle } from "./oracle.js";
import { factories, fitting } from "./registry.js";
import { small } from "./small.js";

const { params, grads } = inputs(37, 4);

describe.each(factories.map((factory) => ({ name: factory.rule.name, factory })))("$name", ({ factory }) => {
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

test("after arena.free() both are errors", () => {
  const arena = small();
  const optimizer = adamw([arena.tensor("w", [3])]);
  arena.free();
  for (const call of ["eval", "train"] as const) expect(() => optimizer[call]()).toThrow("adamw: the arena was freed");
});
