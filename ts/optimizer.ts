/** An optimizer: groups of tensors, their live hyper-parameters, their state, and the step. */

import type { Arena } from "./arena.js";
import type { Rule } from "./definition.js";
import { Group, plan } from "./group.js";
import { resolveRule } from "./hyper.js";
import type { Held, Job } from "./job.js";
import { show } from "./option.js";
import { Step, type StepReport, stepBytes } from "./step.js";
import { Tensor } from "./tensor.js";

/** Tensors, by name or in a list. */
export type Tensors = readonly Tensor[] | Readonly<Record<string, Tensor>>;

/** What an optimizer updates: tensors, or groups of tensors with options of their own. */
export type Params<Options> = Tensors | readonly ({ readonly params: Tensors } & Options)[];

/** Updates tensors by a rule. Made by the rule's factory, such as `adamw(params, options)`. */
export class Optimizer<Hyper, State> {
  /** The groups as they were given; one, if tensors were given. */
  readonly groups: readonly Group<Hyper>[];
  readonly #rule: Rule;
  readonly #arena: Arena;
  readonly #step: Step;

  /** @internal */
  constructor(rule: Rule, params: Params<object>, options: object) {
    const given = listGroups(rule, params);
    const arena = commonArena(
      rule,
      given.flatMap(({ tensors }) => tensors),
    );
    const plans = given.map(({ tensors, own, path }) => plan(rule, resolveRule(rule, options, own, path), tensors));
    // All that can go wrong has been checked but memory, and that is taken at once.
    const bytes = plans.reduce((sum, { bytes }) => sum + bytes, 0);
    let next = arena.reserve(bytes + stepBytes(plans), `${rule.name}'s state`);
    this.#rule = rule;
    this.#arena = arena;
    this.groups = Object.freeze(
      plans.map((plan) => {
        const group = new Group<Hyper>(arena, rule, plan, next);
        next += plan.bytes;
        return group;
      }),
    );
    this.#step = new Step(arena, rule, this.groups, plans[0]!.values, next);
    Object.freeze(this);
  }

  /** How many steps were made, one under way included. */
  get steps(): number {
    return this.#step.count;
  }

  /** What to multiply the next loss by: the option `lossScale`, or where that is dynamic, what it has come to. */
  get lossScale(): number {
    return this.#step.lossScale;
  }

  /** The one group's live hyper-parameters. With several groups an error: each has its own, `groups[i].hyper`. */
  get hyper(): Hyper {
    const [group, ...others] = this.groups as [Group<Hyper>];
    if (others.length > 0) {
      throw new TypeError(
        `${this.#rule.name}: there are ${this.groups.length} groups, each with its own groups[i].hyper`,
      );
    }
    return group.hyper;
  }

  /**
   * Updates every parameter once, from the gradients as they stand, on all of the arena's threads.
   * @returns the gradients' norm, and whether the step was left out: one object, the same for every step
   * An Error after `arena.free()`, while another step is under way in the arena, and once one was torn; a RangeError for
   * a gradient that is not finite, if `nonFinite` says so, and for a schedule that leaves its option's range.
   */
  step(): StepReport {
    this.#arena.inner(this.#rule.name).pool.step(this.#rule.name, this.#step);
    return this.#step.report;
  }

  /**
   * The same without holding up the event loop; until it is done, gradients are read and parameters written. Several are
   * made one after the other, each with the hyper-parameters as they are when it is asked for.
   */
  async stepAsync(): Promise<StepReport> {
    const { pool } = this.#arena.inner(this.#rule.name);
    const snapshots = this.groups.map(({ snapshot }) => snapshot);
    return pool.stepAsync(this.#rule.name, this.#step, snapshots, () => ({ ...this.#step.report }));
  }

  /** The parameters' average, by the option `ema` or `swa`: a view; the parameters until it begins. A RangeError if there is none. */
  average(tensor: Tensor): Float32Array {
    const view = this.#ofJob(
      (job) => job.held(tensor)?.average,
      () =>
        `average must be asked of one of its params, of an optimizer made with the option ema or swa, got ${named(tensor)}`,
    );
    if (this.#step.averaged === 0) view.set(tensor.data);
    return view;
  }

  /**
   * Exchanges all parameters with their averages, in place: for an evaluation, and again to go on. As `average`; an Error
   * during a step.
   */
  swapAverages(): void {
    const pairs = this.groups.flatMap(({ params }) =>
      params.map((tensor) => [tensor.data, this.average(tensor)] as const),
    );
    this.#arena.inner(this.#rule.name).pool.alone(`${this.#rule.name}: swapAverages`, () => {
      for (const [data, average] of pairs) {
        const kept = data.slice();
        data.set(average);
        average.set(kept);
      }
    });
  }

  /** A tensor's state: a view of each slot, never a copy. A RangeError for a tensor that is not among the params. */
  state(tensor: Tensor): State {
    return this.#ofJob(
      (job) => job.held(tensor)?.state as State | undefined,
      () => `state must be asked of one of its params, got ${named(tensor)}`,
    );
  }

  /** What a checkpoint needs. @internal */
  get inner() {
    const held = (tensor: Tensor): Held =>
      this.#ofJob(
        (job) => job.held(tensor),
        () => `no ${named(tensor)}`,
      );
    return { rule: this.#rule, step: this.#step, held };
  }

  /** What the first job has that has it. */
  #ofJob<Found>(find: (job: Job) => Found | undefined, missing: () => string): Found {
    this.#arena.inner(this.#rule.name);
    for (const { jobs } of this.groups) {
      for (const job of jobs) {
        const found = find(job);
        if (found !== undefined) return found;
      }
    }
    throw new RangeError(`${this.#rule.name}: ${missing()}`);
  }
}

interface Given {
  readonly tensors: readonly Tensor[];
  /** The group's own options, and how messages call it. */
  readonly own: object;
  readonly path: string;
}

function listGroups(rule: Rule, params: Params<object>): Given[] {
  const isGroup = (item: unknown): item is { params: Tensors } =>
    typeof item === "object" && item !== null && !(item instanceof Tensor) && "params" in item;
  if (!Array.isArray(params) && isGroup(params) && !(params.params instanceof Tensor)) {
    throw new TypeError(
      `${rule.name}: groups must stand in a list, [{ params, ...options }], got one group without it`,
    );
  }
  if (!(Array.isArray(params) && params.some(isGroup))) {
    return [{ tensors: listTensors(`${rule.name}: params ${expected}`, params as Tensors), own: {}, path: "" }];
  }
  return Array.from(params, (item: unknown, index) => {
    const title = `${rule.name}: groups[${index}]`;
    if (!isGroup(item)) throw new TypeError(`${title} must be a group { params, ...options }, got ${named(item)}`);
    const { params, ...own } = item;
    return { tensors: listTensors(`${title}.params ${expected}`, params), own, path: `groups[${index}].` };
  });
}

const expected = "must be tensors, by name or in a list, or a list of groups { params, ...options }";

/** The tensors; a TypeError or RangeError that says what was `expected`. */
export function listTensors(expected: string, params: Tensors): readonly Tensor[] {
  if (typeof params !== "object" || params === null) throw new TypeError(`${expected}, got ${show(params)}`);
  if (params instanceof Tensor) throw new TypeError(`${expected}, got one tensor; write [${params.name}]`);
  if (!Array.isArray(params) && Symbol.iterator in params) throw new TypeError(`${expected}, got ${show(params)}`);
  const tensors: readonly Tensor[] = Array.isArray(params) ? Array.from(params) : Object.values(params);
  if (tensors.length === 0) throw new RangeError(`${expected}, got none`);
  for (const tensor of tensors) {
    if (!(tensor instanceof Tensor)) throw new TypeError(`${expected}, got ${show(tensor)} among them`);
  }
  return Object.freeze(tensors);
}

/** The arena that all the tensors share. */
function commonArena(rule: Rule, tensors: readonly Tensor[]): Arena {
  const [{ arena }] = tensors as [Tensor];
  arena.inner(rule.name);
  const seen = new Set<Tensor>();
  for (const tensor of tensors) {
    if (tensor.arena !== arena) {
      throw new RangeError(
        `${rule.name}: params must be of one arena, but ${named(tensor)} is of another than ${named(tensors[0])}; make one optimizer for each`,
      );
    }
    if (seen.has(tensor))
      throw new RangeError(`${rule.name}: params must be different tensors, but ${named(tensor)} is there twice`);
    seen.add(tensor);
  }
  return arena;
}

function named(tensor: unknown): string {
  return tensor instanceof Tensor ? `tensor ${show(tensor.name)}` : show(tensor);
}
