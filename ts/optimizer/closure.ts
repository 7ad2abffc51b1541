/**
 * Steps that call the user's closure. Each is a generator. `run` runs it synchronously, `runAsync` between turns of the
 * event loop.
 */

import type { Arena } from "../arena/arena.js";
import { classOf, GRADIENTS, isCallable, show, wrongKind } from "../option.js";
import type { PAUSE, Work } from "../threads/pool.js";
import type { Task } from "../threads/task.js";
import type { Computation } from "./vectors.js";

/** Computes the loss at the present parameters, writes the gradients, and returns the loss. */
export type Closure = () => number;
/** A closure that may be async. */
export type AsyncClosure = () => number | Promise<number>;

/** The value that a computation yields to request a call of the closure. It receives the loss. */
export const EVALUATE = Symbol("evaluate");

/**
 * A computation that also calls the closure. An error in a task or in the closure is thrown into the generator, which then
 * restores its changes without tasks.
 */
export type ClosureComputation<Result> = Generator<Task | typeof PAUSE | typeof EVALUATE, Result, unknown>;

/**
 * Runs the computations of an optimizer, one at a time, because each assumes that nothing else changes the parameters.
 */
export class ClosureDriver {
  readonly #name: string;
  readonly #arena: Arena;
  #isRunning = false;

  constructor(name: string, arena: Arena) {
    this.#name = name;
    this.#arena = arena;
  }

  /** Throws if a computation is under way. */
  check(title: string): void {
    if (this.#isRunning) {
      throw new Error(`${title}: a step that calls a closure is under way; wait until it is done`);
    }
  }

  /** Runs a computation that calls no closure. */
  runTasks<Result>(title: string, computation: Computation<Result>): Result {
    const tasks = new TasksUntilClosure(computation);
    this.#arena.internals(title).pool.step(title, tasks);
    return tasks.result!.value;
  }

  /** Like `runTasks`, but does not block the event loop. */
  runTasksAsync<Result>(title: string, computation: Computation<Result>): Promise<Result> {
    const tasks = new TasksUntilClosure(computation);
    return this.#arena.internals(title).pool.stepAsync(title, tasks, undefined, () => tasks.result!.value);
  }

  /** Runs a computation. */
  run<Result>(computation: ClosureComputation<Result>, closure: Closure): Result {
    const end = this.#begin(closure);
    const tasks = new TasksUntilClosure(computation);
    try {
      for (;;) {
        this.#arena.internals(this.#name).pool.step(this.#name, tasks);
        if (tasks.result) return tasks.result.value;
        tasks.loss = this.#checked(closure(), "; an async closure is for stepAsync()");
      }
    } catch (error) {
      throw computation.throw(error); // the generator throws it again
    } finally {
      end();
    }
  }

  /** Runs a computation between turns of the event loop. */
  async runAsync<Result>(computation: ClosureComputation<Result>, closure: AsyncClosure): Promise<Result> {
    const end = this.#begin(closure);
    const tasks = new TasksUntilClosure(computation);
    try {
      for (;;) {
        await this.#arena.internals(this.#name).pool.stepAsync(this.#name, tasks, undefined, () => {});
        if (tasks.result) return tasks.result.value;
        tasks.loss = this.#checked(await closure(), "");
      }
    } catch (error) {
      throw computation.throw(error); // the generator throws it again
    } finally {
      end();
    }
  }

  /**
   * Begins a computation. Returns the function that ends it. Until then, `free()` of an attached arena keeps the
   * views: an error restores the parameters through them.
   */
  #begin(closure: unknown): () => void {
    if (!isCallable(closure)) {
      throw wrongKind(`${this.#name}: closure must be a function that returns the loss`, closure, GRADIENTS);
    }
    this.check(this.#name);
    const { pool } = this.#arena.internals(this.#name);
    this.#isRunning = true;
    pool.hold();
    return () => {
      this.#isRunning = false;
      pool.letGo();
    };
  }

  #checked(loss: unknown, remedy: string): number {
    if (typeof loss === "number") return loss;
    const got = `got ${show(loss)}${classOf(loss) === "Promise" ? remedy : ""}`;
    throw new TypeError(`${this.#name}: closure must return the loss, a number, ${got}`);
  }
}

/** The tasks of a computation up to the next call of the closure, or to the end. */
class TasksUntilClosure<Result> implements Work<void> {
  readonly #computation: ClosureComputation<Result>;
  /** The loss that the closure returned last. */
  loss: number | undefined;
  result: { readonly value: Result } | undefined;

  constructor(computation: ClosureComputation<Result>) {
    this.#computation = computation;
  }

  begin(): void {}

  next(): Task | typeof PAUSE | undefined {
    const { done, value } = this.#computation.next(this.loss);
    if (done) this.result = { value };
    return done || value === EVALUATE ? undefined : value;
  }
}
