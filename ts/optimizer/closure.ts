/** Steps that call the user's closure on their way: written once, gone through at once or between turns of the event loop. */

import type { Arena } from "../arena/arena.js";
import { show } from "../option.js";
import type { Work } from "../threads/pool.js";
import type { Computation } from "./vectors.js";
import type { Task } from "../threads/task.js";

/** Computes the loss at the parameters as they stand, writes the gradients, and returns the loss. */
export type Closure = () => number;
/** The same, which may take its time. */
export type AsyncClosure = () => number | Promise<number>;

/** What a course hands out where it needs the closure called. It is answered with the loss. */
export const EVALUATE = Symbol("evaluate");

/**
 * Computation, and calls of the closure. An error that happens to one of them is thrown into the course, which puts back what it
 * has changed, at once: the pool may not be there for it.
 */
export type ClosureComputation<Result> = Generator<Task | typeof EVALUATE, Result, unknown>;

/** Goes through courses: one at a time, as each finds the parameters where it left them. */
export class ClosureDriver {
  readonly #name: string;
  readonly #arena: Arena;
  #underWay = false;

  constructor(name: string, arena: Arena) {
    this.#name = name;
    this.#arena = arena;
  }

  /** Throws if a course is under way. */
  check(title: string): void {
    if (this.#underWay) {
      throw new Error(`${title}: a step that calls a closure is under way; wait until it is done`);
    }
  }

  /** Does tasks that call no closure. */
  tasks<Result>(tasks: Computation<Result>): Result {
    const stretch = new TasksUntilClosure(tasks);
    this.#arena.internals(this.#name).pool.step(this.#name, stretch);
    return stretch.result!.value;
  }

  /** Goes through a course. */
  run<Result>(course: ClosureComputation<Result>, closure: Closure): Result {
    this.#begin(closure);
    const stretch = new TasksUntilClosure(course);
    try {
      for (;;) {
        this.#arena.internals(this.#name).pool.step(this.#name, stretch);
        if (stretch.result) return stretch.result.value;
        stretch.answer = this.#checked(closure(), "; an async closure is for stepAsync()");
      }
    } catch (error) {
      throw course.throw(error); // which throws it again
    } finally {
      this.#underWay = false;
    }
  }

  /** The same between turns of the event loop. */
  async runAsync<Result>(course: ClosureComputation<Result>, closure: AsyncClosure): Promise<Result> {
    this.#begin(closure);
    const stretch = new TasksUntilClosure(course);
    try {
      for (;;) {
        await this.#arena.internals(this.#name).pool.stepAsync(this.#name, stretch, undefined, () => {});
        if (stretch.result) return stretch.result.value;
        stretch.answer = this.#checked(await closure(), "");
      }
    } catch (error) {
      throw course.throw(error); // which throws it again
    } finally {
      this.#underWay = false;
    }
  }

  #begin(closure: unknown): void {
    if (typeof closure !== "function") {
      throw new TypeError(`${this.#name}: closure must be a function that returns the loss, got ${show(closure)}`);
    }
    this.check(this.#name);
    this.#underWay = true;
  }

  #checked(loss: unknown, remedy: string): number {
    if (typeof loss === "number") return loss;
    const got = `got ${show(loss)}${loss instanceof Promise ? remedy : ""}`;
    throw new TypeError(`${this.#name}: closure must return the loss, a number, ${got}`);
  }
}

/** A course's tasks up to the next call of the closure, or to its end. */
class TasksUntilClosure<Result> implements Work<void> {
  readonly #course: ClosureComputation<Result>;
  /** What the closure has returned. */
  answer: number | undefined;
  result: { readonly value: Result } | undefined;

  constructor(course: ClosureComputation<Result>) {
    this.#course = course;
  }

  begin(): void {}

  next(): Task | undefined {
    const { done, value } = this.#course.next(this.answer);
    if (done) this.result = { value };
    return done || value === EVALUATE ? undefined : value;
  }
}
