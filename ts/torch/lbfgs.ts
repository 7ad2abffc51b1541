/**
 * Converts between L-BFGS and PyTorch's `state_dict()`. In PyTorch, a vector has the elements of all tensors one after
 * another.
 */

import type { Shape } from "../arena/tensor.js";
import type { Loading } from "../checkpoint/loading.js";
import type { LBFGS } from "../lbfgs/lbfgs.js";
import { sum } from "../math.js";
import { valuesAt } from "../optimizer/hyper.js";
import { count, show, snake } from "../option.js";
import { described, numberIn, numberOf, stateAndGroups, torchOptions } from "./optimizer.js";
import type { Stored, Writable } from "./pickle.js";
import { asTensor, FLOATS, type FileTensor } from "./tensor.js";
import { type Dict, isDict, type Value } from "./unpickle.js";

/** The options that must be the same on both sides. */
const fixedOptions = ["maxIter", "maxEval", "historySize"];
const live = ["lr", "toleranceGrad", "toleranceChange"] as const;
/** The options that PyTorch's LBFGS has. */
const known: readonly string[] = [...fixedOptions, ...live, "lineSearchFn", "maximize"].map(snake);

/** Checks a state_dict against L-BFGS, changes nothing, and returns the function that writes. */
export function checkLbfgs(file: Value, optimizer: LBFGS, steps: number | undefined, { report }: Loading): () => void {
  const { state, groups } = stateAndGroups(file);
  const [group] = optimizer.groups;
  const [saved] = groups;
  if (groups.length !== 1 || !isDict(saved) || !Array.isArray(saved.params)) {
    throw new RangeError(`the file must have the one group of LBFGS, got ${groups.length}`);
  }
  if (saved.params.length !== group.params.length) {
    throw new RangeError(`groups[0] has ${saved.params.length} params in the file, ${group.params.length} here`);
  }
  for (const key of Object.keys(saved)) {
    if (!torchOptions.has(key) || known.includes(key)) continue;
    report(`groups[0].${key} is ${described(saved[key])} in the file, no option here`);
  }
  for (const name of fixedOptions) same(report, snake(name), saved, group.fixed[name]);
  same(report, "line_search_fn", saved, group.fixed.lineSearchFn === "none" ? null : group.fixed.lineSearchFn);
  same(report, "maximize", { maximize: false, ...saved }, group.fixed.maximize); // files of PyTorch before 2.15 have none
  const changes: Partial<Record<(typeof live)[number], number>> = {};
  for (const name of live) {
    const given = saved[snake(name)];
    if (given === undefined || typeof group.hyper[name] !== "number") continue; // a schedule stays
    const value = numberIn(given);
    optimizer.internals.rule.hyper[name].check(`groups[0].${snake(name)}`, value);
    changes[name] = value as number;
  }
  const [key] = saved.params;
  const first: Value = typeof key === "number" && Object.hasOwn(state, key) ? state[key]! : {};
  if (!isDict(first)) throw new RangeError(`the state must be by name, got ${described(first)}`);
  const read = readHistory(first, optimizer);
  const writeOptions = optimizer.internals.stage(changes);
  return () => {
    writeOptions();
    // Called once, because each call sets the views of missing pairs to zero.
    const views = group.params.map((tensor) => optimizer.internals.viewsOf(tensor).state);
    for (const [slot, tensor] of read.vectors)
      scatter(
        tensor,
        views.map((view) => view[slot]!),
      );
    group.scalars = [read.scalars];
    optimizer.internals.step.counts = { steps: steps ?? (read.scalars.iterations! > 0 ? 1 : 0) };
  };
}

function same(report: Loading["report"], key: string, saved: Dict, expected: unknown): void {
  const value = saved[key] ?? null;
  if (Object.hasOwn(saved, key) && value !== (expected ?? null)) {
    report(`groups[0].${key} is ${show(value)} in the file, ${show(expected)} here`);
  }
}

/** The scalars and vectors of a history, by their names here. */
function readHistory(state: Dict, { groups: [group] }: LBFGS) {
  const size = sum(group.params.map(({ size }) => size));
  const number = (key: string, usual: number) =>
    state[key] === undefined || state[key] === null ? usual : numberOf(key, state[key]);
  const list = (key: string): readonly Value[] => {
    const value = state[key] ?? [];
    if (!Array.isArray(value)) throw new RangeError(`${key} must be a list, got ${described(value)}`);
    return value;
  };
  const vector = (title: string, value: Value): FileTensor => {
    const tensor = asTensor(value);
    if (!tensor || !FLOATS.includes(tensor.dtype) || tensor.shape.length !== 1 || tensor.shape[0] !== size) {
      throw new RangeError(`${title} must be a tensor of ${size} numbers, got ${described(value)}`);
    }
    return tensor.inMemory();
  };
  const [dirs, steps, ro] = [list("old_dirs"), list("old_stps"), list("ro")];
  const most = group.fixed.historySize as number;
  if (dirs.length > most || dirs.length !== steps.length || dirs.length !== ro.length) {
    throw new RangeError(
      `old_dirs, old_stps and ro must have the same length of at most ${most}, got ${dirs.length}, ${steps.length} and ${ro.length}`,
    );
  }
  const scalars: Record<string, number> = {
    iterations: number("n_iter", 0),
    evaluations: number("func_evals", 0),
    t: number("t", 0),
    hDiag: number("H_diag", 1),
    pairs: dirs.length,
  };
  for (const name of ["iterations", "evaluations"]) count(0, 0).check(name, scalars[name]);
  for (let i = 0; i < most; i++) scalars[`rho${i}`] = i < ro.length ? numberOf(`ro[${i}]`, ro[i]!) : 0;
  const vectors = new Map<string, FileTensor>();
  if (scalars.iterations! > 0) {
    vectors.set("direction", vector("d", state.d ?? null));
    vectors.set("prevGrad", vector("prev_flat_grad", state.prev_flat_grad ?? null));
  }
  dirs.forEach((value, i) => vectors.set(`y${i}`, vector(`old_dirs[${i}]`, value)));
  steps.forEach((value, i) => vectors.set(`s${i}`, vector(`old_stps[${i}]`, value)));
  return { scalars, vectors };
}

/** Writes a vector of all tensors into the part of each tensor. */
function scatter(vector: FileTensor, views: readonly Float32Array[]): void {
  const numbers = vector.read();
  let at = 0;
  for (const view of views) {
    view.set(numbers.subarray(at, at + view.length));
    at += view.length;
  }
}

/** Makes the state_dict of L-BFGS. `store` takes the elements of a tensor. */
export function lbfgsDict(optimizer: LBFGS, store: (numbers: Float32Array, shape: Shape) => Stored): Writable {
  const { groups, internals } = optimizer;
  const [{ params, hyper, fixed, scalars }] = groups;
  const { iterations, evaluations, t, hDiag, pairs, ...rho } = scalars[0] as Record<string, number>;
  const views = params.map((tensor) => internals.viewsOf(tensor).state);
  const size = sum(params.map(({ size }) => size));
  const vector = (slot: string) => {
    const numbers = new Float32Array(size);
    let at = 0;
    for (const view of views) {
      numbers.set(view[slot]!, at);
      at += view[slot]!.length;
    }
    return store(numbers, [size]);
  };
  const list = (make: (i: number) => Writable) => Array.from({ length: pairs! }, (_, i) => make(i));
  const state = new Map<string, Writable>([
    ["func_evals", evaluations!],
    ["n_iter", iterations!],
  ]);
  if (iterations! > 0) {
    state.set("d", vector("direction"));
    state.set("t", t!);
    state.set(
      "old_dirs",
      list((i) => vector(`y${i}`)),
    );
    state.set(
      "old_stps",
      list((i) => vector(`s${i}`)),
    );
    state.set(
      "ro",
      list((i) => rho[`rho${i}`]!),
    );
    state.set("H_diag", hDiag!);
    state.set("prev_flat_grad", vector("prevGrad"));
    state.set("prev_loss", null);
  }
  const group = new Map<string, Writable>();
  const values = valuesAt(optimizer.internals.rule, { ...hyper }, optimizer.steps);
  for (const name of live) group.set(snake(name), values[name] as number);
  for (const name of fixedOptions) group.set(snake(name), fixed[name] as number);
  group.set("line_search_fn", fixed.lineSearchFn === "none" ? null : (fixed.lineSearchFn as string));
  group.set("maximize", fixed.maximize as boolean);
  group.set(
    "params",
    params.map((_, i) => i),
  );
  return new Map<string, Writable>([
    ["state", new Map([[0, state]])],
    ["param_groups", [group]],
  ]);
}
