/** A tensor in a file: a view of the file's bytes, converted to numbers when it is read. */

import { elementsIn, MAX_DIMENSIONS, sameShape, type Shape } from "../arena/tensor.js";
import { bytesOf, isBytes } from "../checkpoint/loading.js";
import { elementBits } from "../checkpoint/safetensors.js";
import { powerOfTwo } from "../math.js";
import { show } from "../option.js";
import { isDict } from "./unpickle.js";

/** The readers of elements, by dtype. Elements of other dtypes cannot be read. */
const readers: Readonly<Record<string, (view: DataView, at: number) => number>> = {
  F64: (view, at) => view.getFloat64(at, true),
  F32: (view, at) => view.getFloat32(at, true),
  F16: (view, at) => smallFloat(view.getUint16(at, true), 5, 10),
  BF16: (view, at) => smallFloat(view.getUint16(at, true), 8, 7),
  F8_E5M2: (view, at) => smallFloat(view.getUint8(at), 5, 2),
  F8_E4M3: (view, at) => float8(view.getUint8(at)),
  I64: (view, at) => Number(view.getBigInt64(at, true)),
  U64: (view, at) => Number(view.getBigUint64(at, true)),
  I32: (view, at) => view.getInt32(at, true),
  U32: (view, at) => view.getUint32(at, true),
  I16: (view, at) => view.getInt16(at, true),
  U16: (view, at) => view.getUint16(at, true),
  I8: (view, at) => view.getInt8(at),
  U8: (view, at) => view.getUint8(at),
  BOOL: (view, at) => view.getUint8(at),
};

/** The dtypes that parameters and state may have: floating-point numbers. */
export const FLOATS = ["F32", "F64", "F16", "BF16", "F8_E5M2", "F8_E4M3"];

/** Bytes per element of the dtypes that can be read. */
const elementBytes = (dtype: string): number | undefined =>
  Object.hasOwn(readers, dtype) ? elementBits(dtype)! / 8 : undefined;

/** Decodes a floating-point number in the layout of IEEE 754: sign, exponent, fraction. */
function smallFloat(bits: number, exponentBits: number, fractionBits: number, hasInfinity = true): number {
  const [most, bias] = [(1 << exponentBits) - 1, (1 << (exponentBits - 1)) - 1];
  const exponent = (bits >> fractionBits) & most;
  const steps = 1 << fractionBits;
  const fraction = (bits & (steps - 1)) / steps;
  const sign = (bits >> (exponentBits + fractionBits)) & 1 ? -1 : 1;
  if (hasInfinity && exponent === most) return fraction ? Number.NaN : sign * Infinity;
  return sign * (exponent ? powerOfTwo(exponent - bias) * (1 + fraction) : powerOfTwo(1 - bias) * fraction);
}

/** E4M3 has no infinity, and one NaN of each sign, so that it reaches 448. */
const float8 = (bits: number) => ((bits & 0x7f) === 0x7f ? Number.NaN : smallFloat(bits, 4, 3, false));

/** Bytes that are read from a file when they are needed. */
export class LazyBytes {
  readonly length: number;
  readonly #read: () => Uint8Array;

  /** @internal */
  constructor(length: number, read: () => Uint8Array) {
    this.length = length;
    this.#read = read;
  }

  /** @internal */
  read(): Uint8Array {
    return this.#read();
  }
}

/**
 * The largest number of elements of a tensor with repeated elements, as PyTorch's `expand` makes them. Other tensors
 * have at most as many elements as their file.
 */
const MAX_REPEATED = 2 ** 24;

/** The place of a tensor's elements in its storage. */
export interface Layout {
  /** The distance between neighbours in each dimension, in elements. Default: row by row. */
  readonly strides?: readonly number[];
  /** The first element. Default: 0. */
  readonly offset?: number;
  /**
   * Whether elements are negated when read. PyTorch sets this "negative bit" for views such as `x.conj().imag`.
   * Default: false.
   */
  readonly negative?: boolean;
}

/** A tensor in a file. Its elements are converted only when `read()` is called. */
export class FileTensor {
  /** The type of the elements, by safetensors' names: `F32`, `F64`, `F16`, `BF16`, `I64`, … */
  readonly dtype: string;
  /** The size of each dimension; empty for a scalar. */
  readonly shape: Shape;
  /** @internal */
  readonly strides: readonly number[];
  /** @internal */
  readonly offset: number;
  /** @internal */
  readonly negative: boolean;
  /** The bytes of the storage, which other tensors may share. @internal */
  readonly bytes: Uint8Array | LazyBytes;

  /**
   * @throws a RangeError if an element lies outside the bytes.
   * @internal
   */
  constructor(
    dtype: string,
    shape: Shape,
    bytes: Uint8Array | LazyBytes,
    { strides = stridesOf(shape), offset = 0, negative = false }: Layout = {},
  ) {
    if (shape.length > MAX_DIMENSIONS) {
      throw new RangeError(`a tensor must have at most ${MAX_DIMENSIONS} dimensions, got ${shape.length}`);
    }
    const size = elementBytes(dtype);
    if (size !== undefined) {
      const last = shape.includes(0) ? -1 : shape.reduce((at, length, i) => at + (length - 1) * strides[i]!, offset);
      const there = Math.floor(bytes.length / size);
      if (last >= there) {
        throw new RangeError(`a tensor of ${show(shape)} must lie within its ${there} elements, got ${last}`);
      }
    }
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.strides = Object.freeze([...strides]);
    this.offset = offset;
    this.negative = negative;
    this.bytes = bytes;
    Object.freeze(this);
  }

  /**
   * The elements, row by row, each rounded to single precision: a copy.
   * @throws a RangeError for a dtype without numbers, such as `C64`, and for a view that repeats few elements very often.
   */
  read(): Float32Array<ArrayBuffer> {
    this.#reader();
    const length = elementsIn(this.shape);
    if (length > Math.max(MAX_REPEATED, this.bytes.length)) {
      throw new RangeError(
        `a tensor of ${show(this.shape)} must have at most ${MAX_REPEATED} elements to be read as a whole, because it repeats the elements of ${this.bytes.length} bytes`,
      );
    }
    const into = new Float32Array(length);
    this.readInto(into);
    return into;
  }

  /**
   * The one element of a tensor that has one, in double precision.
   * @throws a RangeError for others.
   */
  item(): number {
    if (elementsIn(this.shape) !== 1)
      throw new RangeError(`a number must be one element, got a tensor of ${show(this.shape)}`);
    const [read, size] = this.#reader();
    const x = read(viewOf(this.#data()), this.offset * size);
    return this.negative ? -x : x;
  }

  /** Writes the elements into an array of that size. @internal */
  readInto(into: Float32Array): void {
    const data = this.#data();
    const [read, size] = this.#reader();
    if (this.dtype === "F32" && sameShape(this.strides, stridesOf(this.shape)) && !this.negative) {
      const start = 4 * this.offset;
      bytesOf(into).set(data.subarray(start, start + 4 * into.length));
      return;
    }
    const view = viewOf(data);
    const sign = this.negative ? -1 : 1;
    const at = this.shape.map(() => 0);
    let element = this.offset;
    for (let i = 0; i < into.length; i++) {
      into[i] = sign * read(view, element * size);
      for (let d = at.length - 1; d >= 0; d--) {
        element += this.strides[d]!;
        if (++at[d]! < this.shape[d]!) break;
        element -= this.shape[d]! * this.strides[d]!;
        at[d] = 0;
      }
    }
  }

  /**
   * The tensor with its bytes in memory.
   * @throws an Error if they cannot be read.
   * @internal
   */
  inMemory(): FileTensor {
    return this.bytes instanceof LazyBytes ? withBytes(this, this.#data()) : this;
  }

  #data(): Uint8Array {
    return this.bytes instanceof LazyBytes ? this.bytes.read() : this.bytes;
  }

  /** The reader of the elements, and the bytes of one. */
  #reader() {
    const size = elementBytes(this.dtype);
    if (size !== undefined) return [readers[this.dtype]!, size] as const;
    throw new RangeError(`a tensor's numbers must be ${Object.keys(readers).join(", ")}, got ${this.dtype}`);
  }
}

const viewOf = ({ buffer, byteOffset, length }: Uint8Array) => new DataView(buffer, byteOffset, length);

/** Whether this is a list of whole numbers of 0 or more, not longer than a shape may be. */
export const isShape = (value: unknown): value is number[] =>
  Array.isArray(value) &&
  value.length <= MAX_DIMENSIONS &&
  value.every((item) => Number.isSafeInteger(item) && item >= 0);

/**
 * The tensor with these bytes. It is a separate function, because esbuild renames a class that names itself, and messages
 * would show the new name.
 */
const withBytes = (tensor: FileTensor, bytes: Uint8Array) => new FileTensor(tensor.dtype, tensor.shape, bytes, tensor);

/** The tensor in a value: a FileTensor, or what `structuredClone` makes of one; undefined for other values. */
export function asTensor(value: unknown): FileTensor | undefined {
  if (value instanceof FileTensor) return value;
  if (!isDict(value)) return undefined;
  const { dtype, shape, bytes, strides, offset, negative } = value;
  const isOne =
    typeof dtype === "string" &&
    isShape(shape) &&
    isShape(strides) &&
    strides.length === shape.length &&
    isShape([offset]) &&
    isBytes(bytes) &&
    ArrayBuffer.isView(bytes);
  if (!isOne) return undefined;
  const data = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new FileTensor(dtype, shape, data, { strides, offset: offset as number, negative: negative === true });
}

/** The strides of a tensor whose elements lie row by row. */
export function stridesOf(shape: Shape): number[] {
  const strides: number[] = [];
  let size = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides.unshift(size);
    size *= shape[i]!;
  }
  return strides;
}
