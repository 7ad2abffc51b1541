/** The kernels: the WebAssembly module, compiled and instantiated with a memory. */

import { alphabet, binary } from "./binary.js";

/** Updates the elements `begin..end` of the segment at an address, or writes their sums. */
type Kernel = (hyper: number, segment: number, begin: number, end: number, sums?: number) => void;
/** The kernels by name, in the order of the module's exports, which is the same in every thread. */
export type Kernels = Readonly<Record<string, Kernel>>;

/** The module and the memory, from which another thread makes the same kernels. */
export interface Binary {
  readonly memory: WebAssembly.Memory;
  readonly module: WebAssembly.Module;
}

/** The bytes of the module for an unshared or a shared memory. They differ in one flag of the memory's import. */
export function bytes(shared: boolean): Uint8Array<ArrayBuffer> {
  const module = decode(binary);
  // In the import section, the name "memory" is followed by the kind (2: a memory) and the flags (1: it has a maximum, 2: it is shared).
  const name = [...new TextEncoder().encode("memory"), 2, 1];
  const at = module.findIndex((_, start) => name.every((byte, offset) => module[start + offset] === byte));
  if (shared) module[at + name.length - 1] = 3;
  return module;
}

function decode(text: string): Uint8Array<ArrayBuffer> {
  const { length } = alphabet;
  const bytes = new Uint8Array(text.length);
  let at = 0;
  for (let i = 0; i < text.length; i++) {
    const place = alphabet.indexOf(text[i]!);
    const more = place - (length - 2);
    bytes[at++] = more < 0 ? place : length - 2 + more * length + alphabet.indexOf(text[++i]!);
  }
  return bytes.slice(0, at);
}

/** Compiles the module off the main thread. */
export function compile(shared: boolean): Promise<WebAssembly.Module> {
  return WebAssembly.compile(bytes(shared)).catch(explain);
}

/** Compiles the module in this thread. */
export function compileSync(shared: boolean): WebAssembly.Module {
  try {
    return new WebAssembly.Module(bytes(shared));
  } catch (cause) {
    explain(cause);
  }
}

export async function instantiate({ memory, module }: Binary): Promise<Kernels> {
  return (await WebAssembly.instantiate(module, imports(memory))).exports as Kernels;
}

export function instantiateSync({ memory, module }: Binary): Kernels {
  return new WebAssembly.Instance(module, imports(memory)).exports as Kernels;
}

/** The imports of the module. wasm-bindgen chose the name. */
const imports = (memory: WebAssembly.Memory) => ({ "./downhill_bg.js": { memory } });

function explain(cause: unknown): never {
  throw new Error(
    "downhill: its WebAssembly does not compile here; it needs SIMD (Node 16.4, Chrome 91, Firefox 89, Safari 16.4), " +
      "under a content security policy 'wasm-unsafe-eval', and before Chrome 114 createArena() in place of createArenaSync()",
    { cause },
  );
}
