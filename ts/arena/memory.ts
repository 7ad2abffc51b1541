/** WebAssembly memory, and the allocation of addresses in it. */

import { classOf } from "../option.js";
import { checkAvailable } from "../wasm/kernels.js";
import { nextTurn } from "../time.js";
import { CONTROL_ADDRESS, CONTROL_BYTES, controlOf, TOP } from "../threads/control.js";
import type { Tensor } from "./tensor.js";

/** A WebAssembly memory with a bump allocator: nothing is freed before the arena is. */
export interface Space {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  /** The control words of the threads that share the memory. */
  readonly control: Int32Array;
  /** The number of free bytes. */
  readonly left: number;
  /** The number of reserved bytes. */
  readonly used: number;
  /**
   * Reserves zeroed bytes. The address is a multiple of 64.
   * @param what the user of the bytes, for the RangeError if memory runs out; nothing is reserved then
   */
  reserve(bytes: number, what: string): number;
  /**
   * Returns the address of a tensor's state, if another library holds it: padded, and zero in the padding.
   * @param name the slot, or the name of an array that an option adds
   */
  readonly stateOf?: (tensor: Tensor, name: string) => number;

  /** Stops counting this memory as open. Errors about address space give the number of open memories. */
  readonly close: () => void;
}

/** The size of a cache line in bytes. */
export const ALIGNMENT = 64;
export const PAGE = 65536;

// A step reads and writes its arrays side by side, so their distance matters.
// docs/decisions/06-whole-cache-lines.md has the measurements.

/**
 * The distance between two arrays, modulo `PERIOD`. A load waits for an earlier store if the last twelve bits of their
 * addresses are the same, until the processor has compared the others. So the distance must not be small.
 */
const DISTANCE = 1024;
const PERIOD = 4096;
/** The size in bytes from which an array has this distance. For smaller arrays, it would take too much memory. */
const LARGE_ARRAY = 2 ** 16;

/**
 * The size in bytes from which a gap follows an array, and the size of the gap. Arrays whose distance is close to a
 * large power of two compete for the same places in caches.
 */
const HUGE_ARRAY = 2 ** 22;
const GAP = 100 * 1024;

/** The number of bytes from `address` to the next one that is `offset` modulo `PERIOD`. */
const bytesUntil = (address: number, offset: number) => (((offset - address) % PERIOD) + PERIOD) % PERIOD;

/** The number of bytes from the start of an array of this size to the start of the next array. */
export function bytesToNext(bytes: number): number {
  if (bytes < LARGE_ARRAY || bytes === Infinity) return bytes;
  const least = bytes < HUGE_ARRAY ? bytes : bytes + GAP;
  return least + bytesUntil(least, DISTANCE);
}

/** Returns a function that allocates bytes, one block after the other from `address` on, and returns their address. */
export function bumpAllocator(address: number): (bytes: number) => number {
  let next = address;
  return (bytes) => (next += bytes) - bytes;
}

/** The largest number of bytes that `besideParams` leaves free. `bytes` is the size of the largest array of state. */
export const roomBeside = (bytes: number): number => (bytes < LARGE_ARRAY ? 0 : PERIOD);

/**
 * The first address, at or after `address`, for the state of the parameters at `params`. Modulo `PERIOD` it is twice `DISTANCE` after
 * theirs, because the gradients are at one `DISTANCE`.
 */
export const besideParams = (address: number, bytes: number, params: number): number =>
  bytes < LARGE_ARRAY ? address : address + bytesUntil(address, params + 2 * DISTANCE);

/** The first address that can be reserved. */
const FIRST_ADDRESS = CONTROL_ADDRESS + CONTROL_BYTES;
/** The size of the 32-bit address space. */
export const MAX_BYTES = 2 ** 32;

/** The smallest memory that is made if no size is asked for. */
const LEAST_BYTES = MAX_BYTES / 64;

/**
 * Allocates a memory: of `maxBytes`, or else the largest that the platform allows. All of its address space is reserved at once,
 * so it never grows and its views stay valid. A page takes memory once it is written.
 */
export function allocateSpace(title: string, maxBytes: number | undefined, shared: boolean): Space {
  checkAvailable(title);
  for (let bytes = maxBytes ?? MAX_BYTES; ; bytes /= 2) {
    const pages = Math.floor(bytes / PAGE);
    try {
      return spaceIn(new WebAssembly.Memory({ initial: pages, maximum: pages, shared }), countOpen());
    } catch (cause) {
      if (bytes > (maxBytes ?? LEAST_BYTES)) continue;
      const remedy =
        open === 0
          ? "no other arena is open, so raise the limit of the process (ulimit -v), or in a browser close other pages"
          : `free() arenas that you do not need (${open} open)`;
      throw new RangeError(`${title}: there are no ${bytes} bytes of address space left; ${remedy}`, { cause });
    }
  }
}

/** The number of memories that were allocated, and neither freed nor collected. */
let open = 0;

/** Counts a memory as open. Returns a function that stops counting it. */
function countOpen(): () => void {
  let isOpen = true;
  open += 1;
  return () => {
    if (isOpen) open -= 1;
    isOpen = false;
  };
}

/** The space of a memory. Threads may reserve at the same time. */
export function spaceIn(memory: WebAssembly.Memory, close = () => {}): Space {
  const end = memory.buffer.byteLength;
  const control = controlOf(memory);
  Atomics.compareExchange(control, TOP, 0, FIRST_ADDRESS / ALIGNMENT);
  const top = () => Atomics.load(control, TOP);
  return {
    memory,
    shared: classOf(memory.buffer) === "SharedArrayBuffer",
    control,
    get left() {
      return end - top() * ALIGNMENT;
    },
    get used() {
      return top() * ALIGNMENT;
    },
    reserve(bytes, what) {
      const lines = Math.ceil(bytes / ALIGNMENT);
      for (;;) {
        const next = top();
        if (!((next + lines) * ALIGNMENT <= end)) throw outOfMemory(lines * ALIGNMENT, what, this.left, end);
        if (Atomics.compareExchange(control, TOP, next, next + lines) === next) return next * ALIGNMENT;
      }
    },
    close,
  };
}

function outOfMemory(bytes: number, what: string, left: number, end: number): RangeError {
  const remedy =
    bytes > MAX_BYTES - FIRST_ADDRESS
      ? `no arena is that large (${MAX_BYTES} at most)`
      : end < MAX_BYTES
        ? `make the arena with a larger maxBytes (${MAX_BYTES} at most)`
        : "put some tensors in another arena";
  return new RangeError(`out of memory: ${bytes} bytes for ${what}, ${left} of ${end} are left; ${remedy}`);
}

/**
 * The number of bytes of the arenas that were freed since the last suggestion, and the number at which the next
 * suggestion is made.
 */
let freedBytes = 0;
const WORTH_COLLECTING = 2 ** 26;

/**
 * Makes the engine collect garbage soon, so that the memory of freed arenas does not pile up. V8 does not count shared memory
 * when it decides to collect; it counts ordinary buffers. An untouched buffer takes address space and no memory.
 */
export function suggestCollection(bytes: number): void {
  freedBytes += bytes;
  if (freedBytes < WORTH_COLLECTING) return;
  freedBytes = 0;
  allocateUntouched();
  // The callers' stack frames and pending promises may hold the memory until the next turn of the event loop.
  void nextTurn().then(allocateUntouched);
}

function allocateUntouched(): void {
  for (let size = MAX_BYTES; size >= WORTH_COLLECTING; size /= 2) {
    try {
      new ArrayBuffer(size);
      return;
    } catch {
      // The platform has no such buffers, or too little address space: a smaller one may do.
    }
  }
}
