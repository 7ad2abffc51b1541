/** The safetensors format: https://huggingface.co/docs/safetensors. What is read is believed only once it is checked. */

import { show } from "../option.js";
import type { Shape } from "../arena/tensor.js";

/** A tensor in a file, and where its bytes are among those behind the header. */
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

/** Bytes of a header, and tensors: far more than any model has, far less than would hurt. */
const LONGEST_HEADER = 2 ** 24;
const MOST_TENSORS = 2 ** 16;
/** As many as NumPy has. */
export const MOST_DIMENSIONS = 64;
const LENGTH_BYTES = 8;
const METADATA = "__metadata__";

/** Bytes of an element. */
export const SIZES: Readonly<Record<string, number>> = {
  ...{ F64: 8, I64: 8, U64: 8, F32: 4, I32: 4, U32: 4, F16: 2, BF16: 2, I16: 2, U16: 2, I8: 1, U8: 1, BOOL: 1 },
  ...{ F8_E5M2: 1, F8_E4M3: 1 },
};

/** The file's header, with its length before it; the tensors' bytes follow in order. A RangeError for names that it cannot hold. */
export function encodeHeader(title: string, { metadata, tensors }: Contents): Uint8Array<ArrayBuffer> {
  // Entry by entry, as objects put names that are whole numbers first.
  const header: string[] = [];
  const add = (name: string, value: unknown) => header.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
  add(METADATA, Object.fromEntries(metadata));
  if (tensors.size > MOST_TENSORS) throw tooMany();
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    const wrong = wrongName(name);
    if (wrong) throw new RangeError(`${title}: a tensor's name must be writable, got ${show(name)}, which ${wrong}`);
    add(name, { dtype, shape, data_offsets: [begin, end] });
  }
  const text = new TextEncoder().encode(`{${header.join(",")}}`);
  const length = Math.ceil(text.length / LENGTH_BYTES) * LENGTH_BYTES; // so that what follows is aligned
  if (length > LONGEST_HEADER) throw tooLong(length);
  const encoded = new Uint8Array(LENGTH_BYTES + length).fill(0x20, LENGTH_BYTES);
  new DataView(encoded.buffer).setUint32(0, length, true);
  encoded.set(text, LENGTH_BYTES);
  return encoded;
}

/** How long the header is, its length included; a RangeError if that cannot be. */
export function headerEnd(bytes: Uint8Array): number {
  if (bytes.length < LENGTH_BYTES) {
    throw new RangeError(`the file must have at least ${LENGTH_BYTES} bytes, got ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, LENGTH_BYTES);
  const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
  if (length > LONGEST_HEADER) throw tooLong(length);
  if (LENGTH_BYTES + length > bytes.length) {
    throw new RangeError(`the file must hold its header of ${length} bytes, got ${bytes.length} bytes in all`);
  }
  return LENGTH_BYTES + length;
}

const tooMany = () => new RangeError(`a file must have at most ${MOST_TENSORS} tensors, got more`);
const tooLong = (length: number) =>
  new RangeError(`the header must have at most ${LONGEST_HEADER} bytes, got ${length}`);

/**
 * What a file holds, from the byte `start` on.
 * A RangeError for anything that the format does not allow: other JSON than its own, names or keys that are there twice,
 * sizes that do not fit the shape, bytes that belong to no tensor or to two.
 */
export function decode(file: Uint8Array): Contents & { readonly start: number } {
  const start = headerEnd(file);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(file.slice(LENGTH_BYTES, start));
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
        if (metadata.has(key)) throw new RangeError(`${METADATA} must have each key once, got ${show(key)} twice`);
        metadata.set(key, reader.string());
      });
      return;
    }
    const wrong = wrongName(name);
    if (wrong) throw new RangeError(`a tensor's name must be usable, got ${show(name)}, which ${wrong}`);
    if (tensors.has(name)) throw new RangeError(`each tensor must be there once, got ${show(name)} twice`);
    if (tensors.size === MOST_TENSORS) throw tooMany();
    tensors.set(name, readEntry(reader, name));
  });
  reader.end();
  checkLayout(tensors, file.length - start);
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
    else throw new RangeError(`${title} must have dtype, shape and data_offsets once each, got ${show(key)}`);
  });
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    throw new RangeError(`${title} must have dtype, shape and data_offsets, got not all of them`);
  }
  if (!Object.hasOwn(SIZES, dtype)) {
    throw new RangeError(`${title}: dtype must be one of ${Object.keys(SIZES).join(", ")}, got ${show(dtype)}`);
  }
  if (shape.length > MOST_DIMENSIONS) {
    throw new RangeError(`${title}: shape must have at most ${MOST_DIMENSIONS} dimensions, got ${shape.length}`);
  }
  const [begin, end] = offsets;
  if (begin === undefined || end === undefined || offsets.length !== 2) {
    throw new RangeError(`${title}: data_offsets must be two, got ${offsets.length}`);
  }
  const size = shape.reduce((product, dimension) => product * dimension, SIZES[dtype]!);
  if (end - begin !== size) {
    throw new RangeError(
      `${title}: data_offsets must span the ${size} bytes of ${dtype} ${show(shape)}, got ${show(offsets)}`,
    );
  }
  return { dtype, shape, begin, end };
}

/** Holds tensors to covering all `length` bytes, each byte once. */
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

/** What makes a name unfit to stand in a file, in messages, or in an object. */
function wrongName(name: string): string | undefined {
  if (name === METADATA || name === "__proto__") return "is reserved";
  if (/[\u0000-\u001f\u007f]/.test(name)) return "has control characters";
  return /\p{Surrogate}/u.test(name) ? "is no Unicode text" : undefined;
}

/** Reads the little of JSON that a header may be: objects, strings, lists of whole numbers. */
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

  /** Whether this character is next; it is passed over. */
  #next(character: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    return true;
  }

  #must(character: string): void {
    if (!this.#next(character)) throw this.wrong(character);
  }

  /** Calls `value` for each key, behind which it reads the value. */
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
