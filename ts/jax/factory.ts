/** The factory of a rule's optimizers for jax-js. */

import type { AdapterFactory, AnyFactory } from "../adapter.js";
import type { Values } from "../optimizer/hyper.js";
import { type ArrayGroup, Solver } from "./solver.js";

export type JaxFactory<Factory extends AnyFactory> = AdapterFactory<
  Factory,
  ArrayGroup,
  Solver<ReturnType<Factory>["hyper"]>
>;

/* @__NO_SIDE_EFFECTS__ */
export function jaxFactory<Factory extends AnyFactory>({ rule }: Factory): JaxFactory<Factory> {
  const factory = (options: object = {}) => new Solver(rule, options as Values);
  return Object.assign(factory, { rule }) as unknown as JaxFactory<Factory>;
}
