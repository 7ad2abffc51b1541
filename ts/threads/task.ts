/** How threads share a step's work: words in memory by which they agree, and chunks that whoever is free claims. */

import type { Kernels } from "../wasm/kernels.js";

/** Where the words stand: below every tensor, above what the kernels' binary may bring along. */
export const CONTROL_ADDRESS = 1024;
export const CONTROL_BYTES = 192;

/** The words. Those that are written again and again in a step have cache lines of their own. */
export const STATE = 0;
/** Threads that take part, the stepping one included. */
export const THREADS = 1;
/** How far memory is given out, in cache lines. */
export const TOP = 2;
/** The address of the task that chunks are claimed of, and how many it has. */
const TASK = 3;
const CHUNKS = 4;
/** Chunks that nobody has claimed. */
export const REMAINING = 16;
/** Chunks that are not done. */
export const PENDING = 32;

/** What `STATE` may be. */
export const IDLE = 0;
export const STEPPING = 1;
export const TORN = 2;
export const FREED = 3;

/** Why a step cannot begin, by what `STATE` says. */
export const refusals: Readonly<Record<number, string>> = {
  [STEPPING]:
    "another step is under way in this arena, where they are made one at a time; if its thread has ended, make a new arena",
  [TORN]: "a thread died in the middle of a step, which tore parameters and state; restore them in a new arena",
  [FREED]: "the arena was freed; make a new one with createArena()",
};

/** Elements in a chunk: 4 to 16 microseconds, so that claims cost little and threads finish together. */
export const CHUNK = 16384;

/** What a task's table in memory holds for each job: kernel, hyper-parameters, the job's block, where its elements end. */
const CALL_WORDS = 4;
/** What it begins with: the number of jobs, the address of the sums, and how many bytes a job's take. */
const HEAD_WORDS = 3;

/** What threads must agree on: those of another version of the package may not. */
export const PROTOCOL = [
  CONTROL_ADDRESS,
  THREADS,
  TOP,
  TASK,
  CHUNKS,
  REMAINING,
  PENDING,
  CHUNK,
  HEAD_WORDS,
  CALL_WORDS,
].join("-");

/** An arena's words. */
export const controlOf = (memory: WebAssembly.Memory): Int32Array =>
  new Int32Array(memory.buffer, CONTROL_ADDRESS, CONTROL_BYTES / 4);

/** One job of a task, by addresses, which mean the same to every thread. */
export interface Call {
  /** The kernel's place among the binary's exports. */
  readonly kernel: number;
  readonly hyper: number;
  readonly block: number;
  readonly length: number;
  /** What it reads and writes. */
  readonly bytes: number;
}

/** Jobs one behind the other, as one row of elements. */
export interface Task {
  readonly address: number;
  readonly length: number;
  readonly bytes: number;
  /** Where its kernels leave what they measure, chunk by chunk; 0 if they update. */
  readonly sums: number;
}

/**
 * Where a measuring task leaves the sums of a job: one for each chunk that it has a part in, counted from 0. With each
 * job, and with each chunk, they move on by one, so no two jobs share one.
 */
export const sumsRange = (job: number, begin: number, end: number): readonly [begin: number, end: number] => [
  Math.floor(begin / CHUNK) + job,
  Math.ceil(end / CHUNK) + job,
];

/** How many bytes a task's table takes. */
export const taskBytes = (jobs: number): number => 4 * (HEAD_WORDS + CALL_WORDS * jobs);

/** Writes a task's table; of one that measures, with where it leaves how many sums. */
export function writeTask(
  memory: WebAssembly.Memory,
  address: number,
  entries: readonly Call[],
  sums = 0,
  count = 1,
): Task {
  let length = 0;
  const table = entries.flatMap((entry) => {
    length += entry.length;
    return [entry.kernel, entry.hyper, entry.block, length];
  });
  new Uint32Array(memory.buffer, address, HEAD_WORDS + table.length).set([entries.length, sums, 8 * count, ...table]);
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  return { address, length, bytes, sums };
}

/** One thread's part in the work. */
export class Runner {
  readonly control: Int32Array;
  readonly #words: Uint32Array;
  readonly #kernels;

  constructor(memory: WebAssembly.Memory, kernels: Kernels) {
    this.control = controlOf(memory);
    this.#words = new Uint32Array(memory.buffer);
    this.#kernels = Object.values(kernels);
  }

  /** Does a task alone: what is measured chunk by chunk, so that the sums are those that threads leave. */
  run({ address, length, sums }: Task): void {
    const part = sums === 0 ? length : CHUNK;
    for (let begin = 0; begin < length; begin += part) this.#run(address, begin, begin + part);
  }

  /** Does the elements `begin..end` of the task at `address`. */
  #run(address: number, begin: number, end: number): void {
    const words = this.#words;
    let start = 0;
    let at = address / 4;
    const jobs = words[at]!;
    const sums = words[at + 1]!;
    const bytes = words[at + 2]!;
    at += HEAD_WORDS;
    for (let job = 0; job < jobs && start < end; job++, at += CALL_WORDS) {
      const stop = words[at + 3]!;
      if (stop > begin) {
        const kernel = this.#kernels[words[at]!]!;
        const from = Math.max(begin - start, 0);
        const left = sums && sums + bytes * (begin / CHUNK + job);
        kernel(words[at + 1]!, words[at + 2]!, from, Math.min(end, stop) - start, left);
      }
      start = stop;
    }
  }

  /** Offers a task to all threads, in so many chunks. The one before must be done. */
  publish({ address, length }: Task): number {
    const chunks = Math.ceil(length / CHUNK);
    this.control[TASK] = address;
    this.control[CHUNKS] = chunks;
    Atomics.store(this.control, PENDING, chunks);
    Atomics.store(this.control, REMAINING, chunks);
    return chunks;
  }

  /**
   * Claims a chunk and does it; false if none is left. A claim is a step down from a number that is not zero, so it is
   * always one of the task that is offered now, and that task stays until the claimed chunk is done.
   */
  claim(): boolean {
    const { control } = this;
    for (let left = Atomics.load(control, REMAINING); left > 0;) {
      const found = Atomics.compareExchange(control, REMAINING, left, left - 1);
      if (found === left) {
        const begin = (control[CHUNKS]! - left) * CHUNK; // in the order of memory, as processors read ahead
        this.#run(control[TASK]! >>> 0, begin, begin + CHUNK);
        if (Atomics.sub(control, PENDING, 1) === 1) Atomics.notify(control, PENDING);
        return true;
      }
      left = found;
    }
    return false;
  }

  /** Waits until a word is not `value` any more, or, at the latest, for so many milliseconds. */
  wait(word: number, value: number, milliseconds?: number): void {
    const { control } = this;
    // What is waited for is often near, and sleep is dear.
    for (let i = 0; i < SPINS; i++) {
      if (Atomics.load(control, word) !== value) return;
      pause?.();
    }
    try {
      Atomics.wait(control, word, value, milliseconds);
    } catch {
      // A browser's main thread must not sleep. Its caller looks again.
    }
  }
}

/** Lets the processor rest for a moment: Node 24, Chrome 133, Firefox 137, Safari 18.4. */
const { pause } = Atomics as { pause?: () => void };

/** Some 50 microseconds either way. */
const SPINS = pause ? 1000 : 30_000;
