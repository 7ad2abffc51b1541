/** The factory of a rule's optimizers for jax-js. */

import type { AdapterFactory, AnyFactory } from "../adapter.js";
import { fixedOptions, refusing } from "../optimizer/hyper.js";
import { factoryOf } from "../option.js";
import { type ArrayGroup, Solver } from "./solver.js";

export type JaxFactory<Factory extends AnyFactory> = AdapterFactory<
  Factory,
  ArrayGroup,
  Solver<ReturnType<Factory>["hyper"]>
>;

export function jaxFactory<Factory extends AnyFactory>({ rule }: Factory): JaxFactory<Factory> {
  const factory = (options: object = {}) => {
    const RuleSolver = refusing(Solver, rule, "state", fixedOptions(rule));
    return new RuleSolver(rule, options);
  };
  return factoryOf(rule.name, factory, { rule }) as JaxFactory<Factory>;
}
