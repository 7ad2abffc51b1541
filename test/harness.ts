/** Runs kernels and oracles of rules for tests. */

import { type Arena, createArenaSync } from "../ts/arena/arena.js";
import type { Rule } from "../ts/optimizer/definition.js";
import { Group, planGroup } from "../ts/optimizer/group.js";
import { type Values, variantOf } from "../ts/optimizer/hyper.js";
import { Optimizer } from "../ts/optimizer/optimizer.js";
import type { Kernel } from "../ts/wasm/kernels.js";
import { padded, Tensor } from "../ts/arena/tensor.js";
import { oracle as elements, type State, type Update } from "./oracle.js";
import { matrixOf, oracle as matrices, rowsOf, slotShape, type Update as MatrixUpdate } from "./oracle.matrix.js";
import { type WholeUpdate, wholes } from "./oracle.whole.js";
import type { RuleName } from "./registry.js";

export interface Run {
  readonly params: ArrayLike<number>;
  /** The gradients, one array per step. */
  readonly grads: readonly ArrayLike<number>[];
}

export interface Result {
  readonly params: Float32Array;
  readonly state: Readonly<Record<string, Float32Array>>;
}

/** A span of elements. Both ends are multiples of 16. */
export type Span = readonly [begin: number, end: number];

let arena: Arena | undefined;
let used = 0;
const ROOM = 2 ** 28;

/** Returns an arena with free memory. Makes a new one when half of the last one is used. */
function room(floats: number): Arena {
  used += floats * 4 * 16;
  if (arena === undefined || used > ROOM / 2) {
    arena?.free();
    arena = createArenaSync({ maxBytes: ROOM, threads: 1 });
    used = floats * 4 * 16;
  }
  return arena;
}

/** The result of a run. `scalars` and `sums` have an entry for each step. */
export interface KernelResult extends Result {
  readonly scalars: readonly (readonly number[])[];
  readonly sums: readonly (readonly number[])[];
}

/** A kernel of an arena. */
export const kernelIn = (arena: Arena, kernel: Kernel) =>
  arena.internals("test").runner.kernels.at(arena.kernel(kernel));

/** Runs the steps of a rule with its kernels. */
export function kernelRun(
  rule: Rule,
  values: Values,
  { params, grads }: Run,
  {
    spans = [[0, padded(params.length)]],
    into = room(params.length),
    gradScale = 1,
    name = "w",
    inStreams = false,
  }: { spans?: readonly Span[]; into?: Arena; gradScale?: number; name?: string; inStreams?: boolean } = {},
): KernelResult {
  if (rule.program) return programRun(rule, values, { params, grads }, into, gradScale, name);
  const floats = () => into.floats(into.reserve(4 * padded(params.length), "floats"), params.length);
  const tensor = new Tensor(into, name, [params.length], floats(), floats());
  tensor.data.set(params);
  const planned = planGroup(rule, values, [tensor]);
  const [own, scratch] = [into.reserve(planned.bytes, "group"), into.reserve(planned.scratch, "scratch")];
  const group = new Group(into, rule, planned, own, scratch, 0);
  const first = group.segments[0]!;
  const { hyper, segment } = first.calls.update;
  first.inStreams = inStreams;
  const run = (name: string) => kernelIn(into, rule.kernels[name]!);
  const { kernel, measure } = planned.variant;
  const left = into.reserve(8 * Math.max(1, rule.sums.length), "sums");
  const scalars: number[][] = [];
  const sums: number[][] = [];
  grads.forEach((grad, index) => {
    tensor.grad.set(grad);
    group.begin(values);
    first.begin({ step: index + 1, gradScale: group.sign * gradScale, clip: Infinity, blend: 0 });
    // The measuring kernel runs over the whole span, because the order of additions depends on the span.
    if (measure !== undefined) run(measure)(hyper, segment, 0, padded(params.length), left);
    sums.push([...into.doubles(left, rule.sums.length)]);
    const measured = Object.fromEntries(rule.sums.map((name, i) => [name, sums.at(-1)![i]!]));
    group.advance(0, values, index + 1, measured);
    scalars.push(Object.values(group.scalars[0]!));
    for (const [begin, end] of spans) run(kernel)(hyper, segment, begin, end);
  });
  return { params: tensor.data, state: first.viewsOf(tensor)!.state, scalars, sums };
}

/** Runs the steps with an optimizer, for rules whose steps are more than two kernels. */
function programRun(rule: Rule, values: Values, { params, grads }: Run, into: Arena, gradScale: number, name: string) {
  const floats = () => into.floats(into.reserve(4 * padded(params.length), "floats"), params.length);
  const tensor = new Tensor(into, name, matrixOf(params.length), floats(), floats());
  tensor.data.set(params);
  const optimizer = new Optimizer<unknown, Result["state"]>(rule, [tensor], { ...values, gradScale });
  const scalars = grads.map((grad) => {
    tensor.grad.set(grad);
    optimizer.step();
    return Object.values(optimizer.groups[0]!.scalars[0]!);
  });
  return { params: tensor.data, state: optimizer.state(tensor), scalars, sums: [[]] };
}

/** Runs the steps with the oracle, in double precision. `values` are the options, or a function of the step. */
export function oracleRun(rule: Rule, values: Values | ((step: number) => Values), { params, grads }: Run) {
  const at = typeof values === "function" ? values : () => values;
  const sign = at(1).maximize ? -1 : 1;
  const slots = Object.entries(variantOf(rule, at(1)).slots);
  const start = Array.from(params);
  const state = Object.fromEntries(
    slots.flatMap(([name, from]) => {
      if (from === "params") return [[name, start.slice()]];
      const [rows, columns] = rule.shapes[name]
        ? (slotShape(rule, name, matrixOf(start.length)) ?? [0, 0])
        : [1, start.length];
      return rows === 0 ? [] : [[name, Array.from({ length: rows * columns }, () => Number(from))]];
    }),
  ) as Record<string, number[]>;
  const update = oracles[rule.name as RuleName](rule);
  const memory: State = {};
  const now = grads.reduce<number[]>((now, grad, index) => {
    const slopes = Array.from(grad, (g) => sign * g);
    return update(at(index + 1), index + 1, now, slopes, state, memory);
  }, start);
  return {
    params: now,
    state: Object.fromEntries(slots.flatMap(([name]) => (state[name] ? [[name, state[name]]] : []))),
  };
}

/**
 * Makes the update of a tensor from the update of one element. The oracle may keep further values of an element from
 * step to step.
 */
const elementwise =
  (update: Update): WholeUpdate =>
  (options, t, params, grads, state) =>
    params.map((p, i) => {
      const own = Object.fromEntries(Object.entries(state).map(([name, values]) => [name, values[i]!]));
      const next = update(options, t, p, grads[i]!, own);
      for (const name in own) (state[name] ??= [])[i] = own[name]!;
      return next;
    });

/** Makes the update of a flat tensor from the update of a matrix. */
const byMatrices =
  (rule: Rule, update: MatrixUpdate): WholeUpdate =>
  (options, t, params, grads, state) => {
    const shape = matrixOf(params.length);
    const [, columns] = shape;
    const own = Object.fromEntries(
      Object.entries(state).map(([name, values]) => [name, rowsOf(values, slotShape(rule, name, shape)![1])]),
    );
    const next = update(options, t, rowsOf(params, columns), rowsOf(grads, columns), own);
    for (const name in own) state[name] = own[name]!.flat();
    return next.flat();
  };

/** Applies a function to each value of a record. */
const mapped = <Name extends string, From, To>(record: Record<Name, From>, to: (value: From) => To) =>
  Object.fromEntries(Object.entries<From>(record).map(([name, value]) => [name, to(value)])) as Record<Name, To>;

/** The oracle of each rule, as an update of a whole tensor. A rule without one does not compile: add it to test/oracle*.ts. */
const oracles: Record<RuleName, (rule: Rule) => WholeUpdate> = {
  ...mapped(elements, (update: Update) => () => elementwise(update)),
  ...mapped(wholes, (update: WholeUpdate) => () => update),
  ...mapped(matrices, (update: MatrixUpdate) => (rule: Rule) => byMatrices(rule, update)),
};

/** Concatenates parameters and state. All NaNs become the same NaN, because engines differ in its sign and payload. */
export function flat({ params, state }: Result, length = params.length): Float32Array<ArrayBuffer> {
  const arrays = [params, ...Object.values(state)];
  const all = new Float32Array(arrays.length * length);
  arrays.forEach((array, i) => {
    all.set(array.subarray(0, length), i * length);
  });
  return all.map((x) => (Number.isNaN(x) ? Number.NaN : x));
}

/** The bits, for comparison. */
export const bits = (result: Result, length?: number): Buffer => Buffer.from(flat(result, length).buffer);

/** The bits of a tensor's parameters and state. */
export const bitsOf = (optimizer: Pick<Optimizer, "state">, tensor: Tensor): Buffer =>
  bits({ params: tensor.data, state: optimizer.state(tensor) });

/** The bits of each number. */
export const bitsOfEach = (values: ArrayLike<number>): number[] => [
  ...new Uint32Array(Float32Array.from(values).buffer),
];

/** A copy of an arena's memory. */
export const memoryOf = (arena: Arena): Buffer =>
  Buffer.from(new Uint8Array(arena.internals("test").space.memory.buffer));

/** Numbers in [-1, 1), from whole-number arithmetic (xorshift32), the same in crate/tests/bits.rs. */
export function numbers(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x / 2 ** 31;
  };
}

/** Parameters in [-1, 1), and gradients that span seven decades. */
export function inputs(length: number, steps: number, seed = 1) {
  const next = numbers(seed);
  const params = Float32Array.from({ length }, next);
  const grads = Array.from({ length: steps }, () => Float32Array.from({ length }, (_, i) => next() / 2 ** (i % 24)));
  return { params, grads };
}

/**
 * The factor of the tolerance for rules with larger errors. The state of `ftrl` is a difference of large numbers. The
 * matrices of `shampoo` and `soap` may be nearly singular; test/matrix.test.ts compares these rules where they are not.
 */
export const toleranceFactor: Readonly<Record<string, number>> = { ftrl: 1000, shampoo: Infinity, soap: Infinity };

/** The largest distance from `expected`, in units of what a float32 kernel is allowed: 1e-5 relative, 1e-6 absolute. */
export function error(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const [a, e] = [actual[i]!, expected[i]!];
    if (Object.is(a, e) || a === e) continue;
    const distance = Math.abs(a - e) / (1e-6 + 1e-5 * Math.abs(e));
    worst = Math.max(worst, Number.isNaN(distance) ? Infinity : distance);
  }
  return worst;
}

/**
 * The distance from `expected`, divided by the distance from `start` to `expected`. For Muon, whose matrices PyTorch
 * makes orthogonal in bfloat16.
 */
export function relativeDistance(actual: Float32Array, expected: readonly number[], start: readonly number[]): number {
  const away = (from: readonly number[]) => Math.hypot(...expected.map((x, i) => x - from[i]!));
  return away([...actual]) / away(start);
}
