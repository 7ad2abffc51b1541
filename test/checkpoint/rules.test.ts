/**
 * Random programs of every rule: `save`, `load` and `save` again give the same bytes. Counts that contradict each other
 * are refused.
 */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Arena, createArenaSync } from "../../ts/arena/arena.js";
import { load, save } from "../../ts/checkpoint/index.js";
import type { Tensor } from "../../ts/arena/tensor.js";
import { hasCommonScalars } from "../../ts/optimizer/definition.js";
import { lbfgs } from "../../ts/lbfgs/lbfgs.js";
import { adamw, dadaptAdamw, prodigy, scheduleFreeSgd, sgd } from "../../ts/rules/index.js";
import { cases, fitting } from "../registry.js";
import { small } from "../small.js";
import { file, parts, sealed } from "./files.js";

/** Gradients that make scalars and state infinite, NaN, zero or subnormal. */
const gradient = fc.constantFrom(0, -0, 1, -0.5, 1e-30, 1e20, -1e38, Infinity, Number.NaN);
const program = fc.record({
  rule: fc.nat(cases.length - 1),
  grads: fc.array(fc.array(gradient, { minLength: 3, maxLength: 3 }), { maxLength: 4 }),
  around: fc.constantFrom(
    {},
    { ema: 0.9 },
    { accumulate: 2 },
    { lossScale: "dynamic" },
    { nonFinite: "skip", clipNorm: 1 },
  ),
  later: fc.boolean(),
});

/** A run: an optimizer of two tensors, and perhaps a third that joins after the first step. */
function run(
  arena: Arena,
  { rule, grads, around, later }: typeof program extends fc.Arbitrary<infer T> ? T : never,
  steps: boolean,
) {
  const { factory, options, rule: definition } = cases[rule]!;
  const names = ["a", "b/c", "ä"];
  const [a, b, c] = names.map((name, i) => arena.tensor(name, fitting(definition, [[4, 3], [5], [2, 2]][i]!)));
  const optimizer = factory([a, b], { ...options, ...around });
  const all = [a!, b!, c!];
  all.forEach(({ data }, i) => data.fill(i + 0.5));
  grads.forEach((row, step) => {
    if (!steps) return;
    if (later && step === 1) optimizer.addGroup({ params: [c!] });
    all.forEach(({ grad }, i) => grad.fill(row[i]!));
    optimizer.step();
  });
  if (!steps && later && grads.length > 1) optimizer.addGroup({ params: [c!] });
  return { all, optimizer };
}

test("save, load and save give the same bytes, for every rule and any gradients", () => {
  fc.assert(
    fc.property(program, (program) => {
      const arenas = [0, 1].map(() => createArenaSync({ maxBytes: 2 ** 18, threads: 1 }));
      try {
        const saved = run(arenas[0]!, program, true);
        const bytes = save(saved.all, saved.optimizer);
        const again = run(arenas[1]!, program, false);
        expect(load(bytes, again.all, again.optimizer).leftOut).toEqual([]);
        expect(Buffer.compare(save(again.all, again.optimizer), bytes)).toBe(0);
      } finally {
        for (const arena of arenas) arena.free();
      }
    }),
    { numRuns: 300 },
  );
});

/** A placeholder for a list that is nested 10,000 deep. `JSON.stringify` cannot write such a list. */
const NESTED = "nested";

describe("a sealed checkpoint whose counts contradict each other", () => {
  const make = (options: object = {}) => {
    const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
    const w = arena.tensor("w", [2]);
    const v = arena.tensor("v", [2]);
    return { arena, w, v, optimizer: adamw([w, v], options) };
  };
  const { w, v, optimizer } = make();
  for (let i = 0; i < 3; i++) optimizer.step();
  const valid = parts(save([w, v], optimizer));
  const changed = (change: (counts: any, rule: any) => void) => {
    const header = structuredClone(valid.header);
    const [counts, rule] = [JSON.parse(header.__metadata__!.counts), JSON.parse(header.__metadata__!.rule)];
    change(counts, rule);
    header.__metadata__!.counts = JSON.stringify(counts);
    header.__metadata__!.rule = JSON.stringify(rule).replace(`"${NESTED}"`, "[".repeat(10_000) + "]".repeat(10_000));
    return sealed(file(JSON.stringify(header), valid.data));
  };
  const table: [title: string, change: (counts: any, rule: any) => void, message: string][] = [
    [
      "a group that joins later than the last step",
      (counts) => (counts.since = [4]),
      "groups[0].since must be a whole number in [0, 3], got 4",
    ],
    [
      "a tensor that joins later",
      (counts) => (counts.since = [[0, 4]]),
      "groups[0].since[1] must be a whole number in [0, 3], got 4",
    ],
    ["no list of groups", (counts) => (counts.since = 7), "since must be a list, got 7"],
    ["no number", (counts) => (counts.since = [null]), "groups[0].since must be a whole number in [0, 3], got null"],
    ["no flag", (counts) => (counts.isDue = [null]), "groups[0].isDue must be true or false, got null"],
    [
      "a name that is no text",
      (_, rule) => (rule.groups[0].params = [rule.groups[0].params[0], { toString: 1 }]),
      'groups[0].params[1] is {"toString":1} in the file',
    ],
    [
      "too few tensors",
      (counts) => (counts.since = [[0]]),
      "groups[0].since must have one item for each of 2 params, got 1",
    ],
    [
      "too many tensors",
      (counts) => (counts.since = [[0, 0, 0]]),
      "groups[0].since must have one item for each of 2 params, got 3",
    ],
    [
      "too many numbers of tensors",
      (counts) => (counts.scalars = [[{}, {}, {}]]),
      "groups[0].scalars must have one item for each of 2 params, got 3",
    ],
    ["a million groups", (_, rule) => (rule.groups = Array(1e6).fill(1)), "groups[0] is 1 in the file"],
    ["a group of text", (_, rule) => (rule.groups = ["x".repeat(1e6)]), 'groups[0] is "xxxx'],
    ["a group that is a list", (_, rule) => (rule.groups = [Array(1e6).fill(1)]), "groups[0] is [1,1"],
    [
      "a million options",
      (_, rule) => Object.assign(rule, Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => [`o${i}`, i]))),
      "o0 is 0 in the file, nothing here",
    ],
    ["an average without one", (counts) => (counts.averaged = 1), "averaged must be a whole number in [0, 0], got 1"],
    [
      "micro-batches without accumulation",
      (counts) => (counts.microBatches = 1),
      "microBatches must be a whole number in [0, 0], got 1",
    ],
    [
      "good steps of a scale that is fixed",
      (counts) => (counts.goodSteps = 1),
      "goodSteps must be a whole number in [0, 0], got 1",
    ],
    [
      "skipped steps where none is skipped",
      (counts) => (counts.skipped = 1),
      "skipped must be a whole number in [0, 0], got 1",
    ],
    ["another scale than the option's", (counts) => (counts.lossScale = 2), "lossScale must be the option's 1, got 2"],
    [
      "a rule in 10,000 lists",
      (_, rule) => (rule.rule = NESTED),
      'the optimizer is [[[[…]]]] in the file, "adamw" here',
    ],
    [
      "an option in 10,000 lists",
      (_, rule) => (rule.groups[0].lr = NESTED),
      "groups[0].lr is [[[[…]]]] in the file, 0.001 here",
    ],
    ["an option of 12 MB", (_, rule) => (rule.groups[0].lr = "x".repeat(12_000_000)), 'groups[0].lr is "xxxx'],
    ["an option whose name has 12 MB", (_, rule) => (rule.groups[0]["x".repeat(12_000_000)] = 1), "groups[0].xxxx"],
  ];
  test.each(table)("%s", (_, change, message) => {
    let said = "";
    try {
      load(changed(change), [w, v], optimizer);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      said = error.message;
    }
    expect(said).toContain(`load: ${message}`);
    expect(said.length).toBeLessThan(1000);
  });

  test("a message names few of many differences", () => {
    const bytes = changed((_, rule) => {
      rule.groups = Array(1e5).fill(1);
      for (let i = 0; i < 1e5; i++) rule[`o${i}`] = i;
    });
    const other = make();
    const { leftOut } = load(bytes, [other.w, other.v], other.optimizer, { strict: false });
    expect(leftOut.length).toBeLessThan(300);
    expect(leftOut).toContain("groups has more in the file");
    expect(leftOut.at(-1)).toBe("the optimizer has more in the file");
  });

  test("loads if each tensor has a valid count of its own", () => {
    const other = make();
    load(
      changed((counts) => ((counts.since = [[0, 2]]), (counts.scalars = [[{}, {}]]))),
      [other.w, other.v],
      other.optimizer,
    );
    other.w.grad.fill(1);
    other.v.grad.fill(1);
    other.optimizer.step();
    for (const { data } of [other.w, other.v]) expect(data.every(Number.isFinite)).toBe(true);
    expect(other.w.data[0]).not.toBe(other.v.data[0]);
  });
});

describe.each(cases.filter(({ rule }) => !hasCommonScalars(rule)))("$name, with strict: false", (each) => {
  const { factory, rule, options } = each;
  const make = (sizes: Record<string, number[]>) => {
    const arena = createArenaSync({ maxBytes: 2 ** 18, threads: 1 });
    const model = arena.tensors(
      Object.fromEntries(Object.entries(sizes).map(([name, shape]) => [name, fitting(rule, shape)])),
    );
    return Object.values(model).map((tensor) => (tensor.data.fill(0.5), tensor));
  };
  const step = (optimizer: { step(): unknown }, tensors: readonly Tensor[], seed: number) => {
    for (const { grad } of tensors) grad.forEach((_, i) => (grad[i] = Math.cos(seed + i)));
    optimizer.step();
  };
  const bits = (tensors: readonly Tensor[]) =>
    tensors.map(({ data }) => [...new Uint32Array(Float32Array.from(data).buffer)]);
  const trained = (sizes: Record<string, number[]>, steps: number) => {
    const tensors = make(sizes);
    const optimizer = factory(tensors, options);
    for (let i = 0; i < steps; i++) step(optimizer, tensors, i);
    return { tensors, optimizer };
  };

  test.each([
    ["that is new", { a: [3, 2] }, { a: [3, 2], b: [2, 4] }],
    ["that is new, before others", { a: [3, 2] }, { b: [2, 4], a: [3, 2] }],
    ["of another shape", { a: [3, 2], b: [5, 4] }, { a: [3, 2], b: [2, 4] }],
  ])("a tensor %s makes the steps of a new one, and the others go on", (_, there, here) => {
    const saved = trained(there, 4);
    const { tensors, optimizer } = trained(here, 0);
    load(save(saved.tensors, saved.optimizer), tensors, optimizer, { strict: false });
    const fresh = trained({ b: [2, 4] }, 0);
    for (const seed of [9, 10]) {
      step(optimizer, tensors, seed);
      step(saved.optimizer, saved.tensors, seed);
      step(fresh.optimizer, fresh.tensors, seed);
    }
    const [a, b] = ["a", "b"].map((name) => tensors.filter((tensor) => tensor.name === name));
    expect(bits(a!)).toEqual(bits([saved.tensors[0]!]));
    expect(bits(b!)).toEqual(bits(fresh.tensors));
  });

  test("a tensor that is not in the file, and has made steps, goes on", () => {
    const saved = trained({ a: [3, 2] }, 4);
    const { tensors, optimizer } = trained({ a: [3, 2], b: [2, 4] }, 3);
    const alone = trained({ b: [2, 4] }, 3);
    load(save(saved.tensors, saved.optimizer), tensors, optimizer, { strict: false });
    for (const seed of [9, 10]) {
      step(optimizer, tensors, seed);
      step(saved.optimizer, saved.tensors, seed);
      step(alone.optimizer, alone.tensors, seed);
    }
    expect(bits(tensors)).toEqual(bits([...saved.tensors, ...alone.tensors]));
  });

  test("tensors of one group continue in two groups", () => {
    const saved = trained({ a: [3, 2], b: [2, 4] }, 4);
    const tensors = make({ a: [3, 2], b: [2, 4] });
    const optimizer = factory(
      tensors.map((tensor) => ({ params: [tensor] })),
      options,
    );
    load(save(saved.tensors, saved.optimizer), tensors, optimizer, { strict: false });
    step(optimizer, tensors, 9);
    step(saved.optimizer, saved.tensors, 9);
    expect(bits(tensors)).toEqual(bits(saved.tensors));
  });
});

describe("with strict: false", () => {
  const make = (...names: string[]) => {
    const model = small().tensors(Object.fromEntries(names.map((name) => [name, [2]])));
    for (const { data, grad } of Object.values(model)) (data.fill(1), grad.fill(1));
    return { model: names.map((name) => model[name]!), ...model } as { model: Tensor[]; a: Tensor; b: Tensor };
  };

  test.each([prodigy, dadaptAdamw])("%o: the estimate of the file holds for new tensors", (factory) => {
    const before = make("a");
    const saved = factory(before.model);
    for (let i = 0; i < 30; i++) saved.step();
    for (const names of [
      ["a", "b"],
      ["b", "a"],
    ]) {
      const { model } = make(...names);
      const optimizer = factory(model.map((tensor) => ({ params: [tensor] })));
      load(save(before.model, saved), model, optimizer, { strict: false });
      optimizer.step();
      const [one, two] = optimizer.groups.map(({ scalars: [{ estimLr }] }: any) => estimLr);
      expect(one).toBe(two);
      expect(one).toBeGreaterThan(1e-5);
    }
  });

  test("L-BFGS with a new tensor keeps its progress in any order", () => {
    const before = make("a");
    const saved = lbfgs(before.model, { lr: 0.1 });
    const closure = () => 1;
    saved.step(closure);
    const results = [make("a", "b"), make("b", "a")].map(({ model }) => {
      const optimizer = lbfgs(model, { lr: 0.1 });
      load(save(before.model, saved), model, optimizer, { strict: false });
      return (optimizer as any).groups[0].scalars;
    });
    expect(results[0]).toEqual(results[1]);
  });

  test("the average of a new tensor begins as the tensor", () => {
    const before = make("a");
    const saved = sgd(before.model, { lr: 0, swa: 1 });
    for (let i = 0; i < 99; i++) saved.step();
    const { model, b } = make("a", "b");
    const optimizer = sgd(model, { lr: 0, swa: 1 });
    b.data.fill(100);
    load(save(before.model, saved), model, optimizer, { strict: false });
    b.data.fill(50);
    for (let i = 0; i < 2; i++) optimizer.step();
    expect([...optimizer.average(b)]).toEqual([50, 50]);
    const again = make("a", "b");
    const next = sgd(again.model, { lr: 0, swa: 1 });
    load(save(model, optimizer), again.model, next);
    next.step();
    expect([...next.average(again.b)]).toEqual([50, 50]);
  });

  test.each([[["a", "b"]], [["b", "a"]]])("micro-batches of the first step are kept: %j", (names) => {
    const before = make("a");
    const saved = sgd(before.model, { lr: 1, accumulate: 3, accumulateBy: "sum" });
    for (let i = 0; i < 2; i++) saved.step();
    const { model, a, b } = make(...names);
    const optimizer = sgd(model, { lr: 1, accumulate: 3, accumulateBy: "sum" });
    load(save(before.model, saved), model, optimizer, { strict: false });
    optimizer.flush();
    expect([a.data[0], b.data[0]]).toEqual([-1, 1]);
  });

  test("tensors of two groups continue in one group, with other names", () => {
    const saved = make("module.a", "module.b");
    const one = adamw(
      saved.model.map((tensor) => ({ params: [tensor] })),
      { lr: 0.1, weightDecay: 0 },
    );
    for (let i = 0; i < 20; i++) one.step();
    const { model } = make("a", "b");
    const two = adamw(model, { lr: 0.1, weightDecay: 0 });
    load(save(saved.model, one), model, two, { strict: false, rename: { "module.": "" } });
    one.step();
    two.step();
    expect(model.map(({ data }) => [...data])).toEqual(saved.model.map(({ data }) => [...data]));
  });

  test("a tensor that is not in the file keeps the numbers of its rule", () => {
    const before = make("a");
    const saved = scheduleFreeSgd(before.model, { lr: 0.1 });
    const { model } = make("a", "b");
    const optimizer = scheduleFreeSgd(model, { lr: 0.5 });
    for (let i = 0; i < 4; i++) (saved.step(), optimizer.step());
    const [{ weightSum }] = optimizer.groups[0]!.scalars as any;
    load(save(before.model, saved), model, optimizer, { strict: false });
    expect(optimizer.groups[0]!.scalars.map(({ weightSum }: any) => weightSum)).toEqual([
      (saved.groups[0]!.scalars as any)[0].weightSum,
      weightSum,
    ]);
  });
});
