/** Reads and writes PyTorch's files, and reads safetensors files of other libraries. */

import type { Tensor } from "../arena/tensor.js";
import {
  asBytes,
  betweenSteps,
  checkOptimizer,
  isBytes,
  listModel,
  loadChecked,
  type LoadOptions,
  matchTensors,
  renamed,
  resolveLoad,
} from "../checkpoint/loading.js";
import { LBFGS } from "../lbfgs/lbfgs.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { type Tensors, tensorsOf } from "../optimizer/params.js";
import { count, show } from "../option.js";
import { isTorchFile } from "../checkpoint/safetensors.js";
import { readArchive, writeArchive } from "./archive.js";
import { checkLbfgs, lbfgsDict } from "./lbfgs.js";
import { checkStateDict, described, stateDict } from "./optimizer.js";
import { parseSafetensors, Safetensors, titled } from "./safetensors.js";
import { asTensor, FLOATS, type FileTensor } from "./tensor.js";
import { isDict, Opaque, type Value } from "./unpickle.js";
import { SAVE_STATE_DICT } from "./zip.js";

export type { LoadOptions } from "../checkpoint/loading.js";
export { readSafetensors, readSafetensorsFile, type Safetensors } from "./safetensors.js";
export type { FileTensor } from "./tensor.js";
export { type Dict, Opaque, type Value } from "./unpickle.js";

/** The bytes of a file, or the data that `readTorch` or `readSafetensors` returned, or a part of that data. */
export type TorchFile = Uint8Array | ArrayBuffer | Value | Safetensors;

/** The result of `loadModel` and `loadOptimizer`. */
export interface LoadedTorch {
  /** One sentence for each difference that was passed over. Empty unless `strict` is false. */
  readonly leftOut: readonly string[];
}

/**
 * Reads a file that `torch.save` wrote, as data: dictionaries (objects without a prototype), lists, sets, text,
 * numbers, bytes and tensors. Nothing in the file is executed: a value without a counterpart here, such as a
 * `torch.device`, is `Opaque`, and has only the name of its type.
 * @throws a RangeError for a damaged file, and for one that `torch.save` did not write.
 */
export function readTorch(file: Uint8Array | ArrayBuffer): Value {
  return titled("readTorch", () => readArchive(asBytes("readTorch", file)));
}

/**
 * Sets a model's parameters from a `state_dict()` that `torch.save` wrote, or from a safetensors file. Tensors in the
 * file that are not floating-point numbers, such as the counters of BatchNorm, and other values are ignored if the
 * model does not have them.
 * @param file tensors with the names and shapes of the model's; floating-point numbers of any precision
 * @throws a RangeError for a damaged file and for a file that does not fit; an Error during a step. Nothing has changed
 * then.
 */
export function loadModel(file: TorchFile, model: Tensors, options: LoadOptions = {}): LoadedTorch {
  const tensors = listModel("loadModel", model);
  return loadChecked("loadModel", tensors.values(), options, ({ report, rename }) => {
    const found = tensorsIn(file);
    const values = renamed(found.values, rename);
    const aliases = renamed(found.aliases, rename);
    const there = new Map<string, FileTensor>();
    const here = new Map<string, Tensor>();
    for (const [name, tensor] of tensors) {
      const value = values.get(name) ?? aliases.get(name);
      const fileTensor = asTensor(value);
      if (fileTensor) there.set(name, fileTensor);
      if (value === undefined || fileTensor) here.set(name, tensor);
      else report(`tensor ${show(name)} is ${described(value)} in the file, F32 ${show(tensor.shape)} here`);
    }
    if (there.size === 0) found.refuse?.();
    // Two names for the same view of the same bytes are tied weights. The model needs only one of the names.
    const known = new Set(Array.from(there.values(), identity));
    for (const [name, value] of values) {
      const tensor = there.has(name) || tensors.has(name) ? undefined : asTensor(value);
      if (tensor && FLOATS.includes(tensor.dtype) && !known.has(identity(tensor))) there.set(name, tensor);
    }
    const pairs = matchTensors(here, there, FLOATS, report).map(
      ([{ data }, tensor]) => [data, tensor.inMemory()] as const,
    );
    return () => {
      for (const [data, tensor] of pairs) tensor.readInto(data);
      return {};
    };
  });
}

export interface LoadOptimizerOptions extends LoadOptions {
  /**
   * The number of steps that were made, for rules whose files do not have it: SGD, Muon and L-BFGS. A whole number in
   * [0, ∞). Default: 1 if the file has state, else 0.
   */
  steps?: number;
}

/**
 * Sets an optimizer's state, step counts and hyper-parameters from an `optimizer.state_dict()` that `torch.save` wrote.
 * Hyper-parameters that have a schedule keep it. Averages and slow weights start as copies of the parameters: call
 * `loadModel` first. If a tensor has no state in the file, for example because it was frozen, its state gets its
 * initial values. Other keys in the file's groups, such as those of schedulers, are ignored.
 * @param optimizer an optimizer of the same tensors in the same groups, with the same `amsgrad`, `maximize` and
 * `centered`, and with momentum if the saved one had it. Tensors are found by `param_names` where the file has them, and
 * otherwise by their order
 * @throws as `loadModel`.
 */
export function loadOptimizer(
  file: TorchFile,
  optimizer: Optimizer | LBFGS,
  options: LoadOptimizerOptions = {},
): LoadedTorch {
  checkOptimizer("loadOptimizer", optimizer);
  const { steps, ...chosen } = resolveLoad("loadOptimizer", options, { steps: count(undefined, 0) });
  const tensors = tensorsOf(optimizer.groups);
  return loadChecked("loadOptimizer", tensors, chosen, (loading) => {
    const dict = isBytes(file) ? readArchive(asBytes("", file)) : (file as Value);
    const write =
      optimizer instanceof LBFGS
        ? checkLbfgs(dict, optimizer, steps, loading)
        : checkStateDict(dict, optimizer, steps, loading);
    return () => {
      write();
      return {};
    };
  });
}

/**
 * Writes a model's `state_dict()` for `torch.load`.
 * @returns the bytes of the file
 * @throws a TypeError unless `model` is tensors; a RangeError for two tensors of one name; an Error during a step.
 */
export function saveModel(model: Tensors): Uint8Array<ArrayBuffer> {
  const tensors = listModel("saveModel", model);
  return betweenSteps("saveModel", tensors.values(), () =>
    titled("saveModel", () =>
      writeArchive((store) => new Map(Array.from(tensors, ([name, { shape, data }]) => [name, store(data, shape)]))),
    ),
  );
}

/**
 * Writes an `optimizer.state_dict()` for `torch.load` and PyTorch's `load_state_dict`. PyTorch's optimizers have no averages, no slow
 * weights of `lookahead`, no waiting micro-batches and no scale of the loss, so the file has none of these. `save` keeps them.
 * @returns the bytes of the file
 * @throws a RangeError for a rule or an option that PyTorch does not have; an Error during a step.
 */
export function saveOptimizer(optimizer: Optimizer | LBFGS): Uint8Array<ArrayBuffer> {
  checkOptimizer("saveOptimizer", optimizer);
  const tensors = tensorsOf(optimizer.groups);
  return betweenSteps("saveOptimizer", tensors, () =>
    titled("saveOptimizer", () =>
      writeArchive((store) => (optimizer instanceof LBFGS ? lbfgsDict(optimizer, store) : stateDict(optimizer, store))),
    ),
  );
}

/** The tensors in a file. */
interface Found {
  readonly values: ReadonlyMap<string, unknown>;
  /** Additional names of tied tensors. */
  readonly aliases: ReadonlyMap<string, FileTensor>;
  /** Throws the error that names the part of the file with the tensors, if it has such a part. */
  readonly refuse?: () => never;
}

/** Returns the values in a file by name. */
function tensorsIn(file: TorchFile): Found {
  const bytes = isBytes(file) || typeof file === "string" ? asBytes("", file) : undefined;
  const content = bytes === undefined ? file : isTorchFile(bytes) ? readArchive(bytes) : parseSafetensors(bytes);
  if (content instanceof Safetensors) {
    return { values: new Map(Object.entries(content.tensors)), aliases: content.aliases };
  }
  const dict = content as Value;
  // A dictionary is looked at once, even if the file has it in many places.
  const known = new Map<Value, boolean>();
  const hasTensor = (value: Value) => {
    const has =
      known.get(value) ?? (isDict(value) && Object.values(value).some((item) => asTensor(item) !== undefined));
    known.set(value, has);
    return has;
  };
  const part = isDict(dict) ? Object.keys(dict).find((key) => hasTensor(dict[key]!)) : undefined;
  const refuse = () => {
    const remedy =
      dict instanceof Opaque
        ? SAVE_STATE_DICT
        : `read the file with readTorch(bytes), and pass ${part === undefined ? "the part that has it" : `its part ${show(part)}`}`;
    throw new RangeError(`the file must contain a model.state_dict(), got ${described(dict)}; ${remedy}`);
  };
  if (!(isDict(dict) && hasTensor(dict))) return refuse();
  return { values: new Map(Object.entries(dict)), aliases: new Map(), ...(part !== undefined && { refuse }) };
}

const buffers = new WeakMap<object, number>();
let lastBuffer = 0;

/** Text that is the same for two tensors that are the same view of the same bytes. */
function identity({ bytes, dtype, shape, strides, offset, negative }: FileTensor): string {
  const isView = ArrayBuffer.isView(bytes);
  const buffer = isView ? bytes.buffer : bytes;
  const number = buffers.get(buffer) ?? ++lastBuffer;
  buffers.set(buffer, number);
  return `${number},${isView ? bytes.byteOffset : 0},${dtype},[${shape}],[${strides}],${offset},${negative}`;
}
