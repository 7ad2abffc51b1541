/** Files of PyTorch: in, and out again. */

import {
  alone,
  type AnyOptimizer,
  asBytes,
  bytesOf,
  checkOptimizer,
  listModel,
  loading,
  type LoadOptions,
  matched,
} from "../checkpoint/loading.js";
import { decode, SIZES } from "../checkpoint/safetensors.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import type { Tensors } from "../optimizer/params.js";
import { count, show } from "../option.js";
import type { Shape } from "../arena/tensor.js";
import { described, prepare, stateDict } from "./optimizer.js";
import {
  type Dict,
  isDict,
  type Meaning,
  Name,
  pickle,
  Stored,
  unpickle,
  type Value,
  type Writable,
} from "./pickle.js";
import { FLOATS, TorchTensor } from "./tensor.js";
import { unzip, zip } from "./zip.js";

export type { LoadOptions } from "../checkpoint/loading.js";
export type { Dict, Value } from "./pickle.js";
export type { TorchTensor } from "./tensor.js";

/** A file's bytes, or what `readTorch` found in it, or a part of that. */
export type TorchFile = Uint8Array | ArrayBuffer | Value;

/** What came of loading. */
export interface LoadedTorch {
  /** What was not as expected, and left out: nothing, unless `strict` is false. */
  readonly leftOut: readonly string[];
}

/**
 * What `torch.save` wrote, as data: dictionaries (without a prototype), lists, text, numbers, tensors. Nothing in it is
 * executed.
 * A RangeError for a damaged file, one of PyTorch before 1.6, and one that holds more than tensors and plain data.
 */
export function readTorch(file: Uint8Array | ArrayBuffer): Value {
  return named("readTorch", () => readArchive(asBytes("readTorch", file)));
}

/**
 * Sets a model's parameters from a `state_dict()` that `torch.save` wrote, or from a safetensors file.
 * @param file whose tensors have the names and shapes of the model's; of floating-point numbers of any precision
 * A RangeError for a damaged file, and for one that does not fit, which names both sides; nothing is loaded then. An
 * Error during a step.
 */
export function loadModel(file: TorchFile, model: Tensors, options: LoadOptions = {}): LoadedTorch {
  const tensors = listModel("loadModel", model);
  return loading("loadModel", tensors, options, (differs) => {
    const here = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    const pairs = matched(here, tensorsIn(file), FLOATS, differs);
    return () => {
      for (const [{ data }, tensor] of pairs) tensor.readInto(data);
      return {};
    };
  });
}

export interface LoadOptimizerOptions extends LoadOptions {
  /**
   * How many steps were made, for PyTorch's SGD, whose file does not say. A whole number of 0 or more. Default: 1 if
   * there is state in the file, else 0.
   */
  steps?: number;
}

/**
 * Sets an optimizer's state, step count and hyper-parameters from an `optimizer.state_dict()` that `torch.save` wrote.
 * Hyper-parameters that a schedule decides here stay the schedule's; averages and slow weights begin as the parameters, so
 * call `loadModel` first.
 * @param optimizer over tensors in the order that PyTorch's had them, in the same groups, made with the same `amsgrad`,
 * `maximize`, `centered`, and momentum or none
 * Errors as for `loadModel`.
 */
export function loadOptimizer(
  file: TorchFile,
  optimizer: Optimizer<any, any>,
  { steps, ...options }: LoadOptimizerOptions = {},
): LoadedTorch {
  checkOptimizer("loadOptimizer", optimizer);
  if (steps !== undefined) count(0, 0).check("loadOptimizer: steps", steps);
  const tensors = optimizer.groups.flatMap(({ params }) => params);
  return loading("loadOptimizer", tensors, options, (differs) => {
    const write = prepare(contentOf(file), optimizer, steps, differs);
    return () => {
      write();
      return {};
    };
  });
}

/** A model's `state_dict()`, as a file for `torch.load`. A TypeError for what is no model, an Error during a step. */
export function saveModel(model: Tensors): Uint8Array<ArrayBuffer> {
  const tensors = listModel("saveModel", model);
  return alone("saveModel", tensors, () =>
    archive((store) => new Map(tensors.map(({ name, shape, data }) => [name, store(data, shape)]))),
  );
}

/**
 * An `optimizer.state_dict()`, as a file for `torch.load` and PyTorch's `load_state_dict`. A RangeError for a rule or an
 * option that PyTorch lacks, an Error during a step.
 */
export function saveOptimizer(optimizer: AnyOptimizer): Uint8Array<ArrayBuffer> {
  checkOptimizer("saveOptimizer", optimizer);
  const tensors = optimizer.groups.flatMap(({ params }) => params);
  return alone("saveOptimizer", tensors, () =>
    named("saveOptimizer", () => archive((store) => stateDict(optimizer, store))),
  );
}

/** Puts the function's name before what is wrong with a file. */
function named<Result>(title: string, act: () => Result): Result {
  try {
    return act();
  } catch (cause) {
    if (cause instanceof RangeError) throw new RangeError(`${title}: ${cause.message}`, { cause });
    throw cause;
  }
}

const isBytes = (file: unknown): file is Uint8Array | ArrayBuffer =>
  file instanceof Uint8Array || file instanceof ArrayBuffer;

/** What is in a file that `torch.save` wrote, if it is not known yet. */
const contentOf = (file: TorchFile): Value => (isBytes(file) ? readArchive(asBytes("", file)) : file);

/** Of a safetensors file these bytes would be a header of 67 MB, which none has. */
const isArchive = (bytes: Uint8Array) => [0x50, 0x4b, 0x03, 0x04].every((byte, i) => bytes[i] === byte);

function tensorsIn(file: TorchFile): ReadonlyMap<string, TorchTensor> {
  if (isBytes(file)) {
    const bytes = asBytes("", file);
    if (!isArchive(bytes)) {
      const { tensors, start } = decode(bytes);
      const tensor = ({ dtype, shape, begin, end }: { dtype: string; shape: Shape; begin: number; end: number }) =>
        new TorchTensor(dtype, shape, bytes.subarray(start + begin, start + end));
      return new Map([...tensors].map(([name, entry]) => [name, tensor(entry)]));
    }
  }
  const dict = contentOf(file);
  const all = isDict(dict) ? Object.entries(dict) : [];
  if (all.length === 0 || !all.every(([, value]) => value instanceof TorchTensor)) {
    throw new RangeError(
      `the file must hold what model.state_dict() gave, got ${described(dict)}; a part of it is had by readTorch(bytes).PART`,
    );
  }
  return new Map(all as [string, TorchTensor][]);
}

/** A storage: numbers of one type, that tensors are views of. */
class Storage {
  constructor(
    readonly dtype: string,
    readonly bytes: Uint8Array,
  ) {}
}

const storages: Readonly<Record<string, string>> = {
  "torch.FloatStorage": "F32",
  "torch.DoubleStorage": "F64",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
  "torch.LongStorage": "I64",
  "torch.IntStorage": "I32",
  "torch.ShortStorage": "I16",
  "torch.CharStorage": "I8",
  "torch.ByteStorage": "U8",
  "torch.BoolStorage": "BOOL",
};

function readArchive(bytes: Uint8Array): Value {
  if (!isArchive(bytes)) {
    throw new RangeError("the file must be a zip archive, as torch.save writes from PyTorch 1.6 on, got another");
  }
  const files = unzip(bytes);
  const pickled = [...files.keys()].find((name) => name.endsWith("/data.pkl"));
  if (pickled === undefined) throw new RangeError("the archive must hold data.pkl, got an archive without");
  const folder = pickled.slice(0, -"data.pkl".length);
  const order = files.get(`${folder}byteorder`);
  if (order && String.fromCharCode(...order) !== "little")
    throw new RangeError("the file must be little-endian, got another");
  return unpickle(
    files.get(pickled)!,
    meaning((key) => files.get(`${folder}data/${key}`)),
  );
}

const wholes = (value: Value | undefined): value is number[] =>
  Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && (item as number) >= 0);

/** What the names in a file mean: tensors and dictionaries; nothing else is allowed. */
const meaning = (read: (key: string) => Uint8Array | undefined): Meaning => ({
  call(name, args) {
    if (name === "collections.OrderedDict" && args.length === 0) return Object.create(null) as Dict;
    if (name === "torch._utils._rebuild_parameter" && args[0] instanceof TorchTensor) return args[0];
    if (name === "torch._utils._rebuild_tensor_v2") {
      const [storage, offset, shape, strides] = args;
      if (
        storage instanceof Storage &&
        wholes([offset!]) &&
        wholes(shape) &&
        wholes(strides) &&
        shape.length === strides.length
      ) {
        return new TorchTensor(storage.dtype, shape, storage.bytes, strides, offset as number);
      }
    }
    throw new RangeError(
      `the file must hold nothing but tensors and plain data, got a call of ${name}, which is not made`,
    );
  },
  persistent(id) {
    const [kind, type, key, , size] = Array.isArray(id) ? id : [];
    const found = type instanceof Name && Object.hasOwn(storages, type.name) ? storages[type.name] : undefined;
    const bytes = typeof key === "string" ? read(key) : undefined;
    if (kind !== "storage" || !found || !bytes || !wholes([size!])) {
      throw new RangeError(
        `the file must hold each tensor's numbers, of a known type, got ${show(type instanceof Name ? type.name : type)} number ${show(key)}`,
      );
    }
    const length = (size as number) * SIZES[found]!;
    if (length > bytes.length)
      throw new RangeError(`storage ${show(key)} must have ${length} bytes, got ${bytes.length}`);
    return new Storage(found, bytes.subarray(0, length));
  },
});

/** An archive as `torch.load` reads it: a pickle, and beside it the numbers of its tensors. */
function archive(
  content: (store: (numbers: Float32Array, shape: Shape) => Stored) => Writable,
): Uint8Array<ArrayBuffer> {
  const numbers: Uint8Array[] = [];
  const value = content((view, shape) => {
    numbers.push(bytesOf(view));
    return new Stored(String(numbers.length - 1), shape);
  });
  const text = (text: string) => new TextEncoder().encode(text);
  return zip(
    new Map([
      ["archive/data.pkl", pickle(value)],
      ["archive/byteorder", text("little")],
      ...numbers.map((bytes, i) => [`archive/data/${i}`, bytes] as const),
      ["archive/version", text("3\n")],
    ]),
  );
}
