/** The safetensors format: https://huggingface.co/docs/safetensors. Nothing in a file is trusted before it is checked. */

import { roundUp } from "../math.js";
import { show, wrongValue } from "../option.js";
import { encodeText, textDecoder } from "../platform.js";
import { METADATA, wrongName } from "../arena/names.js";
import { elementsIn, MAX_DIMENSIONS, type Shape } from "../arena/tensor.js";
import type { OpenFile } from "./files.js";

/** A tensor in a file. `begin` and `end` count bytes from the end of the header. */
export interface TensorEntry {
  readonly dtype: string;
  readonly shape: Shape;
  readonly begin: number;
  readonly end: number;
}

export interface Contents {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

/** Limits on a header's bytes and entries: far above any model, far below what would take noticeable time. */
const MAX_HEADER_BYTES = 2 ** 24;
const MAX_ENTRIES = 2 ** 16;
/** The bytes of the length before the header. */
const LENGTH_BYTES = 8;

/** Bits per element of each dtype. Later versions of the format may have others. */
const ELEMENT_BITS: Readonly<Record<string, number>> = {
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
  F32: 32,
  I32: 32,
  U32: 32,
  F16: 16,
  BF16: 16,
  I16: 16,
  U16: 16,
  I8: 8,
  U8: 8,
  BOOL: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
};

/** Bits per element of a dtype; undefined if the dtype is unknown here. */
export const elementBits = (dtype: string): number | undefined =>
  Object.hasOwn(ELEMENT_BITS, dtype) ? ELEMENT_BITS[dtype] : undefined;

/**
 * Writes the header with its length before it. The tensors' bytes follow in order.
 * @throws a RangeError for a header that is too large.
 */
export function encodeHeader(title: string, { metadata, tensors }: Contents): Uint8Array<ArrayBuffer> {
  // Entry by entry: an object would move names that are whole numbers to the front.
  const header: string[] = [];
  const add = (name: string, value: unknown) => header.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
  add(METADATA, Object.fromEntries(metadata));
  if (tensors.size > MAX_ENTRIES) throw tooMany("tensors");
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    add(name, { dtype, shape, data_offsets: [begin, end] });
  }
  const text = encodeText(`{${header.join(",")}}`);
  const length = roundUp(text.length, LENGTH_BYTES); // so that what follows is aligned
  if (length > MAX_HEADER_BYTES) {
    throw new RangeError(
      `${title}: names, options and extra must take at most ${MAX_HEADER_BYTES} bytes, got ${length}; save large data as tensors`,
    );
  }
  const encoded = new Uint8Array(LENGTH_BYTES + length).fill(0x20, LENGTH_BYTES);
  new DataView(encoded.buffer).setUint32(0, length, true);
  encoded.set(text, LENGTH_BYTES);
  return encoded;
}

const startsWith = (bytes: Uint8Array, start: readonly number[]) => start.every((byte, i) => bytes[i] === byte);

/** Whether the bytes begin a zip archive. In a safetensors file they would mean a header of 67 MB, above the limit. */
export const isZip = (bytes: Uint8Array): boolean => startsWith(bytes, [0x50, 0x4b, 0x03, 0x04]);

/** The number with which files of `torch.save` before PyTorch 1.6 begin, in a pickle of any protocol. */
const MAGIC = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];

/** Whether `torch.save` may have written this. Pickles of protocols 4 and 5 have the length of a frame before the number. */
export const isTorchFile = (bytes: Uint8Array): boolean =>
  isZip(bytes) || (bytes[0] === 0x80 && startsWith(bytes.subarray(bytes[2] === 0x95 ? 11 : 2), MAGIC));

/**
 * The number of bytes before the tensors: the length field and the header.
 * @param bytes the beginning of the file, at least its first 8 bytes
 * @param size the size of the file, in bytes
 * @throws a RangeError if the length is invalid.
 */
export function headerEnd(bytes: Uint8Array, size: number): number {
  refuseOtherFiles(bytes);
  if (size < LENGTH_BYTES) throw new RangeError(`the file must have at least ${LENGTH_BYTES} bytes, got ${size}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > MAX_HEADER_BYTES) {
    throw new RangeError(
      `the header must have at most ${MAX_HEADER_BYTES} bytes, got ${length}: ${isTorchFile(bytes) ? "this looks like a file of torch.save; read it with downhill/torch" : "this is not a safetensors file"}`,
    );
  }
  if (LENGTH_BYTES + length > size) {
    throw new RangeError(`the file must hold its header of ${length} bytes, got ${size} bytes in all`);
  }
  return LENGTH_BYTES + length;
}

/** Reads the header of a file, or its first bytes if the header's length is invalid: `decode` then throws the error. */
export async function readHeader(file: OpenFile): Promise<Uint8Array> {
  const start = await file.read(0, Math.min(64, file.size));
  try {
    return await file.read(0, headerEnd(start, file.size));
  } catch (error) {
    if (error instanceof RangeError) return start;
    throw error;
  }
}

/** Throws for files that are often taken for a model by mistake: Git LFS pointers and web pages. */
export function refuseOtherFiles(bytes: Uint8Array): void {
  const start = String.fromCharCode(...bytes.subarray(0, 64));
  if (start.startsWith("version https://git-lfs")) {
    throw new RangeError("the file must be a model, got a Git LFS pointer to one; run git lfs pull");
  }
  if (/^\s*<(!doctype|html|\?xml)/i.test(start)) {
    throw new RangeError(
      "the file must be a model, got a web page; download the file itself, not the page that shows it",
    );
  }
}

const tooMany = (what: string) => new RangeError(`a file must have at most ${MAX_ENTRIES} ${what}, got more`);

/**
 * Reads the header. The tensors' bytes begin at byte `start`.
 * @param file the beginning of the file, with its whole header
 * @param size the size of the file, in bytes
 * @throws a RangeError for anything that the format forbids: other JSON, duplicate names or keys, sizes that contradict
 * the shape, bytes that belong to no tensor or to two.
 */
export function decode(file: Uint8Array, size: number): Contents & { readonly start: number } {
  const start = headerEnd(file, size);
  let text: string;
  try {
    text = textDecoder(true).decode(file.slice(LENGTH_BYTES, start));
  } catch {
    throw new RangeError("the header must be UTF-8");
  }
  const reader = new Reader(text);
  const metadata = new Map<string, string>();
  const tensors = new Map<string, TensorEntry>();
  let described = false;
  reader.object((name) => {
    if (name === METADATA) {
      if (described) throw reader.wrong(`${METADATA} once`, "it again");
      described = true;
      reader.object((key) => {
        if (metadata.size === MAX_ENTRIES) throw tooMany(`entries in ${METADATA}`);
        if (metadata.has(key)) throw wrongValue(`${METADATA} must have each key once`, key, " twice");
        metadata.set(key, reader.string());
      });
      return;
    }
    const wrong = wrongName(name);
    if (wrong) throw wrongValue("a tensor's name must be usable", name, `, which ${wrong}`);
    if (tensors.has(name)) throw wrongValue("each tensor must appear once", name, " twice");
    if (tensors.size === MAX_ENTRIES) throw tooMany("tensors");
    tensors.set(name, readEntry(reader, name));
  });
  reader.end();
  checkLayout(tensors, size - start);
  return { metadata, tensors, start };
}

function readEntry(reader: Reader, name: string): TensorEntry {
  const title = `tensor ${show(name)}`;
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  reader.object((key) => {
    if (key === "dtype" && dtype === undefined) dtype = reader.string();
    else if (key === "shape" && shape === undefined) shape = reader.wholes();
    else if (key === "data_offsets" && offsets === undefined) offsets = reader.wholes();
    else throw wrongValue(`${title} must have dtype, shape and data_offsets once each`, key);
  });
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    throw new RangeError(`${title} must have dtype, shape and data_offsets, got only some of them`);
  }
  if (!/^[A-Z][A-Z0-9_]{0,15}$/.test(dtype)) {
    throw wrongValue(`${title}: dtype must be a name such as F32`, dtype);
  }
  if (shape.length > MAX_DIMENSIONS) {
    throw new RangeError(`${title}: shape must have at most ${MAX_DIMENSIONS} dimensions, got ${shape.length}`);
  }
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined || offsets.length !== 2) {
    throw new RangeError(`${title}: data_offsets must be two, got ${offsets.length}`);
  }
  // A dtype that is unknown here has an unknown size, and its tensors cannot be read.
  const bits = elementBits(dtype);
  const size = bits === undefined ? Math.max(0, end - begin) : Math.ceil((elementsIn(shape) * bits) / 8);
  if (end - begin !== size) {
    throw wrongValue(`${title}: data_offsets must span the ${size} bytes of ${dtype} ${show(shape)}`, offsets);
  }
  return { dtype, shape, begin, end };
}

/** Checks that the tensors cover all `length` bytes, and each byte once. */
function checkLayout(tensors: Contents["tensors"], length: number): void {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, { begin, end }] of inOrder) {
    if (begin !== at) {
      const how = begin < at ? "overlaps the one before" : "leaves a hole before it";
      throw new RangeError(`tensor ${show(name)} must begin at byte ${at}, got ${begin}: it ${how}`);
    }
    at = end;
  }
  if (at !== length) throw new RangeError(`the tensors must fill the file's ${length} bytes of data, got ${at}`);
}

/** Parses the part of JSON that a header may have: objects, strings, lists of whole numbers. */
class Reader {
  #at = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  wrong(expected: string, got = show(this.#text.slice(this.#at, this.#at + 12))): RangeError {
    return new RangeError(`the header must have ${expected} at character ${this.#at}, got ${got}`);
  }

  #space(): void {
    while (" \t\n\r".includes(this.#text[this.#at] ?? "x")) this.#at++;
  }

  /** Passes over this character if it is next; returns whether it was. */
  #next(character: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #must(character: string): void {
    if (!this.#next(character)) throw this.wrong(character);
  }

  /** Calls `value` after each key, to read the key's value. */
  object(value: (key: string) => void): void {
    this.#must("{");
    if (this.#next("}")) return;
    do {
      const key = this.string();
      this.#must(":");
      value(key);
    } while (this.#next(","));
    this.#must("}");
  }

  string(): string {
    this.#space();
    const start = this.#at;
    if (this.#text[start] !== '"') throw this.wrong("a string");
    for (let end = start; ;) {
      end = this.#text.indexOf('"', end + 1);
      if (end < 0) throw this.wrong("a string that ends");
      let slashes = 0;
      while (this.#text[end - 1 - slashes] === "\\") slashes++;
      if (slashes % 2 === 1) continue; // an escaped quote
      try {
        const value = JSON.parse(this.#text.slice(start, end + 1)) as string;
        this.#at = end + 1;
        return value;
      } catch {
        throw this.wrong("a string as JSON has them");
      }
    }
  }

  wholes(): number[] {
    const list: number[] = [];
    this.#must("[");
    if (this.#next("]")) return list;
    do list.push(this.#whole());
    while (this.#next(","));
    this.#must("]");
    return list;
  }

  #whole(): number {
    this.#space();
    const [digits] = /^(?:0|[1-9]\d*)(?![\d.eE])/.exec(this.#text.slice(this.#at, this.#at + 20)) ?? [];
    if (digits === undefined || Number(digits) > Number.MAX_SAFE_INTEGER) {
      throw this.wrong(`a whole number up to ${Number.MAX_SAFE_INTEGER}`);
    }
    this.#at += digits.length;
    return Number(digits);
  }

  end(): void {
    this.#space();
    if (this.#at < this.#text.length) throw this.wrong("its end");
  }
}
