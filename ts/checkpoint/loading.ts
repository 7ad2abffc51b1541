/** The parts that all loaders share. Everything is checked before anything is written. */

import type { Group } from "../optimizer/group.js";
import type { Values } from "../optimizer/hyper.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { listTensors, type Tensors } from "../optimizer/params.js";
import { flag, resolve, show } from "../option.js";
import { Checkpointable } from "../optimizer/checkpointable.js";
import { sameShape, type Shape, type Tensor } from "../arena/tensor.js";

export interface LoadOptions {
  /**
   * Whether names, shapes, the rule and its options must be the same in the file and in the program. If false, everything
   * that fits is loaded, and `leftOut` lists the rest, which keeps its present values. Damage is an error either way.
   * Default: true.
   */
  strict?: boolean;
}

export type AnyOptimizer = Optimizer<any, any, any>;

export const groupsOf = (optimizer: AnyOptimizer) => optimizer.groups as readonly Group<Values>[];

/** The bytes of an array: a view. */
export const bytesOf = (view: Float32Array) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** Receives a difference between file and program: throws if loading is strict. */
export type Report = (what: string) => void;

/** The tensors of a model. A TypeError or RangeError for anything else. */
export const listModel = (title: string, model: Tensors): readonly Tensor[] =>
  listTensors(`${title}: model must be tensors, by name or in a list`, model);

/** The shape of a slot of a tensor's state. */
export const shapeOf = (optimizer: Checkpointable, slot: string, { shape }: Tensor): Shape =>
  optimizer.internals.rule.shapes?.[slot]?.(shape) ?? shape;

/** Throws unless this is an optimizer whose parameters are those of training, not of `eval()` or `perturb()`. */
export function checkOptimizer(title: string, optimizer: Checkpointable): void {
  if (!(optimizer instanceof Checkpointable))
    throw new TypeError(`${title}: optimizer must be one, such as adamw(model), got ${show(optimizer)}`);
  optimizer.internals.checkTraining(title);
}

/** A file's bytes as a plain Uint8Array: the `slice` of Node's Buffer is not a copy. */
export function asBytes(title: string, file: Uint8Array | ArrayBuffer): Uint8Array {
  if (file instanceof ArrayBuffer) return new Uint8Array(file);
  if (!(file instanceof Uint8Array)) throw new TypeError(`${title}: expected a file's bytes, got ${show(file)}`);
  return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
}

/** Calls `act` between two steps of the tensors' arenas. An Error during a step. */
export function betweenSteps<Result>(title: string, tensors: readonly Tensor[], act: () => Result): Result {
  const arenas = [...new Set(tensors.map(({ arena }) => arena))];
  return arenas.reduce((act, arena) => () => arena.internals(title).pool.exclusively(title, act), act)();
}

/**
 * Loads between two steps.
 * @param check checks everything, changes nothing, and returns the function that writes
 */
export function loadChecked<Result extends object>(
  title: string,
  tensors: readonly Tensor[],
  options: LoadOptions,
  check: (report: Report) => () => Result,
): Result & { readonly leftOut: readonly string[] } {
  const { strict } = resolve(title, { strict: flag(true) }, options);
  const leftOut: string[] = [];
  const report = (what: string) => {
    if (strict) throw new RangeError(`${what} (strict: false loads the rest)`);
    leftOut.push(what);
  };
  return betweenSteps(title, tensors, () => {
    let write: () => Result;
    try {
      write = check(report);
    } catch (cause) {
      if (!(cause instanceof RangeError || cause instanceof TypeError)) throw cause;
      throw new RangeError(`${title}: ${cause.message}; nothing was loaded`, { cause });
    }
    return { ...write(), leftOut };
  });
}

/** Sets all state that starts as a copy of the parameters, and was not loaded, to the present parameters. */
export function startFromParams(optimizer: Checkpointable, loaded: ReadonlySet<Float32Array>): void {
  const { rule, viewsOf } = optimizer.internals;
  for (const tensor of optimizer.groups.flatMap(({ params }) => params)) {
    const { state, average, added } = viewsOf(tensor);
    const filled = Object.entries(state).flatMap(([slot, view]) => (rule.startsAt?.[slot] === "params" ? [view] : []));
    for (const copy of [...filled, average, ...Object.values(added ?? {})]) {
      if (copy && !loaded.has(copy)) copy.set(tensor.data);
    }
  }
}

interface Shaped {
  readonly shape: Shape;
}

/** Pairs tensors that have the same name and shape on both sides, and reports the others. */
export function matchTensors<Here extends Shaped, There extends Shaped & { readonly dtype: string }>(
  here: ReadonlyMap<string, Here>,
  there: ReadonlyMap<string, There>,
  dtypes: readonly string[],
  report: Report,
): [Here, There][] {
  const pairs: [Here, There][] = [];
  for (const [name, one] of here) {
    const other = there.get(name);
    if (other === undefined) report(`tensor ${show(name)} is here, not in the file`);
    else if (!dtypes.includes(other.dtype) || !sameShape(one.shape, other.shape)) {
      report(`tensor ${show(name)} is ${other.dtype} ${show(other.shape)} in the file, F32 ${show(one.shape)} here`);
    } else pairs.push([one, other]);
  }
  for (const name of there.keys()) if (!here.has(name)) report(`tensor ${show(name)} is in the file, not here`);
  return pairs;
}
