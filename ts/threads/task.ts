/**
 * A task: kernel calls over consecutive spans of elements, written to memory so that every thread can read it. Threads
 * divide a task into chunks.
 */

import { CHUNKS, CONTROL_ADDRESS, MAX_CHUNKS, PENDING, REMAINING, TASK, THREADS, TOP } from "./control.js";

/**
 * The number of elements in a chunk. For most rules that is 5 to 40 microseconds of work, so that a claim costs little
 * and threads finish together.
 */
export const CHUNK = 16384;

/** The default of `maxChunks`: some milliseconds of work. Long claims are faster than short ones (docs/decisions/05-threads.md). */
const DEFAULT_MAX_CHUNKS = 64;

/** The words of a task before its calls: the number of calls, the address of the sums, and the bytes of one chunk's sums. */
export const HEAD_WORDS = 3;
/** The words of a call: addresses of the kernel, of the hyper-parameters and of the segment, and where its elements end in the task. */
export const CALL_WORDS = 4;

/** The layout that all threads of an arena must share. Other versions of the package may have another. */
export const PROTOCOL = [
  CONTROL_ADDRESS,
  THREADS,
  TOP,
  TASK,
  CHUNKS,
  MAX_CHUNKS,
  REMAINING,
  PENDING,
  CHUNK,
  HEAD_WORDS,
  CALL_WORDS,
].join("-");

/** The arguments of a kernel, as addresses, which mean the same to every thread. */
export interface Call {
  /** The address of the kernel. */
  readonly kernel: number;
  /** The address of the hyper-parameters. */
  readonly hyper: number;
  /** The address of the `Segment` struct in crate/src. */
  readonly segment: number;
  /** The number of elements. */
  readonly length: number;
  /** The number of bytes that the call reads and writes. */
  readonly bytes: number;
}

/** A task in memory. */
export interface Task {
  readonly address: number;
  /** The number of elements of all calls. */
  readonly length: number;
  /** The number of bytes that all calls read and write. */
  readonly bytes: number;
  /** The most chunks in one claim. */
  readonly maxChunks: number;
}

/**
 * The sums of a call in a measuring task: one for each chunk that overlaps its elements `begin..end`. A chunk may
 * contain the end of one call and the beginning of the next. The index grows by one with each chunk and with each call,
 * so that no two calls share a sum.
 */
export const sumsRange = (call: number, begin: number, end: number): readonly [begin: number, end: number] => [
  Math.floor(begin / CHUNK) + call,
  Math.ceil(end / CHUNK) + call,
];

/** The number of bytes of a task with so many calls. */
export const taskBytes = (calls: number): number => 4 * (HEAD_WORDS + CALL_WORDS * calls);

interface TaskOptions extends Partial<Pick<Task, "maxChunks">> {
  /** The address of the sums that measuring kernels write. Default: 0; the task updates. */
  readonly sums?: number;
  /** The number of doubles in one sum. */
  readonly count?: number;
}

/** Writes a task to memory. */
export function writeTask(
  memory: WebAssembly.Memory,
  address: number,
  calls: readonly Call[],
  { sums = 0, count = 1, maxChunks = DEFAULT_MAX_CHUNKS }: TaskOptions = {},
): Task {
  const words = new Uint32Array(memory.buffer, address, HEAD_WORDS + CALL_WORDS * calls.length);
  words.set([calls.length, sums, 8 * count]);
  let [length, bytes, at] = [0, 0, HEAD_WORDS];
  for (const call of calls) {
    length += call.length;
    bytes += call.bytes;
    words.set([call.kernel, call.hyper, call.segment, length], at);
    at += CALL_WORDS;
  }
  return { address, length, bytes, maxChunks };
}
