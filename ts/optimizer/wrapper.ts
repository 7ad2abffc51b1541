/** What a wrapper checks before it takes memory. */

import type { Values } from "./hyper.js";
import { Optimizer } from "./optimizer.js";
import { type Options, resolve, show, type ValueOf } from "../option.js";

/** A wrapper's options; a TypeError or RangeError unless it can be put around the optimizer. */
export function startWrapping<O extends Options>(name: string, optimizer: unknown, options: O, given: unknown) {
  if (!(optimizer instanceof Optimizer))
    throw new TypeError(`${name}: optimizer must be one, such as adamw(model), got ${show(optimizer)}`);
  const { arena, checkTraining, wrappers } = optimizer.internals;
  checkTraining(name);
  arena.internals(name).pool.exclusively(name, () => {}); // a step under way has its phases
  if (wrappers.has(name)) throw new TypeError(`${name}: the optimizer is wrapped by ${name} already`);
  return resolve(name, options, given) as Values & { readonly [Name in keyof O]: ValueOf<O[Name]> };
}
