/** Where memory and addresses come from. */

import { show } from "./option.js";

/** A WebAssembly memory, and addresses in it to be had. */
export interface Space {
  readonly memory: WebAssembly.Memory;
  /** How many bytes are left. */
  readonly left: number;
  /** The address of `bytes` zeroed bytes, a multiple of 64; a RangeError that changes nothing if there are not so many. */
  reserve(bytes: number, what: string): number;
}

/** Cache lines, and more than any vector needs. */
export const ALIGNMENT = 64;
const PAGE = 65536;
/** Below this stands what the kernels' binary may bring along. */
const FLOOR = 1024;
/** All that 32-bit addresses reach. */
const LIMIT = 2 ** 32;

/** A memory of our own: all of its address space is reserved at once, so it never grows and no view of it goes stale. */
export function ownSpace(maxBytes: number | undefined, shared: boolean): Space {
  const memory = maxBytes === undefined ? largest(shared) : exactly(maxBytes, shared);
  const end = memory.buffer.byteLength;
  let next = FLOOR;
  return {
    memory,
    get left() {
      return end - next;
    },
    reserve(bytes, what) {
      const rounded = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
      if (next + rounded > end) {
        throw new RangeError(
          `out of memory: ${what} takes ${rounded} bytes, ${this.left} of ${end} are left; ` +
            (end < LIMIT
              ? `make the arena with a larger maxBytes (${LIMIT} at most)`
              : "put some tensors in another arena"),
        );
      }
      next += rounded;
      return next - rounded;
    },
  };
}

function exactly(bytes: number, shared: boolean): WebAssembly.Memory {
  if (typeof bytes !== "number") throw new TypeError(`createArena: maxBytes must be a number, got ${show(bytes)}`);
  if (!(Number.isInteger(bytes) && bytes >= PAGE && bytes <= LIMIT)) {
    throw new RangeError(`createArena: maxBytes must be a whole number in [${PAGE}, ${LIMIT}], got ${bytes}`);
  }
  try {
    return allocate(bytes, shared);
  } catch (cause) {
    throw new RangeError(
      `createArena: this platform refuses ${bytes} bytes of address space; ask for less with maxBytes`,
      { cause },
    );
  }
}

/** As much as the platform grants. Pages take memory only once they are written. */
function largest(shared: boolean): WebAssembly.Memory {
  for (let bytes = LIMIT; bytes > LIMIT / 64; bytes /= 2) {
    try {
      return allocate(bytes, shared);
    } catch {}
  }
  return exactly(LIMIT / 64, shared);
}

function allocate(bytes: number, shared: boolean): WebAssembly.Memory {
  const pages = Math.floor(bytes / PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
}
