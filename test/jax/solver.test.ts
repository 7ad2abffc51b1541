/** Tests of downhill/jax: the same bits as on an arena, reference counts, copies, errors. */

import { createRequire } from "node:module";
import { inspect } from "node:util";
import { defaultDevice, init, jit, numpy as np, tree, valueAndGrad } from "@jax-js/jax";
import { beforeAll, expect, test, vi } from "vitest";
import { createArenaSync } from "../../ts/arena/arena.js";
import { load, save } from "../../ts/checkpoint/index.js";
import type { Shape } from "../../ts/arena/tensor.js";
import * as adapted from "../../ts/jax/index.js";
import {
  adamw,
  applyUpdates,
  type ArrayTree,
  type GradientTree,
  scheduleFreeAdamw,
  sgd,
  type Solver,
  sophia,
} from "../../ts/jax/index.js";
import { variantOf } from "../../ts/optimizer/hyper.js";
import { bitsOfEach as bits } from "../harness.js";
import { cases, factories, fitting } from "../registry.js";
import { numbers } from "../tfjs/backends.js";

beforeAll(async () => {
  await init("wasm");
  defaultDevice("wasm");
});

const shapes: Readonly<Record<string, Shape>> = { kernel: [3, 3, 2, 8], bias: [7], table: [16, 24] };
const array = (values: Float32Array, shape: Shape) => np.array(values, { shape: [...shape] });
const read = (params: any): Record<string, number[]> =>
  Object.fromEntries(
    Object.entries(params as Record<string, np.Array>).map(([name, x]) => [name, bits(x.ref.dataSync())]),
  );

const kernels = new Map(cases.map((each) => [variantOf(each.rule, each.values).kernel, each] as const));

test.each([...kernels])("kernel %s", (_, { factory, rule, options }) => {
  const list = Object.entries(shapes).map(([name, shape]) => [name, fitting(rule, shape)] as const);
  const arena = createArenaSync({ threads: 1, maxBytes: 2 ** 23 });
  const model = arena.tensors(Object.fromEntries(list));
  const opt = factory(model, options);
  const solver = (adapted as any)[rule.name](options) as Solver;
  const record = (seed: number) =>
    Object.fromEntries(list.map(([name, shape], i) => [name, array(numbers(model[name]!.size, seed + i), shape)]));
  let params = record(1);
  Object.values(model).forEach(({ data, size }, i) => data.set(numbers(size, 1 + i)));
  let state = solver.init(tree.ref(params));
  for (let step = 1; step < 5; step++) {
    const grads = record(100 * step);
    Object.values(model).forEach(({ grad, size }, i) => grad.set(numbers(size, 100 * step + i)));
    opt.step();
    [params, state] = solver.step(params, grads, state);
    for (const array of Object.values(grads)) expect(array.refCount).toBe(0);
  }
  expect(read(params)).toEqual(Object.fromEntries(Object.entries(model).map(([name, { data }]) => [name, bits(data)])));
  expect(state.steps).toBe(opt.steps);
  state.dispose();
  tree.dispose(params);
  for (const array of Object.values(params)) expect(array.refCount).toBe(0);
});

test("there is a factory for each rule", () => {
  for (const { rule } of factories) expect((adapted as any)[rule.name].rule).toBe(rule);
});

test("in the manner of optax, a network in lists and records trains as by the one call", () => {
  const start = () => ({
    layers: [{ w: array(numbers(6, 1), [2, 3]), b: array(numbers(3, 2), [3]) }],
    scale: np.array([2]),
  });
  const x = array(numbers(8, 3), [4, 2]);
  const loss = ({ layers: [{ w, b }], scale }: any) => np.square(np.matmul(x.ref, w).add(b)).sum().mul(scale.sum());
  const gradient = jit(valueAndGrad(loss));
  const options = { lr: 0.01, groups: [{ params: /\.b$/, weightDecay: 0 }] } as const;
  const run = (one: boolean) => {
    const solver = adamw(options);
    let params: any = start();
    let state = solver.init(tree.ref(params));
    const losses: number[] = [];
    for (let step = 0; step < 5; step++) {
      const [value, grads] = gradient(tree.ref(params)) as [np.Array, any];
      losses.push(value.js() as number);
      if (one) [params, state] = solver.step(params, grads, state);
      else {
        let updates;
        [updates, state] = solver.update(grads, state, tree.ref(params));
        params = applyUpdates(params, updates);
      }
    }
    state.dispose();
    tree.dispose(params);
    return losses;
  };
  const [one, two] = [run(true), run(false)];
  expect(one[4]).toBeLessThan(one[0]!);
  one.forEach((loss, i) => expect(loss).toBeCloseTo(two[i]!, 5));
  x.dispose();
});

test("update and applyUpdates consume what they are given, and leak nothing", () => {
  const size = 2 ** 14; // jax-js gives arrays of this size memory of their own, so that it grows with each one that leaks
  const solver = adamw();
  let params = { w: array(numbers(size, 1), [size]) };
  let state = solver.init(tree.ref(params));
  const step = () => {
    const [grads, old] = [{ w: array(numbers(size, 2), [size]) }, params];
    const [updates, next] = solver.update(grads, state, tree.ref(old));
    expect([grads, old, updates].map(({ w }) => w.refCount)).toEqual([0, 1, 1]);
    [params, state] = [applyUpdates(old, updates), next];
    expect([grads, old, updates].map(({ w }) => w.refCount)).toEqual([0, 0, 0]);
  };
  for (let i = 0; i < 3; i++) step();
  const grow = vi.spyOn(WebAssembly.Memory.prototype, "grow");
  for (let i = 0; i < 3; i++) step();
  expect(grow).not.toHaveBeenCalled();
  grow.mockRestore();
  state.dispose();
  tree.dispose(params);
});

test("a step copies gradients in and parameters out, once each", () => {
  const size = 4096;
  const solver = adamw();
  let params = { w: array(numbers(size, 1), [size]) };
  let state = solver.init(tree.ref(params));
  [params, state] = solver.step(params, { w: array(numbers(size, 2), [size]) }, state);
  const { prototype } = np.Array;
  const { dataSync } = prototype;
  const { set, slice } = Object.getPrototypeOf(Float32Array.prototype);
  const copied: string[] = [];
  const grads = { w: array(numbers(size, 3), [size]) };
  try {
    prototype.dataSync = function (this: np.Array) {
      copied.push(this === (grads.w as unknown) ? "out of jax-js: gradient" : "out of jax-js: something else");
      return dataSync.call(this);
    };
    const typed = Object.getPrototypeOf(Float32Array.prototype);
    typed.set = function (this: Float32Array, ...given: any[]) {
      if (given[0].length * (given[0].BYTES_PER_ELEMENT ?? 4) >= 4 * size) copied.push("set");
      return set.apply(this, given);
    };
    typed.slice = function (this: Float32Array, ...given: any[]) {
      const result = slice.apply(this, given);
      if (result.byteLength >= 4 * size) copied.push("slice");
      return result;
    };
    [params, state] = solver.step(params, grads, state);
  } finally {
    prototype.dataSync = dataSync;
    Object.assign(Object.getPrototypeOf(Float32Array.prototype), { set, slice });
  }
  // A step copies the gradient from the memory of jax-js to the arena, and the parameters back.
  expect(copied).toEqual(["out of jax-js: gradient", "slice", "set", "set"]);
  state.dispose();
  tree.dispose(params);
});

test("parameters that are not those of the last step are taken as they are", () => {
  const solver = sgd({ lr: 1 });
  let params = { w: np.array([1, 2]) };
  let state = solver.init(tree.ref(params));
  [params, state] = solver.step(params, { w: np.array([1, 1]) }, state);
  params = { w: params.w.mul(10) };
  [params, state] = solver.step(params, { w: np.array([1, 1]) }, state);
  expect(params.w.js()).toEqual([-1, 9]);
  state.dispose();
});

test("a parameter that cannot be read leaves no other values than those given", () => {
  const solver = sgd({ lr: 1 });
  let params = { a: np.array([1]), b: np.array([1]) };
  let state = solver.init(tree.ref(params));
  const zeros = () => ({ a: np.array([0]), b: np.array([0]) });
  [params, state] = solver.step(params, zeros(), state);
  const other = { a: np.array([50]), b: np.array([50]) };
  const read = vi.spyOn(other.b, "dataSync").mockImplementation(() => {
    throw new Error("lost");
  });
  expect(() => solver.step(tree.ref(other), zeros(), state)).toThrow("lost");
  read.mockRestore();
  [params, state] = solver.step(params, zeros(), state);
  expect([params.a.js(), params.b.js()]).toEqual([[1], [1]]);
  expect(solver.params(state)).toEqual(expect.objectContaining({ a: expect.anything(), b: expect.anything() }));
  state.dispose();
});

test("averages, evaluation, estimates of the Hessian", () => {
  const solver = scheduleFreeAdamw({ lr: 0.1, ema: 0.5 });
  let params = { w: np.array([1, 2]) };
  let state = solver.init(tree.ref(params));
  for (let i = 0; i < 3; i++) [params, state] = solver.step(params, { w: np.array([1, -1]) }, state);
  const [average, evaluated] = [solver.average(state), solver.evalParams(state)] as (typeof params)[];
  expect(average!.w.js()).not.toEqual(params.w.ref.js());
  expect(evaluated!.w.js()).not.toEqual(params.w.js());
  state.dispose();
  const second = sophia();
  let own = second.init(np.array([1, 2]));
  own = second.hessian(np.array([1, 1]), own);
  const [next] = second.step(np.array([1, 2]), np.array([1, 1]), own);
  expect((next as np.Array).shape).toEqual([2]);
  const fails = sophia({ lr: (step) => (step > 0 ? NaN : 0.1) });
  const estimate = np.array([1, 1]);
  const [moved, state2] = fails.step(np.array([1, 2]), np.array([1, 1]), fails.init(np.array([1, 2])));
  expect(() => fails.hessian(estimate, state2)).toThrow("at step 1, lr");
  expect(estimate.refCount).toBe(1);
  const two = second.init({ a: np.array([1]), b: np.array([1]) });
  const shared = np.array([1]);
  expect(() => second.hessian({ a: shared, b: shared }, two)).toThrow(
    "an array is given 2 times, but has 1 references",
  );
  expect(shared.refCount).toBe(1);
  expect((moved as np.Array).shape).toEqual([2]);
});

test("refusals name the remedy, and consume nothing", () => {
  const solver = adamw();
  const params = { w: np.array([1, 2]) };
  const state = solver.init(tree.ref(params));
  const grads = () => ({ w: np.array([1, 1]) });
  const traced = jit((w: np.Array) => solver.step({ w }, { w: w.ref }, state)[0].w);
  expect(() => traced(np.array([1, 2]))).toThrow(
    "because it is traced by jit, grad or vmap; call the optimizer outside",
  );
  expect(() => solver.init({ w: np.zeros([0]) })).toThrow(
    'adamw: init: params: "w" must have elements, got shape [0]; leave it out of the tree',
  );
  expect(() => solver.init({ w: 3 } as any)).toThrow('adamw: init: params: "w" must be an array of jax-js, got 3');
  for (const record of [{ constructor: params.w }, Object.create(null), new (class Layer {})()]) {
    expect(() => solver.init({ w: record } as any)).toThrow(
      /"w" must be an array of jax-js, got an object \((no class|Layer)\); a record in a tree must be a plain object without the key "constructor"/,
    );
  }
  const { numpy: copied } = createRequire(import.meta.url)("@jax-js/jax");
  for (const call of [
    () => solver.init({ w: copied.zeros([2]) }),
    () => applyUpdates(params, { w: copied.zeros([2]) } as any),
  ]) {
    expect(call).toThrow(/"w" must be an array of jax-js, got .* of a second copy; in CommonJS, await import/);
  }
  expect(() => solver.init({ w: np.array([1], { dtype: np.int32 }) })).toThrow("must be float32, got int32");
  expect(() => solver.step(params, { v: np.array([1, 1]) } as any, state)).toThrow(
    "must be a tree with the structure and the order of keys of init(params)",
  );
  expect(() => solver.step(params, { w: np.array([1]) }, state)).toThrow('"w" must have shape [2], got [1]');
  expect(() => solver.step(params, grads(), undefined as any)).toThrow("state must be what init(params) returned");
  expect(() => adamw({ lr: -1 })).toThrow("adamw: lr must be in [0, ∞), got -1");
  expect(() => adamw({ lr: () => -1, groups: [{ params: /w/ }] })).toThrow("adamw: at step 0, lr must be in [0, ∞)");
  expect(() => adamw({ zeroGrad: true } as any)).toThrow("adamw: zeroGrad is not needed here");
  expect(() => adamw({ groups: [{}] } as any)).toThrow(
    "adamw: groups[0] must be { params, ...options }, with a pattern",
  );
  expect(params.w.refCount).toBe(1);
  const [, next] = solver.step(params, grads(), state);
  expect(() => solver.step(params, grads(), next)).toThrow('"w" was consumed; give a reference');
  expect(() => solver.step({ w: np.array([1, 2]) }, grads(), state)).toThrow("the state was consumed");
  const bad = { w: np.array([NaN, 1]) };
  const strict = adamw({ nonFinite: "throw" });
  const kept = { w: np.array([1, 2]) };
  const own = strict.init(tree.ref(kept));
  expect(() => strict.step(kept, bad, own)).toThrow('the gradient of tensor "w" must be finite');
  expect([bad.w.refCount, kept.w.refCount]).toEqual([1, 1]);
  own.dispose();
  expect(() => own.steps).toThrow("the state was consumed");
});

test("references that are missing, and states and trees that do not fit, are refused before a step", () => {
  const solver = sgd({ lr: 1 });
  const params = { a: np.array([1, 2]), b: np.array([3, 4]) };
  const one = np.array([1, 1]);
  expect(() => solver.init({ a: one, b: one })).toThrow("sgd: init: an array is given 2 times, but has 1 references");
  expect(() => solver.init({ "a.b": np.array([1]), a: { b: np.array([1]) } })).toThrow('but "a.b" is there twice');
  const state = solver.init(tree.ref(params));
  expect(() => solver.step(params, { a: one, b: one }, state)).toThrow("write array.ref");
  expect(() => solver.step({ a: one.ref, b: one }, { a: one, b: np.array([1, 1]) }, state)).toThrow("given 3 times");
  expect(one.refCount).toBe(2);
  const other = adamw().init(tree.ref(params));
  for (const method of ["average", "evalParams"] as const) {
    expect(() => solver[method](undefined as any)).toThrow(`sgd: ${method}: state must be what init(params) returned`);
  }
  expect(() => solver.step(params, params, other as any)).toThrow("got a state of adamw");
  const sameRule = sgd({ lr: 0.1 }).init(tree.ref(params));
  for (const call of [
    () => solver.step(params, params, sameRule),
    () => solver.update(params, sameRule, params),
    () => solver.params(sameRule),
  ]) {
    expect(call).toThrow("a state of sgd that another solver made; use that solver, and change options in state.hyper");
  }
  expect(params.a.refCount).toBe(1);
  expect(() => applyUpdates(params, { a: one } as any)).toThrow("applyUpdates: updates must be a tree");
  const deep = (key: string) => ({
    layers: Array.from({ length: 100 }, (_, i) => ({ [i === 70 ? key : "b"]: one.ref })),
  });
  const shown =
    /^sgd: step: grads must be .{0,150} …[^…]{40,80}{b: \*}[^…]{40,80}…, got …[^…]{40,80}{bias: \*}[^…]{40,80}…$/;
  expect(() => solver.step(deep("b"), deep("bias"), solver.init(deep("b")))).toThrow(shown);
  const [next] = solver.step(params, { a: one.ref, b: one }, state);
  expect([[...next.a.dataSync()], [...next.b.dataSync()]]).toEqual([
    [0, 1],
    [2, 3],
  ]);
});

test("groups are in the order in which they were given, also those whose pattern matches no array", () => {
  const groups = [
    { params: /none/, lr: 1 },
    { params: ["w"], lr: 2 },
  ];
  const solver = sgd({ lr: 0.5, groups });
  expect(inspect(solver)).toContain("groups: [ { params: /none/, lr: 1 }, { params: [ 'w' ], lr: 2 } ]");
  const state = solver.init({ w: np.array([1]), b: np.array([1]) });
  expect(state.groups.map(({ hyper }) => hyper.lr)).toEqual([1, 2, 0.5]);
});

test("a group with a name that no array has is an error, and consumes nothing", () => {
  const params = { w: np.array([1]), b: np.array([2]) };
  expect(() => sgd({ groups: [{ params: ["w", "bais"], lr: 1 }] }).init(params)).toThrow(
    'sgd: init: groups[0] must name arrays of params, got "bais"; there are: w, b',
  );
  expect(read(params)).toEqual({ w: bits([1]), b: bits([2]) });
});

test("an array with the gradient null stays as it is, and counts its own steps", () => {
  const solver = adamw({ lr: 0.1, weightDecay: 0.5 });
  const give = (b: boolean) => ({ a: np.array([1, 2]), b: b ? np.array([3]) : null });
  const first = { a: np.array([1, 2]), b: np.array([3]) };
  let state = solver.init(tree.ref(first));
  let params = first;
  [params, state] = solver.step(params, give(false), state);
  expect(read(params).b).toEqual(bits([3]));
  [params, state] = solver.step(params, give(true), state);
  // The first step of adamw with weight decay.
  expect(read(params).b![0]).toBe(bits([Math.fround(3 * (1 - 0.1 * 0.5)) - 0.1])[0]);
  expect(() => solver.step(params, { a: np.array([1, 2]), b: undefined as never }, state)).toThrow(
    'adamw: step: grads: "b" must be an array of jax-js, got undefined',
  );
  state.dispose();
  tree.dispose(params);
});

test("names belong to their arrays, also those that an object sorts", () => {
  const solver = sgd({ lr: 1, groups: [{ params: ["1"], lr: 0 }] });
  const params = [{ w: np.array([1, 2]) }, np.array([10, 20, 30])];
  const state = solver.init(tree.ref(params));
  const [next, last] = solver.step(params, [{ w: np.array([1, 1]) }, np.array([1, 1, 1])], state);
  expect(next.map((part) => (part instanceof np.Array ? part : part.w).js())).toEqual([
    [0, 1],
    [10, 20, 30],
  ]);
  last.dispose();
});

test("names belong to their arrays, also in objects that jax-js takes for records", () => {
  const array = (x: number) => np.array([x]);
  const inherits: Record<string, np.Array> = Object.assign(Object.create({}), { a: array(1), b: array(2) });
  const params = { layer: inherits, c: array(3) };
  const solver = sgd({ lr: 1, groups: [{ params: ["layer.b"], lr: 0 }] });
  const grads = { layer: { a: array(1), b: array(1) }, c: array(1) };
  const [{ layer, c }, state] = solver.step(params, grads, solver.init(tree.ref(params)));
  expect([layer.a, layer.b, c].map((array) => array!.js())).toEqual([[0], [2], [2]]);
  expect(state.internals.tensors.map(({ name }) => name)).toEqual(["layer.a", "layer.b", "c"]);
  state.dispose();
});

test("update of infinite parameters is zero where they stay, as the parameters of step", () => {
  const solver = sgd({ lr: 1 });
  const params = { mask: np.array([0, -Infinity]), w: np.array([1, Infinity]) };
  const state = solver.init(tree.ref(params));
  const [updates, next] = solver.update({ mask: null, w: np.array([1, 1]) }, state, tree.ref(params));
  const sum = applyUpdates(params, updates);
  expect(read(sum)).toEqual({ mask: bits([0, -Infinity]), w: bits([0, Infinity]) });
  next.dispose();
  tree.dispose(sum);
});

test("applyUpdates refuses what does not fit, and consumes nothing", () => {
  const params = { a: np.array([1, 2]), b: np.array([3]) };
  const consumed = np.array([1, 1]);
  consumed.dispose();
  for (const [updates, message] of [
    [{ a: np.array([1, 1]), b: np.array([1, 1]) }, 'applyUpdates: updates: "b" must have shape [1], got [2]'],
    [{ a: np.array([1, 1]), b: null }, 'applyUpdates: updates: "b" must be an array of jax-js, got null'],
    [{ a: consumed, b: np.array([1]) }, 'applyUpdates: updates: "a" was consumed; give a reference, tree.ref(…)'],
    [params, "applyUpdates: an array is given 2 times, but has 1 references; write array.ref"],
  ] as const) {
    expect(() => applyUpdates(params, updates as any)).toThrow(message);
    expect([params.a.refCount, params.b.refCount]).toEqual([1, 1]);
  }
  const traced = jit((x: np.Array) => applyUpdates({ x }, { x: np.ones([2]) }).x);
  expect(bits(traced(params.a.ref).dataSync())).toEqual(bits([2, 3]));
  tree.dispose(params);
});

test("a step that fails leaves the parameters of the state", () => {
  const solver = sgd({ lr: (step: number) => (step === 1 ? Number.NaN : 1) });
  let state = solver.init(np.array([1, 2]));
  [, state] = solver.step(np.array([1, 2]), np.array([1, 1]), state);
  expect(() => solver.step(np.array([5, 5]), np.array([1, 1]), state)).toThrow("at step 1, lr");
  expect(bits((solver.params(state) as np.Array).dataSync())).toEqual(bits([0, 1]));
  state.dispose();
});

test("the report of a step stays as it is", () => {
  const solver = sgd({ clipNorm: 1 });
  let params = np.array([0, 0]);
  let state = solver.init(params.ref);
  const reports = [1, 2].map((scale) => {
    [params, state] = solver.step(params, np.array([3 * scale, 4 * scale]), state);
    return state.report;
  });
  expect(reports.map(({ gradNorm }) => gradNorm)).toEqual([5, 10]);
  state.dispose();
});

test("after loading, a step takes the parameters that are given", () => {
  const solver = adamw({ lr: 0.1, weightDecay: 0 });
  let params = np.array([1, 2]);
  let state = solver.init(params.ref);
  const { tensors, optimizer } = state.internals;
  const step = () => ([params, state] = solver.step(params, np.array([1, 1]), state));
  step();
  const bytes = save(tensors, optimizer);
  step();
  const before = [...params.ref.dataSync()];
  load(bytes, tensors, optimizer);
  step();
  for (const [i, x] of params.ref.dataSync().entries()) expect(x).toBeCloseTo(before[i]! - 0.1, 5);
  load(save(tensors, optimizer), tensors, optimizer); // a file of the same step
  tensors[0]!.data.fill(100);
  step();
  for (const [i, x] of params.dataSync().entries()) expect(x).toBeCloseTo(before[i]! - 0.2, 5);
  [params, state] = solver.step(solver.params(state) as np.Array, np.array([1, 1]), state);
  state.dispose();
});

/** Compiles: a tree of any type. */
function descend<Params extends ArrayTree>(solver: Solver, params: Params, grads: GradientTree): Params {
  const [next, state] = solver.step(params, grads, solver.init(tree.ref(params)));
  const [last] = solver.step(solver.params(state), grads, state);
  tree.dispose(last);
  return next;
}

test("parameters of a generic type", () => {
  const params = descend(sgd({ lr: 1 }), { w: np.array([1]) }, { w: null });
  expect(params.w.refCount).toBe(1);
});

interface Layer {
  readonly w: np.Array;
}

test("parameters whose type is an interface, or has readonly lists", () => {
  const solver = sgd({ lr: 1 });
  const params: { readonly layers: readonly Layer[] } = { layers: [{ w: np.array([1]) }] };
  const [next, state] = solver.step(params, { layers: [{ w: np.array([1]) }] }, solver.init(tree.ref(params)));
  const layer: Layer = next.layers[0]!;
  // @ts-expect-error: a number is no array
  expect(() => solver.init({ w: 1 })).toThrow('"w" must be an array of jax-js, got 1');
  const [updates, last] = solver.update({ layers: [{ w: null }] }, state, tree.ref(next));
  expect(bits(applyUpdates(next, updates).layers[0]!.w.dataSync())).toEqual(bits([0]));
  expect(layer.w.refCount).toBe(0);
  last.dispose();
});
