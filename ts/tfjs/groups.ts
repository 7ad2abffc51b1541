/** Groups of variables that share options. */

import type { Rule } from "../optimizer/definition.js";
import type { LiveOptions, Values } from "../optimizer/hyper.js";
import type { Names } from "../adapter.js";

/** A group of variables that share options. A variable belongs to the first group that matches its name. */
export interface VariableGroup {
  /** A pattern that the names of the group's variables match, or a list of the names. */
  readonly variables: Names;
}

/** A group, with its live hyper-parameters. */
export interface TfjsGroup<Hyper = unknown> {
  /** The live hyper-parameters: a change takes effect at the next step. A wrong value is an error and changes nothing. */
  readonly hyper: Hyper;
  /** The names that were given, or undefined for the group of all others. @internal */
  readonly variables: Names | undefined;
  /** @internal */
  readonly values: Values;
  /** The group's own options, as they were given. @internal */
  readonly own: Values;
  /** The last number other than zero that `lr` had before its present value, or 0. @internal */
  lastRate: number;
  /** Checks changes of hyper-parameters. The result makes them. @internal */
  readonly stage: LiveOptions["stage"];
}

/** A rule, with its options for each variable. */
export interface Settings {
  readonly rule: Rule;
  /** The last group has the variables that no other matches. */
  readonly groups: readonly TfjsGroup[];
  readonly groupOf: (name: string) => TfjsGroup;
  /** The options that hold for all groups, as they were given. */
  readonly shared: Values;
}
