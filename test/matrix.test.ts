/** Tests of matrix products, and of rules that are programs of matrix operations. */

import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type Arena, createArenaSync } from "../ts/arena/arena.js";
import { variantOf } from "../ts/optimizer/hyper.js";
import { Matrices, type Matrix as Laid } from "../ts/matrix/matrices.js";
import { Program } from "../ts/matrix/program.js";
import { FIRST_SLOT, POINTERS_OFFSET } from "../ts/optimizer/segment.js";
import { adafactor, adamw, muon, sm3, soap } from "../ts/rules/index.js";
import { CHUNK } from "../ts/threads/task.js";
import * as factored from "../ts/kernels/factored.js";
import * as matrixKernels from "../ts/kernels/matrix.js";
import * as qr from "../ts/kernels/qr.js";
import { kernels as soapKernels } from "../ts/kernels/soap.js";
import * as sort from "../ts/kernels/sort.js";
import { bits, error, inputs, kernelIn, numbers } from "./harness.js";
import { map, type Matrix, oracle, product, rowsOf, slotShape, type State, transpose } from "./oracle.matrix.js";
import { type Case, cases } from "./registry.js";

const kernels = { ...matrixKernels, ...factored, ...qr, ...soapKernels, ...sort };
const programs = cases.filter(({ rule }) => rule.program);
const small = () => createArenaSync({ maxBytes: 2 ** 24, threads: 1 });

/**
 * Computes `beta * D + alpha * A'B` with the kernels, or `alpha * A'A`, of which one half may be mirrored. The numbers
 * follow from the dimensions. The pieces run in another order than in a step.
 */
function productRun(
  arena: Arena,
  [depth, rows, columns]: readonly [number, number, number],
  { pieces, ofItself }: { pieces?: readonly number[]; ofItself?: { symmetric: boolean } } = {},
) {
  const next = numbers(depth + 31 * rows + 961 * columns);
  const matrices = new Matrices<unknown>([], 0);
  const shapes = { a: [depth, rows], b: [depth, columns], d: [rows, columns], out: [columns, rows] } as const;
  const held = Object.fromEntries(
    Object.entries(shapes).map(([name, [rows, columns]]) => {
      const view = arena.floats(arena.reserve(4 * rows * columns + 4, name), rows * columns + 1);
      view.set(Float32Array.from({ length: rows * columns }, next));
      return [name, { view, slot: { rows, columns, at: name } }];
    }),
  );
  const { a, b, d, out } = Object.fromEntries(
    Object.entries(shapes).map(([name, [rows, columns]]) => [name, matrices.matrix(rows, columns)]),
  ) as Record<string, Laid>;
  const result = matrices.matrix(rows, columns);
  const program = new Program(matrixKernels, matrices, [
    ...[a!, b!, d!].map((matrix, i) => matrices.copy(matrix, held["abd"[i]!]!.slot)),
    ofItself
      ? matrices.product(result, a!, a!, { alpha: 0.5, ...ofItself })
      : matrices.product(result, a!, b!, { alpha: 0.5, beta: -2, addend: d! }),
    matrices.copy(out!, result, { transposed: true, scale: 3 }),
    matrices.copy(held.out!.slot, out!),
  ]);
  const scratch = arena.reserve(program.scratch, "scratch");
  arena.floats(scratch, program.scratch / 4).fill(Number.NaN); // scratch memory may contain anything
  const laid = program.place(arena, arena.reserve(program.bytes, "program"), 0, (at) =>
    typeof at === "string" ? held[at]!.view.byteOffset : scratch + at,
  );
  const none = { measure: [], update: [] };
  const jump = () => {
    throw new Error("one slice is expected");
  };
  const { runner, space } = arena.internals("test");
  for (const phase of laid({}, none, jump)) {
    const task = typeof phase === "function" ? phase() : phase;
    if (typeof task !== "object") continue;
    const [, , , kernel, hyper, , end] = new Uint32Array(space.memory.buffer, task.address, 7);
    const call = runner.kernels.at(kernel!);
    const order = pieces ?? [0, end! / CHUNK];
    for (let i = 0; i + 1 < order.length; i++)
      call(hyper!, 0, order[i]! * CHUNK, Math.min(order[i + 1]! * CHUNK, end!));
  }
  const { view } = held.out!;
  expect(view[rows * columns], "the number after the matrix").toBe(0);
  return { numbers: held, out: view.subarray(0, rows * columns) };
}

const sizes = [1, 3, 8, 9, 65, 130];
const dimensions = sizes.flatMap((a) => sizes.flatMap((b) => sizes.map((c) => [a, b, c] as const)));

test("products of all shapes, and transposes", () => {
  for (const [depth, rows, columns] of dimensions) {
    const arena = small();
    const { numbers, out } = productRun(arena, [depth, rows, columns]);
    const [a, b, d] = ["a", "b", "d"].map((name) => {
      const { view, slot } = numbers[name]!;
      return rowsOf(view.subarray(0, slot.rows * slot.columns), slot.columns);
    }) as [Matrix, Matrix, Matrix];
    const expected = transpose(map((ab, d) => 3 * (0.5 * ab - 2 * d), product(transpose(a), b), d));
    const worst = Math.max(...expected.flat().map((x, i) => Math.abs(x - out[i]!)));
    expect(worst, `${depth} x ${rows} x ${columns}`).toBeLessThan(depth * 2 ** -22 + 2 ** -20);
    arena.free();
  }
});

const splits = [
  [0, 1, 2, 3, 5, 8, 100],
  [0, 7, 100],
  [0, 3, 3, 4, 100],
];

test("any split gives the same bits", () => {
  const [arena, shape] = [createArenaSync({ maxBytes: 2 ** 26 }), [130, 200, 150]] as const;
  const whole = productRun(arena, shape);
  for (const pieces of splits) expect(productRun(arena, shape, { pieces }).out).toEqual(whole.out);
});

test.each([1, 8, 64, 65, 130, 200])(
  "a product of %i columns and themselves has the same bits when half is mirrored",
  (n) => {
    const arena = createArenaSync({ maxBytes: 2 ** 26 });
    const all = productRun(arena, [9, n, n], { ofItself: { symmetric: false } });
    const ofItself = { symmetric: true };
    for (const pieces of [undefined, ...splits])
      expect(productRun(arena, [9, n, n], { pieces, ofItself }).out).toEqual(all.out);
    arena.free();
  },
);

const digest = (arrays: readonly Float32Array[]) => {
  const hash = createHash("sha256");
  for (const array of arrays) hash.update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return hash.digest("hex");
};

/** A call of a kernel over an array of numbers that begins with the gradients. `places` are indices into this array. */
interface KernelCall {
  readonly kernel: string;
  readonly amounts: readonly number[];
  readonly places: readonly number[];
  /** The last one is the length of a slice, for kernels that have slices. */
  readonly counts: readonly number[];
  readonly pieces: number;
}

/** The calls whose bits are published. Each is of one slice. */
const published: readonly KernelCall[] = [
  {
    kernel: "multiply",
    amounts: [0.5, -2, 1e-3],
    places: [0, 1000, 2000, 4000, 4000],
    counts: [24, 16, 80, 0, 24],
    pieces: 2,
  },
  {
    kernel: "multiply",
    amounts: [0.5, -2, 1e-3],
    places: [0, 0, 800, 800, 6000],
    counts: [8, 72, 72, 1, 8],
    pieces: 3,
  },
  { kernel: "average_rows", amounts: [0.3, 0], places: [0, 0, 3000, 6000], counts: [2, 41, 13, 16], pieces: 2 },
  { kernel: "average_columns", amounts: [0.3, 0], places: [0, 0, 3000, 6000], counts: [2, 13, 71, 16], pieces: 4 },
  { kernel: "cover_rows", amounts: [0, 0], places: [2000, 2500, 3000, 6000], counts: [1, 71, 13, 16], pieces: 2 },
  { kernel: "cover_columns", amounts: [0, 0], places: [2000, 2500, 3000, 6000], counts: [1, 13, 71, 16], pieces: 2 },
  { kernel: "invert_means", amounts: [0, 1e-3], places: [2000, 0, 3000, 5000], counts: [3, 17, 1, 24], pieces: 3 },
  { kernel: "divide_rows", amounts: [0, 0], places: [2000, 0, 3000, 5000], counts: [3, 17, 1, 24], pieces: 1 },
  { kernel: "find_reflections", amounts: [], places: [0, 0], counts: [24, 1, 0, 0], pieces: 1 },
  { kernel: "reflect", amounts: [], places: [0, 1000], counts: [24, 1, 1, 1], pieces: 2 },
  { kernel: "adapt", amounts: [0.9, 1e-8], places: [0, 1000, 2000], counts: [333], pieces: 333 },
];

const call = { length: 6000, gradScale: 0.37, clip: 0.3 };

/** Makes a call slice by slice. Returns the hash of the numbers after it, without the partial sums. */
function hashAfter({ kernel, amounts, places, counts, pieces }: KernelCall, slices = 1): string {
  const arena = small();
  const { space } = arena.internals("test");
  const all = arena.floats(arena.reserve(4 * 60_000, "numbers"), 60_000);
  all.set(Float32Array.from({ length: call.length }, numbers(1)));
  const [segment, hyper] = [arena.reserve(128, "segment"), arena.reserve(128, "numbers of the kernel")];
  arena.doubles(segment, 4).set([1, call.gradScale, call.clip, 0]);
  new Uint32Array(space.memory.buffer, segment + POINTERS_OFFSET, FIRST_SLOT).set([all.byteOffset, all.byteOffset]);
  arena.doubles(hyper, amounts.length).set(amounts);
  const words = [...places.map((place) => all.byteOffset + 4 * place), ...counts, 1, 0];
  const view = new Uint32Array(space.memory.buffer, hyper + 8 * amounts.length, words.length);
  view.set(words);
  const run = kernelIn(arena, kernels[kernel as keyof typeof kernels]);
  for (let slice = 0; slice < slices; slice++) {
    view[words.length - 1] = slice;
    run(hyper, segment, 0, pieces);
  }
  const hash = digest([all.slice(0, call.length).map((x) => (Number.isNaN(x) ? Number.NaN : x))]);
  arena.free();
  return hash;
}

test("kernels give the published bits; crate/tests/matrix.rs compares scalars", async () => {
  const lines = published.map((call) => JSON.stringify({ ...call, hash: hashAfter(call) }));
  const { length, gradScale, clip } = call;
  const head = `  "length": ${length},\n  "gradScale": ${gradScale},\n  "clip": ${clip},\n`;
  await expect(`{\n${head}  "cases": [\n    ${lines.join(",\n    ")}\n  ]\n}\n`).toMatchFileSnapshot("matrix.json");
});

const reductions = published.slice(2, 7);
test.each(reductions)("$kernel has the same bits in slices", (whole) => {
  const { kernel, counts, places } = whole;
  const length = { average_columns: 1, cover_columns: 1, invert_means: 1 }[kernel] ?? 2;
  const step = kernel === "invert_means" ? 5 : 8;
  // Partial sums are stored after the other numbers.
  const apart = kernel === "invert_means" ? places : [...places.slice(0, -1), 6000];
  const sliced = { ...whole, places: apart, counts: [...counts.slice(0, -1), step] };
  expect(hashAfter(sliced, Math.ceil(counts[length]! / step))).toBe(hashAfter(whole));
});

test("a product of many rows is exact: it adds the sums of slices", () => {
  const arena = createArenaSync({ maxBytes: 2 ** 28 });
  const rows = 2 ** 20;
  const w = arena.tensor("w", [rows, 1]);
  w.grad.set(Float32Array.from(w.grad, numbers(3)));
  muon([w], { lr: 1, momentum: 0, weightDecay: 0, nsSteps: 1 }).step();
  const factor = (3.4445 - 4.775 + 2.0315) * Math.sqrt(rows / w.grad.reduce((sum, g) => sum + g * g, 0));
  expect(
    error(
      w.data,
      w.grad.map((g) => -factor * g),
    ),
  ).toBeLessThan(1);
  arena.free();
});

test("the mean of a column's squares does not overflow before it is divided", () => {
  const arena = small();
  for (const shape of [
    [2 ** 17, 2],
    [2, 2 ** 17],
  ]) {
    const w = arena.tensor(shape.join(), shape);
    w.grad.fill(1e17);
    const optimizer = adafactor([w]);
    optimizer.step();
    for (const slot of Object.values(optimizer.state(w))) expect(slot.every(Number.isFinite), shape.join()).toBe(true);
  }
  arena.free();
});

/** An optimizer over matrices, and gradients in the same order for each. */
function made(arena: Arena, { factory, options }: Pick<Case, "factory" | "options">, shapes: Record<string, number[]>) {
  const model = arena.tensors(shapes);
  const next = numbers(7);
  for (const { data } of Object.values(model)) data.set(Float32Array.from(data, next));
  const optimizer = factory(model, options);
  const fill = () => {
    for (const { grad, shape } of Object.values(model)) {
      grad.set(
        Float32Array.from(grad, (_, i) => next() / 2 ** (i % 7) + next() / 2 ** (Math.floor(i / shape[1]!) % 3)),
      );
    }
  };
  return { model, optimizer, fill };
}

const shapes: Record<string, number[]> = {
  wide: [6, 10],
  tall: [33, 5],
  square: [16, 16],
  row: [1, 9],
  column: [7, 1],
  large: [70, 90],
};

/**
 * Errors that are allowed, relative to the largest element, for rules that take roots of matrices which may be nearly
 * singular.
 */
const allowed: Readonly<Record<string, number>> = { shampoo: 1e-3, soap: 1e-2 };
/** The error of a result, in units of the allowed error. */
function far({ name }: Case["rule"], actual: ArrayLike<number>, expected: readonly number[]): number {
  if (allowed[name] === undefined) return error(actual, expected);
  const largest = Math.max(1e-30, ...expected.map(Math.abs));
  return Math.max(...expected.map((x, i) => Math.abs(x - actual[i]!))) / (allowed[name] * largest);
}

/**
 * Shapes for which the state of a rule is fully determined. For other shapes, SOAP's bases are arbitrary in directions
 * without gradients.
 */
const full: Readonly<Record<string, Record<string, number[]>>> = {
  soap: { square: [16, 16], small: [5, 5], one: [1, 1] },
};

describe.each(programs)("$name", ({ factory, rule, options, values }) => {
  test("follows the paper over several steps", () => {
    const arena = small();
    const { model, optimizer, fill } = made(arena, { factory, options }, full[rule.name] ?? shapes);
    const sign = values.maximize ? -1 : 1;
    const slots = Object.keys(variantOf(rule, values).slots);
    const expected = Object.values(model).map(({ data, shape }) => {
      const state: State = Object.fromEntries(
        slots.flatMap((slot) => {
          const [rows, columns] = slotShape(rule, slot, shape) ?? [];
          return rows === undefined ? [] : [[slot, rowsOf(new Float32Array(rows * columns!), columns!)]];
        }),
      );
      return { p: rowsOf(data, shape[1]!), state };
    });
    for (let step = 1; step <= 7; step++) {
      fill();
      optimizer.step();
      Object.values(model).forEach((tensor, i) => {
        const one = expected[i]!;
        const g = map((x) => sign * x, rowsOf(tensor.grad, tensor.shape[1]!));
        one.p = oracle[rule.name as keyof typeof oracle](values, step, one.p, g, one.state);
        expect(far(rule, tensor.data, one.p.flat()), `${tensor.name} after step ${step}`).toBeLessThan(1);
        for (const [slot, view] of Object.entries(optimizer.state(tensor) as Record<string, Float32Array>)) {
          const turned = slot.endsWith("Basis") ? Math.abs : (x: number) => x; // the signs of eigenvectors are arbitrary
          const [is, should] = [view.map(turned), one.state[slot]!.flat().map(turned)];
          expect(far(rule, is, should), `${slot} of ${tensor.name}`).toBeLessThan(1);
        }
      });
    }
    arena.free();
  });
});

const defaults = [...new Map(programs.map((one) => [one.rule.name, one])).values()];

describe.each(defaults.map((one) => ({ ...one, name: one.rule.name })))("$name", ({ factory }) => {
  test("a tensor's bits do not depend on the others", () => {
    const arena = small();
    const { model, optimizer, fill } = made(arena, { factory, options: {} }, shapes);
    const other = small();
    const twins = other.tensors(shapes);
    const alone = Object.values(twins).map((twin) => factory([twin], {}));
    for (const name of Object.keys(shapes)) twins[name]!.data.set(model[name]!.data);
    for (let step = 0; step < 3; step++) {
      fill();
      for (const name of Object.keys(shapes)) twins[name]!.grad.set(model[name]!.grad);
      optimizer.step();
      for (const one of alone) one.step();
    }
    for (const name of Object.keys(shapes)) expect(twins[name]!.data).toEqual(model[name]!.data);
  });

  test("a gradient of zeros, or of one number, gives finite parameters", () => {
    const { model, optimizer } = made(small(), { factory, options: {} }, shapes);
    for (const fill of [0, 1e-30, 1, 1e18]) {
      for (const { grad } of Object.values(model)) grad.fill(fill);
      for (let step = 0; step < 2; step++) optimizer.step();
      for (const { data } of Object.values(model)) expect(data.every(Number.isFinite)).toBe(true);
    }
  });
});

/** The number of bytes that an optimizer takes of an arena. */
function bytesTaken(factory: Case["factory"], shapes: Record<string, number[]>): number {
  const arena = small();
  const model = arena.tensors(shapes);
  factory({ ...arena.tensors({ other: [8, 8] }) }); // writes the kernels
  const left = arena.bytesLeft;
  factory(model);
  return left - arena.bytesLeft;
}

test("adafactor keeps a row and a column of a matrix, sm3 also its momentum", () => {
  const [rows, columns] = [300, 500];
  const matrices = { a: [rows, columns], b: [rows, columns], c: [rows, columns] };
  const sides = 4 * (rows + columns);
  const [elements, more] = [4 * rows * columns, 4096]; // at most so many bytes are left free before and behind an array
  // All tensors share scratch memory: a number per row for adafactor, a number per row and per column for sm3.
  expect(bytesTaken(adafactor, matrices)).toBeLessThan(3 * sides + sides + more);
  expect(bytesTaken(sm3, matrices)).toBeLessThan(3 * (elements + sides + 2 * more) + sides + more);
  expect(bytesTaken(adamw, matrices)).toBeGreaterThan(6 * elements);
});

test("groups that are added share scratch memory", () => {
  const taken = (shapes: readonly number[][], isAdded: boolean) => {
    const arena = createArenaSync({ maxBytes: 2 ** 26 });
    const model = Object.values(arena.tensors(Object.fromEntries(shapes.map((shape, i) => [`w${i}`, shape]))));
    const left = arena.bytesLeft;
    const [first, ...others] = model.map((tensor) => ({ params: [tensor] }));
    const optimizer = soap(isAdded ? [first!] : [first!, ...others]);
    if (isAdded) for (const group of others) optimizer.addGroup(group);
    for (const { grad } of model) grad.set(Float32Array.from(grad, numbers(7)));
    for (let i = 0; i < 3; i++) optimizer.step();
    const result = { bytes: left - arena.bytesLeft, params: model.map(({ data }) => [...data]) };
    arena.free();
    return result;
  };
  const shapes = [
    [90, 50],
    [40, 40],
    [128, 64],
    [3, 3],
    [64, 128],
  ];
  const [atOnce, added] = [taken(shapes, false), taken(shapes, true)];
  expect(added.params).toEqual(atOnce.params);
  const alone = taken([[128, 64]], false);
  expect(added.bytes - atOnce.bytes).toBeLessThan(alone.bytes);
});

test("adafactor treats a tensor of three dimensions as a list of matrices", () => {
  const arena = small();
  const cube = arena.tensor("cube", [2, 3, 5]);
  const parts = arena.tensors({ a: [3, 5], b: [3, 5] });
  const next = numbers(5);
  const [together, apart] = [adafactor([cube], { lr: 0.1 }), Object.values(parts).map((part) => adafactor([part]))];
  for (let step = 1; step <= 3; step++) {
    const before = Float64Array.from(cube.data.fill(0.5));
    cube.grad.set(Float32Array.from(cube.grad, next));
    Object.values(parts).forEach(({ grad }, i) => grad.set(cube.grad.subarray(15 * i, 15 * i + 15)));
    together.step();
    for (const one of apart) one.step();
    const { rowVar, colVar } = together.state(cube) as Required<ReturnType<typeof together.state>>;
    expect([...rowVar]).toEqual(Object.values(parts).flatMap((part, i) => [...apart[i]!.state(part).rowVar!]));
    expect([...colVar]).toEqual(Object.values(parts).flatMap((part, i) => [...apart[i]!.state(part).colVar!]));
    const u = Array.from(cube.grad, (g, i) => {
      const matrix = Math.floor(i / 15);
      const mean = (rowVar[3 * matrix]! + rowVar[3 * matrix + 1]! + rowVar[3 * matrix + 2]!) / 3;
      return g / Math.sqrt((rowVar[Math.floor(i / 5)]! * colVar[5 * matrix + (i % 5)]!) / mean);
    });
    const factor = (0.5 * 0.1) / Math.max(1, Math.hypot(...u) / Math.sqrt(30));
    expect(
      error(
        cube.data,
        before.map((p, i) => p - factor * u[i]!),
      ),
    ).toBeLessThan(1);
  }
});

test("sm3 is Adagrad with momentum on a vector, and refuses more than two dimensions", () => {
  const arena = small();
  const { v, k } = arena.tensors({ v: [7], k: [3, 3, 2] });
  const optimizer = sm3([v], { lr: 0.1, momentum: 0.5 });
  const [next, sums, momenta] = [numbers(3), new Array<number>(7).fill(0), new Array<number>(7).fill(0)];
  const expected = Array.from(v.data);
  for (let step = 0; step < 4; step++) {
    v.grad.set(Float32Array.from(v.grad, next));
    optimizer.step();
    v.grad.forEach((g, i) => {
      sums[i]! += g * g;
      momenta[i] = 0.5 * momenta[i]! + (0.5 * g) / Math.sqrt(sums[i]! + 1e-8);
      expected[i]! -= 0.1 * momenta[i]!;
    });
    expect(error(v.data, expected)).toBeLessThan(1);
  }
  expect(() => sm3([k])).toThrow(
    'sm3: tensor "k" must be a vector or a matrix, got shape [3, 3, 2]; use another optimizer for it, such as adagrad',
  );
});

test("a tensor that is not a matrix is refused, and nothing changes", () => {
  const arena = small();
  const model = arena.tensors({ w: [3, 4], b: [128] });
  const left = arena.bytesLeft;
  expect(() => muon(model)).toThrow(
    new RangeError(
      'muon: tensor "b" must be of two dimensions or more, got shape [128]; use another optimizer for it, such as adamw',
    ),
  );
  expect(arena.bytesLeft).toBe(left);
});

describe("muon flattens filters of convolutions", () => {
  test.each([
    { shape: [6, 2, 3, 3], matrix: [6, 18], options: {} },
    { shape: [5, 4, 3], matrix: [5, 12], options: { adjustLr: "match_rms_adamw" } as const },
    { shape: [3, 3, 2, 7], matrix: [18, 7], options: { inputsFirst: true } },
  ])("$shape as $matrix", ({ shape, matrix, options }) => {
    const results = [shape, matrix].map((shape) => {
      const w = small().tensor("w", shape);
      const { params, grads } = inputs(w.size, 3);
      w.data.set(params);
      const optimizer = muon([w], options);
      for (const grad of grads) {
        w.grad.set(grad);
        optimizer.step();
      }
      return bits({ params: w.data, state: optimizer.state(w) });
    });
    expect(results[0]).toEqual(results[1]);
  });

  test("vectors are refused", () => {
    const v = small().tensor("v", [4]);
    expect(() => muon([v])).toThrow('muon: tensor "v" must be of two dimensions or more, got shape [4]');
  });
});
