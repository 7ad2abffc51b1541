/** The variables that an optimizer updates, with their state. State also consists of variables, which belong to the optimizer. */

import { engine, type Variable } from "@tensorflow/tfjs-core";
import { sameShape } from "../arena/tensor.js";
import { hasCommonScalars, type Scalars } from "../optimizer/definition.js";
import { variantOf } from "../optimizer/hyper.js";
import { AVERAGE, GRAD_SUM } from "../optimizer/segment.js";
import { show } from "../option.js";
import type { Settings } from "./groups.js";
import { type Host, isGone, release } from "./host.js";

/** A variable that the optimizer updates, with its state. */
export interface Entry {
  /**
   * The name of the variable, or the one that it had when its state was saved: TensorFlow.js gives the variables of a
   * loaded model other names. Groups depend on it.
   */
  readonly name: string;
  /** Undefined for state that was loaded, until the first step. */
  variable: Variable | undefined;
  /** State, averages and sums, by the names of the slots. */
  readonly state: Map<string, Variable>;
  /** The number of steps of the optimizer in which this variable did not take part. */
  since: number;
  /** The number of steps of the optimizer before this variable joined it. */
  readonly joined: number;
  /** Whether it had a gradient in a micro-batch of the next step. */
  isDue: boolean;
  scalars: Scalars | undefined;
}

/** The registered variable of this name that a program trains. */
function trainable(name: string): Variable | undefined {
  const registered = engine().registeredVariables[name];
  return registered?.trainable ? registered : undefined;
}

/** The name of a variable without the number that TensorFlow.js appends to a name that was used before. */
const baseName = (name: string): string => name.replace(/_\d+$/, "");

/** Items by the names without numbers; empty if two have the same. */
function byBaseName<Item extends { readonly name: string }>(items: readonly Item[]): ReadonlyMap<string, Item> {
  const known = new Map(items.map((item) => [baseName(item.name), item]));
  return known.size === items.length ? known : new Map();
}

export class Entries {
  readonly #settings: Settings;
  #all: readonly Entry[] = [];
  /** Whether the variables have other numbers after their names than when their state was saved. */
  #areRenumbered = false;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  get all(): readonly Entry[] {
    return this.#all;
  }

  /** The state of all variables. */
  get state(): Variable[] {
    return this.#all.flatMap(({ state }) => [...state.values()]);
  }

  /** Disposes the state, and takes other entries instead. */
  replace(entries: readonly Entry[] = []): void {
    release(this.state);
    this.#all = entries;
    this.#areRenumbered = false;
  }

  /**
   * Returns the function that undoes a `bind` after it, because its step failed: variables that joined leave again, and loaded
   * state has no variables again.
   */
  undoBind(): () => void {
    const before = new Map(this.#all.map((entry) => [entry, entry.variable]));
    const areRenumbered = this.#areRenumbered;
    return () => {
      for (const entry of this.#all) {
        if (before.has(entry)) entry.variable = before.get(entry);
        else release(entry.state.values());
      }
      this.#all = this.#all.filter((entry) => before.has(entry));
      this.#areRenumbered = areRenumbered;
    };
  }

  /**
   * Drops the entries of variables that are disposed, and disposes their state.
   * @param beforeChange called before entries are removed
   */
  dropDisposed(beforeChange: () => void): void {
    const gone = this.#all.filter(({ variable, state }) =>
      [variable, ...state.values()].some((variable) => variable && isGone(variable)),
    );
    if (gone.length === 0) return;
    beforeChange();
    for (const { state } of gone) release(state.values());
    this.#all = this.#all.filter((entry) => !gone.includes(entry));
  }

  /**
   * The entries of some variables, in order, and then of those that had a gradient in a micro-batch of the next step.
   * All others follow if there are averages, or if the rule's scalars follow from sums over all variables: then a step
   * updates the averages or the scalars of each variable, as in the core.
   * @param since the number of steps before this one, for new entries
   * @param beforeChange called before entries are added or removed
   */
  bind(variables: readonly Variable[], since: number, beforeChange: () => void): Entry[] {
    this.#bindLoaded(variables);
    this.dropDisposed(beforeChange);
    const known = new Map(this.#all.map((entry) => [entry.variable, entry]));
    const added = variables
      .filter((variable) => !known.has(variable))
      .map((variable): Entry => ({
        name: variable.name,
        variable,
        state: new Map(),
        since,
        joined: since,
        isDue: false,
        scalars: undefined,
      }));
    if (added.length > 0) {
      const names = new Set(this.#all.map(({ name }) => name));
      const taken = added.find(({ name }) => names.has(name));
      if (taken) {
        throw new RangeError(
          `${this.#settings.rule.name}: variable ${show(taken.name)} cannot join: state of another variable was loaded under this name; give it another name, or another optimizer`,
        );
      }
      beforeChange();
    }
    for (const entry of added) {
      known.set(entry.variable, entry);
      entry.scalars = this.commonScalars(entry);
    }
    this.#all = [...this.#all, ...added];
    const { rule, groups } = this.#settings;
    const goOn = hasCommonScalars(rule) || variantOf(rule, groups[0]!.values).hasAverage;
    const bound = new Set(variables.map((variable) => known.get(variable)!));
    for (const entry of this.#all) if (entry.variable && (entry.isDue || goOn)) bound.add(entry);
    return [...bound];
  }

  /**
   * The scalars of a variable that does not take part, for rules with common scalars: those of its group, its own, or those of any
   * other.
   */
  commonScalars({ name, scalars }: Entry): Scalars | undefined {
    const { rule, groupOf } = this.#settings;
    if (!hasCommonScalars(rule)) return undefined;
    const known = this.#all.filter(({ variable, scalars }) => variable && scalars);
    return known.find((entry) => groupOf(entry.name) === groupOf(name))?.scalars ?? scalars ?? known[0]?.scalars;
  }

  /** Returns the arrays of a variable and of its state. State that does not exist yet is made. */
  arraysOf(host: Host, { name, variable, state }: Entry): Variable[] {
    const { slots, hasAverage, hasAccumulator, shapes } = this.#variantOf(name);
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

  /**
   * Assigns loaded state to variables without state: by name, if there are variables of all saved names. Otherwise, at
   * the first step, by order, if number and shapes fit: a model that is loaded beside another has other names. If some
   * of its variables have no gradient, the order does not fit. Then by the names without the numbers at their ends.
   */
  #bindLoaded(given: readonly Variable[]): void {
    const loaded = this.#all.filter(({ variable }) => variable === undefined);
    if (loaded.length === 0) return;
    const { name } = this.#settings.rule;
    const bound = new Set(this.#all.map(({ variable }) => variable));
    const variables = given.filter((variable) => !bound.has(variable));
    const nameOf = this.#areRenumbered ? baseName : (name: string) => name;
    const own = new Map(variables.map((variable) => [nameOf(variable.name), variable]));
    const isFirst = loaded.length === this.#all.length;
    // Variables that rest are registered. State of optimizers is also registered, and is not trainable.
    const present = ({ name }: Entry) => own.get(nameOf(name)) ?? trainable(name);
    const areAllPresent = loaded.every(present);
    const fitsByName = loaded.some(({ name }) => own.has(name));
    if (isFirst && !(areAllPresent && fitsByName)) {
      const isOrdered =
        loaded.length === variables.length &&
        loaded.every((entry, i) => this.#misfit(entry, variables[i]!) === undefined);
      if (isOrdered) {
        loaded.forEach((entry, i) => (entry.variable = variables[i]));
        return;
      }
      if (!fitsByName) {
        const renumbered = this.#renumbered(loaded, variables);
        if (renumbered) {
          for (const [entry, variable] of renumbered) entry.variable = variable;
          this.#areRenumbered = true;
          return;
        }
        // They may rest. But a gradient of a micro-batch must not be lost.
        if (areAllPresent && !loaded.some(({ isDue }) => isDue)) return;
        throw new RangeError(
          `${name}: the state that was loaded must fit the variables of the first step by name or by order, got ${show(loaded.map(({ name }) => name))} for ${show(variables.map(({ name }) => name))}; make the first step with the variables of the model that was saved`,
        );
      }
    }
    // Variables that rest also get their state: they may have had a gradient in a micro-batch.
    const pairs = loaded.flatMap((entry) => {
      const variable = isFirst ? present(entry) : own.get(nameOf(entry.name));
      return variable && !bound.has(variable) ? [{ entry, variable, misfit: this.#misfit(entry, variable) }] : [];
    });
    const wrong = pairs.find(({ variable, misfit }) => misfit && !this.#areRenumbered && own.has(variable.name));
    if (wrong) throw new RangeError(`${name}: ${wrong.misfit}`);
    for (const { entry, variable, misfit } of pairs) if (!misfit) entry.variable = variable;
  }

  /** The loaded state of each variable, by the names without numbers; undefined if that does not fit. */
  #renumbered(loaded: readonly Entry[], variables: readonly Variable[]): [Entry, Variable][] | undefined {
    const entries = byBaseName(loaded);
    const pairs = [...byBaseName(variables)].flatMap(([name, variable]): [Entry, Variable][] => {
      const entry = entries.get(name);
      return entry && this.#misfit(entry, variable) === undefined ? [[entry, variable]] : [];
    });
    if (pairs.length === 0 || pairs.length < variables.length) return undefined;
    // All variables of the other model must be there, also those that rest.
    const registered = new Map<string, Variable[]>();
    for (const variable of Object.values(engine().registeredVariables)) {
      const name = baseName(variable.name);
      registered.set(name, [...(registered.get(name) ?? []), variable]);
    }
    const isThere = (entry: Entry) =>
      registered
        .get(baseName(entry.name))
        ?.some((variable) => variable.name !== entry.name && this.#misfit(entry, variable) === undefined);
    if (!loaded.every(isThere)) return undefined;
    // A gradient of a micro-batch must not be lost.
    const given = new Set(pairs.map(([entry]) => entry));
    return loaded.every((entry) => !entry.isDue || given.has(entry)) ? pairs : undefined;
  }

  /** The reason why state that was loaded does not fit a variable. */
  #misfit({ name, state }: Entry, variable: Variable): string | undefined {
    const { slots, shapes } = this.#variantOf(name);
    for (const slot of new Set([...state.keys(), ...Object.keys(slots)])) {
      const expected = shapes[slot] ? shapes[slot](variable.shape) : variable.shape;
      const shape = state.get(slot)?.shape;
      if (expected === shape || (expected && shape && sameShape(shape, expected))) continue;
      return `the state ${slot} that was loaded for ${show(name)} has shape ${show(shape)}, variable ${show(variable.name)} needs ${show(expected)}`;
    }
    return undefined;
  }

  #variantOf(name: string) {
    const { rule, groupOf } = this.#settings;
    return variantOf(rule, groupOf(name).values);
  }
}
