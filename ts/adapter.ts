/** The factories for other libraries: those of the rules, without the params. */

import type { Rule } from "./optimizer/definition.js";
import type { Values } from "./optimizer/hyper.js";
import type { TensorGroup } from "./optimizer/params.js";
import { checkRecord, wrongKind } from "./option.js";

export type AnyFactory = ((params: any, options?: any) => { readonly hyper: unknown }) & { readonly rule: Rule };

/** The options that a group may have of its own. */
type GroupOptionsOf<Factory extends AnyFactory> =
  ReturnType<Factory> extends { addGroup(group: TensorGroup<infer Options>): unknown } ? Options : never;

/** The options of a rule, for another library. `Group` is the property of a group that names its arrays. */
export type AdapterOptions<Factory extends AnyFactory, Group> = Omit<
  NonNullable<Parameters<Factory>[1]>,
  "zeroGrad"
> & {
  /** Groups with options of their own. An array belongs to the first group that names it, otherwise it has the options of the optimizer. */
  readonly groups?: readonly (Group & GroupOptionsOf<Factory>)[];
};

/** The factory of a rule's optimizers for a library. */
export interface AdapterFactory<Factory extends AnyFactory, Group, Optimizer> {
  (options?: AdapterOptions<Factory, Group>): Optimizer;
  /** The rule itself: its options, their defaults and ranges, its state. */
  readonly rule: Rule;
}

/** The arrays of a group: a pattern that their names match, or a list of the names. */
export type Names = RegExp | readonly string[];

const areNames = (given: unknown): given is Names =>
  given instanceof RegExp || (Array.isArray(given) && given.every((name) => typeof name === "string"));

export const matches = (names: Names, name: string): boolean =>
  names instanceof RegExp ? name.search(names) >= 0 : names.includes(name);

/**
 * The options and the groups that a factory was given.
 * @param members the property of a group that names its arrays
 * @throws a TypeError for anything but options
 */
export function adapterOptions(rule: Rule, library: string, members: string, given: unknown) {
  checkRecord(rule.name, Object.keys(rule.hyper), given);
  const { groups = [], ...options } = given;
  if (options.zeroGrad) refuseZeroGrad(rule, library);
  if (!Array.isArray(groups)) {
    throw wrongKind(`${rule.name}: groups must be a list of groups { ${members}, ...options }`, groups);
  }
  const checked = groups.map((given: unknown, i) => {
    const { [members]: names, ...own } = Object(given) as Values;
    if (areNames(names)) return { names, own };
    throw wrongKind(
      `${rule.name}: groups[${i}] must be { ${members}, ...options }, with a pattern such as /bias$/ or a list of names`,
      names ?? given,
    );
  });
  return { groups: checked, options: options as Values };
}

export function refuseZeroGrad(rule: Rule, library: string): never {
  throw new TypeError(
    `${rule.name}: zeroGrad is not needed here, because ${library} makes new gradients for each step; leave it out`,
  );
}
