/** What all loading has in common: everything is checked before anything is written. */

import type { Group } from "../optimizer/group.js";
import type { Values } from "../optimizer/hyper.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { listTensors, type Tensors } from "../optimizer/params.js";
import { flag, resolve, show } from "../option.js";
import { Resumable } from "../optimizer/checkpointable.js";
import { sameShape, type Shape, type Tensor } from "../arena/tensor.js";

export interface LoadOptions {
  /**
   * Whether everything must be as it was saved: tensors' names and shapes, the rule, its options. Otherwise what fits is
   * loaded, what does not is left as it is here, and `leftOut` tells what that was. Damage is an error either way. Default: true.
   */
  strict?: boolean;
}

export type AnyOptimizer = Optimizer<any, any, any>;

export const groupsOf = (optimizer: AnyOptimizer) => optimizer.groups as readonly Group<Values>[];

/** An array's bytes, in place. */
export const bytesOf = (view: Float32Array) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** Takes a difference between file and program. */
export type Differs = (what: string) => void;

/** The tensors of a model, or the error that says what was expected. */
export const listModel = (title: string, model: Tensors): readonly Tensor[] =>
  listTensors(`${title}: model must be tensors, by name or in a list`, model);

/** The shape of a tensor's slot of state. */
export const shapeOf = ({ inner: { rule } }: Resumable, slot: string, { shape }: Tensor): Shape =>
  rule.shapes?.[slot]?.(shape) ?? shape;

/** Throws unless it is an optimizer and its parameters are those of training. */
export function checkOptimizer(title: string, optimizer: Resumable): void {
  if (!(optimizer instanceof Resumable))
    throw new TypeError(`${title}: optimizer must be one, such as adamw(model), got ${show(optimizer)}`);
  optimizer.inner.settled(title);
}

/** A file's bytes, without what Node's Buffer makes of them: its `slice` is no copy. */
export function asBytes(title: string, file: Uint8Array | ArrayBuffer): Uint8Array {
  if (file instanceof ArrayBuffer) return new Uint8Array(file);
  if (!(file instanceof Uint8Array)) throw new TypeError(`${title}: expected a file's bytes, got ${show(file)}`);
  return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
}

/** Calls `act` while no step is under way in the tensors' arenas. */
export function alone<Result>(title: string, tensors: readonly Tensor[], act: () => Result): Result {
  const arenas = [...new Set(tensors.map(({ arena }) => arena))];
  return arenas.reduce((act, arena) => () => arena.inner(title).pool.alone(title, act), act)();
}

/**
 * Loads while no step is under way.
 * @param check finds out what is to be written, and returns what writes it
 */
export function loading<Result extends object>(
  title: string,
  tensors: readonly Tensor[],
  options: LoadOptions,
  check: (differs: Differs) => () => Result,
): Result & { readonly leftOut: readonly string[] } {
  const { strict } = resolve(title, { strict: flag(true) }, options);
  const leftOut: string[] = [];
  const differs = (what: string) => {
    if (strict) throw new RangeError(`${what} (strict: false loads the rest)`);
    leftOut.push(what);
  };
  return alone(title, tensors, () => {
    let write: () => Result;
    try {
      write = check(differs);
    } catch (cause) {
      if (!(cause instanceof RangeError || cause instanceof TypeError)) throw cause;
      throw new RangeError(`${title}: ${cause.message}; nothing was loaded`, { cause });
    }
    return { ...write(), leftOut };
  });
}

/** Has all that starts as the parameters start as they stand, but for what was loaded. */
export function startFromParams(optimizer: Resumable, loaded: ReadonlySet<Float32Array>): void {
  const { rule, held } = optimizer.inner;
  for (const tensor of optimizer.groups.flatMap(({ params }) => params)) {
    const { state, average, added } = held(tensor);
    const filled = Object.entries(state).flatMap(([slot, view]) => (rule.fill?.[slot] === "params" ? [view] : []));
    for (const copy of [...filled, average, ...Object.values(added ?? {})]) {
      if (copy && !loaded.has(copy)) copy.set(tensor.data);
    }
  }
}

interface Shaped {
  readonly shape: Shape;
}

/** The tensors that are on both sides, with the same shape; the others differ. */
export function matched<Here extends Shaped, There extends Shaped & { readonly dtype: string }>(
  here: ReadonlyMap<string, Here>,
  there: ReadonlyMap<string, There>,
  dtypes: readonly string[],
  differs: Differs,
): [Here, There][] {
  const pairs: [Here, There][] = [];
  for (const [name, one] of here) {
    const other = there.get(name);
    if (other === undefined) differs(`tensor ${show(name)} is here, not in the file`);
    else if (!dtypes.includes(other.dtype) || !sameShape(one.shape, other.shape)) {
      differs(`tensor ${show(name)} is ${other.dtype} ${show(other.shape)} in the file, F32 ${show(one.shape)} here`);
    } else pairs.push([one, other]);
  }
  for (const name of there.keys()) if (!here.has(name)) differs(`tensor ${show(name)} is in the file, not here`);
  return pairs;
}
