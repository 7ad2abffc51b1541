/** The text that Node's `console.log` shows of optimizers and their groups. */

import type { Tensor } from "../arena/tensor.js";
import { sharedOptions } from "./definition.js";
import type { Values } from "./hyper.js";

/** Node's `util.inspect`. */
export type Inspect = (value: unknown, options: object) => string;

/** A name and contents. All their levels are shown, because they are few. */
export const shownAs = (name: string, contents: object, options: object, inspect: Inspect): string =>
  `${name} ${inspect(contents, { ...options, depth: Infinity })}`;

interface AnyGroup {
  readonly params: readonly Tensor[];
  readonly hyper: unknown;
  readonly fixed: Values;
}

/** The tensors of a group, by name and shape, and its options. */
export const groupContents = ({ params, hyper, fixed }: AnyGroup): object => ({
  params: params.map(({ name, shape }) => `${name} [${shape.join(", ")}]`),
  ...(hyper as object),
  ...fixed,
});

/** The options for all groups that are not the defaults. */
export const changedOptions = (options: Values): Values =>
  Object.fromEntries(
    Object.entries(options).filter(
      ([name, value]) => value !== sharedOptions[name as keyof typeof sharedOptions]?.default,
    ),
  );
