/** Where memory and addresses come from. */

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
export const PAGE = 65536;
/** Below this stands what the kernels' binary may bring along. */
const FLOOR = 1024;
/** All that 32-bit addresses reach. */
export const LIMIT = 2 ** 32;

/** A memory of our own: all of its address space is reserved at once, so it never grows and no view of it goes stale. */
export function ownSpace(title: string, maxBytes: number | undefined, shared: boolean): Space {
  const memory = maxBytes === undefined ? largest(title, shared) : exactly(title, maxBytes, shared);
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
        const remedy =
          rounded > LIMIT - FLOOR
            ? `no arena holds as much (${LIMIT} at most)`
            : end < LIMIT
              ? `make the arena with a larger maxBytes (${LIMIT} at most)`
              : "put some tensors in another arena";
        throw new RangeError(
          `out of memory: ${what} takes ${rounded} bytes, ${this.left} of ${end} are left; ${remedy}`,
        );
      }
      next += rounded;
      return next - rounded;
    },
  };
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
  for (let bytes = LIMIT; bytes > LIMIT / 64; bytes /= 2) {
    try {
      return allocate(bytes, shared);
    } catch {}
  }
  return exactly(title, LIMIT / 64, shared);
}

function allocate(bytes: number, shared: boolean): WebAssembly.Memory {
  const pages = Math.floor(bytes / PAGE);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared });
}
