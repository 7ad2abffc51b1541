/**
 * Reads Python's pickle format as data: nothing is ever called.
 * The opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
 */

import { show } from "../option.js";
import { textDecoder } from "../platform.js";
import type { FileTensor } from "./tensor.js";

/**
 * A value in a file. Dictionaries are objects without a prototype, whose keys are text; tuples are lists; whole numbers
 * beyond 2^53 are bigints. What has no counterpart here is `Opaque`.
 */
export type Value =
  null | boolean | number | bigint | string | Value[] | Dict | Set<Value> | Uint8Array | FileTensor | Opaque;
export interface Dict {
  [key: string]: Value;
}

/** A Python value that has no counterpart here, such as a date. Only its type is known. */
export class Opaque {
  /** The name of its class or function in Python. */
  readonly type: string;

  /** @internal */
  constructor(type: string) {
    this.type = type.length > 100 ? `${type.slice(0, 100)}…` : type;
  }
}

/** The name of a Python class or function: only a name, never the thing itself. */
export class GlobalName extends Opaque {}

/** Evaluates calls and persistent identities in a pickle. */
export interface Resolver {
  /**
   * The result of a call, or undefined if it is not known. It takes time in proportion to the arguments, to a depth of
   * `READ_DEPTH`.
   * @throws a RangeError for arguments that are wrong.
   */
  call(name: string, args: readonly Value[]): Value | undefined;
  /** The value that a persistent identity refers to: in PyTorch's files, a storage. */
  persistent(id: Value): Value;
}

/** Whether this is a dictionary: from a pickle, or a plain object of any realm. */
export function isDict(value: unknown): value is Dict {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || (Object.getPrototypeOf(prototype) === null && !(Symbol.iterator in value));
}

/** A dictionary. */
export const newDict = (): Dict => Object.setPrototypeOf({}, null) as Dict;

/** The limit on a pickle's bytes: far above any model, far below what would take noticeable time. */
export const MAX_PICKLE_BYTES = 2 ** 24;

/** The memory that values may take: `MEMORY_FACTOR` times the bytes of the pickle, and `MEMORY_BASE` bytes. */
const MEMORY_FACTOR = 24;
const MEMORY_BASE = 2 ** 22;

/**
 * The depth to which a call reads its arguments: a list of arguments, a list of pairs in it, and the pairs. What it reads
 * counts as if it were copied, because many calls can have one large argument.
 */
const READ_DEPTH = 3;

/** The approximate number of bytes of values in JavaScript engines. */
const COST = { dict: 56, entry: 24, list: 32, item: 8, set: 160, object: 48, memo: 32, call: 64, storage: 128 };

/**
 * Reads a pickle.
 * @param at the byte at which it begins. Default: 0
 * @returns its value, and the byte at which it ends
 * @throws a RangeError for a damaged pickle, and for one that would take far more memory than its size.
 */
export function unpickle(
  bytes: Uint8Array,
  resolver: Resolver,
  at = 0,
): { readonly value: Value; readonly end: number } {
  return new Unpickler(bytes.slice(at, at + MAX_PICKLE_BYTES + 1), resolver, at).run(); // a copy: TextDecoder refuses shared memory
}

const NO_ITEMS: Value[] = Object.freeze([]) as unknown as Value[];
const decoder = textDecoder();

class Unpickler {
  #at = 0;
  #memory: number;
  readonly #stack: Value[] = [];
  /** The heights of the stack at the marks. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, Value>();
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #resolver: Resolver;
  readonly #start: number;

  constructor(bytes: Uint8Array, resolver: Resolver, start: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
    this.#resolver = resolver;
    this.#start = start;
    this.#memory = MEMORY_BASE + MEMORY_FACTOR * bytes.length;
  }

  run(): { value: Value; end: number } {
    for (;;) {
      const opcode = this.#byte();
      if (opcode === 0x2e) return { value: this.#pop(), end: this.#start + this.#at }; // STOP
      this.#do(opcode);
    }
  }

  #do(opcode: number): void {
    const stack = this.#stack;
    switch (String.fromCharCode(opcode)) {
      case "\x80": // PROTO
        if (this.#byte() > 5) throw this.#wrong("a protocol of at most 5", `${this.#bytes[this.#at - 1]}`);
        return;
      case "\x95": // FRAME
        return void this.#take(8);
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
      case "\x8b":
        return this.#push(this.#long(this.#view.getUint32(this.#take(4), true)));
      case "G":
        return this.#push(this.#view.getFloat64(this.#take(8)));
      case "X":
        return this.#push(this.#text(this.#view.getUint32(this.#take(4), true)));
      case "\x8c":
        return this.#push(this.#text(this.#byte()));
      case "\x8d":
        return this.#push(this.#text(this.#length8()));
      case "U": // text of Python 2
        return this.#push(this.#text(this.#byte()));
      case "T":
        return this.#push(this.#text(this.#view.getUint32(this.#take(4), true)));
      case "C":
        return this.#push(this.#copy(this.#byte()));
      case "B":
        return this.#push(this.#copy(this.#view.getUint32(this.#take(4), true)));
      case "\x8e":
      case "\x96":
        return this.#push(this.#copy(this.#length8()));
      case "}":
        this.#charge(COST.dict);
        return this.#push(newDict());
      case "\x8f":
        this.#charge(COST.set);
        return this.#push(new Set<Value>());
      case "]":
        this.#charge(COST.list);
        return this.#push([]);
      case ")":
        return this.#push(NO_ITEMS);
      case "(":
        return void this.#marks.push(stack.length);
      case "t":
        return this.#push(this.#marked());
      case "\x85":
      case "\x86":
      case "\x87":
        this.#charge(COST.list);
        return this.#push(this.#several(opcode - 0x84));
      case "\x91": // FROZENSET
        this.#charge(COST.set);
        return this.#push(new Set(this.#marked()));
      case "a":
        return this.#append([this.#pop()]);
      case "e":
        return this.#append(this.#marked());
      case "\x90":
        return this.#add(this.#marked());
      case "s":
        return this.#set(this.#several(2));
      case "u":
        return this.#set(this.#marked());
      case "0":
        return void this.#pop();
      case "q":
        return void this.#memo.set(this.#byte(), this.#top());
      case "r":
        return void this.#memo.set(this.#view.getUint32(this.#take(4), true), this.#top());
      case "\x94":
        this.#charge(COST.memo);
        return void this.#memo.set(this.#memo.size, this.#top());
      case "h":
        return this.#recall(this.#byte());
      case "j":
        return this.#recall(this.#view.getUint32(this.#take(4), true));
      case "c":
        return this.#name(this.#line(), this.#line());
      case "\x93": {
        const [module, name] = this.#several(2);
        if (typeof module !== "string" || typeof name !== "string") throw this.#wrong("names of text");
        return this.#name(module, name);
      }
      case "R": {
        const [callee, args] = this.#several(2);
        return this.#call(callee!, args!);
      }
      case "\x81": {
        const [type, args] = this.#several(2);
        return this.#call(type!, args!);
      }
      case "\x92": {
        const [type] = this.#several(3);
        return this.#opaque(type!);
      }
      case "b": // attributes, which PyTorch sets on a model's dictionary: not needed
        this.#pop();
        if (isDict(this.#top()) || this.#top() instanceof Opaque || this.#top() instanceof Set) return;
        throw this.#wrong("a dictionary or an object to write to", show(this.#top()));
      case "Q":
        this.#charge(COST.storage);
        return this.#push(this.#resolver.persistent(this.#pop()));
      default:
        throw this.#wrong("only what torch.save writes", `opcode 0x${opcode.toString(16)}`);
    }
  }

  #wrong(expected: string, got = "something else"): RangeError {
    return new RangeError(`the pickle must have ${expected}, got ${got} at byte ${this.#start + this.#at - 1}`);
  }

  /** Counts the memory of values. */
  #charge(bytes: number): void {
    this.#memory -= bytes;
    if (this.#memory < 0) {
      throw new RangeError(
        `the pickle must hold values of at most ${MEMORY_FACTOR} times its size, got more by byte ${this.#start + this.#at}`,
      );
    }
  }

  /** Passes over the next bytes, and returns where they begin. */
  #take(length: number): number {
    const at = this.#at;
    this.#at += length;
    if (this.#at <= this.#bytes.length) return at;
    if (this.#bytes.length > MAX_PICKLE_BYTES) {
      throw new RangeError(`the pickle must have at most ${MAX_PICKLE_BYTES} bytes, got more`);
    }
    throw new RangeError(`the pickle must be complete, got ${this.#start + this.#bytes.length} bytes`);
  }

  #byte(): number {
    return this.#bytes[this.#take(1)]!;
  }

  /** A length of 8 bytes. */
  #length8(): number {
    return Number(this.#view.getBigUint64(this.#take(8), true));
  }

  #text(length: number): string {
    const at = this.#take(length);
    return decoder.decode(this.#bytes.subarray(at, at + length));
  }

  #copy(length: number): Uint8Array {
    this.#charge(COST.object + length);
    const at = this.#take(length);
    return this.#bytes.slice(at, at + length);
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw this.#wrong("a name that ends");
    const text = this.#text(end - this.#at);
    this.#at += 1;
    return text;
  }

  /** A whole number of so many bytes, in two's complement. */
  #long(length: number): number | bigint | Opaque {
    const at = this.#take(length);
    if (length > MAX_LONG_BYTES) return new Opaque(`an int of ${length} bytes`);
    let value = 0n;
    for (let i = 0; i < length; i++) value |= BigInt(this.#bytes[at + i]!) << BigInt(8 * i);
    const signed = BigInt.asIntN(8 * length, value);
    this.#charge(length);
    return Number.isSafeInteger(Number(signed)) ? Number(signed) : signed;
  }

  #push(value: Value): void {
    this.#stack.push(value);
  }

  #name(module: string, name: string): void {
    this.#charge(COST.object);
    this.#push(new GlobalName(`${module}.${name}`));
  }

  #call(callee: Value, args: Value): void {
    if (!(callee instanceof Opaque) || !Array.isArray(args)) throw this.#wrong("a call of a function by its name");
    this.#charge(COST.call);
    this.#chargeRead(args, READ_DEPTH);
    const result = callee instanceof GlobalName ? this.#resolver.call(callee.type, args) : undefined;
    if (result === undefined) return this.#opaque(callee);
    if (isDict(result)) this.#charge(COST.dict + COST.entry * Object.keys(result).length);
    else if (Array.isArray(result)) this.#charge(COST.list + COST.item * result.length);
    else if (result instanceof Set) this.#charge(COST.set + COST.entry * result.size);
    else if (result instanceof Uint8Array) this.#charge(result.length);
    else if (asShaped(result)) this.#charge(2 * COST.item * result.shape.length);
    this.#push(result);
  }

  /** Counts a value that a call reads. */
  #chargeRead(value: Value, depth: number): void {
    if (typeof value === "string" || value instanceof Uint8Array) this.#charge(value.length);
    else if (Array.isArray(value)) {
      this.#charge(COST.item * value.length);
      if (depth > 0) for (const item of value) this.#chargeRead(item, depth - 1);
    } else if (isDict(value)) this.#charge(COST.item * Object.keys(value).length);
  }

  #opaque(type: Value): void {
    if (!(type instanceof Opaque)) throw this.#wrong("an object of a class by its name");
    this.#charge(COST.object);
    this.#push(new Opaque(type.type));
  }

  #top(): Value {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) throw this.#wrong("something on its stack");
    return this.#stack.at(-1)!;
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
    const at = this.#marks.pop();
    if (at === undefined) throw this.#wrong("a mark on its stack");
    this.#charge(COST.list + COST.item * (this.#stack.length - at));
    return this.#stack.splice(at);
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) throw this.#wrong("a known memo index", `index ${index}`);
    this.#push(value);
  }

  #append(items: readonly Value[]): void {
    const list = this.#top();
    if (list instanceof Opaque) return;
    if (!Array.isArray(list) || list === NO_ITEMS) throw this.#wrong("a list to append to");
    this.#charge(COST.item * items.length);
    for (const item of items) list.push(item);
  }

  #add(items: readonly Value[]): void {
    const set = this.#top();
    if (set instanceof Opaque) return;
    if (!(set instanceof Set)) throw this.#wrong("a set to add to");
    this.#charge(COST.entry * items.length);
    for (const item of items) set.add(item);
  }

  #set(items: readonly Value[]): void {
    const dict = this.#top();
    if (dict instanceof Opaque) return;
    if (!isDict(dict)) throw this.#wrong("a dictionary to write to");
    this.#charge(COST.entry * items.length);
    for (let i = 0; i + 1 < items.length; i += 2) {
      const key = keyText(items[i]!);
      // In Python the keys 1 and "1" differ. If a dictionary has both, the value of this text is `Opaque`.
      dict[key] = Object.hasOwn(dict, key) ? new Opaque(`two values under the key ${show(key)}`) : items[i + 1]!;
    }
  }
}

const asShaped = (value: object | Value): value is FileTensor =>
  typeof value === "object" && value !== null && "shape" in value;

/** The largest size of a whole number in bytes. The time of BigInt arithmetic is quadratic in the size. */
const MAX_LONG_BYTES = 255;

/** Converts a key to text. Numbers and text stay as they are. Other keys are written approximately as in Python. */
function keyText(key: Value): string {
  if (typeof key === "string") return key;
  if (typeof key === "number" || typeof key === "bigint") return `${key}`;
  if (key === null) return "None";
  if (typeof key === "boolean") return key ? "True" : "False";
  if (Array.isArray(key)) return `(${show(key).slice(1, -1)})`;
  return `<${key instanceof Opaque ? key.type : "object"}>`;
}
