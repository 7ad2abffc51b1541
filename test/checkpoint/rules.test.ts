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
import { adamw } from "../../ts/rules/index.js";
import { cases, fitting } from "../registry.js";
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

test("every rule's checkpoints come back to the same bytes, whatever the gradients were", () => {
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

  test("however many differences there are, few are told", () => {
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

  test("is loaded if they agree: each tensor has its own count", () => {
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
    ["that is new", { a: [3, 2] }],
    ["of another shape", { a: [3, 2], b: [5, 2] }],
  ])("a tensor %s makes the steps of a new one, and the others go on", (_, sizes) => {
    const saved = trained(sizes, 4);
    const bytes = save(saved.tensors, saved.optimizer);
    const { tensors, optimizer } = trained({ a: [3, 2], b: [2, 4] }, 0);
    load(bytes, tensors, optimizer, { strict: false });
    const fresh = trained({ b: [2, 4] }, 0);
    for (const seed of [9, 10]) {
      step(optimizer, tensors, seed);
      step(saved.optimizer, saved.tensors, seed);
      step(fresh.optimizer, fresh.tensors, seed);
    }
    expect(bits(tensors)).toEqual(bits([saved.tensors[0]!, fresh.tensors[0]!]));
  });

  test("tensors of one group in two groups go on", () => {
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
