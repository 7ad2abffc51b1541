/**
 * Bounded work: for every rule and shape, each piece of an operation on matrices takes at most a few milliseconds. Otherwise a
 * thread that works would look like one that died, and `stepAsync` would hold the event loop.
 */

import fc from "fast-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Arena, createArena } from "../ts/arena/arena.js";
import type { Operation } from "../ts/matrix/matrices.js";
import { pieceLength } from "../ts/matrix/program.js";
import { planGroup } from "../ts/optimizer/group.js";
import { adafactor, adamw, sm3 } from "../ts/rules/index.js";
import { numbers } from "./harness.js";
import { cases } from "./registry.js";

/**
 * The largest number of operations on elements in a piece. Multiplications take two milliseconds at eight per
 * nanosecond.
 */
const MAX_WORK = 2 ** 24;

/** The operations on elements in a piece, by kernel and counts: the formulas of the loops in crate/src. */
const work: Readonly<Record<string, (counts: readonly number[]) => number>> = {
  multiply: ([depth, rows, columns, , slice]) =>
    Math.min(rows!, 64) * Math.min(columns!, 64) * Math.min(depth!, slice!),
  arrange: (counts) => 8 * Math.min(counts.at(-2)!, 4096),
  average_rows: ([matrices, rows, columns, slice]) => Math.min(matrices! * rows!, 64) * Math.min(columns!, slice!),
  average_columns: ([, rows, columns, slice]) => Math.min(columns!, 64) * Math.min(rows!, slice!),
  cover_rows: ([, rows, columns, slice]) => Math.min(rows!, 64) * Math.min(columns!, slice!),
  cover_columns: ([, rows, columns, slice]) => Math.min(columns!, 64) * Math.min(rows!, slice!),
  invert_means: ([, rows, , slice]) => Math.min(rows!, slice!),
  divide_rows: () => 64,
  column_dots: ([rows]) => rows!,
  rank: ([, columns]) => 64 * columns!,
  reorder: ([rows]) => rows!,
  find_reflections: ([rows]) => 8 * 18 * rows!,
  reflect: ([rows]) => 8 * 16 * rows!,
  adapt: () => 16_384,
};

/** The length of a dimension. Tensors are long, tall, wide, square, and between these. */
const length = fc.tuple(fc.integer({ min: 0, max: 27 }), fc.double({ min: 1, max: 2, noNaN: true }));
const dimension = length.map(([power, share]) => Math.floor(2 ** power * share));

/** One case of each rule of whole matrices. Its options do not change the shapes of the pieces. */
const programs = cases.filter(({ rule, options }) => rule.program && Object.keys(options).length === 0);

describe.each(programs)("$name", ({ rule, values }) => {
  test("has no long piece, in any shape that fits an arena", () => {
    const dimensions = rule.accepts?.startsWith("matrices") ? 2 : 1;
    const shapes = fc.array(dimension, { minLength: dimensions, maxLength: rule.accepts === undefined ? 4 : 2 });
    const arena = { kernel: () => 0, internals: () => ({ space: {} }) };
    const of = (shape: readonly number[]) => ({ arena, shape, size: shape.reduce((a, b) => a * b, 1) }) as any;
    const property = fc.property(shapes, (shape) => {
      fc.pre(of(shape).size < 2 ** 29);
      const { bytes, scratch, programs } = planGroup(rule, values, [of(shape)]);
      fc.pre(bytes + scratch < 2 ** 32);
      const check = (instructions: readonly any[]): void => {
        for (const instruction of instructions) {
          if (typeof instruction === "string") continue;
          if ("then" in instruction) check(instruction.then);
          else {
            const { kernel, counts, pieces } = instruction as Operation<any>;
            expect(work[kernel]?.(counts), `${kernel} of ${counts}`).toBeLessThanOrEqual(MAX_WORK);
            const length = pieceLength(pieces);
            expect(Number.isInteger(length)).toBe(true);
            expect(length * pieces, `${kernel}: ${pieces} pieces`).toBeLessThan(2 ** 32);
          }
        }
      };
      for (const { instructions } of programs) check(instructions);
    });
    fc.assert(property, { numRuns: 30 });
  });
});

const shapes = {
  long: (n: number) => [n],
  wide: (n: number) => [3, Math.ceil(n / 3)],
  tall: (n: number) => [Math.ceil(n / 3), 3],
  square: (n: number) => [Math.ceil(Math.sqrt(n)) % 150, 140],
};

async function open(threads: number): Promise<Arena> {
  const arena = await createArena({ threads, maxBytes: 2 ** 29 });
  onTestFinished(() => arena.free());
  return arena;
}

test("random rules and shapes have the same bits on any number of threads, and no arena counts as torn", async () => {
  const arenas = new Map<number, Arena>();
  for (const threads of [1, 2, 3, 5, 16]) arenas.set(threads, await open(threads));
  const runs = fc.record({
    which: fc.constantFrom(...cases),
    shape: fc.constantFrom(...Object.values(shapes)),
    size: fc.integer({ min: 1, max: 500_000 }),
    threads: fc.constantFrom(2, 3, 5, 16),
    agc: fc.constantFrom(Infinity, 1e-3),
    clipNorm: fc.constantFrom(Infinity, 1e-2),
    isAsync: fc.boolean(),
    seed: fc.integer({ min: 1, max: 1e9 }),
  });
  let made = 0;
  const property = fc.asyncProperty(runs, async ({ which, shape, size, threads, agc, clipNorm, isAsync, seed }) => {
    const { factory, rule, options } = which;
    const dimensions = shape(size).map((count) => Math.max(count, 1));
    fc.pre(rule.accepts === undefined || dimensions.length === 2);
    fc.pre(!["soap", "shampoo"].includes(rule.name) || Math.max(...dimensions) < 200);
    const results = [];
    for (const arena of [arenas.get(1)!, arenas.get(threads)!]) {
      const tensor = arena.tensor(`w${made}`, dimensions);
      const next = numbers(seed);
      for (let i = 0; i < tensor.size; i++) [tensor.data[i], tensor.grad[i]] = [next(), next()];
      const optimizer = factory([tensor], { ...options, agc, clipNorm });
      for (let step = 0; step < 2; step++) {
        if (isAsync) await optimizer.stepAsync();
        else optimizer.step();
      }
      const state = Object.values(optimizer.state(tensor)) as Float32Array[];
      results.push([tensor.data, tensor.grad, ...state].map((view) => Buffer.from(view.slice().buffer)));
      expect(arena.torn).toBe(false);
    }
    made += 1;
    const [one, several] = results as [Buffer[], Buffer[]];
    one.forEach((bytes, i) => expect(Buffer.compare(bytes, several[i]!)).toBe(0));
    if (arenas.get(1)!.bytesLeft < 2 ** 27) {
      for (const [threads, arena] of arenas) {
        arena.free();
        arenas.set(threads, await open(threads));
      }
    }
  });
  await fc.assert(property, { numRuns: Number(process.env.RUNS ?? 40) });
});

// The length of a task is a number of 32 bits.
test.each([
  { factory: adafactor, shape: [512, 512, 3, 3] },
  { factory: sm3, shape: [2 ** 21] },
])("operations of more than 2^18 pieces are done as a whole: $shape", async ({ factory, shape }) => {
  const arena = await open(2);
  const w = arena.tensor("w", shape);
  w.grad.fill(0.5);
  const optimizer = factory([w]);
  optimizer.step();
  for (const values of [w.data, ...Object.values(optimizer.state(w) as Record<string, Float32Array>)]) {
    expect(values[0]).not.toBe(0);
    expect(new Set(values).size).toBe(1);
  }
});

test("a row of several blocks is clipped as a whole", async () => {
  const arena = await open(2);
  const size = 300_001;
  const w = arena.tensor("w", [size]);
  w.data.fill(0.5);
  w.grad.fill(2);
  adamw([w], { agc: 0.01, lr: 0 }).step();
  // Each norm is sqrt(size) times the element. `agc: 0.01` scales the gradient until its norm is a hundredth of that of
  // the parameters.
  expect(w.grad[0]).toBeCloseTo(0.005, 8);
  expect(new Set(w.grad).size).toBe(1);
});
