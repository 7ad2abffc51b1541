/** The control words: 32-bit integers at a fixed address, with which the threads of an arena coordinate. */

/** The address of the control words, below every tensor. scripts/kernels.mjs relies on it: kernels read nothing below. */
export const CONTROL_ADDRESS = 1024;
export const CONTROL_BYTES = 192;

// Indices of the words. Words that change many times in a step have cache lines of their own.

/** The arena's state: `IDLE`, `STEPPING`, `TORN` or `FREED`. */
export const STATE = 0;
/** The number of threads that take part in a step, the calling thread included. */
export const THREADS = 1;
/** The number of cache lines that are allocated. */
export const TOP = 2;
/** The address of the published task. */
export const TASK = 3;
/** The number of chunks of the published task. */
export const CHUNKS = 4;
/** The most chunks of the published task in one claim. */
export const MAX_CHUNKS = 5;
/** The number of chunks that no thread has claimed. */
export const REMAINING = 16;
/** The number of chunks that are not done. */
export const PENDING = 32;

export const IDLE = 0;
export const STEPPING = 1;
export const TORN = 2;
export const FREED = 3;

/** The reason why no step can begin, for each state but `IDLE`. */
export const refusals: Readonly<Record<number, string>> = {
  [STEPPING]:
    "another step, save or load is running in this arena, and only one can run at a time. A schedule or rename cannot call another. If the thread that called it has ended, make a new arena",
  [TORN]:
    "a thread died during a step, so some parameters were updated and others were not; load a checkpoint into a new arena",
  [FREED]: "the arena was freed; make a new one with createArena()",
};

/** The control words of a memory. */
export const controlOf = (memory: WebAssembly.Memory): Int32Array =>
  new Int32Array(memory.buffer, CONTROL_ADDRESS, CONTROL_BYTES / 4);

/** Throws the error for a freed arena. */
export function freed(title: string): never {
  throw new Error(`${title}: ${refusals[FREED]}`);
}
