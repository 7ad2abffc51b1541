/** The parts that all loaders share. Everything is checked before anything is written. */

import type { Group } from "../optimizer/group.js";
import type { Values } from "../optimizer/hyper.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { listTensors, type Tensors, tensorsOf } from "../optimizer/params.js";
import {
  type Chosen,
  classOf,
  flag,
  isCallable,
  isNamed,
  type Option,
  type Options,
  resolve,
  show,
  wrongKind,
  wrongValue,
} from "../option.js";
import { type Checkpointable, isOptimizer } from "../optimizer/checkpointable.js";
import { sameShape, type Shape, type Tensor } from "../arena/tensor.js";

export interface LoadOptions {
  /**
   * Whether names, shapes, the rule and its options must be the same in the file and in the program. If false,
   * everything that fits is loaded, and `leftOut` lists the rest, which keeps its present values. A damaged file is
   * always an error. Default: true.
   */
  strict?: boolean;
  /**
   * Converts names in the file to names in the program. A record of prefixes and the text that replaces each, such as
   * `{ "module.": "" }`, or a function of the name. If several prefixes match, the longest one is replaced. Default:
   * names stay.
   */
  rename?: Readonly<Record<string, string>> | ((name: string) => string);
}

/** The options of a loader, prepared for its checks. */
export interface Loading {
  readonly report: Report;
  /** Converts a name in the file to a name in the program. */
  readonly rename: (name: string) => string;
}

export const groupsOf = (optimizer: Optimizer) => optimizer.groups as readonly Group<Values>[];

/** The bytes of an array: a view. */
export const bytesOf = (view: Float32Array) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** Reports a difference between the file and the program. Throws if loading is strict. */
export type Report = (what: string) => void;

/**
 * The tensors of a model, by name.
 * @throws a TypeError if they are not tensors; a RangeError if two have one name.
 */
export function listModel(title: string, model: Tensors): ReadonlyMap<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const tensor of new Set(listTensors(`${title}: model must be tensors, by name or in a list`, model))) {
    if (tensors.has(tensor.name)) {
      throw wrongValue(`${title}: names must differ`, tensor.name, " of two arenas");
    }
    tensors.set(tensor.name, tensor);
  }
  return tensors;
}

/** Throws a TypeError for a second optimizer, given as the argument after the first. */
export function refuseSecond(title: string, given: unknown): void {
  if (!isOptimizer(given)) return;
  throw new TypeError(
    `${title}: one optimizer at a time, got two; save and load each with its own tensors, such as ([model.w], muonOpt) and ([model.b], adamwOpt)`,
  );
}

/** The shape of a slot of a tensor's state. */
export const shapeOf = (optimizer: Checkpointable, slot: string, { shape }: Tensor): Shape =>
  optimizer.internals.rule.shapes?.[slot]?.(shape) ?? shape;

/** Throws unless this is an optimizer whose parameters are those of training, not of `eval()` or `perturb()`. */
export function checkOptimizer(title: string, optimizer: Checkpointable): void {
  if (!isOptimizer(optimizer)) throw wrongKind(`${title}: expected an optimizer, such as adamw(model)`, optimizer);
  optimizer.internals.checkTraining(title);
}

/** Whether this is a Uint8Array or an ArrayBuffer, of any realm. */
export const isBytes = (value: unknown): value is Uint8Array | ArrayBuffer =>
  /^(Uint8Array|(Shared)?ArrayBuffer)$/.test(classOf(value)) &&
  (ArrayBuffer.isView(value) || typeof (value as ArrayBuffer).byteLength === "number");

/**
 * A file's bytes as a plain Uint8Array: the `slice` of Node's Buffer is not a copy.
 * @param title the beginning of the error, if the caller adds none
 */
export function asBytes(title: string, file: unknown): Uint8Array {
  const expected = `${title && `${title}: `}expected a file's bytes`;
  let remedy = "";
  if (typeof file === "string") remedy = "; read the file first, such as with readFileSync(path)";
  if (classOf(file) === "Promise") remedy = "; await it";
  if (!isBytes(file)) throw wrongKind(expected, file, remedy);
  const [buffer, at] = ArrayBuffer.isView(file) ? [file.buffer, file.byteOffset] : [file, 0];
  try {
    return new Uint8Array(buffer, at, file.byteLength);
  } catch (cause) {
    throw new TypeError(`${expected}, got a buffer that was transferred to another thread`, { cause });
  }
}

/**
 * Calls `act` between two steps of the tensors' arenas.
 * @throws an Error during a step.
 */
export function betweenSteps<Result>(title: string, tensors: Iterable<Tensor>, act: () => Result): Result {
  const arenas = [...new Set(Array.from(tensors, ({ arena }) => arena))];
  return arenas.reduce((act, arena) => () => arena.internals(title).pool.exclusively(title, act), act)();
}

/**
 * The options of a loader, each read once. A function `rename` is called once for each name.
 * @param more options that only this loader has
 */
export function resolveLoad<More extends Options>(
  title: string,
  options: LoadOptions,
  more = {} as More,
): LoadOptions & Chosen<More> {
  refuseSecond(title, options);
  const all = { strict: flag(true), rename: renameOption, ...more };
  const { rename, ...others } = resolve(title, all, options) as LoadOptions & Chosen<More>;
  return { ...others, rename: typeof rename === "function" ? remembered(rename) : rename } as LoadOptions &
    Chosen<More>;
}

function remembered(rename: (name: string) => string): (name: string) => string {
  const known = new Map<string, string>();
  return (name) => {
    const now = known.has(name) ? known.get(name)! : rename(name);
    known.set(name, now);
    return now;
  };
}

/**
 * Loads between two steps.
 * @param check checks everything, changes nothing, and returns the function that writes
 */
export function loadChecked<Result extends object>(
  title: string,
  tensors: Iterable<Tensor>,
  options: LoadOptions,
  check: (loading: Loading) => () => Result,
): Result & { readonly leftOut: readonly string[] } {
  const { strict, rename } = resolveLoad(title, options);
  const leftOut: string[] = [];
  const report = (what: string) => {
    if (strict) throw new RangeError(`${what} (strict: false loads the rest)`);
    leftOut.push(what);
  };
  return betweenSteps(title, tensors, () => {
    let write: () => Result;
    try {
      write = check({ report, rename: renamer(rename) });
    } catch (cause) {
      if (!(cause instanceof RangeError || cause instanceof TypeError)) throw cause;
      throw new RangeError(`${title}: ${cause.message}; nothing was loaded`, { cause });
    }
    return { ...write(), leftOut };
  });
}

const renameOption: Option<LoadOptions["rename"], string, undefined> = {
  default: undefined,
  range: "prefixes or a function",
  check(title, value) {
    if (isCallable(value)) return;
    if (isNamed(value) && Object.values(value).every((text) => typeof text === "string")) return;
    throw wrongKind(`${title} must be prefixes such as { "module.": "" }, or a function of a name`, value);
  },
};

function renamer(rename: LoadOptions["rename"]): (name: string) => string {
  if (rename === undefined) return (name) => name;
  if (typeof rename === "function") {
    return (name) => {
      const renamed: unknown = rename(name);
      if (typeof renamed === "string") return renamed;
      throw wrongKind(`rename must return a name for ${show(name)}`, renamed);
    };
  }
  const prefixes = Object.entries(rename).sort(([a], [b]) => b.length - a.length);
  return (name) => {
    const found = prefixes.find(([prefix]) => name.startsWith(prefix));
    return found ? found[1] + name.slice(found[0].length) : name;
  };
}

/**
 * A map with other names.
 * @throws a RangeError if two names become the same.
 */
export function renamed<Value>(map: ReadonlyMap<string, Value>, rename: (name: string) => string): Map<string, Value> {
  const result = new Map<string, Value>();
  const before = new Map<string, string>();
  for (const [name, value] of map) {
    const now = rename(name);
    if (result.has(now)) {
      throw wrongValue("rename must return different names", now, ` for ${show(before.get(now))} and ${show(name)}`);
    }
    result.set(now, value);
    before.set(now, name);
  }
  return result;
}

/** Sets the state of tensors that starts as a copy of the parameters, and was not loaded, to the present parameters. */
export function startFromParams(
  optimizer: Checkpointable,
  loaded: ReadonlySet<Float32Array>,
  tensors = tensorsOf(optimizer.groups),
): void {
  const { rule, viewsOf } = optimizer.internals;
  for (const tensor of tensors) {
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
  let prefix: string | undefined;
  for (const [name, one] of here) {
    const other = there.get(name);
    if (other === undefined) {
      // Wrappers of models, such as DataParallel and torch.compile, put a prefix before each name. It is searched once.
      prefix ??= [...there.keys()].find((longer) => longer.endsWith(`.${name}`))?.slice(0, -name.length) ?? "";
      const isThere = prefix !== "" && there.has(prefix + name);
      const remedy = isThere ? `, which has ${show(prefix + name)}; pass rename: { ${show(prefix)}: "" }` : "";
      report(`tensor ${show(name)} is missing in the file${remedy}`);
    } else if (!dtypes.includes(other.dtype) || !sameShape(one.shape, other.shape)) {
      report(`tensor ${show(name)} is ${other.dtype} ${show(other.shape)} in the file, F32 ${show(one.shape)} here`);
    } else pairs.push([one, other]);
  }
  for (const name of there.keys())
    if (!here.has(name)) report(`tensor ${show(name)} is in the file, but not in the program`);
  return pairs;
}
