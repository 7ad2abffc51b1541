/** The checks that all wrappers share. */

import type { Values } from "../optimizer/hyper.js";
import { isOptimizer } from "../optimizer/checkpointable.js";
import { Optimizer } from "../optimizer/optimizer.js";
import { type Chosen, type Options, resolve, show } from "../option.js";

/**
 * The options of a wrapper, with defaults.
 * @throws a TypeError or RangeError if they are wrong or the optimizer cannot be wrapped.
 */
export function checkWrappable<O extends Options>(name: string, optimizer: unknown, options: O, given: unknown) {
  if (!(isOptimizer(optimizer) && optimizer instanceof Optimizer)) {
    const got = isOptimizer(optimizer) ? optimizer.internals.rule.name : show(optimizer);
    throw new TypeError(`${name}: expected an optimizer that can be wrapped, such as adamw(model), got ${got}`);
  }
  const { arena, checkTraining, wrappers } = optimizer.internals;
  checkTraining(name);
  arena.internals(name).pool.exclusively(name, () => {}); // during a step this is an error, because the step goes through its list of phases
  if (wrappers.has(name)) throw new TypeError(`${name}: the optimizer is already wrapped by ${name}`);
  return resolve(name, options, given) as Values & Chosen<O>;
}
