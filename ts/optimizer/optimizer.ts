/** An optimizer: groups of tensors, their live hyper-parameters, their state, and the step. */

import type { Arena } from "../arena/arena.js";
import type { Tensor } from "../arena/tensor.js";
import { largest, sum } from "../math.js";
import { refuseNames } from "../option.js";
import type { Pool } from "../threads/pool.js";
import type { Kernel } from "../wasm/kernels.js";
import { Checkpointable } from "./checkpointable.js";
import { type AsyncClosure, type Closure, type ClosureComputation, ClosureDriver, EVALUATE } from "./closure.js";
import { hasCommonScalars, type Rule } from "./definition.js";
import { Group, type Plan, planGroup } from "./group.js";
import { refusing, resolveAll, resolveGroup, type Values } from "./hyper.js";
import {
  checkShape,
  commonArena,
  type Given,
  listGroup,
  listGroups,
  named,
  type Params,
  type TensorGroup,
  tensorsOf,
} from "./params.js";
import { type Extent, extentWith, partsBytes } from "./parts.js";
import { byAverages, byKept, type Replacement } from "./replace.js";
import type { Segment, TensorViews } from "./segment.js";
import { Step, type StepReport, type StepRequest } from "./step.js";
import type { Perturbation, Wrapper } from "./wrapper.js";

/**
 * Plans a group.
 * @param all the options for all groups
 * @throws a TypeError or RangeError for wrong options, and for a shape that the rule does not accept.
 */
function checkedPlan(rule: Rule, all: Values, { tensors, options, path }: Given): Plan {
  const values = resolveGroup(rule, all, options, path);
  for (const tensor of tensors) checkShape(rule, tensor.shape, () => named(tensor));
  return planGroup(rule, values, tensors);
}

/** Updates tensors by a rule. Made by the rule's factory, such as `adamw(params, options)`. */
export class Optimizer<
  Hyper = any,
  State = any,
  GroupOptions = any,
  GradNorm = number | undefined,
> extends Checkpointable {
  readonly #rule: Rule;
  readonly #arena: Arena;
  readonly #step: Step;
  readonly #driver: ClosureDriver;
  readonly #wrappers = new Map<string, Wrapper>();
  /** The options for all groups. */
  readonly #options: Values;
  readonly #groups: Group<Hyper>[] = [];
  /** A frozen copy of the groups. Undefined after one was added, so that many can be added in linear time. */
  #listed: readonly Group<Hyper>[] | undefined;
  readonly #plans: Plan[] = [];
  readonly #segments = new Map<Tensor, Segment>();
  #extent: Extent = { length: 0, segments: 0 };
  /** The memory for the tasks of a step. */
  #tasks = { address: 0, bytes: 0 };
  /** The scratch memory that all groups share. */
  #scratch = { address: 0, bytes: 0 };
  /** Whether the parameters are exchanged with their averages. */
  #isSwapped = false;
  /** The parameters of training, between `eval()` and `train()`. */
  #training: ReadonlyMap<Tensor, Float32Array> | undefined;
  /** The asynchronous call that is replacing the parameters. */
  #replacing: string | undefined;

  /** @internal */
  constructor(rule: Rule, params: Params<object>, options: object) {
    super();
    const given = listGroups(rule, params);
    const arena = commonArena(
      rule.name,
      given.flatMap(({ tensors }) => tensors),
    );
    const all = resolveAll(rule, options);
    const plans = given.map((group) => checkedPlan(rule, all, group));
    this.#rule = rule;
    this.#arena = arena;
    this.#options = all;
    // Everything but memory is checked, and all memory is reserved at once. So a failure changes nothing.
    const address = this.#reserve(plans);
    this.#step = new Step(arena, rule, plans[0]!.values, (group) => this.#separate(group));
    this.#driver = new ClosureDriver(rule.name, arena);
    this.#addGroups(plans, address);
    Object.freeze(this);
  }

  /** Reserves memory for more groups, and scratch memory if they need more than there is. */
  #reserve(plans: readonly Plan[]): number {
    const needed = largest(plans.map(({ scratch }) => scratch));
    const scratch = needed > this.#scratch.bytes ? needed : 0;
    const bytes = scratch + sum(plans.map(({ bytes }) => bytes));
    const kernels = plans.flatMap(({ kernels }) => kernels);
    const what = `${this.#rule.name}'s state`;
    const address = this.#reserveWithTasks(bytes, extentWith(this.#extent, plans), what, kernels);
    if (scratch > 0) this.#scratch = { address, bytes: scratch };
    return address + scratch;
  }

  /**
   * Reserves memory, also for the tasks of a step of this extent if they have too little.
   * @param what the user of the bytes, for the RangeError if memory runs out
   */
  #reserveWithTasks(bytes: number, extent: Extent, what: string, kernels: readonly Kernel[] = []): number {
    const taskBytes = partsBytes(this.#rule, extent);
    const hasRoom = taskBytes <= this.#tasks.bytes;
    // Twice the required size once groups are added, so that the memory for many groups is linear in their number.
    const room = hasRoom ? 0 : this.#groups.length === 0 ? taskBytes : 2 * taskBytes;
    const address = this.#arena.reserve(bytes + room, what, kernels);
    if (!hasRoom) this.#tasks = { address: address + bytes, bytes: room };
    this.#extent = extent;
    return address;
  }

  #addGroups(plans: readonly Plan[], address: number): void {
    const RuleGroup = refusing(Group, this.#rule, "group");
    let next = address;
    for (const plan of plans) {
      const group = new RuleGroup<Hyper>(this.#arena, this.#rule, plan, next, this.#scratch.address, this.steps);
      next += plan.bytes;
      this.#plans.push(plan);
      this.#mapSegments(plan, group);
      this.#groups.push(group);
    }
    this.#listed = undefined;
    this.#step.setGroups(this.#arena, this.#groups, this.#tasks.address);
  }

  #mapSegments(plan: Plan, group: Group<any>): void {
    plan.segments.forEach((tensors, i) => {
      for (const tensor of tensors) this.#segments.set(tensor, group.segments[i]!);
    });
  }

  /**
   * Gives each tensor of a group its own segment, so that it can have its own number of steps.
   * @throws a RangeError if memory runs out.
   */
  #separate(group: Group<any>): void {
    if (group.isSeparate) return;
    const index = this.#groups.indexOf(group);
    const plan: Plan = { ...this.#plans[index]!, segments: group.params.map((tensor) => [tensor]) };
    const { length, segments } = this.#extent;
    const extent = { length, segments: segments + plan.segments.length - group.segments.length };
    const what = `${this.#rule.name}'s steps of each tensor`;
    const address = this.#reserveWithTasks(Group.separateBytes(plan), extent, what);
    group.separate(this.#arena, plan, address);
    this.#plans[index] = plan;
    this.#mapSegments(plan, group);
    this.#step.setGroups(this.#arena, this.#groups, this.#tasks.address);
  }

  /** The groups in the order in which they were given and added. One group, if tensors were given. */
  get groups(): readonly Group<Hyper>[] {
    if (this.#listed === undefined) {
      const listed = [...this.#groups];
      refuseNames(listed, () => `${this.#rule.name}: groups has no`, { push: "(); call addGroup(group)" });
      this.#listed = Object.freeze(listed);
    }
    return this.#listed;
  }

  /**
   * Adds a group. Its state starts at its initial values, and its steps are counted from now. Its schedules use the
   * steps of the optimizer.
   * @param group `{ params, ...options }`; missing options are those of the optimizer
   * @returns the new group
   * @throws a TypeError or RangeError for wrong arguments, as in the factory; an Error during a step. Nothing is added
   * then.
   */
  addGroup(group: TensorGroup<GroupOptions>): Group<Hyper> {
    const rule = this.#rule;
    const given = listGroup(rule, group, this.#groups.length);
    commonArena(rule.name, given.tensors, this.#segments);
    const title = `${rule.name}: addGroup`;
    const pool = this.#checkTraining(title);
    const [wrapper] = this.#wrappers.keys();
    if (wrapper) throw new Error(`${title}: ${wrapper}() has wrapped the optimizer; add groups before`);
    const added = checkedPlan(rule, this.#options, given);
    return pool.exclusively(title, () => {
      this.#addGroups([added], this.#reserve([added]));
      const last = this.#groups.at(-1)!;
      if (hasCommonScalars(rule)) {
        last.scalars = this.#groups.find(({ scalars }) => scalars.length > 0)!.scalars;
      }
      return last;
    });
  }

  /** The number of updates, including one that is under way. Skipped steps and micro-batches do not count. Schedules follow it. */
  get steps(): number {
    return this.#step.count;
  }

  /** The factor for the next loss: the option `lossScale`, or if that is "dynamic", its present value. */
  get lossScale(): number {
    return this.#step.lossScale.value;
  }

  /**
   * The live hyper-parameters of the only group. A change takes effect at the next step.
   * @throws a TypeError if there are several groups: each has its own, `groups[i].hyper`.
   */
  get hyper(): Hyper {
    const { length } = this.#groups;
    if (length > 1)
      throw new TypeError(`${this.#rule.name}: there are ${length} groups, each with its own groups[i].hyper`);
    return this.#groups[0]!.hyper;
  }

  /**
   * Updates every parameter once, by the gradients as they are now, on all threads of the arena.
   * @param closure writes the gradients at the present parameters and returns the loss. It is called once before the
   *   update. If `sam` wraps the optimizer, it is called again at the moved parameters.
   * @returns the norm of the gradients, the loss, and whether the step was skipped: one object, the same for every step
   * @throws an Error after `arena.free()`, while another step is under way in the arena, after a thread died in a step,
   * between `eval()` and `train()`, and while a step that calls a closure is under way; a RangeError for a gradient
   * that is not finite, if `nonFinite` is "throw", or if more steps in a row are skipped than `maxConsecutiveErrors` allows,
   * for a schedule that leaves the range of its option, and if memory runs out when tensors of a group first differ in
   * `requiresGrad`; a TypeError
   * for a closure that returns no number. An error of the closure is thrown again. After an error, parameters and
   * state are as before, unless a thread died during the step (`arena.torn`).
   */
  step(closure?: Closure): StepReport<GradNorm> {
    const { name } = this.#rule;
    const pool = this.#checkReady(name);
    if (closure !== undefined) this.#driver.run(this.#computation(), closure);
    else pool.step(name, this.#step);
    return this.#step.report as StepReport<GradNorm>;
  }

  /**
   * Makes a step without blocking the event loop. Until the promise is fulfilled, the step reads gradients and writes
   * parameters. Several calls run one after another. Each uses the hyper-parameters at the time of its call. With a
   * closure, which may be async, one call at a time is allowed.
   * @returns a promise of the step's report; it is rejected with the errors of `step`
   */
  async stepAsync(closure?: AsyncClosure): Promise<StepReport<GradNorm>> {
    const { name } = this.#rule;
    const pool = this.#checkReady(name);
    const request = this.#step.request(closure !== undefined);
    const report = () => ({ ...this.#step.report }) as StepReport<GradNorm>;
    try {
      if (closure === undefined) return await pool.stepAsync(name, this.#step, request, report);
      await this.#driver.runAsync(this.#computation(request), closure);
      return report();
    } finally {
      this.#step.settle();
    }
  }

  /**
   * Makes a step from the micro-batches since the last step, even if there are fewer than `accumulate`. Call it at the end of
   * an epoch. It uses the mean or the sum of their gradients. Without micro-batches it does nothing.
   * @returns the report, as from `step`
   * @throws as `step`.
   */
  flush(): StepReport {
    const title = `${this.#rule.name}: flush`;
    this.#checkTraining(title).step(title, this.#step.flush);
    return this.#step.report;
  }

  /** Like `flush`, but does not block the event loop, as `stepAsync`. */
  async flushAsync(): Promise<StepReport> {
    const title = `${this.#rule.name}: flushAsync`;
    const pool = this.#checkTraining(title);
    const request = this.#step.request(false, true);
    try {
      return await pool.stepAsync(title, this.#step.flush, request, () => ({ ...this.#step.report }));
    } finally {
      this.#step.settle();
    }
  }

  /** A step that calls a closure. */
  *#computation(request?: StepRequest): ClosureComputation<void> {
    const perturbations = this.#perturbations;
    this.#checkNotPerturbed(this.#rule.name);
    const loss = (yield EVALUATE) as number;
    try {
      for (const perturbation of perturbations) {
        yield* perturbation.apply();
        if (perturbation.isApplied) yield EVALUATE;
      }
      this.#step.begin(request);
      for (let task = this.#step.next(); task; task = this.#step.next()) yield task;
    } catch (error) {
      for (const perturbation of perturbations) perturbation.undo();
      throw error;
    }
    this.#step.loss = loss;
  }

  /**
   * The first half of a step of an optimizer that `sam` wraps, without a closure. Moves the parameters along the
   * gradients, to where the loss is larger. Compute the gradients there and call `step()`, which first restores the
   * parameters exactly. `train()` restores them without a step. Until then the optimizer cannot be saved.
   * @returns the norm of the gradients
   * @throws a TypeError for other optimizers; an Error as for `step`.
   */
  perturb(): number {
    const { name } = this.#rule;
    const [perturbation] = this.#perturbations;
    if (perturbation === undefined) throw new TypeError(`${name}: perturb() is for optimizers that sam() wrapped`);
    this.#arena.internals(name);
    this.#checkTraining(`${name}: perturb`);
    return this.#driver.runTasks(name, perturbation.apply());
  }

  /**
   * Averages an estimate of the diagonal of the Hessian, for rules that use one, such as `sophia`. Call it every ten
   * steps or so, with the estimate in the tensors' `grad`. It does not change `grad`. The estimate is taken as it is: divide
   * it by the loss scale yourself, and with `maximize` give that of the negated function. One that is infinite or NaN is
   * skipped with `nonFinite: "skip"` and with a dynamic `lossScale`.
   * @throws a TypeError for other rules; an Error as for `step`; a RangeError with `nonFinite: "throw"` for an estimate that
   * is not finite.
   */
  hessian(): void {
    const { name, hessian } = this.#rule;
    if (hessian === undefined) throw new TypeError(`${name}: hessian() is for rules that use one, such as sophia`);
    const title = `${name}: hessian`;
    this.#checkTraining(title).step(title, this.#step.averageHessian);
  }

  /**
   * Sets the parameters to the values for evaluation, for rules that train other values: the schedule-free rules use a
   * mean. Until `train()` is called, their optimizers neither step nor are saved. For other rules it does nothing, also with `ema` and
   * `swa`: `swapAverages()` is for averages.
   * @throws an Error during a step; a RangeError if there is no memory for a copy of the parameters. Nothing changes then.
   */
  eval(): void {
    this.#replace(this.#evaluation("eval"));
  }

  /**
   * Like `eval`, but does not block the event loop, as `stepAsync`. Until the promise is fulfilled, some parameters are
   * replaced and others are not, and other calls of the optimizer are errors.
   * @returns a promise that is rejected with the errors of `eval`
   */
  async evalAsync(): Promise<void> {
    await this.#replaceAsync(this.#evaluation("evalAsync"));
  }

  /**
   * Restores the parameters of training exactly, after `eval()` or `perturb()`. Changes of the parameters since then
   * are lost.
   * @throws an Error during a step.
   */
  train(): void {
    this.#replace(this.#restoration("train"));
  }

  /** Like `train`, but does not block the event loop. The same holds as for `evalAsync`. */
  async trainAsync(): Promise<void> {
    await this.#replaceAsync(this.#restoration("trainAsync"));
  }

  /**
   * The average of a tensor's parameters, by the option `ema` or `swa`: a view. It equals the parameters until the
   * average begins.
   * @throws a RangeError if there is no average, or for a tensor that is not among the params.
   */
  average(tensor: Tensor): Float32Array {
    const view = this.#findAverage(tensor);
    if (!this.#hasAverage(tensor)) view.set(tensor.data);
    return view;
  }

  /**
   * Exchanges all parameters with their averages, in place. Call it before an evaluation, and again before training
   * goes on. Between the calls the optimizer neither steps nor is saved. Errors as for `average`.
   * @throws an Error during a step, and after `eval()` or `perturb()`.
   */
  swapAverages(): void {
    this.#replace(this.#exchange("swapAverages"));
  }

  /** Like `swapAverages`, but does not block the event loop. The same holds as for `evalAsync`. */
  async swapAveragesAsync(): Promise<void> {
    await this.#replaceAsync(this.#exchange("swapAveragesAsync"));
  }

  /**
   * The state of a tensor: a view of each slot, never a copy.
   * @throws a RangeError for a tensor that is not among the params.
   */
  state(tensor: Tensor): State {
    const { state, added } = this.#viewsOf(tensor);
    return (added ? { ...state, ...added } : state) as State;
  }

  /** For checkpoints and wrappers. @internal */
  get internals() {
    return {
      rule: this.#rule,
      arena: this.#arena,
      step: this.#step,
      viewsOf: (tensor: Tensor) => this.#viewsOf(tensor),
      checkTraining: (title: string) => this.#checkTraining(`${title}: ${this.#rule.name}`),
      separate: (group: Group<any>) => this.#separate(group),
      /** Whether a tensor has a gradient in the step that is under way. */
      isDue: (tensor: Tensor) => this.#segments.get(tensor)!.isDue,
      wrappers: this.#wrappers as ReadonlyMap<string, Wrapper>,
      wrap: (name: string, wrapper: Wrapper) => {
        this.#wrappers.set(name, wrapper);
        this.#step.wrap(wrapper.phases ?? {});
      },
    };
  }

  #evaluation(method: string): Replacement | undefined {
    const { name, evalParams, byEvaluated } = this.#rule;
    const title = `${name}: ${method}`;
    this.#checkNotReplacing(title);
    if (evalParams === undefined || this.#training !== undefined) return undefined;
    this.#checkTraining(title);
    const kept = new Map<Tensor, Float32Array>();
    const evaluated = () =>
      this.groups.flatMap(({ params, snapshot }) => {
        const options = snapshot(Math.max(0, this.steps - 1));
        return params.map((tensor) => {
          // The state is a copy of the parameters from the tensor's first step on.
          const hasState = this.steps > this.#segments.get(tensor)!.since;
          return { tensor, state: hasState ? this.#findViews(tensor, method).state : undefined, options };
        });
      });
    return { method, computation: byEvaluated!(evalParams, evaluated, kept), done: () => (this.#training = kept) };
  }

  #restoration(method: string): Replacement {
    const title = `${this.#rule.name}: ${method}`;
    this.#checkNotReplacing(title);
    this.#driver.check(title);
    const computation = byKept(this.#perturbations, this.#training ?? new Map());
    return { method, computation, done: () => (this.#training = undefined) };
  }

  #exchange(method: string): Replacement {
    const title = `${this.#rule.name}: ${method}`;
    this.#checkNotReplacing(title);
    if (!this.#isSwapped) this.#checkTraining(title);
    const tensors = tensorsOf(this.groups);
    this.#checkHasAverage(title);
    const averaged = () =>
      tensors.map((tensor) => ({
        data: tensor.data,
        average: this.#findAverage(tensor),
        hasBegun: this.#hasAverage(tensor),
      }));
    return { method, computation: byAverages(averaged), done: () => (this.#isSwapped = !this.#isSwapped) };
  }

  #replace(replacement: Replacement | undefined): void {
    if (replacement === undefined) return;
    this.#driver.runTasks(`${this.#rule.name}: ${replacement.method}`, replacement.computation);
    replacement.done();
  }

  async #replaceAsync(replacement: Replacement | undefined): Promise<void> {
    if (replacement === undefined) return;
    this.#replacing = replacement.method;
    try {
      await this.#driver.runTasksAsync(`${this.#rule.name}: ${replacement.method}`, replacement.computation);
      replacement.done();
    } finally {
      this.#replacing = undefined;
    }
  }

  /** Throws after `arena.free()`, and while the parameters are being replaced. Returns the threads. */
  #checkNotReplacing(title: string): Pool {
    const { pool } = this.#arena.internals(title);
    if (this.#replacing) throw new Error(`${title}: ${this.#replacing}() is under way; await it first`);
    return pool;
  }

  #findAverage(tensor: Tensor): Float32Array {
    const { average } = this.#findViews(tensor, "average");
    this.#checkHasAverage(`${this.#rule.name}: average`);
    return average!;
  }

  #checkHasAverage(title: string): void {
    if (!this.#step.averages.exist) throw new RangeError(`${title} requires the option ema or swa, got neither`);
  }

  /** Whether the average includes parameters of the tensor. */
  #hasAverage(tensor: Tensor): boolean {
    return this.#step.averages.included(this.steps, this.#segments.get(tensor)!.joined) > 0;
  }

  get #perturbations(): readonly Perturbation[] {
    return [...this.#wrappers.values()].flatMap(({ perturbation }) => perturbation ?? []);
  }

  #viewsOf(tensor: Tensor): TensorViews {
    const views = this.#findViews(tensor, "state");
    const added = [...this.#wrappers.values()].map(({ state }) => state?.get(tensor));
    return added.some(Boolean) ? { ...views, added: Object.assign({}, ...added) } : views;
  }

  /** @throws a RangeError that names the method for a tensor that is not among the params. */
  #findViews(tensor: Tensor, method: string): TensorViews {
    const { name } = this.#rule;
    this.#arena.internals(name);
    const views = this.#segments.get(tensor)?.viewsOf(tensor);
    if (views) return views;
    throw new RangeError(`${name}: ${method}: ${named(tensor)} is not among the parameters of this optimizer`);
  }

  /** Throws unless a step can begin: from the parameters of training, or from those that `perturb()` moved. */
  #checkReady(title: string): Pool {
    const pool = this.#checkNotReplacing(title);
    if (this.#training) throw new Error(`${title}: the parameters are those of eval(); call train() first`);
    if (this.#isSwapped) {
      throw new Error(`${title}: the parameters are the averages; call swapAverages() again first`);
    }
    this.#driver.check(title);
    return pool;
  }

  /** Throws unless the parameters are those of training. */
  #checkTraining(title: string): Pool {
    const pool = this.#checkReady(title);
    this.#checkNotPerturbed(title);
    return pool;
  }

  #checkNotPerturbed(title: string): void {
    if (this.#perturbations.some(({ isApplied }) => isApplied)) {
      throw new Error(`${title}: the parameters are those of perturb(); call step() or train() first`);
    }
  }
}
