/** A thread's part in the work: it claims chunks of the published task and runs their kernels. */

import { type Code, Kernels } from "../wasm/kernels.js";
import { CHUNKS, controlOf, MAX_CHUNKS, PENDING, REMAINING, TASK, THREADS } from "./control.js";
import { CALL_WORDS, CHUNK, HEAD_WORDS } from "./task.js";

export class Runner {
  readonly control: Int32Array;
  readonly #words: Uint32Array;
  readonly kernels: Kernels;

  constructor(code: Code, control = controlOf(code.memory)) {
    this.control = control;
    this.#words = new Uint32Array(code.memory.buffer);
    this.kernels = new Kernels(code);
  }

  /**
   * Runs the elements `begin..end` of the task at `address`. A task with sums runs chunk by chunk, so that the order of additions does
   * not depend on the number of threads. Another one runs as a whole, because processors read ahead.
   */
  run(address: number, begin: number, end: number): void {
    const sums = this.#words[address / 4 + 1]!;
    const part = sums === 0 ? end - begin : CHUNK;
    for (let from = begin; from < end; from += part) this.#runPart(address, from, from + part);
  }

  /** Runs elements that belong to one chunk, or to any number of chunks of a task without sums. */
  #runPart(address: number, begin: number, end: number): void {
    const words = this.#words;
    const head = address / 4;
    const calls = words[head]!;
    const sums = words[head + 1]!;
    const sumBytes = words[head + 2]!;
    let call = this.#callAt(head, begin);
    let at = head + HEAD_WORDS + CALL_WORDS * call;
    let start = call === 0 ? 0 : words[at - 1]!;
    for (; call < calls && start < end; call++, at += CALL_WORDS) {
      const stop = words[at + 3]!;
      const kernel = this.kernels.at(words[at]!);
      const from = Math.max(begin - start, 0);
      const sum = sums && sums + sumBytes * (begin / CHUNK + call);
      kernel(words[at + 1]!, words[at + 2]!, from, Math.min(end, stop) - start, sum);
      start = stop;
    }
  }

  /** Returns the index of the call that the element belongs to. Calls end in ascending order. */
  #callAt(head: number, element: number): number {
    let low = 0;
    let high = this.#words[head]!;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#words[head + HEAD_WORDS + CALL_WORDS * middle + 3]! > element) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /**
   * Claims chunks that follow each other, and runs them. A claim reduces a count that is not zero. So the chunks always
   * belong to the published task, and that task stays until they are done.
   *
   * A claim takes at least one chunk, and at most as many as the task allows and `most`. Among several threads, it takes a quarter of
   * this thread's share of the chunks that are left, so that threads finish together.
   * @returns the number of chunks; 0 if none is left
   */
  claim(most = Infinity): number {
    const { control } = this;
    for (let left = Atomics.load(control, REMAINING); left > 0;) {
      const threads = Atomics.load(control, THREADS);
      const share = threads === 1 ? left : Math.floor(left / (4 * threads));
      const count = Math.max(1, Math.min(share, control[MAX_CHUNKS]!, most));
      const found = Atomics.compareExchange(control, REMAINING, left, left - count);
      if (found === left) {
        const address = control[TASK]! >>> 0;
        const first = control[CHUNKS]! - left; // in the order of memory, because processors read ahead
        this.run(address, first * CHUNK, (first + count) * CHUNK);
        if (Atomics.sub(control, PENDING, count) === count) Atomics.notify(control, PENDING);
        return count;
      }
      left = found;
    }
    return 0;
  }

  /** Waits until a word differs from `value`, for at most `milliseconds`. */
  wait(word: number, value: number, milliseconds?: number): void {
    const { control } = this;
    // The word often changes soon, and sleeping is expensive.
    for (let i = 0; i < SPINS; i++) {
      if (Atomics.load(control, word) !== value) return;
      pause?.();
    }
    try {
      Atomics.wait(control, word, value, milliseconds);
    } catch {
      // The main thread of a browser must not sleep. The caller looks again.
    }
  }
}

/** Tells the processor that this thread spins: Node 24, Chrome 133, Firefox 137, Safari 18.4. */
const { pause } = Atomics as { pause?: () => void };

/** Milliseconds for which a thread without work stays awake: about as long as it takes to wake it. */
export const AWAKE_MS = 0.1;

/** The number of looks in that time. Looks are counted because a clock may not advance. */
const SPINS = pause ? 2000 : 60_000;
