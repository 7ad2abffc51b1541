/** An optimizer: groups of tensors, their live hyper-parameters, their state, and the step. */

import { type Arena, Tensor } from "./arena.js";
import type { Rule } from "./definition.js";
import { live, resolve, type Values, variant } from "./hyper.js";
import { BLOCK, Job, sideBySide } from "./job.js";
import { show } from "./option.js";

/** Tensors, by name or in a list. */
export type Tensors = readonly Tensor[] | Readonly<Record<string, Tensor>>;

/** What an optimizer updates: tensors, or groups of tensors with options of their own. */
export type Params<Options> = Tensors | readonly ({ readonly params: Tensors } & Options)[];

/** Tensors that share hyper-parameters. */
export interface Group<Hyper> {
  readonly params: readonly Tensor[];
  /** Live: what is written here holds from the next step on. A wrong value is an error and changes nothing. */
  readonly hyper: Hyper;
}

/** Updates tensors by a rule. Made by the rule's factory, such as `adamw(params, options)`. */
export class Optimizer<Hyper, State> {
  /** The groups as they were given; one, if tensors were given. */
  readonly groups: readonly Group<Hyper>[];
  readonly #rule: Rule;
  readonly #arena: Arena;
  readonly #jobs: readonly Job[];
  #steps = 0;

  /** @internal */
  constructor(rule: Rule, params: Params<object>, options: object) {
    const given = listGroups(rule, params);
    this.#rule = rule;
    this.#arena = checkTensors(
      rule,
      given.flatMap(({ tensors }) => tensors),
    );
    const plans = given.map(({ tensors, own }) => {
      const values = resolve(rule, { ...options, ...own });
      const kind = variant(rule, values);
      const runs = sideBySide(tensors);
      const bytes = runs.reduce((sum, run) => sum + Job.bytes(run, kind), BLOCK);
      return { tensors, values, kind, runs, bytes };
    });
    // All that can go wrong has been checked but memory, and that is taken at once.
    const total = plans.reduce((sum, { bytes }) => sum + bytes, 0);
    let next = this.#arena.reserve(total, `${rule.name}'s state`);
    const take = (bytes: number) => {
      next += bytes;
      return next - bytes;
    };
    const jobs: Job[] = [];
    this.groups = plans.map(({ tensors, values, kind, runs }) => {
      const hyper = take(BLOCK);
      jobs.push(...runs.map((run) => new Job(this.#arena, kind, hyper, take(Job.bytes(run, kind)), run)));
      return { params: tensors, hyper: live(rule, values, this.#arena.doubles(hyper, BLOCK / 8)) as Hyper };
    });
    this.#jobs = jobs;
  }

  /** How many steps were made. */
  get steps(): number {
    return this.#steps;
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

  /** Updates every parameter once, from the gradients as they stand. */
  step(): void {
    this.#arena.check(this.#rule.name);
    this.#steps += 1;
    for (const job of this.#jobs) {
      job.step = this.#steps;
      job.run(0, job.length);
    }
  }

  /** A tensor's state: a view of each slot, never a copy. A RangeError for a tensor that is not among the params. */
  state(tensor: Tensor): State {
    this.#arena.check(this.#rule.name);
    for (const { state } of this.#jobs) {
      const views = state.get(tensor);
      if (views !== undefined) return views as State;
    }
    throw new RangeError(`${this.#rule.name}: state must be asked of one of its params, got ${named(tensor)}`);
  }
}

function listGroups(rule: Rule, params: Params<object>): { tensors: readonly Tensor[]; own: Values }[] {
  const isGroup = (item: object): item is { params: Tensors } => !(item instanceof Tensor) && "params" in item;
  if (Array.isArray(params) && params.some((item) => typeof item === "object" && item !== null && isGroup(item))) {
    return params.map(({ params, ...own }, index) => ({
      tensors: listTensors(`${rule.name}: groups[${index}].params`, params),
      own,
    }));
  }
  return [{ tensors: listTensors(`${rule.name}: params`, params as Tensors), own: {} }];
}

function listTensors(title: string, params: Tensors): readonly Tensor[] {
  const expected = `${title} must be tensors, by name or in a list, or a list of groups { params, ...options }`;
  if (typeof params !== "object" || params === null) throw new TypeError(`${expected}, got ${show(params)}`);
  if (params instanceof Tensor) throw new TypeError(`${expected}, got one tensor; write [${params.name}]`);
  const tensors = Object.values(params);
  if (tensors.length === 0) throw new RangeError(`${expected}, got none`);
  for (const tensor of tensors) {
    if (!(tensor instanceof Tensor)) throw new TypeError(`${expected}, got ${show(tensor)} among them`);
  }
  return Object.freeze(tensors);
}

/** The arena that all the tensors share. */
function checkTensors(rule: Rule, tensors: readonly Tensor[]): Arena {
  const [{ arena }] = tensors as [Tensor];
  arena.check(rule.name);
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
