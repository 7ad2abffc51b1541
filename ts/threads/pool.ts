/** The threads of an arena. They make one step at a time. The result does not depend on their number. */

import type { Code } from "../wasm/kernels.js";
import { startThread, type Thread } from "../platform.js";
import { nextTurn, now } from "../time.js";
import {
  CHUNKS,
  CONTROL_BYTES,
  FREED,
  IDLE,
  MAX_CHUNKS,
  PENDING,
  refusals,
  REMAINING,
  STATE,
  STEPPING,
  TASK,
  THREADS,
  TORN,
} from "./control.js";
import { AWAKE_MS, type Runner } from "./runner.js";
import { CHUNK, PROTOCOL, type Task } from "./task.js";
import { source } from "./worker-source.js";

/**
 * The number of milliseconds that asynchronous steps work before the event loop gets a turn: a quarter of a frame at 60
 * frames per second.
 */
const TURN_MS = 4;

/**
 * The largest number of bytes that asynchronous steps read and write in a turn. It is for clocks that are coarse or do not
 * advance: six milliseconds at 21 GB/s.
 */
const TURN_BYTES = 2 ** 27;

/** The largest number of bytes between two looks at the clock, unless a chunk has more. */
const CLAIM_BYTES = TURN_BYTES / 32;

/** The number of bytes that the work before a pause counts as. */
const PAUSE_BYTES = 2 ** 16;

/**
 * The size in bytes from which a task is shared with threads that are awake, and the size from which it also wakes
 * threads that sleep. docs/decisions/05-threads.md has the measurements.
 */
const WORTH_SHARING = 3 * 2 ** 18;
const WORTH_WAKING = 2 ** 22;

/** The largest gain, in milliseconds, that sharing may lose again before the caller works alone. */
const MAX_GAIN_MS = 10;

/**
 * After a loss, the caller works alone for this many times the loss. So losses add a twentieth to the time at most.
 */
const TIMES_ALONE = 20;

/** A place in a step, between tasks, at which the event loop may get a turn. */
export const PAUSE = Symbol("pause");

/** A part of a step: a task, or a function that runs between tasks. It may return a task or a pause. */
export type Phase = Task | (() => Task | typeof PAUSE | void);

/** A step, as the pool makes it. */
export interface Work<Given> {
  /** Begins the step. `given` has the values at the call of an asynchronous step; undefined for the present values. */
  begin(given?: Given): void;
  /** Returns the next task, after the task before is done, or a pause. Undefined at the end of the step. */
  next(): Task | typeof PAUSE | undefined;
}

export class Pool {
  /** Undefined after `free`: threads that have not ended hold the pool, and must not hold the memory. */
  #runner: Runner | undefined;
  #control: Int32Array;
  readonly #threads = new Set<Thread>();
  /** Whether this pool ends the threads. False in an attached arena. */
  #ownsThreads = false;
  #freed = false;
  /** The number of steps of this thread that are under way, and what is called after them. */
  #held = 0;
  #release: (() => void) | undefined;
  /**
   * The time that sharing has gained, in milliseconds, minus the time that it has lost. Sharing loses time where other
   * threads are late because their cores have other work. Below zero, the caller works alone.
   */
  #gain = MAX_GAIN_MS;
  /** The last estimate of the time that the caller alone would take for a task, in milliseconds. */
  readonly #timesAlone = new WeakMap<Task, number>();
  /** The time at which the last shared task ended. */
  #lastEnd = 0;
  /**
   * The time at which the event loop gets a turn, and the bytes that were read and written since its last one. They
   * hold for all asynchronous steps together, because many small tasks or steps also take long.
   */
  #turnEnd = 0;
  #turnBytes = 0;
  /** The number of asynchronous steps that are not done, and the last one. */
  #queued = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(runner: Runner) {
    this.#runner = runner;
    this.#control = runner.control;
  }

  /** Starts threads until there are `count` with the one that steps; fulfilled once all of them take part. */
  start(code: Code, count: number, url: string | URL | undefined): Promise<void> {
    this.#ownsThreads = true;
    Atomics.store(this.#control, THREADS, count);
    for (let i = 1; i < count; i++) {
      const thread = startThread(source, url, code, PROTOCOL);
      this.#threads.add(thread);
      thread.gone.then(() => {
        if (!this.#threads.delete(thread)) return;
        thread.end();
        Atomics.sub(this.#control, THREADS, 1);
      });
    }
    return allReady([...this.#threads]);
  }

  /**
   * Ends the threads. After this, every step is an error. In an attached arena, a step that is under way is completed, because others
   * use the memory.
   * @param release is called when no step needs the views of the memory any more
   */
  free(release: () => void): void {
    this.#freed = true;
    if (!this.#ownsThreads && this.#held > 0) {
      this.#release = release;
      return;
    }
    release();
    if (!this.#ownsThreads) return;
    Atomics.store(this.#control, STATE, FREED);
    this.end();
    this.#runner = undefined;
    this.#control = freedControl;
  }

  /** Ends the threads. */
  end(): void {
    if (this.#ownsThreads) Atomics.store(this.#control, THREADS, 1);
    for (const thread of this.#threads) thread.end();
    this.#threads.clear();
  }

  /** The number of threads that take part in a step, including the calling thread. */
  get threads(): number {
    return Atomics.load(this.#control, THREADS);
  }

  get torn(): boolean {
    return Atomics.load(this.#control, STATE) === TORN;
  }

  /** Makes a step. Does not call `exclusively`, because the function for it would be allocated at each step. */
  step<Given>(title: string, work: Work<Given>): void {
    this.#enterAtOnce(title);
    try {
      work.begin();
      for (let task = work.next(); task; task = work.next()) {
        if (task !== PAUSE) this.#run(title, task);
      }
    } finally {
      this.#leave();
    }
  }

  /** Calls `act` while no step can run. */
  exclusively<Result>(title: string, act: () => Result): Result {
    this.#enterAtOnce(title);
    try {
      return act();
    } finally {
      this.#leave();
    }
  }

  /** Makes a step between turns of the event loop, after the asynchronous steps that were called before. */
  stepAsync<Given, Result>(title: string, work: Work<Given>, given: Given, result: () => Result): Promise<Result> {
    const step = async () => {
      try {
        this.#enter(title);
        try {
          work.begin(given);
          for (let task = work.next(); task; task = work.next()) {
            const isDone = task === PAUSE ? () => this.#pause() : this.#inTurns(title, task);
            while (!isDone()) await this.#giveTurn();
            this.#runnerOf(title);
          }
          return result();
        } finally {
          this.#leave();
        }
      } finally {
        this.#queued -= 1;
      }
    };
    this.#queued += 1;
    const made = this.#queued === 1 ? step() : this.#last.then(step);
    this.#last = made.then(
      () => {},
      () => {},
    ); // the caller of stepAsync handles the error
    return made;
  }

  /** Runs a task: on all threads if it is large enough, otherwise on this one. */
  #run(title: string, task: Task): void {
    const runner = this.#runnerOf(title);
    const { address, length } = task;
    if (task.bytes < WORTH_SHARING || this.threads === 1) return runner.run(address, 0, length);
    const begin = now();
    if (this.#gain < 0) {
      runner.run(address, 0, length);
      this.#lastEnd = now();
      this.#gain = Math.min(0, this.#gain + (this.#lastEnd - begin) / TIMES_ALONE);
      return;
    }
    const chunks = this.#publish(task, begin - this.#lastEnd < AWAKE_MS);
    let ownChunks = 0;
    // The claim of the caller that took the longest per chunk. Numbers, because a step allocates nothing.
    let slowestTime = 0;
    let slowestChunks = 1;
    let end = begin;
    for (let claimed = runner.claim(); claimed > 0; claimed = runner.claim()) {
      const start = end;
      end = now();
      ownChunks += claimed;
      if ((end - start) / claimed > slowestTime / slowestChunks) {
        slowestTime = end - start;
        slowestChunks = claimed;
      }
    }
    // The mean of the caller's other chunks: it may have been interrupted in the slowest claim.
    const others = ownChunks - slowestChunks;
    if (others > 0) this.#timesAlone.set(task, ((end - begin - slowestTime) / others) * chunks);
    const isStuck = stallDetector();
    for (let pending = this.#pending(title, isStuck); pending > 0; pending = this.#pending(title, isStuck)) {
      runner.wait(PENDING, pending, WAIT_MS);
    }
    this.#lastEnd = now();
    const taken = this.#lastEnd - begin;
    this.#gain = Math.min(MAX_GAIN_MS, this.#gain + (this.#timesAlone.get(task) ?? taken) - taken);
  }

  /**
   * Offers a task to all threads. Returns a function that works on it until it is done or the turn is over, and returns whether it
   * is done. It is not async, because an async function takes microseconds in Firefox.
   */
  #inTurns(title: string, task: Task): () => boolean {
    const runner = this.#runnerOf(title);
    const chunks = this.#publish(task);
    const chunkBytes = task.bytes / chunks;
    const most = Math.floor(CLAIM_BYTES / chunkBytes);
    const isStuck = stallDetector();
    return () => {
      if (this.#pending(title, isStuck) === 0) return true;
      for (let claimed = 1; claimed > 0 && !this.#isTurnOver; this.#turnBytes += claimed * chunkBytes) {
        claimed = runner.claim(most);
      }
      const pending = Atomics.load(this.#control, PENDING);
      if (pending > 0 && !this.#isTurnOver) runner.wait(PENDING, pending, 1); // others work on the last chunks
      return Atomics.load(this.#control, PENDING) === 0;
    };
  }

  /** Returns whether the turn is not over, and counts the work before the pause. */
  #pause(): boolean {
    if (this.#isTurnOver) return false;
    this.#turnBytes += PAUSE_BYTES;
    return true;
  }

  async #giveTurn(): Promise<void> {
    await nextTurn();
    this.#turnEnd = now() + TURN_MS;
    this.#turnBytes = 0;
  }

  get #isTurnOver(): boolean {
    return this.#turnBytes >= TURN_BYTES || now() >= this.#turnEnd;
  }

  /** Throws an Error if the arena was freed between two tasks of a step. */
  #runnerOf(title: string): Runner {
    if (this.#runner === undefined) throw refusal(title, FREED);
    return this.#runner;
  }

  /** Takes the arena, unless asynchronous steps are under way. */
  #enterAtOnce(title: string): void {
    if (this.#queued > 0) throw new Error(`${title}: a stepAsync() is under way in this arena; await it first`);
    this.#enter(title);
  }

  /** Takes the arena for a step. */
  #enter(title: string): void {
    const state = this.#freed ? FREED : Atomics.compareExchange(this.#control, STATE, IDLE, STEPPING);
    if (state !== IDLE) throw refusal(title, state);
    this.hold();
  }

  /** Ends the step, unless the arena was torn or freed during it. */
  #leave(): void {
    Atomics.compareExchange(this.#control, STATE, STEPPING, IDLE);
    this.letGo();
  }

  /** Keeps the views of an attached arena until `letGo`, also if it is freed. */
  hold(): void {
    this.#held += 1;
  }

  letGo(): void {
    this.#held -= 1;
    if (this.#held > 0) return;
    this.#release?.();
    this.#release = undefined;
  }

  /**
   * Offers a task to all threads, and wakes them if it is worth it: if it is large, or others follow at once. The previous task must
   * be done.
   * @returns the number of its chunks
   */
  #publish({ address, length, bytes, maxChunks }: Task, isFollowing = false): number {
    const control = this.#control;
    const chunks = Math.ceil(length / CHUNK);
    control[TASK] = address;
    control[CHUNKS] = chunks;
    control[MAX_CHUNKS] = maxChunks;
    Atomics.store(control, PENDING, chunks);
    Atomics.store(control, REMAINING, chunks);
    if (isFollowing || bytes >= WORTH_WAKING) Atomics.notify(control, REMAINING, Math.min(chunks, this.threads) - 1);
    return chunks;
  }

  /**
   * Returns the number of chunks that are not done. Throws an Error if the arena was freed, or if a thread died while
   * it ran a chunk.
   */
  #pending(title: string, isStuck: ReturnType<typeof stallDetector>): number {
    const pending = Atomics.load(this.#control, PENDING);
    if (pending === 0) return 0;
    if (isStuck(pending)) Atomics.compareExchange(this.#control, STATE, STEPPING, TORN);
    const state = Atomics.load(this.#control, STATE);
    if (state !== STEPPING) throw refusal(title, state);
    return pending;
  }
}

/** The control words of a freed arena: a step that is under way looks at the state as long as chunks are pending. */
const freedControl = new Int32Array(CONTROL_BYTES / 4);
freedControl[STATE] = FREED;
freedControl[PENDING] = 1;

/** Waits for all threads. It is a function of its own, because it holds its arguments until then. */
async function allReady(threads: readonly Thread[]): Promise<void> {
  const starts = await Promise.allSettled(threads.map(({ ready }) => ready));
  for (const start of starts) if (start.status === "rejected") throw start.reason;
}

function refusal(title: string, state: number): Error {
  return new Error(`${title}: ${refusals[state]}`);
}

/**
 * The milliseconds between two checks of the pending chunks, and the number of checks without a change after which a
 * thread counts as dead.
 */
const CHECK_MS = 50;
const CHECKS_UNTIL_DEAD = 14;

/**
 * The milliseconds of one wait. It is shorter than `CHECK_MS`, so that a wait that ends a little early does not delay a
 * check.
 */
const WAIT_MS = 10;

/** Returns a function that is told the pending chunks, and says whether they pend for so long that a thread must have died. */
function stallDetector(): (pending: number) => boolean {
  let before = 0;
  let checks = 0;
  let last = 0;
  return (pending) => {
    const time = now();
    if (pending !== before || time - last >= CHECK_MS) {
      // One check, also after a long pause: a process that was stopped gives its threads time.
      checks = pending === before ? checks + 1 : 0;
      before = pending;
      last = time;
    }
    return checks >= CHECKS_UNTIL_DEAD;
  };
}
