/**
 * The kernels. Each is a WebAssembly module of its own. The code that needs a kernel carries it as text. The kernel's
 * bytes are written to the arena's memory, and their address is its name in all threads. A thread compiles a kernel
 * when it first meets the address.
 */

import { add_squares } from "../kernels/vector.js";
import { classOf } from "../option.js";
import { EMPTY_MODULE } from "../platform.js";
import { alphabet, sources } from "./facts.js";

/** A kernel as text: its name, a space, and its module. */
export type Kernel = string;

/** Updates the elements `begin..end` of the segment at an address, or writes their sums. */
export type Run = (hyper: number, segment: number, begin: number, end: number, sums?: number) => void;

/** The source of an arena's kernels, from which another thread makes the same ones. */
export interface Code {
  readonly memory: WebAssembly.Memory;
  /**
   * A module with all kernels, for platforms that do not compile bytes. Then a kernel's bytes in memory are its name.
   */
  readonly module?: WebAssembly.Module;
}

/** The kernels of an arena, in this thread. */
export class Kernels {
  readonly #memory: WebAssembly.Memory;
  readonly #all: WebAssembly.Exports | undefined;
  readonly #runs = new Map<number, Run>();

  /** @throws an Error if the module is for another kind of memory, or no code may be compiled here. */
  constructor({ memory, module }: Code) {
    this.#memory = memory;
    if (module) this.#all = instantiate(module, memory);
    else new WebAssembly.Module(EMPTY_MODULE); // throws where a policy forbids it
  }

  /** The kernel whose bytes are at an address. */
  at(address: number): Run {
    const found = this.#runs.get(address);
    if (found) return found;
    const { buffer } = this.#memory;
    const bytes = new Uint8Array(buffer, address + 4, new Uint32Array(buffer, address, 1)[0]!).slice();
    const exports = this.#all ?? instantiate(new WebAssembly.Module(bytes), this.#memory);
    const run = (this.#all ? exports[String.fromCharCode(...bytes)] : Object.values(exports)[0]) as Run;
    this.#runs.set(address, run);
    return run;
  }
}

/** The memory of a kernel, as `Kernels.at` reads it: the number of bytes, then the bytes. */
export function encode(kernel: Kernel, shared: boolean, named: boolean): Uint8Array {
  const bytes = named ? codes(kernel.split(" ")[0]!) : forMemory(decode(kernel), shared);
  const encoded = new Uint8Array(4 + bytes.length);
  new DataView(encoded.buffer).setUint32(0, bytes.length, true);
  encoded.set(bytes, 4);
  return encoded;
}

/** The bytes of a module for an unshared or a shared memory. They differ in one flag of the memory's import. */
export function forMemory(module: Uint8Array<ArrayBuffer>, shared: boolean): Uint8Array<ArrayBuffer> {
  // In the import section, the name "memory" is followed by the kind (2: a memory) and the flags (1: it has a maximum, 2: it is shared).
  const import_ = [...codes("memory"), 2];
  const at = module.findIndex((_, start) => import_.every((byte, offset) => module[start + offset] === byte));
  if (at >= 0) module[at + import_.length] = shared ? 3 : 1;
  return module;
}

/** @throws an Error if there is no WebAssembly. */
export function checkAvailable(title: string): void {
  if (typeof WebAssembly !== "undefined") return;
  throw new Error(
    `${title}: WebAssembly is not available here; start Node without --jitless, or allow it in the browser`,
  );
}

/**
 * The module with all kernels, if one is given.
 * @param given the module, compiled for unshared memory, or its bytes
 * @throws an Error if WebAssembly does not compile here; a TypeError if the module is not the package's.
 */
export function moduleFor(title: string, shared: boolean, given?: Whole): WebAssembly.Module | undefined {
  checkAvailable(title);
  const compile = (bytes: Uint8Array<ArrayBuffer>) => new WebAssembly.Module(forMemory(bytes, shared));
  let module: WebAssembly.Module | undefined;
  try {
    if (given === undefined) compile(decode(add_squares));
    else module = isModule(given) ? given : compile(copyOf(given));
  } catch (cause) {
    throw new Error(
      `${title}: WebAssembly does not compile here (${(cause as Error).message}); it requires WebAssembly SIMD (Node 20.19, Chrome 93, Firefox 92, ` +
        "Safari 16.4, or newer). A content security policy must allow 'wasm-unsafe-eval'. In Cloudflare Workers or an edge runtime, import " +
        "downhill/kernels.wasm and pass it as the option module",
      { cause },
    );
  }
  if (module === undefined) return undefined;
  const [section = new ArrayBuffer()] = WebAssembly.Module.customSections(module, "downhill");
  if (String.fromCharCode(...new Uint8Array(section)) !== sources) {
    throw new TypeError(
      `${title}: module must be the kernels.wasm of this version of the package; import downhill/kernels.wasm`,
    );
  }
  return module;
}

/** All kernels in one: a module, or its bytes. */
export type Whole = WebAssembly.Module | BufferSource;

/** Whether a value is a compiled module, of any realm. */
export const isModule = (value: unknown): value is WebAssembly.Module => classOf(value) === "WebAssembly.Module";

const copyOf = (source: BufferSource) =>
  ArrayBuffer.isView(source)
    ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength).slice()
    : new Uint8Array(source.slice(0));

const codes = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));

/** The module of a kernel. */
function decode(kernel: Kernel): Uint8Array<ArrayBuffer> {
  const [, text = ""] = kernel.split(" ");
  const { length } = alphabet;
  const bytes: number[] = [];
  for (let i = 0; i < text.length; i++) {
    const place = alphabet.indexOf(text[i]!);
    const more = place - (length - 2);
    bytes.push(more < 0 ? place : length - 2 + more * length + alphabet.indexOf(text[++i]!));
  }
  return Uint8Array.from(bytes);
}

/** wasm-bindgen chose the name of the import. */
const instantiate = (module: WebAssembly.Module, memory: WebAssembly.Memory) =>
  new WebAssembly.Instance(module, { "./downhill_bg.js": { memory } }).exports;
