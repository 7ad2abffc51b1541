/** An optimizer of TensorFlow.js that updates variables by a rule of this package. */

import {
  engine,
  type NamedTensorMap,
  Optimizer as TfOptimizer,
  type serialization,
  Tensor as TfTensor,
  tidy,
  Variable,
} from "@tensorflow/tfjs-core";
import { adapterOptions, refuseZeroGrad } from "../adapter.js";
import { Arena } from "../arena/arena.js";
import type { Space } from "../arena/memory.js";
import { padded, sameShape, Tensor } from "../arena/tensor.js";
import { sharedOptions, type Rule, type Scalars, tensorKinds } from "../optimizer/definition.js";
import { liveHyper, refuseOptions, resolveAll, resolveGroup, type Values, variantOf } from "../optimizer/hyper.js";
import { type Inspect, shownAs } from "../optimizer/inspect.js";
import { Optimizer } from "../optimizer/optimizer.js";
import { AVERAGE, GRAD_SUM } from "../optimizer/segment.js";
import type { Counts, StepReport } from "../optimizer/step.js";
import { classOf, show } from "../option.js";
import { INSPECT } from "../platform.js";
import { CONTROL_BYTES, THREADS } from "../threads/control.js";
import { configOf } from "./config.js";
import { type Host, hostOf } from "./host.js";
import { type NamedTensor, readWeights, startCounts, writeWeights } from "./weights.js";

const LIBRARY = "TensorFlow.js";

/** A group of variables that share options. A variable belongs to the first group that matches its name. */
export interface VariableGroup {
  /** A pattern that the names of the group's variables match, or a list of the names. */
  readonly variables: RegExp | readonly string[];
}

/** A group, with its live hyper-parameters. */
export interface TfjsGroup<Hyper = unknown> {
  /** The live hyper-parameters: a change takes effect at the next step. A wrong value is an error and changes nothing. */
  readonly hyper: Hyper;
  /** The names that were given, or undefined for the group of all others. @internal */
  readonly variables: VariableGroup["variables"] | undefined;
  /** @internal */
  readonly values: Values;
  /** The group's own options, as they were given. @internal */
  readonly own: Values;
}

/** A variable that the optimizer updates, with its state. */
export interface Entry {
  name: string;
  /** Undefined for state that was loaded, until the first step. */
  variable: Variable | undefined;
  /** State, averages and sums, by the names of the slots. */
  readonly state: Map<string, Variable>;
  /** The number of steps of the optimizer in which this variable did not take part. */
  since: number;
  scalars: Scalars | undefined;
}

/** An optimizer of downhill (`core`) over some variables, as long as their arrays have the same addresses. */
interface Built {
  readonly host: Host;
  readonly buffer: ArrayBufferLike;
  readonly entries: readonly Entry[];
  readonly arrays: readonly Variable[];
  readonly addresses: readonly number[];
  readonly core: Optimizer<Values, unknown>;
  /** The tensor of each entry, and the address for a copy of its gradient, or 0. */
  readonly tensors: readonly Tensor[];
  readonly copies: readonly number[];
}

export abstract class TfjsOptimizer<Hyper = unknown> extends TfOptimizer {
  readonly #rule: Rule;
  readonly #options: Values;
  /** The last group has the variables that no other matches. */
  readonly #groups: readonly TfjsGroup<Hyper>[];
  #entries: Entry[] = [];
  #counts: Counts | undefined;
  #host: Host | undefined;
  #built: Built | undefined;
  #hyperChanged = false;
  #report: StepReport = { gradNorm: undefined, skipped: false, loss: undefined };
  /** The parameters of training, between `eval()` and `train()`. */
  #training: ReadonlyMap<Variable, Float32Array> | undefined;
  /** The tensors that `getWeights` made, by their names. */
  readonly #exported = new Map<string, Variable>();

  /** @internal */
  constructor(rule: Rule, given: object) {
    super();
    const { groups, options } = adapterOptions(rule, LIBRARY, "variables", given);
    const group = (own: Values, variables: VariableGroup["variables"] | undefined, path: string): TfjsGroup<Hyper> => {
      const values = resolveGroup(rule, resolveAll(rule, options), own, path);
      const { hyper } = liveHyper(rule, values, () => void (this.#hyperChanged = true));
      const made = { hyper: hyper as Hyper, variables, values, own, [INSPECT]: () => ({ variables, ...hyper }) };
      refuseOptions(made, rule, "group");
      return made;
    };
    this.#rule = rule;
    this.#options = options;
    this.#groups = Object.freeze([
      ...groups.map((given, i) => {
        const { variables, ...own } = checkGroup(`${rule.name}: groups[${i}]`, given);
        return group(own, variables, `groups[${i}].`);
      }),
      group({}, undefined, ""),
    ]);
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](_: unknown, options: object, inspect: Inspect): string {
    const variables = this.#entries.map(({ name }) => name);
    const contents = { iterations: this.iterations, variables, ...this.#shared, groups: this.#groups };
    return shownAs(this.#rule.name, contents, options, inspect);
  }

  /** For those who come from PyTorch. @internal */
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

  /** The learning rate of all groups, as TensorFlow.js's optimizers have it: the hyper-parameter `lr`. */
  get learningRate(): number {
    return (this.#groups.at(-1)!.hyper as { lr: number }).lr;
  }

  set learningRate(lr: number) {
    for (const { hyper } of this.#groups) (hyper as { lr: number }).lr = lr;
  }

  /** Sets the learning rate of all groups. */
  setLearningRate(lr: number): void {
    this.learningRate = lr;
  }

  /**
   * Sets the hyper-parameter `momentum` of all groups, from the next step on.
   * @throws a TypeError for a rule that has none.
   */
  setMomentum(momentum: number): void {
    for (const { hyper } of this.#groups) (hyper as { momentum: number }).momentum = momentum;
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
   * Other rules have nothing to do. Until `train()` is called, the optimizer makes no step.
   */
  eval(): void {
    if (this.#rule.evalParams === undefined || this.#training !== undefined) return;
    const entries = this.#entries.filter(({ variable }) => variable !== undefined && !variable.isDisposed);
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
      if (variable.isDisposed) continue;
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
    const entry = this.#entries.find((entry) => entry.variable === variable);
    const average = entry?.state.get(AVERAGE);
    if (average === undefined) {
      throw new RangeError(
        `${this.#rule.name}: average requires the option ema or swa, and a variable that the optimizer updates, got ${show(variable?.name)}`,
      );
    }
    this.#host?.publish([average]);
    return average;
  }

  /**
   * The number of steps and the state, as TensorFlow.js's optimizers give it: `iter`, then each slot of all variables. The
   * tensors are the optimizer's own; do not dispose them.
   */
  override async getWeights(): Promise<NamedTensor[]> {
    this.#harvest();
    this.#host?.publish(this.#entries.flatMap(({ state }) => [...state.values()]));
    const counts = this.#counts ?? startCounts(this.#groups);
    const weights = writeWeights(this.#rule, this.#groups, this.#entries, this.#groupOf, counts);
    return weights.map(({ name, tensor, isOwn }) => ({ name, tensor: isOwn ? tensor : this.#export(name, tensor) }));
  }

  /**
   * Replaces the number of steps and the state by those that `getWeights` gave, here or in an optimizer of
   * TensorFlow.js. State belongs to the variables of the next step by their names. If no name matches, it belongs to
   * them by their order.
   * @throws a TypeError or RangeError for weights that do not fit the rule; nothing is changed then.
   */
  override async setWeights(weights: NamedTensor[]): Promise<void> {
    const { entries, counts } = await readWeights(this.#rule, this.#groups, this.#groupOf, weights);
    this.#built = undefined;
    this.#clear();
    this.#entries = entries;
    this.#counts = counts;
  }

  /**
   * The options, with the present hyper-parameters, as data.
   * @throws a TypeError for a function, which is not data.
   */
  getConfig(): serialization.ConfigDict {
    const groups = this.#groups.slice(0, -1);
    return configOf(
      this.#rule,
      { ...this.#options, ...this.#changed(this.#groups.at(-1)!) },
      groups,
    ) as serialization.ConfigDict;
  }

  /** Disposes the state. The variables stay. */
  override dispose(): void {
    this.#forget();
    this.#clear();
    this.#host?.dispose();
    this.#host = undefined;
    this.#counts = undefined;
    for (const variable of this.#exported.values()) variable.dispose();
    this.#exported.clear();
  }

  /** The options that hold for all groups, as they were given. */
  get #shared(): Values {
    return Object.fromEntries(Object.entries(this.#options).filter(([name]) => Object.hasOwn(sharedOptions, name)));
  }

  readonly #groupOf = (name: string): TfjsGroup<Hyper> =>
    this.#groups.find(({ variables }) =>
      variables instanceof RegExp ? name.search(variables) >= 0 : (variables?.includes(name) ?? true),
    )!;

  /** The hyper-parameters of a group that are not the defaults. */
  #changed({ hyper }: TfjsGroup<Hyper>): Values {
    const { hyper: options } = this.#rule;
    return Object.fromEntries(
      Object.entries(hyper as Values).filter(([name, value]) => value !== options[name]!.default),
    );
  }

  #run(method: string, given: NamedTensorMap | NamedTensor[], act: (core: Built["core"]) => void): void {
    const { name } = this.#rule;
    const title = `${name}: ${method}`;
    if (this.#training) throw new Error(`${title}: the parameters are those of eval(); call train() first`);
    const grads = listGradients(title, given);
    for (const [variable] of grads) checkKind(this.#rule, variable);
    if (grads.size === 0) return;
    tidy(() => {
      const entries = this.#bind([...grads.keys()]);
      // A variable may be its own gradient, and is about to change.
      const read = [...grads.values()].map((grad) => (grad instanceof Variable ? grad.clone() : grad));
      let built: Built;
      do {
        const { host, tensors, copies } = (built = this.#build(entries));
        tensors.forEach((tensor, i) => {
          tensor.moveGrad(host.floats(host.gradient(read[i]!, copies[i]!), tensor.size));
        });
      } while (built.host.memory.buffer !== built.buffer); // moving a gradient from another backend can make the memory grow
      const { core, host } = built;
      for (const { segments } of core.groups) for (const segment of segments) segment.followGrad();
      act(core);
      host.publish(grads.keys());
    });
  }

  /** The entries of some variables, in order. Variables that are disposed lose their state. */
  #bind(variables: readonly Variable[]): Entry[] {
    this.#bindLoaded(variables);
    const gone = this.#entries.filter(({ variable, state }) =>
      [variable, ...state.values()].some((variable) => variable?.isDisposed),
    );
    if (gone.length > 0) {
      this.#forget();
      for (const { state } of gone) for (const variable of state.values()) variable.dispose();
      this.#entries = this.#entries.filter((entry) => !gone.includes(entry));
    }
    const known = new Map(this.#entries.map((entry) => [entry.variable, entry]));
    return variables.map((variable) => {
      let entry = known.get(variable);
      if (entry === undefined) {
        this.#harvest();
        entry = { name: variable.name, variable, state: new Map(), since: this.iterations, scalars: undefined };
        this.#entries.push(entry);
      }
      return entry;
    });
  }

  /**
   * Gives state that was loaded to the variables of a step: by name, or if no name is the same, by order, because a model that is
   * loaded a second time has other names.
   */
  #bindLoaded(variables: readonly Variable[]): void {
    const loaded = this.#entries.filter(({ variable }) => variable === undefined);
    if (loaded.length === 0) return;
    const named = variables.flatMap((variable) => {
      const entry = loaded.find(({ name }) => name === variable.name);
      return entry ? [[entry, variable] as const] : [];
    });
    const ordered = loaded.map((entry, i) => [entry, variables[i]!] as const);
    const isOrdered =
      named.length === 0 &&
      loaded.length === variables.length &&
      ordered.every(([entry, variable]) => this.#misfit(entry, variable) === undefined);
    const strangers = loaded.filter(({ name }) => engine().registeredVariables[name] === undefined);
    if (named.length === 0 && !isOrdered && strangers.length > 0) {
      throw new RangeError(
        `${this.#rule.name}: the state that was loaded must fit the variables of the step by name or by order, got ${show(loaded.map(({ name }) => name))} for ${show(variables.map(({ name }) => name))}`,
      );
    }
    const pairs = isOrdered ? ordered : named;
    for (const [entry, variable] of pairs) {
      const misfit = this.#misfit(entry, variable);
      if (misfit) throw new RangeError(`${this.#rule.name}: ${misfit}`);
    }
    for (const [entry, variable] of pairs) Object.assign(entry, { variable, name: variable.name });
  }

  /** The reason why state that was loaded does not fit a variable. */
  #misfit({ name, state }: Entry, variable: Variable): string | undefined {
    const { slots, shapes } = variantOf(this.#rule, this.#groupOf(name).values);
    for (const slot of new Set([...state.keys(), ...Object.keys(slots)])) {
      const expected = shapes[slot] ? shapes[slot](variable.shape) : variable.shape;
      const shape = state.get(slot)?.shape;
      if (expected === shape || (expected && shape && sameShape(shape, expected))) continue;
      return `the state ${slot} that was loaded for ${show(name)} has shape ${show(shape)}, variable ${show(variable.name)} needs ${show(expected)}`;
    }
    return undefined;
  }

  /** The optimizer of the core over some entries: the last one, if its arrays are where they were. */
  #build(entries: readonly Entry[]): Built {
    const { backend } = engine();
    if (this.#host?.backend !== backend) {
      this.#host?.publish(this.#entries.flatMap(({ state }) => [...state.values()]));
      this.#forget();
      this.#host?.dispose();
      this.#host = hostOf(backend);
    }
    const host = this.#host!;
    const last = this.#built;
    const same =
      last !== undefined &&
      entries.every((entry, i) => entry === last.entries[i]) &&
      last.entries.length === entries.length;
    const arrays = same ? last.arrays : entries.flatMap((entry) => this.#arraysOf(host, entry));
    const addresses = arrays.map((variable) => host.address(variable));
    if (same && last.buffer === host.memory.buffer && addresses.every((address, i) => address === last.addresses[i])) {
      if (this.#hyperChanged) this.#applyHyper(last);
      return last;
    }
    this.#forget();
    this.#built = this.#make(host, entries, arrays, addresses);
    return this.#built;
  }

  /** Returns the arrays of a variable and of its state. State that does not exist yet is made. */
  #arraysOf(host: Host, { name, variable, state }: Entry): Variable[] {
    const { slots, hasAverage, hasAccumulator, shapes } = variantOf(this.#rule, this.#groupOf(name).values);
    const start = (slot: string, from: number | "params") => {
      const shape = shapes[slot] ? shapes[slot](variable!.shape) : variable!.shape;
      if (shape !== undefined && !state.has(slot))
        state.set(slot, host.make(shape, from === "params" ? variable! : from));
    };
    for (const [slot, from] of Object.entries(slots)) start(slot, from);
    if (hasAverage) start(AVERAGE, "params");
    if (hasAccumulator) start(GRAD_SUM, 0);
    return [variable!, ...state.values()];
  }

  #make(host: Host, entries: readonly Entry[], arrays: readonly Variable[], addresses: readonly number[]): Built {
    const { agc, accumulate } = this.#groups[0]!.values as { agc: number; accumulate: number };
    const addressOf = new Map(arrays.map((variable, i) => [variable, addresses[i]!]));
    const bytes = (entry: Entry) => {
      const { size } = entry.variable!;
      return host.copies(size) || (agc < Infinity && accumulate === 1) ? 4 * padded(size) : 0;
    };
    const total = entries.reduce((sum, entry) => sum + bytes(entry), 0);
    let next = total > 0 ? host.region("gradients", total) : 0;
    const entryOf = new Map<Tensor, Entry>();
    const space: Space = {
      memory: host.memory,
      shared: classOf(host.memory.buffer) === "SharedArrayBuffer",
      control: new Int32Array(CONTROL_BYTES / 4),
      left: Infinity,
      used: 0,
      close() {},
      reserve: (bytes) => host.region("workspace", bytes),
      stateOf: (tensor, slot) => addressOf.get(entryOf.get(tensor)!.state.get(slot)!)!,
    };
    space.control[THREADS] = 1;
    // Allocating the workspace can make the memory grow, which detaches views. So views are made afterwards.
    let core: Built["core"];
    let tensors: readonly Tensor[];
    let buffer: ArrayBufferLike;
    const copies = entries.map((entry) => (bytes(entry) > 0 ? (next += bytes(entry)) - bytes(entry) : 0));
    do {
      buffer = host.memory.buffer;
      const arena = new Arena(space, { memory: host.memory });
      tensors = entries.map((entry, i) => {
        const { name, shape, size } = entry.variable!;
        const data = host.floats(addressOf.get(entry.variable!)!, size);
        const tensor = new Tensor(arena, name, shape, data, copies[i] === 0 ? data : host.floats(copies[i]!, size));
        entryOf.set(tensor, entry);
        return tensor;
      });
      try {
        core = this.#core(entries, tensors);
      } catch (error) {
        if (host.memory.buffer === buffer) throw error;
      }
    } while (host.memory.buffer !== buffer);
    return { host, buffer, entries, arrays, addresses, core: core!, tensors, copies };
  }

  #core(entries: readonly Entry[], tensors: readonly Tensor[]): Built["core"] {
    const groups = new Map<string, { group: TfjsGroup<Hyper>; members: number[] }>();
    entries.forEach((entry, i) => {
      const group = this.#groupOf(entry.name);
      const key = `${this.#groups.indexOf(group)} ${entry.since}`;
      const known = groups.get(key);
      if (known) known.members.push(i);
      else groups.set(key, { group, members: [i] });
    });
    const params = [...groups.values()].map(({ group, members }) => {
      const { fixed } = this.#rule;
      const options = Object.keys(fixed).map((name) => [name, group.values[name]]);
      return { ...Object.fromEntries(options), ...(group.hyper as Values), params: members.map((i) => tensors[i]!) };
    });
    const core = new Optimizer<Values, unknown>(this.#rule, params, this.#shared);
    if (this.#counts) core.internals.step.counts = this.#counts;
    // Scalars that follow from sums over all variables are the same for all.
    const { sums, perTensor } = this.#rule;
    const common = sums.length > 0 && !perTensor ? entries.find(({ scalars }) => scalars) : undefined;
    [...groups.values()].forEach(({ members }, i) => {
      const group = core.groups[i]!;
      const known = members.map((i) => entries[i]!);
      group.since = known.map(({ since }) => since);
      group.joined = known[0]!.since;
      group.scalars = group.scalars.map((scalars, i) => (common ?? known[i]!).scalars ?? scalars);
    });
    return core;
  }

  #applyHyper({ core, entries }: Built): void {
    const known = new Map<TfjsGroup<Hyper>, Values>();
    for (const group of core.groups) {
      const entry = entries.find(({ name }) => name === group.params[0]!.name)!;
      const own = this.#groupOf(entry.name);
      const values = known.get(own) ?? { ...(own.hyper as Values) };
      known.set(own, values);
      group.stage(values)();
    }
    this.#hyperChanged = false;
  }

  /** Reads the progress of the core's optimizer. */
  #harvest(): void {
    if (this.#built === undefined) return;
    const { core, entries, tensors } = this.#built;
    const { counts } = core.internals.step;
    const steps = counts.steps - (this.#counts?.steps ?? 0);
    for (const entry of this.#entries) if (!entries.includes(entry)) entry.since += steps;
    for (const group of core.groups) {
      group.params.forEach((tensor, i) => {
        const { scalars } = group;
        entries[tensors.indexOf(tensor)]!.scalars = scalars[scalars.length === 1 ? 0 : i];
      });
    }
    this.#counts = counts;
  }

  /** Reads the progress of the core's optimizer, and drops it. */
  #forget(): void {
    this.#harvest();
    this.#built = undefined;
    this.#hyperChanged = false;
  }

  #clear(): void {
    for (const { state } of this.#entries) for (const variable of state.values()) variable.dispose();
    this.#entries = [];
  }

  #export(name: string, tensor: TfTensor): Variable {
    const known = this.#exported.get(name);
    if (known && !known.isDisposed && sameShape(known.shape, tensor.shape)) known.assign(tensor);
    else {
      known?.dispose();
      this.#exported.set(name, engine().makeVariable(tensor, false) as Variable);
    }
    tensor.dispose();
    return this.#exported.get(name)!;
  }
}

/**
 * The group as it was given.
 * @throws a TypeError if it is none.
 */
function checkGroup(title: string, given: unknown): VariableGroup & Values {
  const group = (given ?? {}) as VariableGroup & Values;
  const { variables } = group;
  if (variables instanceof RegExp) return group;
  if (Array.isArray(variables) && variables.every((name) => typeof name === "string")) return group;
  throw new TypeError(
    `${title} must be { variables, ...options }, with a pattern such as /bias$/ or a list of names, got ${show(variables ?? given)}`,
  );
}

/**
 * The variables with a gradient, in the order in which they were given.
 * @throws a TypeError or RangeError for what does not fit.
 */
function listGradients(title: string, given: unknown): Map<Variable, TfTensor> {
  if (typeof given !== "object" || given === null) {
    throw new TypeError(
      `${title}: gradients must be a record by name, or a list of { name, tensor }, got ${show(given)}`,
    );
  }
  const list = Array.isArray(given)
    ? (given as (NamedTensor | undefined)[]).map((item) => [item?.name, item?.tensor] as const)
    : Object.entries(given as NamedTensorMap);
  const grads = new Map<Variable, TfTensor>();
  for (const [name, grad] of list) {
    const variable = typeof name === "string" ? engine().registeredVariables[name] : undefined;
    const what = `${title}: variable ${show(name)}`;
    if (variable === undefined)
      throw new RangeError(`${what} must be registered with TensorFlow.js, there is none of this name`);
    if (grad === null || grad === undefined) continue;
    if (!(grad instanceof TfTensor))
      throw new TypeError(`${what} must have a tensor as its gradient, got ${show(grad)}`);
    if (grad.isDisposed) throw new RangeError(`${what} must have a gradient, got a tensor that is disposed`);
    for (const { dtype } of [variable, grad]) {
      if (dtype !== "float32") throw new TypeError(`${what} and its gradient must be float32, got ${dtype}`);
    }
    if (!sameShape(variable.shape, grad.shape)) {
      throw new RangeError(
        `${what} has shape ${show(variable.shape)}, its gradient must have the same, got ${show(grad.shape)}`,
      );
    }
    const other = grads.get(variable);
    if (other && other.dataId !== grad.dataId) {
      throw new RangeError(`${what} must have one gradient, got two; add them, or apply one after the other`);
    }
    grads.set(variable, grad);
  }
  return grads;
}

/** Throws a RangeError for a variable whose shape the rule does not accept. */
function checkKind({ name, accepts }: Rule, variable: Variable): void {
  if (accepts === undefined) return;
  const { fits, is, other } = tensorKinds[accepts];
  if (fits(variable.shape)) return;
  throw new RangeError(
    `${name}: variable ${show(variable.name)} must be ${is}, got shape ${show(variable.shape)}; give it to another optimizer, such as ${other}`,
  );
}
