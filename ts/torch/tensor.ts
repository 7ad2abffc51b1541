/** A tensor in a file: a view of the file's bytes, converted to numbers when it is read. */

import { show } from "../option.js";
import { bytesOf } from "../checkpoint/loading.js";
import { MAX_DIMENSIONS, ELEMENT_BYTES } from "../checkpoint/safetensors.js";
import { sameShape, type Shape } from "../arena/tensor.js";

/** Reads the element at a byte, for each dtype. */
const readers: Readonly<Record<string, (view: DataView, at: number) => number>> = {
  F64: (view, at) => view.getFloat64(at, true),
  F32: (view, at) => view.getFloat32(at, true),
  F16: (view, at) => half(view.getUint16(at, true)),
  BF16: bfloat,
  I64: (view, at) => Number(view.getBigInt64(at, true)),
  I32: (view, at) => view.getInt32(at, true),
  I16: (view, at) => view.getInt16(at, true),
  I8: (view, at) => view.getInt8(at),
  U8: (view, at) => view.getUint8(at),
  BOOL: (view, at) => view.getUint8(at),
};

/** The dtypes that parameters and state may have: floating-point numbers. */
export const FLOATS = ["F32", "F64", "F16", "BF16"];

const scratch = new DataView(new ArrayBuffer(4));
function bfloat(view: DataView, at: number): number {
  scratch.setUint32(0, view.getUint16(at, true) << 16);
  return scratch.getFloat32(0);
}

function half(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? Number.NaN : sign * Infinity;
  scratch.setUint32(0, (exponent + 112) << 23); // two to the power exponent - 15
  return sign * (exponent ? scratch.getFloat32(0) * (1 + fraction / 1024) : fraction / 2 ** 24);
}

/** A tensor in a file. Its elements are converted only when `read()` is called. */
export class TorchTensor {
  /** The type of the elements, by safetensors' names: `F32`, `F64`, `F16`, `BF16`, `I64`, … */
  readonly dtype: string;
  /** The size of each dimension; empty for a scalar. */
  readonly shape: Shape;
  readonly #bytes: Uint8Array;
  readonly #strides: readonly number[];
  readonly #offset: number;

  /**
   * A RangeError if an element lies outside the bytes. @internal
   * @param strides the distance between neighbours in each dimension, in elements. Default: row by row
   */
  constructor(dtype: string, shape: Shape, bytes: Uint8Array, strides?: readonly number[], offset = 0) {
    if (shape.length > MAX_DIMENSIONS) {
      throw new RangeError(`a tensor must have at most ${MAX_DIMENSIONS} dimensions, got ${shape.length}`);
    }
    const steps = strides ?? stridesOf(shape);
    const last = shape.includes(0) ? -1 : shape.reduce((at, size, i) => at + (size - 1) * steps[i]!, offset);
    const there = Math.floor(bytes.length / ELEMENT_BYTES[dtype]!);
    if (last >= there)
      throw new RangeError(`a tensor of ${show(shape)} must lie within its ${there} elements, got ${last}`);
    this.dtype = dtype;
    this.shape = Object.freeze([...shape]);
    this.#bytes = bytes;
    this.#strides = steps;
    this.#offset = offset;
    Object.freeze(this);
  }

  /** The elements, row by row, each rounded to single precision: a copy. */
  read(): Float32Array<ArrayBuffer> {
    const into = new Float32Array(this.shape.reduce((product, size) => product * size, 1));
    this.readInto(into);
    return into;
  }

  /** Writes the elements into an array of that size. @internal */
  readInto(into: Float32Array): void {
    const { byteOffset, buffer, length } = this.#bytes;
    const contiguous = sameShape(this.#strides, stridesOf(this.shape));
    if (this.dtype === "F32" && contiguous) {
      const start = 4 * this.#offset;
      bytesOf(into).set(this.#bytes.subarray(start, start + 4 * into.length));
      return;
    }
    const [read, size] = [readers[this.dtype], ELEMENT_BYTES[this.dtype]!];
    if (!read) throw new RangeError(`a tensor's numbers must be ${Object.keys(readers).join(", ")}, got ${this.dtype}`);
    const view = new DataView(buffer, byteOffset, length);
    const at = this.shape.map(() => 0);
    let element = this.#offset;
    for (let i = 0; i < into.length; i++) {
      into[i] = read(view, element * size);
      for (let d = at.length - 1; d >= 0; d--) {
        element += this.#strides[d]!;
        if (++at[d]! < this.shape[d]!) break;
        element -= this.shape[d]! * this.#strides[d]!;
        at[d] = 0;
      }
    }
  }
}

/** The strides of a tensor whose elements lie row by row. */
export function stridesOf(shape: Shape): number[] {
  const strides: number[] = [];
  let size = 1;
  for (const dimension of shape.toReversed()) {
    strides.unshift(size);
    size *= dimension;
  }
  return strides;
}
