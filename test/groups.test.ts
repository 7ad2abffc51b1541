/** Groups that are added later: for every rule, and through checkpoints. */

import { describe, expect, test } from "vitest";
import { load, save } from "../ts/checkpoint/index.js";
import { adamw, sgd } from "../ts/rules/index.js";
import type { Tensor } from "../ts/arena/tensor.js";
import { bitsOf, error, inputs } from "./harness.js";
import { type AnyFactory, factories, fitting } from "./registry.js";
import { small } from "./small.js";

const runs = { a: inputs(19, 6, 1), b: inputs(33, 6, 2) };
type Name = keyof typeof runs;

/** Makes two tensors, and a function that makes a step of some of them. */
function model({ rule }: AnyFactory = adamw) {
  const tensors: Record<Name, Tensor> = small().tensors({ a: fitting(rule, [19]), b: [3, 11] });
  for (const name of ["a", "b"] as const) tensors[name].data.set(runs[name].params);
  const give = (...indices: readonly (readonly [Name, number])[]) => {
    for (const [name, index] of indices) tensors[name].grad.set(runs[name].grads[index]!);
  };
  return { ...tensors, give };
}

describe.each(factories)("$rule.name", (factory) => {
  const { rule } = factory;
  const alone = rule.sums.length === 0 || rule.perTensor;
  const own = { lr: 0.25 };

  test("a group that is added before the first step equals a group that is given at the start", () => {
    const [one, other] = [model(factory), model(factory)];
    const given = factory([{ params: [one.a] }, { params: [one.b], ...own }]);
    const added = factory([other.a]);
    expect(added.addGroup({ params: [other.b], ...own })).toBe(added.groups[1]);
    for (let step = 0; step < 4; step++) {
      for (const [{ give }, optimizer] of [[one, given] as const, [other, added] as const]) {
        give(["a", step], ["b", step]);
        optimizer.step();
      }
    }
    for (const name of ["a", "b"] as const) expect(bitsOf(added, other[name])).toEqual(bitsOf(given, one[name]));
  });

  test("a group that is added later starts with new state; the others continue", () => {
    const [both, apart] = [model(factory), model(factory)];
    const optimizer = factory([both.a], { ema: 0.9 });
    let average: number[] = [];
    const [first, second] = [factory([apart.a]), factory([apart.b], own)];
    for (let step = 0; step < 6; step++) {
      const given =
        step < 3
          ? ([["a", step]] as const)
          : ([
              ["a", step],
              ["b", step],
            ] as const);
      if (step === 3) optimizer.addGroup({ params: { b: both.b }, ...own });
      both.give(...given);
      apart.give(...given);
      optimizer.step();
      first.step();
      if (step < 3) continue;
      second.step();
      // As for every group, the average begins as the parameters after the group's first step.
      if (step === 3) average = [...both.b.data];
      else average = average.map((average, i) => 0.9 * average + 0.1 * both.b.data[i]!);
    }
    expect(optimizer.steps).toBe(6);
    if (alone) {
      expect(bitsOf(optimizer, both.a)).toEqual(bitsOf(first, apart.a));
      expect(bitsOf(optimizer, both.b)).toEqual(bitsOf(second, apart.b));
    } else expect(both.b.data.every(Number.isFinite)).toBe(true);
    expect(error(optimizer.average(both.b), average)).toBeLessThan(1);
  });

  test("a run that is resumed with both groups gives the same bits", () => {
    const [one, other] = [model(factory), model(factory)];
    const optimizer = factory([one.a]);
    one.give(["a", 0]);
    optimizer.step();
    optimizer.addGroup({ params: [one.b], ...own });
    one.give(["a", 1], ["b", 0]);
    optimizer.step();
    const file = save([one.a, one.b], optimizer);
    const again = factory([{ params: [other.a] }, { params: [other.b], ...own }]);
    load(file, [other.a, other.b], again);
    for (let step = 2; step < 5; step++) {
      for (const [{ give }, by] of [[one, optimizer] as const, [other, again] as const]) {
        give(["a", step], ["b", step]);
        by.step();
      }
    }
    for (const name of ["a", "b"] as const) expect(bitsOf(again, other[name])).toEqual(bitsOf(optimizer, one[name]));
  });
});

test("the options for all groups hold for a group that is added", () => {
  const { a, b } = model();
  const options = { lr: 0.5, weightDecay: 0.1 };
  const optimizer = adamw([a], options);
  options.lr = 7;
  optimizer.hyper.weightDecay = 0.2;
  optimizer.addGroup({ params: [b], betas: [0.5, 0.6] });
  expect(optimizer.groups[1]!.hyper).toEqual({ ...optimizer.groups[0]!.hyper, betas: [0.5, 0.6], weightDecay: 0.1 });
});

test("a group that cannot be added changes nothing", async () => {
  const { a, b, give } = model();
  const { a: foreign } = model();
  const optimizer = sgd([a], { lr: 1, accumulate: 1 });
  const add = (group: object) => () => optimizer.addGroup(group as never);
  const left = a.arena.bytesLeft;
  expect(add({ params: [a] })).toThrow(
    'sgd: params must be different tensors, but tensor "a" is in another group of this optimizer',
  );
  expect(add({ params: [foreign] })).toThrow("sgd: params must be from one arena");
  expect(add({ params: undefined })).toThrow("sgd: groups[1].params must be tensors");
  expect(add([b])).toThrow("sgd: groups[1] must be a group { params, ...options }");
  expect(add({ params: [b], lr: -1 })).toThrow("sgd: groups[1].lr must be");
  expect(add({ params: [b], rate: 1 })).toThrow('sgd: no option "groups[1].rate"');
  expect(add({ params: [b], clipNorm: 1 })).toThrow("sgd: groups[1].clipNorm is the same for all groups");
  const step = optimizer.stepAsync();
  expect(add({ params: [b] })).toThrow("sgd: addGroup: a stepAsync() is under way");
  await step;
  expect(optimizer.groups.length).toBe(1);
  expect(a.arena.bytesLeft).toBe(left);
  a.data.fill(0);
  give(["a", 0]);
  optimizer.step();
  expect([...a.data]).toEqual([...runs.a.grads[0]!].map((g) => -g));
});

test.each(factories)("$rule.name: as in PyTorch, a group may be empty, but not all of them", (factory) => {
  const [one, other] = [model(factory), model(factory)];
  const optimizer = factory([{ params: [] }, { params: [one.a] }, { params: {}, lr: 0.5 }]);
  const plain = factory([other.a]);
  expect(optimizer.addGroup({ params: [] }).params).toEqual([]);
  for (const [{ give }, by] of [
    [one, optimizer],
    [other, plain],
  ] as const) {
    give(["a", 0]);
    by.step();
    by.addGroup({ params: [by === optimizer ? one.b : other.b] });
    give(["a", 1], ["b", 0]);
    by.step();
  }
  for (const name of ["a", "b"] as const) expect(bitsOf(optimizer, one[name])).toEqual(bitsOf(plain, other[name]));
  const third = model(factory);
  const again = factory([
    { params: [] },
    { params: [third.a] },
    { params: [], lr: 0.5 },
    { params: [] },
    { params: [third.b] },
  ]);
  load(save([one.a, one.b], optimizer), [third.a, third.b], again);
  expect(bitsOf(again, third.b)).toEqual(bitsOf(optimizer, one.b));
  expect(() => factory([{ params: [] }])).toThrow(`${factory.rule.name}: params must be tensors`);
});
