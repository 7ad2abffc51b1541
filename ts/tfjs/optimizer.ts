/** An optimizer of TensorFlow.js that updates variables by a rule of this package. */

import {
  engine,
  type NamedTensorMap,
  Optimizer as TfOptimizer,
  type Scalar,
  scalar,
  type serialization,
  type Tensor as TfTensor,
  tidy,
  Variable,
} from "@tensorflow/tfjs-core";
import { adapterOptions, matches, type Names, refuseZeroGrad } from "../adapter.js";
import { sameShape } from "../arena/tensor.js";
import { type Rule, sharedOptions } from "../optimizer/definition.js";
import { liveHyper, refuseOptions, resolveAll, resolveGroup, type Values, valuesAt } from "../optimizer/hyper.js";
import { type Inspect, shownAs } from "../optimizer/inspect.js";
import { checkShape } from "../optimizer/params.js";
import { AVERAGE } from "../optimizer/segment.js";
import type { Counts, StepReport } from "../optimizer/step.js";
import { show, wrongValue } from "../option.js";
import { INSPECT } from "../platform.js";
import { configOf } from "./config.js";
import { applyHyper, build, type Built } from "./core.js";
import { Entries, type Entry } from "./entries.js";
import { listGradients } from "./gradients.js";
import type { Settings, TfjsGroup } from "./groups.js";
import { type Host, hostOf, isGone, release } from "./host.js";
import { ITERATIONS, type NamedTensor, readWeights, startCounts, writeWeights } from "./weights.js";

const LIBRARY = "TensorFlow.js";

export abstract class TfjsOptimizer<Hyper = unknown> extends TfOptimizer {
  readonly #rule: Rule;
  readonly #options: Values;
  readonly #groups: readonly TfjsGroup<Hyper>[];
  readonly #settings: Settings;
  readonly #entries: Entries;
  #counts: Counts | undefined;
  #host: Host | undefined;
  #built: Built | undefined;
  #hyperChanged = false;
  #report: StepReport = { gradNorm: undefined, skipped: false, loss: undefined };
  /** The parameters of training, between `eval()` and `train()`. */
  #training: ReadonlyMap<Variable, Float32Array> | undefined;
  /** The averages that a program has, whose values each step makes visible. */
  readonly #averages = new Set<Variable>();
  /** The tensors that `getWeights` made, by their names. */
  readonly #exported = new Map<string, Variable>();

  /** @internal */
  constructor(rule: Rule, given: object) {
    super();
    const { groups, options } = adapterOptions(rule, LIBRARY, "variables", given);
    const all = resolveAll(rule, options);
    const group = (own: Values, variables: Names | undefined, path: string): TfjsGroup<Hyper> => {
      const values = resolveGroup(rule, all, own, path);
      const { hyper, stage } = liveHyper(rule, values, () => {
        if (typeof hyper.lr === "number" && hyper.lr !== 0) made.lastRate = hyper.lr;
        this.#hyperChanged = true;
      });
      const inspect = { [INSPECT]: () => ({ variables, ...hyper }) };
      const made = { hyper: hyper as Hyper, variables, values, own, stage, lastRate: 0, ...inspect };
      refuseOptions(made, rule, "group");
      return made;
    };
    this.#rule = rule;
    this.#options = options;
    const others = group({}, undefined, "");
    this.#groups = Object.freeze([...groups.map(({ names, own }, i) => group(own, names, `groups[${i}].`)), others]);
    const groupOf = (name: string) =>
      this.#groups.find(({ variables }) => variables === undefined || matches(variables, name))!;
    const shared = Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(sharedOptions, name)));
    this.#settings = { rule, groups: this.#groups, groupOf, shared };
    this.#entries = new Entries(this.#settings);
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](_: unknown, options: object, inspect: Inspect): string {
    const variables = this.#entries.all.map(({ name }) => name);
    const contents = { iterations: this.iterations, variables, ...this.#settings.shared, groups: this.#groups };
    return shownAs(this.#rule.name, contents, options, inspect);
  }

  /** Throws an error that explains why this is not needed. PyTorch's optimizers have this method. @internal */
  zeroGrad(): never {
    return refuseZeroGrad(this.#rule, LIBRARY);
  }

  /** The groups in the order in which they were given; then the group of the other variables. */
  get groups(): readonly TfjsGroup<Hyper>[] {
    return this.#groups;
  }

  /**
   * The live hyper-parameters of the only group.
   * @throws a TypeError if groups were given: each has its own, `groups[i].hyper`.
   */
  get hyper(): Hyper {
    const { length } = this.#groups;
    if (length > 1) {
      throw new TypeError(`${this.#rule.name}: there are ${length} groups, each with its own groups[i].hyper`);
    }
    return this.#groups[0]!.hyper;
  }

  /** The number of steps. */
  override get iterations(): number {
    return (this.#built?.core.internals.step.counts ?? this.#counts)?.steps ?? 0;
  }

  /** The norm of the gradients at the last step, if an option needs it, and whether that step was skipped. */
  get report(): StepReport {
    return this.#report;
  }

  /** The factor for the next loss: the option `lossScale`, or if that is "dynamic", its present value. */
  get lossScale(): number {
    return this.#built?.core.lossScale ?? (this.#counts ?? startCounts(this.#groups)).lossScale;
  }

  /**
   * The learning rate at the next step of the variables that are in no group: a number, also with a schedule. Setting it
   * replaces the rate or the schedule of all groups.
   */
  get learningRate(): number {
    const { values, hyper } = this.#groups.at(-1)!;
    return valuesAt(this.#rule, { ...values, ...(hyper as Values) }, this.iterations).lr as number;
  }

  set learningRate(lr: number) {
    this.#setAll({ lr });
  }

  /** Sets the learning rate of all groups. */
  setLearningRate(lr: number): void {
    this.learningRate = lr;
  }

  /**
   * Sets the hyper-parameter `momentum` of all groups, from the next step on.
   * @throws a TypeError for a rule that has none; a TypeError or RangeError for a value that is not allowed in one of the groups.
   * No group is changed then.
   */
  setMomentum(momentum: number): void {
    this.#setAll({ momentum });
  }

  #refuseEval(method: string): void {
    if (this.#training === undefined) return;
    throw new Error(`${this.#rule.name}: ${method}: the parameters are those of eval(); call train() first`);
  }

  #setAll(changes: Values): void {
    const staged = this.#groups.map(({ stage }) => stage(changes));
    for (const change of staged) change();
  }

  /**
   * Computes the gradients of `f` and updates the variables by them.
   * @param f returns the loss, a scalar
   * @param returnCost whether to return the loss; null by default
   * @param varList the variables to update, all that are trainable by default
   * @throws as `applyGradients`. The gradients are disposed then; TensorFlow.js's own `minimize` leaves them.
   */
  override minimize(f: () => Scalar, returnCost = false, varList?: Variable[]): Scalar | null {
    const cost = tidy(() => super.minimize(f, true, varList)!);
    if (returnCost) return cost;
    cost.dispose();
    return null;
  }

  /**
   * Updates variables by their gradients. Variables without a gradient, or with null, stay as they are, and so does
   * their state.
   * @param variableGradients a record of gradients by the names of variables, or a list of names and tensors
   * @throws a TypeError or RangeError for unknown names, and for gradients that do not fit their variables; an Error as
   * for a step. Nothing is updated then.
   */
  applyGradients(variableGradients: NamedTensorMap | NamedTensor[]): void {
    this.#run("applyGradients", variableGradients, (core) => {
      this.#report = { ...core.step() };
    });
  }

  /**
   * Adds estimates of the diagonal of the Hessian to their average, for rules that use one, such as `sophia`. Like
   * `applyGradients`, with estimates instead of gradients.
   * @throws a TypeError for other rules.
   */
  applyHessian(estimates: NamedTensorMap | NamedTensor[]): void {
    if (this.#rule.hessian === undefined) {
      throw new TypeError(`${this.#rule.name}: applyHessian() is for rules that use one, such as sophia`);
    }
    this.#run("applyHessian", estimates, (core) => core.hessian());
  }

  /**
   * Sets the parameters to the values for evaluation, for rules that train other values: the schedule-free rules use a mean.
   * Until `train()` is called, their optimizers make no step, and are not saved. For other rules it does nothing.
   * @throws an Error if state was loaded since the last step: it gets its variables at the next one.
   */
  eval(): void {
    if (this.#rule.evalParams === undefined || this.#training !== undefined) return;
    const { all } = this.#entries;
    if (all.length > 0 && all.every(({ variable }) => variable === undefined)) {
      throw new Error(
        `${this.#rule.name}: eval: the state that was loaded gets its variables at the next step; make it first`,
      );
    }
    const entries = this.#entries.all.filter(({ variable }) => variable !== undefined && !isGone(variable));
    if (entries.length === 0) return;
    tidy(() => {
      const training = new Map(
        entries.map(({ variable }) => [variable!, variable!.dataSync().slice() as Float32Array]),
      );
      const { core, host } = this.#build(entries);
      core.eval();
      host.publish(training.keys());
      this.#training = training;
      this.#forget();
    });
  }

  /** Restores the parameters of training exactly, after `eval()`. */
  train(): void {
    for (const [variable, values] of this.#training ?? []) {
      if (isGone(variable)) continue;
      const tensor = engine().makeTensor(values, variable.shape, "float32");
      variable.assign(tensor);
      tensor.dispose();
    }
    this.#training = undefined;
  }

  /**
   * The average of a variable's values, by the option `ema` or `swa`: the optimizer's own variable, which each step
   * updates.
   * @throws a RangeError if there is none.
   */
  average(variable: Variable): TfTensor {
    const entry = this.#entries.all.find(({ variable: own, name }) =>
      own ? own === variable : name === variable?.name,
    );
    const average = entry?.state.get(AVERAGE);
    if (average === undefined) {
      throw wrongValue(
        `${this.#rule.name}: average requires the option ema or swa, and a variable that the optimizer updates`,
        variable?.name,
      );
    }
    this.#averages.add(average);
    this.#host?.publish([average]);
    return average;
  }

  /**
   * The number of steps and the state, as TensorFlow.js's optimizers give it: `iter`, then each slot of all variables. The
   * tensors are the optimizer's own; do not dispose them.
   * @throws an Error between `eval()` and `train()`: the variables have other values then.
   */
  override async getWeights(): Promise<NamedTensor[]> {
    this.#refuseEval("getWeights");
    this.#harvest();
    this.#entries.dropDisposed(() => this.#forget());
    this.#host?.publish(this.#entries.state);
    const counts = this.#counts ?? startCounts(this.#groups);
    const weights = writeWeights(this.#settings, this.#entries.all, counts);
    const names = new Set(weights.map(({ name }) => name));
    for (const [name, variable] of this.#exported) {
      if (names.has(name)) continue;
      release([variable]);
      this.#exported.delete(name);
    }
    return weights.map(({ name, tensor, isOwn }) => ({ name, tensor: isOwn ? tensor : this.#export(name, tensor) }));
  }

  /**
   * Replaces the number of steps and the state by those that `getWeights` gave, here or in an optimizer of
   * TensorFlow.js. State belongs to variables by their names, if all saved names are there. Otherwise it belongs to the variables of the
   * next step by their order, if their number and shapes fit, or by their names without the numbers that TensorFlow.js appends.
   * @throws a TypeError or RangeError for weights that do not fit the rule; an Error between `eval()` and `train()`. Nothing
   * is changed then.
   */
  override async setWeights(weights: NamedTensor[]): Promise<void> {
    this.#refuseEval("setWeights");
    const { entries, counts } = await readWeights(this.#settings, weights);
    this.#built = undefined;
    this.#entries.replace(entries);
    this.#counts = counts;
  }

  /**
   * The options, with the present hyper-parameters, as data.
   * @throws a TypeError for a function, which is not data.
   */
  getConfig(): serialization.ConfigDict {
    const options = { ...this.#options, ...this.#present };
    return configOf(this.#rule, options, this.#groups.slice(0, -1)) as serialization.ConfigDict;
  }

  /** The number of steps as a tensor, as TensorFlow.js's optimizers give it. */
  override async saveIterations(): Promise<NamedTensor> {
    return { name: ITERATIONS, tensor: scalar(this.iterations, "int32") };
  }

  /** Disposes the state. The variables stay as they are, also after `eval()`. */
  override dispose(): void {
    this.#forget();
    this.#training = undefined;
    this.#averages.clear();
    this.#entries.replace();
    this.#host?.dispose();
    this.#host = undefined;
    this.#counts = undefined;
    release(this.#exported.values());
    this.#exported.clear();
  }

  /** The present hyper-parameters that were given, or are not the defaults. */
  get #present(): Values {
    const { hyper: options } = this.#rule;
    const isWanted = (name: string, value: unknown) => name in this.#options || value !== options[name]!.default;
    return Object.fromEntries(
      Object.entries(this.#groups.at(-1)!.hyper as Values).filter(([name, value]) => isWanted(name, value)),
    );
  }

  #run(method: string, given: NamedTensorMap | NamedTensor[], act: (core: Built["core"]) => void): void {
    const { name } = this.#rule;
    const title = `${name}: ${method}`;
    this.#refuseEval(method);
    const grads = listGradients(title, given);
    for (const { name, shape } of grads.keys()) checkShape(this.#rule, shape, () => `variable ${show(name)}`);
    if (grads.size === 0) return;
    const undo = this.#entries.undoBind();
    try {
      tidy(() => this.#stepOn(grads, act));
    } catch (error) {
      this.#forget();
      undo();
      throw error;
    }
  }

  #stepOn(grads: ReadonlyMap<Variable, TfTensor>, act: (core: Built["core"]) => void): void {
    const entries = this.#entries.bind([...grads.keys()], this.iterations, () => this.#forget());
    // A variable may be its own gradient, and is about to change.
    const read = [...grads.values()].map((grad) => (grad instanceof Variable ? grad.clone() : grad));
    let built: Built;
    do {
      const { host, tensors, copies } = (built = this.#build(entries, read.length));
      read.forEach((grad, i) => {
        const tensor = tensors[i]!;
        tensor.moveGrad(host.floats(host.gradient(grad, copies[i]!), tensor.size));
      });
    } while (built.host.memory.buffer !== built.buffer); // moving a gradient from another backend can make the memory grow
    const { core, host } = built;
    for (const { segments } of core.groups) for (const segment of segments) segment.followGrad();
    const moved = entries.filter(({ isDue }, i) => i < read.length || isDue);
    let isMicroBatch: boolean;
    try {
      act(core);
    } finally {
      isMicroBatch = core.internals.step.counts.microBatches > 0;
      entries.forEach((entry, i) => (entry.isDue = isMicroBatch && core.internals.isDue(built.tensors[i]!)));
    }
    if (isMicroBatch) return; // all variables are as before
    host.publish(moved.map(({ variable }) => variable!));
    for (const average of this.#averages) if (isGone(average)) this.#averages.delete(average);
    host.publish(this.#averages);
  }

  /** The optimizer of the core over some entries: the last one, if its arrays are where they were. */
  #build(entries: readonly Entry[], given = entries.length): Built {
    const { backend } = engine();
    if (this.#host?.backend !== backend) {
      this.#host?.publish(this.#entries.state);
      this.#forget();
      this.#host?.dispose();
      this.#host = hostOf(backend);
    }
    const host = this.#host!;
    const last = this.#built;
    const same =
      last?.given === given &&
      last.entries.length === entries.length &&
      entries.every((entry, i) => entry === last.entries[i]);
    const arrays = same ? last.arrays : entries.flatMap((entry) => this.#entries.arraysOf(host, entry));
    const addresses = arrays.map((variable) => host.address(variable));
    if (same && last.buffer === host.memory.buffer && addresses.every((address, i) => address === last.addresses[i])) {
      if (this.#hyperChanged) applyHyper(this.#settings, last);
      this.#hyperChanged = false;
      return last;
    }
    this.#forget();
    return (this.#built = build(this.#settings, { host, entries, given, arrays, addresses }, this.#counts));
  }

  /** Reads the progress of the core's optimizer. */
  #harvest(): void {
    if (this.#built === undefined) return;
    const { core, entries, tensors } = this.#built;
    const { counts } = core.internals.step;
    const steps = counts.steps - (this.#counts?.steps ?? 0);
    for (const { params, scalars, segmentOfEach } of core.groups) {
      params.forEach((tensor, i) => {
        const entry = entries[tensors.indexOf(tensor)]!;
        entry.scalars = scalars[scalars.length === 1 ? 0 : i];
        entry.since = segmentOfEach[i]!.since;
      });
    }
    for (const entry of this.#entries.all) {
      if (entries.includes(entry)) continue;
      entry.since += steps;
      entry.scalars = this.#entries.commonScalars(entry) ?? entry.scalars;
    }
    this.#counts = counts;
  }

  /** Reads the progress of the core's optimizer, and drops it. */
  #forget(): void {
    this.#harvest();
    this.#built = undefined;
    this.#hyperChanged = false;
  }

  #export(name: string, tensor: TfTensor): Variable {
    const known = this.#exported.get(name);
    if (known && !isGone(known) && sameShape(known.shape, tensor.shape)) known.assign(tensor);
    else {
      if (known) release([known]);
      this.#exported.set(name, engine().makeVariable(tensor, false) as Variable);
    }
    tensor.dispose();
    return this.#exported.get(name)!;
  }
}
