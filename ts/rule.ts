/** A rule's literal, and the typed factory that follows from it. */

import { Optimizer, type Params } from "./optimizer.js";
import { flag, type Options, type ValueOf } from "./option.js";

/** What a rule is besides its formula, which stands in crate/src/rules under the same name. */
export interface Definition<
  Hyper extends Options = Options,
  Fixed extends Options = Options,
  Slots extends string = string,
  Added extends string = string,
> {
  /** Live hyper-parameters, in the order of the Rust struct's fields: one double for a number or a flag, n for a list. */
  readonly hyper: Hyper;
  /** Options read once, when the optimizer is made. */
  readonly fixed?: Fixed;
  /** The slots of state that are always there: one float a parameter each. */
  readonly state: readonly Slots[];
  /** Slots that an option adds when it is neither false nor 0; the rule has a kernel for each such set of options. */
  readonly adds?: Readonly<Record<Added, keyof (Hyper & Fixed) & string>>;
  /** Slots that start at an option's value; the others start at zero. */
  readonly fill?: { readonly [Slot in Slots | Added]?: keyof (Hyper & Fixed) & string };
  /** What is wrong with hyper-parameters that are right one by one. */
  readonly conflict?: (hyper: { readonly [Name in keyof Hyper]: ValueOf<Hyper[Name]> }) => string | undefined;
}

/** A definition with its name, its types forgotten: what the code below the factories works with. */
export interface Rule extends Omit<Definition, "conflict"> {
  readonly name: string;
  readonly fixed: Options;
  readonly adds: Readonly<Record<string, string>>;
  readonly fill: Readonly<Record<string, string>>;
  readonly conflict: (hyper: Readonly<Record<string, unknown>>) => string | undefined;
}

/** Options that every rule has. */
export const common = {
  /** Climb instead of descending. */
  maximize: flag(false),
};

type Given<O extends Options> = { -readonly [Name in keyof O]?: ValueOf<O[Name]> };

/** Makes an optimizer for tensors, a record or a list of them, or for groups that each have options of their own. */
export interface Factory<Hyper extends Options, Fixed extends Options, Slots extends string, Added extends string> {
  (
    params: Params<Given<Hyper & Fixed & typeof common>>,
    options?: Given<Hyper & Fixed & typeof common>,
  ): Optimizer<
    { -readonly [Name in keyof Hyper]: ValueOf<Hyper[Name]> },
    { readonly [Slot in Slots]: Float32Array } & { readonly [Slot in Added]?: Float32Array }
  >;
  /** The rule itself: its options, their defaults and ranges, its state. */
  readonly rule: Rule;
}

/** What a rule without fixed options infers for them is any; it has none. */
type Known<O extends Options> = string extends keyof O ? Record<never, never> : O;

/* @__NO_SIDE_EFFECTS__ */
export function rule<
  const Hyper extends Options,
  const Fixed extends Options,
  const Slots extends string,
  const Added extends string = never,
>(name: string, definition: Definition<Hyper, Fixed, Slots, Added>): Factory<Hyper, Known<Fixed>, Slots, Added> {
  const { fixed, adds, fill, conflict, ...rest } = definition;
  const rule = {
    name,
    ...rest,
    fixed: { ...fixed, ...common },
    adds: adds ?? {},
    fill: fill ?? {},
    conflict: conflict ?? (() => undefined),
  } as Rule;
  const factory = (params: Params<object>, options: object = {}) => new Optimizer(rule, params, options);
  return Object.assign(factory, { rule }) as unknown as Factory<Hyper, Known<Fixed>, Slots, Added>;
}
