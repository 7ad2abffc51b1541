/** Reads and writes PyTorch's files. */

import {
  betweenSteps,
  type AnyOptimizer,
  asBytes,
  bytesOf,
  checkOptimizer,
  listModel,
  loadChecked,
  type LoadOptions,
  matchTensors,
} from "../checkpoint/loading.js";
import { decode, ELEMENT_BYTES } from "../checkpoint/safetensors.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import type { Tensors } from "../optimizer/params.js";
import { count, show } from "../option.js";
import type { Shape } from "../arena/tensor.js";
import { described, checkStateDict, stateDict } from "./optimizer.js";
import {
  type Dict,
  isDict,
  type Resolver,
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

/** The bytes of a file, or the data that `readTorch` returned, or a part of that data. */
export type TorchFile = Uint8Array | ArrayBuffer | Value;

/** The result of `loadModel` and `loadOptimizer`. */
export interface LoadedTorch {
  /** One sentence for each difference that was passed over. Empty unless `strict` is false. */
  readonly leftOut: readonly string[];
}

/**
 * Reads a file that `torch.save` wrote, as data: dictionaries (objects without a prototype), lists, text, numbers and
 * tensors. Nothing in the file is executed.
 * @throws a RangeError for a damaged file, a file from before PyTorch 1.6, and a file that holds more than tensors and
 * plain data.
 */
export function readTorch(file: Uint8Array | ArrayBuffer): Value {
  return withTitle("readTorch", () => readArchive(asBytes("readTorch", file)));
}

/**
 * Sets a model's parameters from a `state_dict()` that `torch.save` wrote, or from a safetensors file.
 * @param file tensors with the names and shapes of the model's; floating-point numbers of any precision
 * @throws a RangeError for a damaged file and for a file that does not fit; an Error during a step. Nothing has changed
 * then.
 */
export function loadModel(file: TorchFile, model: Tensors, options: LoadOptions = {}): LoadedTorch {
  const tensors = listModel("loadModel", model);
  return loadChecked("loadModel", tensors, options, (report) => {
    const here = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    const pairs = matchTensors(here, tensorsIn(file), FLOATS, report);
    return () => {
      for (const [{ data }, tensor] of pairs) tensor.readInto(data);
      return {};
    };
  });
}

export interface LoadOptimizerOptions extends LoadOptions {
  /**
   * The number of steps that were made, for rules whose files do not have it: SGD and Muon. A whole number in [0, ∞).
   * Default: 1 if the file has state, else 0.
   */
  steps?: number;
}

/**
 * Sets an optimizer's state, step count and hyper-parameters from an `optimizer.state_dict()` that `torch.save` wrote.
 * Hyper-parameters that have a schedule keep it. Averages and slow weights start as copies of the parameters: call
 * `loadModel` first.
 * @param optimizer an optimizer of the same tensors in the same order and the same groups, with the same `amsgrad`,
 * `maximize` and `centered`, and with momentum if the saved one had it
 * @throws as `loadModel`.
 */
export function loadOptimizer(
  file: TorchFile,
  optimizer: Optimizer<any, any>,
  { steps, ...options }: LoadOptimizerOptions = {},
): LoadedTorch {
  checkOptimizer("loadOptimizer", optimizer);
  if (steps !== undefined) count(0, 0).check("loadOptimizer: steps", steps);
  const tensors = optimizer.groups.flatMap(({ params }) => params);
  return loadChecked("loadOptimizer", tensors, options, (report) => {
    const write = checkStateDict(contentOf(file), optimizer, steps, report);
    return () => {
      write();
      return {};
    };
  });
}

/**
 * Writes a model's `state_dict()` for `torch.load`.
 * @returns the bytes of the file
 * @throws a TypeError unless `model` is tensors; an Error during a step.
 */
export function saveModel(model: Tensors): Uint8Array<ArrayBuffer> {
  const tensors = listModel("saveModel", model);
  return betweenSteps("saveModel", tensors, () =>
    archive((store) => new Map(tensors.map(({ name, shape, data }) => [name, store(data, shape)]))),
  );
}

/**
 * Writes an `optimizer.state_dict()` for `torch.load` and PyTorch's `load_state_dict`.
 * @returns the bytes of the file
 * @throws a RangeError for a rule or an option that PyTorch does not have; an Error during a step.
 */
export function saveOptimizer(optimizer: AnyOptimizer): Uint8Array<ArrayBuffer> {
  checkOptimizer("saveOptimizer", optimizer);
  const tensors = optimizer.groups.flatMap(({ params }) => params);
  return betweenSteps("saveOptimizer", tensors, () =>
    withTitle("saveOptimizer", () => archive((store) => stateDict(optimizer, store))),
  );
}

/** Puts the function's name before the messages about a file. */
function withTitle<Result>(title: string, act: () => Result): Result {
  try {
    return act();
  } catch (cause) {
    if (cause instanceof RangeError) throw new RangeError(`${title}: ${cause.message}`, { cause });
    throw cause;
  }
}

const isBytes = (file: unknown): file is Uint8Array | ArrayBuffer =>
  file instanceof Uint8Array || file instanceof ArrayBuffer;

/** The data in a file, unless it is data already. */
const contentOf = (file: TorchFile): Value => (isBytes(file) ? readArchive(asBytes("", file)) : file);

/** Whether the bytes begin like a zip archive. In a safetensors file they would mean a header of 67 MB, above the limit. */
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
      `the file must hold what model.state_dict() gave, got ${described(dict)}; read the file with readTorch(bytes), and pass the part that has it`,
    );
  }
  return new Map(all as [string, TorchTensor][]);
}

/** A storage: an array of one type. Tensors are views of it. */
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
    resolver((key) => files.get(`${folder}data/${key}`)),
  );
}

const wholes = (value: Value | undefined): value is number[] =>
  Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && (item as number) >= 0);

/** The functions that a file may call: those that make tensors and dictionaries. */
const resolver = (read: (key: string) => Uint8Array | undefined): Resolver => ({
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
    const length = (size as number) * ELEMENT_BYTES[found]!;
    if (length > bytes.length)
      throw new RangeError(`storage ${show(key)} must have ${length} bytes, got ${bytes.length}`);
    return new Storage(found, bytes.subarray(0, length));
  },
});

/** Writes an archive for `torch.load`: a pickle, and one entry for each tensor's elements. */
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
