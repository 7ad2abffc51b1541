/** The type of the factories for other libraries: those of the rules, without the params. */

import type { Rule } from "./optimizer/definition.js";

export type AnyFactory = ((params: any, options?: any) => { readonly hyper: unknown }) & { readonly rule: Rule };

/** The options that a group may have of its own. */
type GroupOptionsOf<Factory extends AnyFactory> =
  ReturnType<Factory> extends { addGroup(group: infer Group): unknown } ? Omit<Group, "params"> : never;

/** The factory of a rule's optimizers for a library. `Group` tells which of its arrays are in a group. */
export interface AdapterFactory<Factory extends AnyFactory, Group, Optimizer> {
  (
    options?: Omit<NonNullable<Parameters<Factory>[1]>, "zeroGrad"> & {
      readonly groups?: readonly (Group & GroupOptionsOf<Factory>)[];
    },
  ): Optimizer;
  /** The rule itself: its options, their defaults and ranges, its state. */
  readonly rule: Rule;
}
