/** Runs a rule's kernel, over whatever spans a test asks for. */

import { type Arena, createArenaSync } from "../ts/arena.js";
import type { Rule } from "../ts/definition.js";
import { fields, type Values, variantOf } from "../ts/hyper.js";
import { BLOCK, Job } from "../ts/job.js";
import { padded } from "../ts/tensor.js";
import { oracle } from "./oracle.js";

export interface Run {
  readonly params: ArrayLike<number>;
  /** One gradient a step. */
  readonly grads: readonly ArrayLike<number>[];
}

export interface Result {
  readonly params: Float32Array;
  readonly state: Readonly<Record<string, Float32Array>>;
}

/** Multiples of 16. */
export type Span = readonly [begin: number, end: number];

let arena: Arena | undefined;
let used = 0;
const ROOM = 2 ** 28;

/** An arena with room, a new one before the last is full. */
function room(floats: number): Arena {
  used += floats * 4 * 16;
  if (arena === undefined || used > ROOM / 2) {
    arena?.free();
    arena = createArenaSync({ maxBytes: ROOM, threads: 1 });
    used = floats * 4 * 16;
  }
  return arena;
}

let count = 0;

/** Where a rule takes the parameters, by the kernel. */
export function kernelRun(
  rule: Rule,
  values: Values,
  { params, grads }: Run,
  {
    spans = [[0, padded(params.length)]],
    into = room(params.length),
    gradScale = 1,
  }: { spans?: readonly Span[]; into?: Arena; gradScale?: number } = {},
): Result {
  const tensor = into.tensor(`${count++}`, [params.length]);
  tensor.data.set(params);
  const variant = variantOf(rule, values);
  const hyper = into.reserve(BLOCK, "hyper");
  const block = into.doubles(hyper, BLOCK / 8);
  block.set(fields(rule, values));
  const scalars = scalarsOf(rule, values, grads.length);
  const job = new Job(into, variant, hyper, into.reserve(Job.bytes([tensor], variant), "job"), [tensor]);
  const kernel = into.inner("test").kernels[variant.kernel]!;
  grads.forEach((grad, index) => {
    tensor.grad.set(grad);
    const sign = values.maximize ? -1 : 1;
    block.set(scalars[index]!, fields(rule, values).length);
    job.begin({ step: index + 1, gradScale: sign * gradScale, clip: Infinity, blend: 0 });
    for (const [begin, end] of spans) kernel(hyper, job.update.block, begin, end);
  });
  return { params: tensor.data, state: job.held(tensor)!.state };
}

/** What a rule computes once a step, for so many steps. */
export function scalarsOf(rule: Rule, values: Values, steps: number): number[][] {
  let now = rule.scalars;
  return Array.from({ length: steps }, (_, i) => {
    now = rule.advance(now, values, i + 1);
    return Object.values(now);
  });
}

/** Where it takes them in doubles, by the oracle, with the same values at each step or a step's own. */
export function oracleRun(rule: Rule, values: Values | ((step: number) => Values), { params, grads }: Run) {
  const at = typeof values === "function" ? values : () => values;
  const sign = at(1).maximize ? -1 : 1;
  const { slots } = variantOf(rule, at(1));
  const state = Array.from(params, () => ({ ...slots }));
  let now = Array.from(params);
  grads.forEach((grad, index) => {
    now = now.map((p, i) => oracle[rule.name]!(at(index + 1), index + 1, p, sign * grad[i]!, state[i]!));
  });
  const slot = (name: string) => state.map((element) => element[name]!);
  return { params: now, state: Object.fromEntries(Object.keys(slots).map((name) => [name, slot(name)])) };
}

/** Parameters and state one behind the other; every NaN alike, as engines may differ in its sign and payload. */
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
