/** The factory of a rule's optimizers for jax-js. */

import type { Rule } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import { type ArrayGroup, Solver } from "./solver.js";

type AnyFactory = ((params: any, options?: any) => { readonly hyper: unknown }) & { readonly rule: Rule };

/** The options of a rule's factory, without the params. */
type OptionsOf<Factory extends AnyFactory> = Omit<NonNullable<Parameters<Factory>[1]>, "zeroGrad">;

/** The options that a group may have of its own. */
type GroupOptionsOf<Factory extends AnyFactory> =
  ReturnType<Factory> extends { addGroup(group: infer Group): unknown } ? Omit<Group, "params"> : never;

export interface JaxFactory<Factory extends AnyFactory> {
  (
    options?: OptionsOf<Factory> & { readonly groups?: readonly (ArrayGroup & GroupOptionsOf<Factory>)[] },
  ): Solver<ReturnType<Factory>["hyper"]>;
  /** The rule itself: its options, their defaults and ranges, its state. */
  readonly rule: Rule;
}

/* @__NO_SIDE_EFFECTS__ */
export function jaxFactory<Factory extends AnyFactory>({ rule }: Factory): JaxFactory<Factory> {
  const factory = (options: object = {}) => new Solver(rule, options as Values);
  return Object.assign(factory, { rule }) as unknown as JaxFactory<Factory>;
}
