/** Where memory and addresses come from. */

import { CONTROL_ADDRESS, CONTROL_BYTES, controlOf, TOP } from "../threads/control.js";

/** A WebAssembly memory, and addresses in it to be had. */
export interface Space {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  /** How many bytes are left. */
  readonly left: number;
  /** The address of `bytes` zeroed bytes, a multiple of 64; a RangeError that changes nothing if there are not so many. */
  reserve(bytes: number, what: string): number;
}

/** Cache lines, and more than any vector needs. */
export const ALIGNMENT = 64;
export const PAGE = 65536;
/** Where the first address is to be had. */
const FIRST_ADDRESS = CONTROL_ADDRESS + CONTROL_BYTES;
/** All that 32-bit addresses reach. */
export const MAX_BYTES = 2 ** 32;

/** A memory of our own: all of its address space is reserved at once, so it never grows and no view of it goes stale. */
export function allocateSpace(title: string, maxBytes: number | undefined, shared: boolean): Space {
  return spaceIn(maxBytes === undefined ? largest(title, shared) : exactly(title, maxBytes, shared));
}

/** What is left of a memory, for whichever thread asks first. */
export function spaceIn(memory: WebAssembly.Memory): Space {
  const end = memory.buffer.byteLength;
  const control = controlOf(memory);
  Atomics.compareExchange(control, TOP, 0, FIRST_ADDRESS / ALIGNMENT);
  const top = () => Atomics.load(control, TOP);
  return {
    memory,
    shared: !(memory.buffer instanceof ArrayBuffer),
    get left() {
      return end - top() * ALIGNMENT;
    },
    reserve(bytes, what) {
      const lines = Math.ceil(bytes / ALIGNMENT);
      for (;;) {
        const next = top();
        if ((next + lines) * ALIGNMENT > end) throw outOfMemory(lines * ALIGNMENT, what, this.left, end);
        if (Atomics.compareExchange(control, TOP, next, next + lines) === next) return next * ALIGNMENT;
      }
    },
  };
}

function outOfMemory(bytes: number, what: string, left: number, end: number): RangeError {
  const remedy =
    bytes > MAX_BYTES - FIRST_ADDRESS
      ? `no arena holds as much (${MAX_BYTES} at most)`
      : end < MAX_BYTES
        ? `make the arena with a larger maxBytes (${MAX_BYTES} at most)`
        : "put some tensors in another arena";
  return new RangeError(`out of memory: ${what} takes ${bytes} bytes, ${left} of ${end} are left; ${remedy}`);
}

function exactly(title: string, bytes: number, shared: boolean): WebAssembly.Memory {
  try {
    return allocate(bytes, shared);
  } catch (cause) {
    const remedy = "ask for less with maxBytes";
    throw new RangeError(`${title}: this platform refuses ${bytes} bytes of address space; ${remedy}`, { cause });
  }
}

/** As much as the platform grants. Pages take memory only once they are written. */
function largest(title: string, shared: boolean): WebAssembly.Memory {
  for (let bytes = MAX_BYTES; bytes > MAX_BYTES / 64; bytes /= 2) {
    try {
      return allocate(bytes, shared);
    } catch {}
  }
  return exactly(title, MAX_BYTES / 64, shared);
}

function allocate(bytes: number, shared: boolean): WebAssembly.Memory {
  const pages = Math.floor(bytes / PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
}
