/** The binary: decoded and compiled once, instantiated once for each memory. */

import { binary } from "./binary.js";

/** Updates the elements `begin..end` of the job at an address, by the hyper-parameters at another. */
export type Kernel = (hyper: number, job: number, begin: number, end: number) => void;
export type Kernels = Readonly<Record<string, Kernel>>;

/** The module for an unshared or a shared memory. They differ in one flag of the memory's import. */
export function bytes(shared: boolean): Uint8Array<ArrayBuffer> {
  const module = Uint8Array.from(atob(binary), (character) => character.charCodeAt(0));
  // In the import section, after the name "memory": the kind (2, a memory), then flags (1: it has a maximum).
  const name = [...new TextEncoder().encode("memory"), 2, 1];
  const at = module.findIndex((_, start) => name.every((byte, offset) => module[start + offset] === byte));
  if (shared) module[at + name.length - 1] = 3;
  return module;
}

const compiled: { [shared: string]: WebAssembly.Module } = {};

export async function compile(shared: boolean): Promise<WebAssembly.Module> {
  compiled[`${shared}`] ??= await WebAssembly.compile(bytes(shared)).catch(explain);
  return compiled[`${shared}`] as WebAssembly.Module;
}

export function compileSync(shared: boolean): WebAssembly.Module {
  try {
    compiled[`${shared}`] ??= new WebAssembly.Module(bytes(shared));
  } catch (cause) {
    explain(cause);
  }
  return compiled[`${shared}`] as WebAssembly.Module;
}

function explain(cause: unknown): never {
  throw new Error(
    "downhill: its WebAssembly does not compile here; it needs SIMD (Node 16.4, Chrome 91, Firefox 89, Safari 16.4) " +
      "and, under a content security policy, 'wasm-unsafe-eval'",
    { cause },
  );
}

export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const imports = Object.fromEntries(WebAssembly.Module.imports(module).map((entry) => [entry.module, { memory }]));
  return new WebAssembly.Instance(module, imports).exports as Kernels;
}
