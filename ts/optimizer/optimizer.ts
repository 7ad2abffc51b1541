/** An optimizer: groups of tensors, their live hyper-parameters, their state, and the step. */

import type { Arena } from "../arena/arena.js";
import type { Perturbation } from "../wrappers/perturbation.js";
import { type AsyncClosure, type Closure, type ClosureComputation, EVALUATE, ClosureDriver } from "./closure.js";
import type { Rule } from "./definition.js";
import { Group, type Plan, planGroup, type Snapshot } from "./group.js";
import { resolveRule, type Values } from "./hyper.js";
import type { TensorViews, Segment } from "./segment.js";
import { checkKind, commonArena, listGroup, listGroups, named, type Params, type Tensors } from "./params.js";
import { Checkpointable } from "./checkpointable.js";
import { Step, type StepReport, stepBytes } from "./step.js";
import type { Tensor } from "../arena/tensor.js";

/** What a wrapper adds to an optimizer, besides phases of its step. */
interface Wrapper {
  readonly options: Values;
  /** Of each tensor, what starts as its parameters. */
  readonly added?: ReadonlyMap<Tensor, Readonly<Record<string, Float32Array>>>;
  readonly ascent?: Perturbation;
}

/** Updates tensors by a rule. Made by the rule's factory, such as `adamw(params, options)`. */
export class Optimizer<Hyper, State, Own = object> extends Checkpointable {
  readonly #rule: Rule;
  readonly #arena: Arena;
  readonly #step: Step;
  readonly #guide: ClosureDriver;
  readonly #wrappers = new Map<string, Wrapper>();
  /** What was given for all groups. */
  readonly #options: object;
  #plans: readonly Plan[] = [];
  #groups: readonly Group<Hyper>[] = [];
  /** The parameters of training, while others stand in their place. */
  #training: ReadonlyMap<Tensor, Float32Array> | undefined;

  /** @internal */
  constructor(rule: Rule, params: Params<object>, options: object) {
    super();
    const given = listGroups(rule, params);
    const arena = commonArena(
      rule.name,
      given.flatMap(({ tensors }) => tensors),
    );
    const plans = given.map(({ tensors, own, path }) => {
      const values = resolveRule(rule, options, own, path);
      checkKind(rule, tensors);
      return planGroup(rule, values, tensors);
    });
    // All that can go wrong has been checked but memory, and that is taken at once.
    const reserved = this.#reserve(arena, rule, plans);
    this.#rule = rule;
    this.#arena = arena;
    this.#options = { ...options };
    this.#step = new Step(arena, rule, plans[0]!.values);
    this.#guide = new ClosureDriver(rule.name, arena);
    this.#lay(plans, reserved);
    Object.freeze(this);
  }

  /** Memory for more groups, and for the tables of steps over all. */
  #reserve(arena: Arena, rule: Rule, plans: readonly Plan[]): number {
    const bytes = plans.reduce((sum, { bytes }) => sum + bytes, scratchOf(plans));
    return arena.reserve(bytes + stepBytes(rule, [...this.#plans, ...plans]), `${rule.name}'s state`);
  }

  #lay(plans: readonly Plan[], address: number): void {
    let next = address + scratchOf(plans);
    const groups = plans.map((plan) => {
      const group = new Group<Hyper>(this.#arena, this.#rule, plan, next, address, this.steps);
      next += plan.bytes;
      return group;
    });
    this.#plans = [...this.#plans, ...plans];
    this.#groups = Object.freeze([...this.#groups, ...groups]);
    this.#step.lay(this.#arena, this.#groups, next);
  }

  /** The groups as they were given and added; one, if tensors were given. */
  get groups(): readonly Group<Hyper>[] {
    return this.#groups;
  }

  /**
   * Adds a group: its state begins anew, and its steps are counted from here; schedules go by those of all. Options that it does
   * not give are those that the optimizer was made with.
   * A TypeError or RangeError as where an optimizer is made; an Error during a step. Nothing is added then.
   */
  addGroup(group: { readonly params: Tensors } & Own): Group<Hyper> {
    const rule = this.#rule;
    const { tensors, own, path } = listGroup(rule, group, this.groups.length);
    commonArena(rule.name, [...this.groups.flatMap(({ params }) => params), ...tensors]);
    this.#checkTraining(`${rule.name}: addGroup`);
    const [wrapper] = this.#wrappers.keys();
    if (wrapper) throw new Error(`${rule.name}: addGroup: ${wrapper}() has wrapped the optimizer; add groups before`);
    const values = resolveRule(rule, this.#options, own, path);
    checkKind(rule, tensors);
    const added = planGroup(rule, values, tensors);
    return this.#arena.internals(rule.name).pool.exclusively(`${rule.name}: addGroup`, () => {
      this.#lay([added], this.#reserve(this.#arena, rule, [added]));
      const last = this.groups.at(-1)!;
      if (rule.sums.length > 0 && !rule.perTensor) last.scalars = this.groups[0]!.scalars;
      for (const tensor of last.params) this.internals.viewsOf(tensor).average?.set(tensor.data);
      return last;
    });
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
   * @param closure writes the gradients at the parameters as they stand and returns the loss; it is called first, and where
   * `sam` wrapped the optimizer, again where that climbed to
   * @returns the gradients' norm, the loss, and whether the step was left out: one object, the same for every step
   * An Error after `arena.free()`, while another step is under way in the arena, and once one was torn; a RangeError for
   * a gradient that is not finite, if `nonFinite` says so, and for a schedule that leaves its option's range; an Error between
   * `eval()` and `train()`, and while a step that calls a closure is under way; a TypeError for a closure that returns no
   * number; what the closure throws. Parameters are put back then.
   */
  step(closure?: Closure): StepReport {
    const { pool } = this.#arena.internals(this.#rule.name);
    this.#inTraining(this.#rule.name);
    if (closure !== undefined) return this.#guide.run(this.#course(), closure);
    pool.step(this.#rule.name, this.#step);
    return this.#step.report;
  }

  /**
   * The same without holding up the event loop; errors reject, and the report is the step's own object; until it is done, gradients are read and parameters written. Several are
   * made one after the other, each with the hyper-parameters as they are when it is asked for. With a closure, which may be
   * async, it is one at a time.
   */
  async stepAsync(closure?: AsyncClosure): Promise<StepReport> {
    const { pool } = this.#arena.internals(this.#rule.name);
    this.#inTraining(this.#rule.name);
    const snapshots = this.groups.map(({ snapshot }) => snapshot);
    if (closure !== undefined) return { ...(await this.#guide.runAsync(this.#course(snapshots), closure)) };
    return pool.stepAsync(this.#rule.name, this.#step, snapshots, () => ({ ...this.#step.report }));
  }

  /** A step that calls a closure. */
  *#course(snapshots?: readonly Snapshot[]): ClosureComputation<StepReport> {
    const ascent = this.#ascent;
    ascent?.check(this.#rule.name);
    const loss = (yield EVALUATE) as number;
    try {
      if (ascent) {
        yield* ascent.apply();
        if (ascent.isApplied) yield EVALUATE;
      }
      this.#step.begin(snapshots);
      for (let task = this.#step.next(); task; task = this.#step.next()) yield task;
    } catch (error) {
      ascent?.undoNow();
      throw error;
    }
    this.#step.report.loss = loss;
    return this.#step.report;
  }

  /**
   * The first phase of a step by hand, of an optimizer that `sam` wrapped: from the gradients as they stand, moves the
   * parameters to where the loss is near its highest around. The gradients there are for `step()`, which first puts the
   * parameters back, to the bit; so does `train()`, for no step. Until then the optimizer is not saved.
   * @returns the gradients' norm
   * A TypeError for other optimizers; an Error as for `step`.
   */
  perturb(): number {
    const { name } = this.#rule;
    const ascent = this.#ascent;
    if (ascent === undefined) throw new TypeError(`${name}: perturb() is for optimizers that sam() wrapped`);
    this.#arena.internals(name);
    this.#checkTraining(`${name}: perturb`);
    return this.#guide.tasks(ascent.apply());
  }

  /**
   * Takes an estimate of the Hessian's diagonal in, as it stands in the tensors' gradients: for rules that average such, as
   * `sophia` does, every ten steps or so. Gradients are left as they are. A TypeError for other rules; an Error as for `step`.
   */
  hessian(): void {
    const { name, hessian } = this.#rule;
    if (hessian === undefined) throw new TypeError(`${name}: hessian() is for rules that use one, such as sophia`);
    this.#arena.internals(name).pool.step(`${name}: hessian`, this.#step.estimate);
  }

  /**
   * Puts in the parameters' place what is best to use, where that is not what training goes on from: the mean, for the
   * schedule-free rules; for others nothing happens. Until `train()` is called, the optimizer neither steps nor is saved.
   * An Error during a step.
   */
  eval(): void {
    const { name, evalParam } = this.#rule;
    const { pool } = this.#arena.internals(name);
    if (evalParam === undefined || this.#training !== undefined) return;
    this.#checkTraining(`${name}: eval`);
    pool.exclusively(`${name}: eval`, () => {
      const training = new Map<Tensor, Float32Array>();
      for (const { params, snapshot } of this.groups) {
        const options = snapshot(Math.max(0, this.steps - 1));
        for (const tensor of params) {
          const { data } = tensor;
          training.set(tensor, data.slice());
          if (this.steps === 0) continue; // state follows the parameters from the first step on
          const slots = Object.entries(this.internals.viewsOf(tensor).state);
          const state: Record<string, number> = {};
          for (let i = 0; i < data.length; i++) {
            for (const [slot, view] of slots) state[slot] = view[i]!;
            data[i] = evalParam(data[i]!, state, options);
          }
        }
      }
      this.#training = training;
    });
  }

  /** Puts the parameters back from which training goes on, to the bit; what `eval()` or `perturb()` put in their place is lost. */
  train(): void {
    const { name } = this.#rule;
    const { pool } = this.#arena.internals(name);
    this.#guide.check(`${name}: train`);
    pool.exclusively(`${name}: train`, () => {
      this.#ascent?.undoNow();
      for (const [{ data }, kept] of this.#training ?? []) data.set(kept);
      this.#training = undefined;
    });
  }

  /** The parameters' average, by the option `ema` or `swa`: a view; the parameters until it begins. A RangeError if there is none. */
  average(tensor: Tensor): Float32Array {
    const view = this.#ofJob(
      (job) => job.viewsOf(tensor)?.average,
      () =>
        `average must be asked of one of its params, of an optimizer made with the option ema or swa, got ${named(tensor)}`,
    );
    if (this.#step.averaged === 0) view.set(tensor.data);
    return view;
  }

  /**
   * Exchanges all parameters with their averages, in place: for an evaluation, and again to go on; in between nothing is
   * refused. As `average`; an Error during a step, and between `eval()` or `perturb()` and what ends them.
   */
  swapAverages(): void {
    const title = `${this.#rule.name}: swapAverages`;
    this.#checkTraining(title);
    const pairs = this.groups.flatMap(({ params }) =>
      params.map((tensor) => [tensor.data, this.average(tensor)] as const),
    );
    this.#arena.internals(this.#rule.name).pool.exclusively(title, () => {
      for (const [data, average] of pairs) {
        const kept = data.slice();
        data.set(average);
        average.set(kept);
      }
    });
  }

  /** A tensor's state: a view of each slot, never a copy. A RangeError for a tensor that is not among the params. */
  state(tensor: Tensor): State {
    const { state, added } = this.#viewsOf(tensor, "state must be asked of one of its params, got");
    return (added ? { ...state, ...added } : state) as State;
  }

  /** What checkpoints and wrappers need. @internal */
  get internals() {
    return {
      rule: this.#rule,
      arena: this.#arena,
      step: this.#step,
      viewsOf: (tensor: Tensor) => this.#viewsOf(tensor, "no"),
      checkTraining: (title: string) => this.#checkTraining(`${title}: ${this.#rule.name}`),
      wrappers: this.#wrappers,
    };
  }

  get #ascent(): Perturbation | undefined {
    return this.#wrappers.get("sam")?.ascent;
  }

  /** What there is of a tensor. */
  #viewsOf(tensor: Tensor, missing: string): TensorViews {
    const held = this.#ofJob(
      (job) => job.viewsOf(tensor),
      () => `${missing} ${named(tensor)}`,
    );
    const added = [...this.#wrappers.values()].map(({ added }) => added?.get(tensor));
    return added.some(Boolean) ? { ...held, added: Object.assign({}, ...added) } : held;
  }

  /** Throws unless a step may be made: from the parameters of training, or where `perturb()` put others. */
  #inTraining(title: string): void {
    if (this.#training) throw new Error(`${title}: the parameters are those of eval(); call train() first`);
    this.#guide.check(title);
  }

  /** Throws unless the parameters are those of training. */
  #checkTraining(title: string): void {
    this.#inTraining(title);
    this.#ascent?.check(title);
  }

  /** What the first job has that has it. */
  #ofJob<Found>(find: (job: Segment) => Found | undefined, missing: () => string): Found {
    this.#arena.internals(this.#rule.name);
    for (const { segments } of this.groups) {
      for (const job of segments) {
        const found = find(job);
        if (found !== undefined) return found;
      }
    }
    throw new RangeError(`${this.#rule.name}: ${missing()}`);
  }
}

/** What groups share while a tensor is updated. */
const scratchOf = (plans: readonly Plan[]) => Math.max(...plans.map(({ scratch }) => scratch));
