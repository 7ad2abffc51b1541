/** The functions that a PyTorch file may call. Here they only make data: tensors, dictionaries, sets, bytes. */

import { elementBits } from "../checkpoint/safetensors.js";
import { show } from "../option.js";
import { FileTensor, isShape } from "./tensor.js";
import { type Dict, GlobalName, isDict, newDict, Opaque, type Resolver, type Value } from "./unpickle.js";

/**
 * A storage: the bytes that tensors are views of, and their dtype. The dtype is undefined if each tensor has its own.
 */
class Storage extends Opaque {
  constructor(
    readonly dtype: string | undefined,
    readonly bytes: Uint8Array,
  ) {
    super("torch.storage.UntypedStorage");
  }
}

/** PyTorch's dtypes by safetensors' names. */
const dtypes: Readonly<Record<string, string>> = {
  float32: "F32",
  float64: "F64",
  float16: "F16",
  bfloat16: "BF16",
  float8_e4m3fn: "F8_E4M3",
  float8_e5m2: "F8_E5M2",
  float8_e8m0fnu: "F8_E8M0",
  complex64: "C64",
  complex128: "C128",
  int64: "I64",
  int32: "I32",
  int16: "I16",
  int8: "I8",
  uint64: "U64",
  uint32: "U32",
  uint16: "U16",
  uint8: "U8",
  bool: "BOOL",
};

/** The dtypes of storages. Those that are missing here, such as quantized ones, have their own name in the file. */
const storages: Readonly<Record<string, string>> = {
  FloatStorage: "F32",
  DoubleStorage: "F64",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
  ComplexFloatStorage: "C64",
  ComplexDoubleStorage: "C128",
};

/** Bytes per element of dtypes that safetensors files do not have. */
const otherBytes: Readonly<Record<string, number>> = {
  C128: 16,
  QInt8Storage: 1,
  QUInt8Storage: 1,
  QInt32Storage: 4,
  QUInt4x2Storage: 1,
  QUInt2x4Storage: 1,
};

/** Bytes per element of a storage's dtype: those of other storages are unknown. */
export function storageBytes(dtype: string): number | undefined {
  const bits = elementBits(dtype);
  if (bits !== undefined && bits % 8 === 0) return bits / 8;
  return Object.hasOwn(otherBytes, dtype) ? otherBytes[dtype] : undefined;
}

/** The dtype of a storage by its class; undefined for one of bytes, whose tensors say their dtype. */
export function storageDtype(type: Value | undefined): string | undefined {
  const name = type instanceof GlobalName ? type.type : "";
  const last = name.slice(name.lastIndexOf(".") + 1);
  if (last === "UntypedStorage") return undefined;
  return Object.hasOwn(storages, last) ? storages[last] : last;
}

/** Dtypes of numbers by NumPy's names without the order of bytes, which is that of the file. */
const numpyTypes: Readonly<Record<string, string>> = {
  f8: "F64",
  f4: "F32",
  f2: "F16",
  i8: "I64",
  i4: "I32",
  i2: "I16",
  i1: "I8",
  u8: "U64",
  u4: "U32",
  u2: "U16",
  u1: "U8",
  b1: "BOOL",
};

/** A dtype of NumPy; undefined for one that is not of numbers. */
class NumpyType extends Opaque {
  constructor(readonly dtype: string | undefined) {
    super("numpy.dtype");
  }
}

/** A number of NumPy. A program that computes the rate with NumPy leaves one in the optimizer. */
function numpyNumber([type, bytes]: readonly Value[]): Value {
  const { dtype } = type instanceof NumpyType ? type : {};
  if (dtype === undefined || !(bytes instanceof Uint8Array) || bytes.length !== storageBytes(dtype)) {
    return new Opaque("numpy.generic");
  }
  const number = new FileTensor(dtype, [], bytes).item();
  return dtype === "BOOL" ? number !== 0 : number;
}

const isWhole = (value: Value | undefined): value is number => isShape([value]);
const isFlag = (value: Value | undefined): boolean => typeof value === "boolean";
/** Whether there are no hooks: PyTorch saves an empty dictionary. */
const isEmpty = (value: Value | undefined): boolean =>
  value === undefined || value === null || ((Array.isArray(value) || isDict(value)) && Object.keys(value).length === 0);

/** Makes the value of a call. Returns undefined for invalid arguments. */
type Call = (args: readonly Value[]) => Value | undefined;

/** A call with at most so many arguments. */
const upTo =
  (most: number, call: Call): Call =>
  (args) =>
    args.length > most ? undefined : call(args);

const calls: Readonly<Record<string, Call>> = {
  "collections.OrderedDict": upTo(1, ([pairs]) => dictOf(pairs)),
  "collections.Counter": upTo(1, ([counts]) => (isDict(counts) ? copyOf(counts) : dictOf(counts))),
  "builtins.set": upTo(1, setOf),
  "builtins.frozenset": upTo(1, setOf),
  "collections.defaultdict": upTo(1, newDict),
  "numpy.dtype": ([name]) =>
    new NumpyType(typeof name === "string" && Object.hasOwn(numpyTypes, name) ? numpyTypes[name] : undefined),
  "numpy.core.multiarray.scalar": numpyNumber,
  "numpy._core.multiarray.scalar": numpyNumber,
  "builtins.getattr": upTo(2, memberOf), // protocol 2 writes a class in a class as a call
  "builtins.bytes": upTo(0, () => new Uint8Array()), // protocol 2 writes empty bytes as a call
  "torch.Size": upTo(1, ([sizes]) => (Array.isArray(sizes) ? [...sizes] : undefined)),
  "_codecs.encode": ([text, encoding]) => (encoding === "latin1" ? latin1(text) : undefined),
  "builtins.bytearray": ([text, encoding]) =>
    text === undefined
      ? new Uint8Array()
      : text instanceof Uint8Array
        ? text.slice()
        : encoding === "latin-1"
          ? latin1(text)
          : undefined,
  "torch._utils._rebuild_tensor": upTo(4, ([storage, offset, shape, strides]) =>
    tensorOf(storage, offset, shape, strides),
  ),
  "torch._utils._rebuild_tensor_v2": upTo(7, ([storage, offset, shape, strides, requiresGrad, hooks, metadata]) =>
    isFlag(requiresGrad) && isEmpty(hooks) ? tensorOf(storage, offset, shape, strides, undefined, metadata) : undefined,
  ),
  "torch._utils._rebuild_tensor_v3": upTo(
    8,
    ([storage, offset, shape, strides, requiresGrad, hooks, dtype, metadata]) =>
      isFlag(requiresGrad) && isEmpty(hooks) ? tensorOf(storage, offset, shape, strides, dtype, metadata) : undefined,
  ),
  "torch._utils._rebuild_parameter": upTo(3, parameterOf),
  // Attributes that a program has set on a parameter or a tensor are not its numbers.
  "torch._utils._rebuild_parameter_with_state": upTo(4, parameterOf),
  "torch._tensor._rebuild_from_type_v2": upTo(4, ([make, type, args]) => {
    if (!(make instanceof GlobalName) || !(type instanceof GlobalName) || !Array.isArray(args)) return undefined;
    if (!make.type.startsWith("torch._utils._rebuild_")) return undefined;
    const isPlain = ["torch.Tensor", "torch._tensor.Tensor", "torch.nn.parameter.Parameter"].includes(type.type);
    return isPlain && Object.hasOwn(calls, make.type)
      ? calls[make.type]!(args)
      : new Opaque(`a tensor of ${type.type}`);
  }),
  "torch._utils._rebuild_device_tensor_from_cpu_tensor": upTo(4, ([data, dtype, _device, requiresGrad]) =>
    isFlag(requiresGrad) && (!(data instanceof FileTensor) || data.dtype === dtypeOf(dtype))
      ? tensorAgain(data)
      : undefined,
  ),
  "torch._utils._rebuild_device_tensor_from_numpy": () => new Opaque("a tensor of another device, from NumPy"),
  "torch._utils._rebuild_sparse_tensor": () => new Opaque("a sparse tensor"),
  "torch._utils._rebuild_qtensor": () => new Opaque("a quantized tensor"),
  "torch._utils._rebuild_meta_tensor_no_storage": () => new Opaque("a meta tensor, which has no numbers"),
  "torch._utils._rebuild_wrapper_subclass": () => new Opaque("a tensor of a subclass"),
};

/** Functions that no valid checkpoint calls. A file that calls one attacks people who load it with Python's pickle. */
const isAttack = (module: string, name: string) =>
  /^(os|posix|nt|sys|subprocess|commands|socket|shutil|runpy|importlib|pty|webbrowser)(\.|$)/.test(module) ||
  (module === "builtins" &&
    /^(eval|exec|execfile|compile|open|file|input|apply|reload|breakpoint|__import__|setattr|delattr|globals|locals|vars)$/.test(
      name,
    ));

/** Names of Python 2, which protocol 2 keeps. */
const modules: Readonly<Record<string, string>> = { __builtin__: "builtins" };

/** The meaning of a file's names. `read` returns the bytes of a storage by its key. */
export const torchResolver = (read: (key: string) => Uint8Array | undefined): Resolver => ({
  call(given, args) {
    const dot = given.lastIndexOf(".");
    const python = given.slice(0, dot);
    const module = Object.hasOwn(modules, python) ? modules[python]! : python;
    const name = module + given.slice(dot);
    if (isAttack(module, given.slice(dot + 1))) {
      throw new RangeError(
        `the file must hold nothing but data, got a call of ${name}, which was not executed; do not trust this file`,
      );
    }
    if (!Object.hasOwn(calls, name)) return undefined;
    const value = calls[name]!(args);
    if (value !== undefined) return value;
    throw new RangeError(
      `the file must call ${name} as PyTorch does, got arguments that are not understood: ${show(args)}`,
    );
  },
  persistent(id) {
    const [kind, type = null, key = null, , size, view] = Array.isArray(id) ? id : [];
    const bytes = typeof key === "string" ? read(key) : undefined;
    if (kind !== "storage" || !(type instanceof GlobalName) || !bytes || !isWhole(size)) {
      throw new RangeError(
        `the file must hold each tensor's numbers, got none for ${typeName(type)} number ${show(key)}`,
      );
    }
    if (view !== undefined && view !== null) return new Opaque("a storage that is a part of another");
    const dtype = storageDtype(type);
    const each = dtype === undefined ? 1 : storageBytes(dtype);
    if (each === undefined) return new Storage(dtype, bytes);
    if (size * each > bytes.length) {
      throw new RangeError(`storage ${show(key)} must have ${size * each} bytes, got ${bytes.length}`);
    }
    return new Storage(dtype, bytes.subarray(0, size * each));
  },
});

const typeName = (type: Value) => show(type instanceof Opaque ? type.type : type);

function dtypeOf(dtype: Value | undefined): string | undefined {
  if (!(dtype instanceof GlobalName) || !dtype.type.startsWith("torch.")) return undefined;
  const name = dtype.type.slice("torch.".length);
  return Object.hasOwn(dtypes, name) ? dtypes[name] : name;
}

/** A tensor; `undefined` if an argument is not what it must be. */
function tensorOf(
  storage: Value | undefined,
  offset: Value | undefined,
  shape: Value | undefined,
  strides: Value | undefined,
  given?: Value,
  metadata: Value = null,
): Value | undefined {
  if (storage instanceof Opaque && !(storage instanceof Storage)) return new Opaque(`a tensor in ${storage.type}`);
  if (!(storage instanceof Storage) || !isWhole(offset) || !isShape(shape) || !isShape(strides)) return undefined;
  const dtype = given === undefined ? storage.dtype : dtypeOf(given);
  if (dtype === undefined || shape.length !== strides.length) return undefined;
  if (metadata !== null && !isDict(metadata)) return undefined;
  const flags: Dict = metadata ?? {};
  const unknown = Object.keys(flags).find((name) => !["neg", "conj"].includes(name) || !isFlag(flags[name]));
  if (unknown !== undefined) return new Opaque(`a tensor with ${show(unknown)}`);
  // Only complex tensors are conjugated, and these have no numbers here.
  return new FileTensor(dtype, shape, storage.bytes, { strides, offset, negative: flags.neg === true });
}

function parameterOf([data, requiresGrad, hooks]: readonly Value[]): Value | undefined {
  return isFlag(requiresGrad) && isEmpty(hooks) ? tensorAgain(data) : undefined;
}

/** A tensor that is wrapped as something else. */
const tensorAgain = (data: Value | undefined) =>
  data instanceof FileTensor || data instanceof Opaque ? data : undefined;

const copyOf = (dict: Dict): Dict => Object.assign(newDict(), dict);

/** A dictionary from a list of pairs, or from nothing. */
function dictOf(pairs: Value | undefined): Dict | undefined {
  const dict = newDict();
  if (pairs === undefined) return dict;
  if (!Array.isArray(pairs)) return undefined;
  for (const pair of pairs) {
    if (!Array.isArray(pair) || pair.length !== 2) return undefined;
    const [key, value] = pair as [Value, Value];
    if (typeof key !== "string" && typeof key !== "number") return undefined;
    dict[key] = value;
  }
  return dict;
}

/**
 * The name of a member of a class, or a member of an object. Names with an underscore lead to Python's own parts, and a module
 * that another one has imported, such as `posixpath.os`, to its functions.
 */
function memberOf([owner, name]: readonly Value[]): Value | undefined {
  if (!(owner instanceof Opaque) || typeof name !== "string" || name.startsWith("_")) return undefined;
  if (isAttack(owner.type.slice(owner.type.lastIndexOf(".") + 1), name)) return undefined;
  return new (owner instanceof GlobalName ? GlobalName : Opaque)(`${owner.type}.${name}`);
}

/** A set from a list, or from nothing. */
function setOf([items = []]: readonly Value[]): Value | undefined {
  return Array.isArray(items) ? new Set(items) : undefined;
}

/** Bytes that Python has written as text. */
function latin1(text: Value | undefined): Uint8Array | undefined {
  if (typeof text !== "string") return undefined;
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 255) return undefined;
    bytes[i] = code;
  }
  return bytes;
}
