/** Optimizers for jax-js. They work like those of Optax: a call takes a state and returns the next state. Arrays are consumed. */

import { Array as JaxArray, jit, type JsTree, type JsTreeDef, numpy as np, tree } from "@jax-js/jax";
import { adapterOptions, matches, type Names, refuseZeroGrad } from "../adapter.js";
import { createArenaSync } from "../arena/arena.js";
import { sameShape, type Shape, Tensor } from "../arena/tensor.js";
import type { Rule } from "../optimizer/definition.js";
import { refusing, resolveAll, resolveGroup, type Values } from "../optimizer/hyper.js";
import { type Inspect, shownAs } from "../optimizer/inspect.js";
import { Optimizer } from "../optimizer/optimizer.js";
import type { StepReport } from "../optimizer/step.js";
import { isRecord, listNames, show, wrongKind, wrongValue } from "../option.js";
import { INSPECT } from "../platform.js";

const LIBRARY = "jax-js";

/** A tree of arrays: an array, or a list or a record of trees. */
export type ArrayTree = JsTree<JaxArray>;

/** Gradients of a tree of arrays. An array whose gradient is null stays as it is. */
export type GradientTree = JsTree<JaxArray | null>;

/** The type `Params` if it is that of a tree of arrays, also if it is an interface or has readonly lists. */
type Arrays<Params> = ArrayTree extends Params
  ? Params
  : Params extends JaxArray
    ? Params
    : Params extends (...args: never) => unknown
      ? never
      : Params extends object
        ? { readonly [Key in keyof Params]: Arrays<Params[Key]> }
        : never;

/** Gradients of a tree of arrays of the type `Params`. */
type Gradients<Params> = ArrayTree extends Params
  ? GradientTree
  : Params extends JaxArray
    ? JaxArray | null
    : { readonly [Key in keyof Params]: Gradients<Params[Key]> };

/** A group of arrays that share options. An array belongs to the first group that matches its name. */
export interface ArrayGroup {
  /** A pattern that the names match, or a list of them. The name of an array is its path in the tree, such as `layers.0.w`. */
  readonly params: Names;
}

/** The content of a state, until the state is consumed. */
interface Contents {
  /** The solver that made the state. The options are its own. */
  readonly solver: object;
  readonly optimizer: Optimizer<any, any>;
  readonly tensors: readonly Tensor[];
  readonly structure: JsTreeDef;
  /** The arrays that were returned last, whose values the tensors have. They are compared, never read. */
  last: readonly JaxArray[];
  /** Whether the program has the tensors. Then it may change their values at any time, such as by `load`. */
  isShared: boolean;
  /** The devices of the parameters. */
  devices: readonly JaxArray["device"][];
}

/**
 * The state of an optimizer: moments, parameters, steps. It is consumed like an array: `update` and `step` return the state to go
 * on with. `dispose()` frees the memory.
 */
export class SolverState<Hyper = unknown> {
  #contents: Contents | undefined;
  readonly #rule: Rule;

  /** @internal */
  constructor(rule: Rule, contents: Contents) {
    this.#rule = rule;
    this.#contents = contents;
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](depth: number, options: object, inspect: Inspect): string {
    const optimizer = this.#contents?.optimizer;
    return `state of ${optimizer ? optimizer[INSPECT](depth, options, inspect) : `${this.#rule.name} (consumed)`}`;
  }

  /** The contents, or an Error for a state that was consumed. @internal */
  contents(method: string): Contents {
    if (this.#contents) return this.#contents;
    throw new Error(
      `${this.#rule.name}: ${method}: the state was consumed by an earlier call or by dispose(); use the state that the call returned`,
    );
  }

  /** Gives the contents to a new state. @internal */
  moved(): SolverState<Hyper> {
    const next = makeState<Hyper>(this.#rule, this.contents("move"));
    this.#contents = undefined;
    return next;
  }

  /** The live hyper-parameters: a change takes effect at the next step. */
  get hyper(): Hyper {
    return this.contents("hyper").optimizer.hyper;
  }

  /** The live hyper-parameters of each group, in the order in which they were given; the last has all other arrays. */
  get groups(): readonly { readonly hyper: Hyper }[] {
    return this.contents("groups").optimizer.groups;
  }

  /** The number of steps. */
  get steps(): number {
    return this.contents("steps").optimizer.steps;
  }

  /** The factor for the next loss, by the option `lossScale`. */
  get lossScale(): number {
    return this.contents("lossScale").optimizer.lossScale;
  }

  /** The norm of the gradients at the last step, if an option needs it, and whether that step was skipped. */
  get report(): StepReport {
    return { ...this.contents("report").optimizer.internals.step.report };
  }

  /** The optimizer and its tensors, for `save` and `load`. */
  get internals(): { readonly optimizer: Optimizer<any, any>; readonly tensors: readonly Tensor[] } {
    const contents = this.contents("internals");
    contents.isShared = true;
    return contents;
  }

  /** Frees the memory. */
  dispose(): void {
    const { tensors } = this.contents("dispose");
    tensors[0]!.arena.free();
    this.#contents = undefined;
  }
}

/** Makes a state in which options that are written to a wrong place are errors. */
const makeState = <Hyper>(rule: Rule, contents: Contents) =>
  new (refusing(SolverState, rule, "state"))<Hyper>(rule, contents);

/** The functions of a rule. As everywhere in jax-js, arrays that are given are consumed; `tree.ref(params)` keeps them. */
export class Solver<Hyper = unknown> {
  readonly #rule: Rule;
  readonly #given: object;
  readonly #options: Values;
  readonly #groups: ReturnType<typeof adapterOptions>["groups"];

  /** @internal */
  constructor(rule: Rule, given: object) {
    const { groups, options } = adapterOptions(rule, LIBRARY, "params", given);
    const all = resolveAll(rule, options);
    resolveGroup(rule, all);
    groups.forEach(({ own }, i) => resolveGroup(rule, all, own, `groups[${i}].`));
    this.#rule = rule;
    this.#given = { ...given };
    this.#options = options;
    this.#groups = groups;
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](_: unknown, options: object, inspect: Inspect): string {
    return shownAs(this.#rule.name, this.#given, options, inspect);
  }

  /** Throws an error that explains why this is not needed. PyTorch's optimizers have this method. @internal */
  zeroGrad(): never {
    return refuseZeroGrad(this.#rule, LIBRARY);
  }

  /** The hyper-parameters are those of a state. @internal */
  get hyper(): never {
    throw new TypeError(`${this.#rule.name}: hyper is a property of the state; write state.hyper`);
  }

  /**
   * The state before the first step, of parameters in a tree.
   * @throws a TypeError or RangeError for anything but a tree of float32 arrays.
   */
  init(params: ArrayTree): SolverState<Hyper>;
  init<Params>(params: Params & Arrays<Params>): SolverState<Hyper>;
  init(params: ArrayTree): SolverState<Hyper> {
    const { name } = this.#rule;
    const [leaves, structure] = tree.flatten(params) as [JaxArray[], JsTreeDef];
    const names = namesIn(params);
    if (leaves.length === 0) throw new RangeError(`${name}: init: params must be a tree of arrays, got none`);
    checkLeaves(`${name}: init: params`, leaves, names);
    const empty = leaves.findIndex(({ size }) => size === 0);
    if (empty >= 0) {
      throw new RangeError(
        `${name}: init: params: ${show(names[empty])} must have elements, got shape ${show(leaves[empty]!.shape)}; leave it out of the tree`,
      );
    }
    checkReferences(`${name}: init`, leaves);
    const twice = names.find((name, i) => names.indexOf(name) < i);
    if (twice)
      throw new RangeError(`${name}: init: params must have different names, but ${show(twice)} is there twice`);
    const arena = createArenaSync({ threads: 1, shared: false });
    try {
      const made = arena.tensors(Object.fromEntries(leaves.map(({ shape }, i) => [names[i]!, shape as Shape])));
      const tensors = names.map((name) => made[name]!); // an object has names such as "1" first
      const optimizer = new Optimizer<any, any>(this.#rule, this.#params(tensors), this.#options);
      tensors.forEach(({ data }, i) => data.set(leaves[i]!.dataSync() as Float32Array));
      return makeState<Hyper>(this.#rule, {
        solver: this,
        optimizer,
        tensors,
        structure,
        last: leaves,
        isShared: false,
        devices: devicesOf(leaves),
      });
    } catch (error) {
      arena.free();
      throw error;
    }
  }

  /**
   * Makes a step and returns the new parameters. Gradients are copied in and parameters are copied out, once each. If
   * `params` are not the arrays that the last step returned, they are copied in as well. An array whose gradient is null
   * stays as it is, and so does its state.
   * @throws a TypeError or RangeError for trees that do not fit, and under `jit`, `grad` and `vmap`; an Error for a
   * state that was consumed. Nothing is consumed then.
   */
  step<Params extends ArrayTree>(
    params: Params,
    grads: GradientTree,
    state: SolverState<Hyper>,
  ): [Params, SolverState<Hyper>];
  step<Params>(
    params: Params & Arrays<Params>,
    grads: GradientTree | Gradients<Params>,
    state: SolverState<Hyper>,
  ): [Params, SolverState<Hyper>];
  step(params: ArrayTree, grads: GradientTree, state: SolverState<Hyper>): [ArrayTree, SolverState<Hyper>] {
    const [old, next] = this.#step("step", params, grads, state);
    for (const array of old) array.dispose();
    const { structure, last } = next.contents("step");
    return [tree.unflatten(structure, last), next];
  }

  /**
   * Makes a step and returns the updates, for `applyUpdates`. As `step`, with the arguments of optax. The sum of the parameters and the
   * updates may differ from the parameters of `step` in the last bit.
   */
  update<Params extends ArrayTree>(
    grads: GradientTree,
    state: SolverState<Hyper>,
    params: Params,
  ): [Params, SolverState<Hyper>];
  update<Params>(
    grads: GradientTree | Gradients<Params>,
    state: SolverState<Hyper>,
    params: Params & Arrays<Params>,
  ): [Params, SolverState<Hyper>];
  update(grads: GradientTree, state: SolverState<Hyper>, params: ArrayTree): [ArrayTree, SolverState<Hyper>] {
    const [old, next] = this.#step("update", params, grads, state);
    const contents = next.contents("update");
    const updates = contents.last.map((array, i) => difference(array, old[i]!));
    contents.last = [];
    return [tree.unflatten(contents.structure, updates), next];
  }

  /**
   * Adds estimates of the diagonal of the Hessian to their average, for rules that use one, such as `sophia`.
   * @throws a TypeError for other rules.
   */
  hessian(estimates: GradientTree, state: SolverState<Hyper>): SolverState<Hyper> {
    const contents = this.#contents("hessian", state);
    const { optimizer, tensors } = contents;
    if (this.#rule.hessian === undefined) optimizer.hessian(); // throws
    const arrays = this.#leaves("hessian: estimates", estimates, contents, true);
    checkReferences(`${this.#rule.name}: hessian`, arrays);
    giveGradients(tensors, arrays);
    optimizer.hessian();
    for (const array of arrays) array?.dispose();
    return state.moved();
  }

  /** The averages of the parameters, by the option `ema` or `swa`. The state stays. */
  average(state: SolverState<Hyper>): ArrayTree {
    const contents = this.#contents("average", state);
    return tree.unflatten(
      contents.structure,
      arraysOf(contents, (tensor) => contents.optimizer.average(tensor)),
    );
  }

  /** The parameters for evaluation: those of training, except for the schedule-free rules. The state stays. */
  evalParams(state: SolverState<Hyper>): ArrayTree {
    const { optimizer } = this.#contents("evalParams", state);
    optimizer.eval();
    try {
      return this.params(state);
    } finally {
      optimizer.train();
    }
  }

  /** The parameters of a state, such as one into which `load` has read a checkpoint. The state stays. */
  params(state: SolverState<Hyper>): ArrayTree {
    const contents = this.#contents("params", state);
    return tree.unflatten(contents.structure, arraysOf(contents));
  }

  /** The contents of a state that this solver made. */
  #contents(method: string, state: SolverState<Hyper>): Contents {
    const title = `${this.#rule.name}: ${method}: state must be what init(params) returned`;
    if (!(state instanceof SolverState)) throw wrongKind(title, state);
    const contents = state.contents(method);
    if (contents.solver === this) return contents;
    const { name } = contents.optimizer.internals.rule;
    throw new TypeError(
      `${title}, got a state of ${name} that another solver made; use that solver, and change options in state.hyper`,
    );
  }

  /** Makes a step. Returns the old parameters, which the caller must consume, and the new state. */
  #step(
    method: string,
    params: ArrayTree,
    grads: GradientTree,
    state: SolverState<Hyper>,
  ): [readonly JaxArray[], SolverState<Hyper>] {
    const contents = this.#contents(method, state);
    const { optimizer, tensors } = contents;
    const last = contents.isShared ? [] : contents.last;
    const old = this.#leaves(`${method}: params`, params, contents);
    const gradients = this.#leaves(`${method}: grads`, grads, contents, true);
    checkReferences(`${this.#rule.name}: ${method}`, [...old, ...gradients]);
    giveGradients(tensors, gradients);
    // Values of the tensors are kept where they are replaced, because the step may fail, for example in a schedule.
    const given = old.map((array, i) => (array === last[i] ? undefined : (array.ref.dataSync() as Float32Array)));
    const kept = tensors.map(({ data }, i) => given[i] && data.slice());
    const setAll = (all: readonly (Float32Array | undefined)[]) =>
      tensors.forEach(({ data }, i) => all[i] && data.set(all[i]));
    setAll(given);
    try {
      optimizer.step();
    } catch (error) {
      setAll(kept);
      throw error;
    }
    for (const gradient of gradients) gradient?.dispose();
    contents.devices = devicesOf(old);
    contents.last = arraysOf(contents);
    return [old, state.moved()];
  }

  #params(tensors: readonly Tensor[]) {
    const all = tensors.map(({ name }) => name);
    this.#groups.forEach(({ names }, i) => {
      if (names instanceof RegExp) return;
      const unknown = names.find((name) => !all.includes(name));
      if (unknown === undefined) return;
      throw wrongValue(
        `${this.#rule.name}: init: groups[${i}] must name arrays of params`,
        unknown,
        `; there are: ${listNames(all)}`,
      );
    });
    const groups = [...this.#groups, { names: /(?:)/, own: {} }].map(({ names, own }) => ({
      names,
      group: { ...own, params: [] as Tensor[] },
    }));
    for (const tensor of tensors) groups.find(({ names }) => matches(names, tensor.name))!.group.params.push(tensor);
    return groups.map(({ group }) => group);
  }

  /**
   * The arrays of a tree that has the structure and the shapes of the parameters.
   * @param mayBeNull whether a leaf may be null: it has no gradient
   */
  #leaves(what: string, given: GradientTree, { tensors, structure }: Contents, mayBeNull: true): (JaxArray | null)[];
  #leaves(what: string, given: ArrayTree, contents: Contents): JaxArray[];
  #leaves(what: string, given: GradientTree, { tensors, structure }: Contents, mayBeNull = false) {
    const title = `${this.#rule.name}: ${what}`;
    const [leaves, found] = tree.flatten(given) as [(JaxArray | null)[], JsTreeDef];
    checkStructure(
      `${title} must be a tree with the structure and the order of keys of init(params)`,
      structure,
      found,
    );
    const names = tensors.map(({ name }) => name);
    checkLeaves(title, leaves, names, mayBeNull);
    leaves.forEach((leaf, i) => {
      const { shape } = tensors[i]!;
      if (!leaf || sameShape(leaf.shape, shape)) return;
      throw wrongValue(`${title}: ${show(names[i])} must have shape ${show(shape)}`, leaf.shape);
    });
    return leaves;
  }
}

/** Writes gradients to their tensors. The arrays are not consumed. */
function giveGradients(tensors: readonly Tensor[], gradients: readonly (JaxArray | null)[]): void {
  tensors.forEach((tensor, i) => {
    const gradient = gradients[i]!;
    tensor.requiresGrad = gradient !== null;
    if (gradient) tensor.grad.set(gradient.ref.dataSync() as Float32Array);
  });
}

/** The new parameters less the old ones. The difference is zero where they are equal, also where they are infinite. */
const difference = /* @__PURE__ */ jit((next: JaxArray, old: JaxArray) =>
  np.where(next.ref.equal(old.ref), 0, next.sub(old)),
);

/**
 * Adds updates to parameters, as optax's function of this name does. Both are consumed. It works under `jit` as well.
 * @throws a TypeError or RangeError for trees that do not fit each other, or that are not of float32 arrays. Nothing is
 *   consumed then.
 */
export function applyUpdates<Params extends ArrayTree>(params: Params, updates: Params): Params;
export function applyUpdates<Params>(params: Params & Arrays<Params>, updates: Params & Arrays<Params>): Params;
export function applyUpdates(params: ArrayTree, updates: ArrayTree): ArrayTree {
  const [old, structure] = tree.flatten(params) as [JaxArray[], JsTreeDef];
  const [changes, found] = tree.flatten(updates) as [JaxArray[], JsTreeDef];
  checkStructure("applyUpdates: updates must be a tree with the structure of params", structure, found);
  const names = namesIn(params);
  old.forEach((param, i) => {
    if (!isTraced(param)) checkLeaves("applyUpdates: params", [param], [names[i]!]);
    if (!isTraced(changes[i])) checkLeaves("applyUpdates: updates", [changes[i]], [names[i]!]);
    const [expected, got] = [param.shape, changes[i]!.shape];
    if (sameShape(expected, got)) return;
    throw wrongValue(`applyUpdates: updates: ${show(names[i])} must have shape ${show(expected)}`, got);
  });
  checkReferences(
    "applyUpdates",
    [...old, ...changes].filter((array) => !isTraced(array)),
  );
  return tree.unflatten(
    structure,
    old.map((param, i) => param.add(changes[i]!)),
  );
}

/** Whether this is an array of any copy of jax-js, with or without values. */
const isOfAnyCopy = (leaf: unknown): leaf is object => typeof leaf === "object" && leaf !== null && "aval" in leaf;

/** Whether this is an array without values, in a function of `jit`, `grad` or `vmap`. */
const isTraced = (leaf: unknown): boolean => isOfAnyCopy(leaf) && !("dataSync" in leaf);

const devicesOf = (arrays: readonly JaxArray[]) => arrays.map(({ device }) => device);

/** Arrays with the values of each tensor, on the devices of the parameters. */
const arraysOf = ({ tensors, devices }: Contents, valuesOf = ({ data }: Tensor) => data): JaxArray[] =>
  tensors.map((tensor, i) => np.array(valuesOf(tensor), { shape: [...tensor.shape], device: devices[i]! }));

function checkLeaves(title: string, leaves: readonly unknown[], names: readonly string[], mayBeNull = false): void {
  leaves.forEach((leaf, i) => {
    if (mayBeNull && leaf === null) return;
    const name = show(names[i]);
    if (leaf instanceof JaxArray) {
      if (leaf.refCount <= 0) throw new RangeError(`${title}: ${name} was consumed; give a reference, tree.ref(…)`);
      if (leaf.dtype === np.float32) return;
      throw new TypeError(`${title}: ${name} must be float32, got ${leaf.dtype}`);
    }
    if (isTraced(leaf)) {
      throw new TypeError(
        `${title}: ${name} has no values, because it is traced by jit, grad or vmap; call the optimizer outside of them`,
      );
    }
    // Beside the copy that `import` loads, `require` loads a second one.
    const remedy = isOfAnyCopy(leaf)
      ? ' of a second copy; in CommonJS, await import("@jax-js/jax")'
      : isRecord(leaf)
        ? '; a record in a tree must be a plain object without the key "constructor"'
        : "";
    throw wrongKind(`${title}: ${name} must be an array of jax-js`, leaf, remedy);
  });
}

/** Throws a RangeError for an array that is given more often than it has references. */
function checkReferences(title: string, leaves: readonly (JaxArray | null)[]): void {
  const uses = new Map<JaxArray, number>();
  for (const leaf of leaves) if (leaf) uses.set(leaf, (uses.get(leaf) ?? 0) + 1);
  for (const [{ refCount }, count] of uses) {
    if (count <= refCount) continue;
    throw new RangeError(`${title}: an array is given ${count} times, but has ${refCount} references; write array.ref`);
  }
}

/** Throws a TypeError for a tree that has another structure. It shows the first difference and 60 characters on each side. */
function checkStructure(title: string, structure: JsTreeDef, found: JsTreeDef): void {
  if (structure.equals(found)) return;
  const [expected, got] = [`${structure}`, `${found}`];
  let at = 0;
  while (at < got.length && expected[at] === got[at]) at++;
  const around = (text: string) =>
    `${at > 60 ? "…" : ""}${text.slice(Math.max(0, at - 60), at + 60)}${text.length > at + 60 ? "…" : ""}`;
  throw new TypeError(`${title}, ${around(expected)}, got ${around(got)}`);
}

/** The paths of the leaves of a tree, in order. Leaves are what jax-js takes for leaves. */
function namesIn(given: unknown, path = ""): string[] {
  const inside = (item: unknown, key: string | number) => namesIn(item, path === "" ? `${key}` : `${path}.${key}`);
  if (Array.isArray(given)) return given.flatMap(inside);
  if (typeof given === "object" && given?.constructor === Object) {
    return Object.entries(given).flatMap(([key, item]) => inside(item, key));
  }
  return [path === "" ? "params" : path];
}
