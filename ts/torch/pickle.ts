/**
 * The part of Python's pickle format that `torch.save` writes (protocol 2), read as data: nothing is ever called.
 * The opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */

import { show } from "../option.js";
import { stridesOf } from "./tensor.js";

/** A value in a pickle. Dictionaries are objects without a prototype; their keys are strings or numbers. */
export type Value = null | boolean | number | string | Value[] | Dict | object;
export interface Dict {
  [key: string]: Value;
}

/** The name of a Python class or function: only a name, never the thing itself. */
export class Name {
  constructor(readonly name: string) {}
}

/** Gives the names in a pickle a meaning. A RangeError for names that have none. */
export interface Resolver {
  /** The result of a call. */
  call(name: string, args: readonly Value[]): Value;
  /** The value that a persistent identity refers to. */
  persistent(id: Value): Value;
}

/** The limit on a pickle's bytes: far above any model, far below what would take noticeable time. */
const MAX_PICKLE_BYTES = 2 ** 24;

export function unpickle(bytes: Uint8Array, resolver: Resolver): Value {
  if (bytes.length > MAX_PICKLE_BYTES)
    throw new RangeError(`the pickle must have at most ${MAX_PICKLE_BYTES} bytes, got ${bytes.length}`);
  return new Unpickler(bytes, resolver).run();
}

const MARK = Symbol();
type Item = Value | typeof MARK;

class Unpickler {
  #at = 0;
  readonly #stack: Item[] = [];
  readonly #memo = new Map<number, Value>();
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #resolver: Resolver;

  constructor(bytes: Uint8Array, resolver: Resolver) {
    this.#bytes = bytes.slice(); // a copy: TextDecoder refuses shared memory
    this.#view = new DataView(this.#bytes.buffer);
    this.#resolver = resolver;
  }

  run(): Value {
    for (;;) {
      const opcode = this.#byte();
      if (opcode === 0x2e) return this.#pop(); // STOP
      this.#do(opcode);
    }
  }

  #do(opcode: number): void {
    const stack = this.#stack;
    switch (String.fromCharCode(opcode)) {
      case "\x80": // PROTO
        if (this.#byte() !== 2) throw this.#wrong("protocol 2, PyTorch's default");
        return;
      case "N":
        return this.#push(null);
      case "\x88":
        return this.#push(true);
      case "\x89":
        return this.#push(false);
      case "K":
        return this.#push(this.#byte());
      case "M":
        return this.#push(this.#view.getUint16(this.#take(2), true));
      case "J":
        return this.#push(this.#view.getInt32(this.#take(4), true));
      case "\x8a":
        return this.#push(this.#long(this.#byte()));
      case "G":
        return this.#push(this.#view.getFloat64(this.#take(8)));
      case "X":
        return this.#push(this.#text(this.#view.getUint32(this.#take(4), true)));
      case "}":
        return this.#push(Object.create(null));
      case "]":
      case ")":
        return this.#push([]);
      case "(":
        stack.push(MARK);
        return;
      case "t":
        return this.#push(this.#marked());
      case "\x85":
      case "\x86":
      case "\x87":
        return this.#push(this.#several(opcode - 0x84));
      case "a":
        return this.#append([this.#pop()]);
      case "e":
        return this.#append(this.#marked());
      case "s":
        return this.#set(this.#several(2));
      case "u":
        return this.#set(this.#marked());
      case "q":
        return void this.#memo.set(this.#byte(), this.#top());
      case "r":
        return void this.#memo.set(this.#view.getUint32(this.#take(4), true), this.#top());
      case "h":
        return this.#recall(this.#byte());
      case "j":
        return this.#recall(this.#view.getUint32(this.#take(4), true));
      case "c":
        return this.#push(new Name(`${this.#line()}.${this.#line()}`));
      case "R": {
        const [callee, args] = this.#several(2);
        if (!(callee instanceof Name) || !Array.isArray(args)) throw this.#wrong("a call of a function by its name");
        return this.#push(this.#resolver.call(callee.name, args));
      }
      case "b": // attributes, which PyTorch sets on a model's dictionary: not needed
        this.#pop();
        this.#dict(this.#top());
        return;
      case "Q":
        return this.#push(this.#resolver.persistent(this.#pop()));
      default:
        throw this.#wrong("only what torch.save writes", `opcode 0x${opcode.toString(16)}`);
    }
  }

  #wrong(expected: string, got = "something else"): RangeError {
    return new RangeError(`the pickle must have ${expected}, got ${got} at byte ${this.#at - 1}`);
  }

  /** Passes over the next bytes, and returns where they begin. */
  #take(length: number): number {
    const at = this.#at;
    this.#at += length;
    if (this.#at > this.#bytes.length) throw new RangeError(`the pickle must go on, got ${this.#bytes.length} bytes`);
    return at;
  }

  #byte(): number {
    return this.#bytes[this.#take(1)]!;
  }

  #text(length: number): string {
    const at = this.#take(length);
    return new TextDecoder().decode(this.#bytes.subarray(at, at + length));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.#wrong("a name that ends");
    const text = this.#text(end - this.#at);
    this.#at += 1;
    return text;
  }

  #long(length: number): number {
    if (length > 8) throw this.#wrong("whole numbers of at most 8 bytes", `${length}`);
    const at = this.#take(length);
    let value = 0n;
    for (let i = 0; i < length; i++) value |= BigInt(this.#bytes[at + i]!) << BigInt(8 * i);
    return Number(BigInt.asIntN(8 * length, value));
  }

  #push(value: Value): void {
    this.#stack.push(value);
  }

  #top(): Value {
    const item = this.#stack.at(-1);
    if (item === undefined || item === MARK) throw this.#wrong("something on its stack");
    return item as Value;
  }

  #pop(): Value {
    const item = this.#top();
    this.#stack.length -= 1;
    return item;
  }

  #several(count: number): Value[] {
    return Array.from({ length: count }, () => this.#pop()).reverse();
  }

  /** Removes and returns everything after the last mark. */
  #marked(): Value[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at < 0) throw this.#wrong("a mark on its stack");
    const [, ...items] = this.#stack.splice(at);
    return items as Value[];
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#wrong("what it remembers", `number ${index}`);
    this.#push(value);
  }

  #append(items: readonly Value[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw this.#wrong("a list to append to");
    for (const item of items) list.push(item);
  }

  #set(items: readonly Value[]): void {
    const dict = this.#dict(this.#top());
    for (let i = 0; i + 1 < items.length; i += 2) {
      const key = items[i];
      if (typeof key !== "string" && typeof key !== "number") throw this.#wrong("keys of text or numbers", show(key));
      dict[key] = items[i + 1]!;
    }
  }

  #dict(value: Value): Dict {
    if (isDict(value)) return value;
    throw this.#wrong("a dictionary to write to");
  }
}

/** Whether this is a dictionary: from a pickle, or a plain object. */
export const isDict = (value: unknown): value is Dict =>
  typeof value === "object" && value !== null && [null, Object.prototype].includes(Object.getPrototypeOf(value));

/** A tensor to write: its storage's key, and its shape. */
export class Stored {
  constructor(
    readonly key: string,
    readonly shape: readonly number[],
  ) {}
}

/** A tuple, where Python distinguishes it from a list. */
export class Tuple {
  constructor(readonly items: readonly Writable[]) {}
}

/** A value that `pickle` can write. */
export type Writable =
  null | boolean | number | string | readonly Writable[] | ReadonlyMap<string | number, Writable> | Tuple | Stored;

/** Writes a pickle for `torch.load(weights_only=True)`. Whole numbers become ints, which PyTorch accepts as floats. */
export function pickle(value: Writable): Uint8Array {
  const parts: number[] = [0x80, 2];
  write(value, parts);
  parts.push(0x2e);
  return Uint8Array.from(parts);
}

const code = (character: string) => character.charCodeAt(0);

function write(value: Writable, out: number[]): void {
  const op = (character: string) => void out.push(code(character));
  const bytes = (length: number, set: (view: DataView) => void) => {
    const view = new DataView(new ArrayBuffer(length));
    set(view);
    out.push(...new Uint8Array(view.buffer));
  };
  const name = (module: string, name: string) => out.push(code("c"), ...encode(`${module}\n${name}\n`));
  if (value === null) op("N");
  else if (typeof value === "boolean") out.push(value ? 0x88 : 0x89);
  else if (typeof value === "string") {
    const text = encode(value);
    op("X");
    bytes(4, (view) => view.setUint32(0, text.length, true));
    for (const byte of text) out.push(byte);
  } else if (typeof value === "number") {
    const whole = Number.isInteger(value) && Math.abs(value) < 2 ** 31 && !Object.is(value, -0);
    op(whole ? "J" : "G");
    if (whole) bytes(4, (view) => view.setInt32(0, value, true));
    else bytes(8, (view) => view.setFloat64(0, value));
  } else if (value instanceof Tuple) {
    op("(");
    for (const item of value.items) write(item, out);
    op("t");
  } else if (value instanceof Stored) {
    const { key, shape } = value;
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    name("torch._utils", "_rebuild_tensor_v2");
    op("(");
    op("(");
    write("storage", out);
    name("torch", "FloatStorage");
    for (const item of [key, "cpu", size]) write(item, out);
    op("t");
    op("Q");
    write(0, out);
    write(new Tuple(shape), out);
    write(new Tuple(stridesOf(shape)), out);
    write(false, out);
    name("collections", "OrderedDict");
    for (const character of [")", "R", "t", "R"]) op(character);
  } else if (value instanceof Map) {
    op("}");
    op("(");
    for (const [key, item] of value) {
      write(key, out);
      write(item, out);
    }
    op("u");
  } else {
    op("]");
    op("(");
    for (const item of value as readonly Writable[]) write(item, out);
    op("e");
  }
}

const encode = (text: string) => new TextEncoder().encode(text);
