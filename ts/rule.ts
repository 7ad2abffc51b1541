/** The function `rule`. It makes a typed factory, such as `adamw`, from a rule's definition. */

import {
  groupOptions,
  type Definition,
  type sharedOptions,
  type Rule,
  type SlotShapes,
} from "./optimizer/definition.js";
import type { GradNorm, Inferred, NormOptions } from "./optimizer/gradNorm.js";
import { fixedOptions, refusing } from "./optimizer/hyper.js";
import { Optimizer } from "./optimizer/optimizer.js";
import type { Params } from "./optimizer/params.js";
import { factoryOf, type Options, type ValueOf } from "./option.js";
import type { Schedule } from "./schedules/schedule.js";

type Given<O extends Options> = { -readonly [Name in keyof O]?: ValueOf<O[Name]> };

/** A number, a schedule, or a function of the step, counted from 0. */
export type Scheduled<Value> = Value extends number
  ? number | Schedule | ((step: number) => number)
  : Value extends readonly number[]
    ? { readonly [Index in keyof Value]: Scheduled<Value[Index]> }
    : Value;

export type Live<O extends Options> = { -readonly [Name in keyof O]: Scheduled<ValueOf<O[Name]>> };

/** The options that a group may have of its own. */
export type GroupOptions<Hyper extends Options, Fixed extends Options> = Partial<Live<Hyper>> &
  Given<Fixed & typeof groupOptions>;

export type AllOptions<Hyper extends Options, Fixed extends Options> = GroupOptions<Hyper, Fixed> &
  Given<typeof sharedOptions>;

export type StateOf<Slots extends string, Added extends string> = { readonly [Slot in Slots]: Float32Array } & {
  readonly [Slot in Added]?: Float32Array;
};

/** Makes an optimizer of tensors, a record or a list, or of groups that each have their own options. */
export interface OptimizerFactory<Hyper, State, GroupOptions, AllOptions> {
  <const Norm extends NormOptions = Record<never, never>>(
    params: Params<GroupOptions>,
    options?: Inferred<Norm, Readonly<AllOptions>>,
  ): Optimizer<Hyper, State, GroupOptions, GradNorm<Norm>>;
  /** The rule itself: its options, their defaults and ranges, its state. */
  readonly rule: Rule;
}

/** A factory by the parts of its literal. The build gives each a name, so that editors show `AdamwOptions`. */
export interface RuleFactory<
  Hyper extends Options,
  Fixed extends Options,
  Slots extends string,
  Added extends string,
> extends OptimizerFactory<Live<Hyper>, StateOf<Slots, Added>, GroupOptions<Hyper, Fixed>, AllOptions<Hyper, Fixed>> {}

/** The type of a variable that holds any factory, such as `adamw`. */
export interface Factory<
  Hyper extends Options = any,
  Fixed extends Options = any,
  Slots extends string = any,
  Added extends string = any,
> extends Pick<RuleFactory<Hyper, Fixed, Slots, Added>, "rule"> {
  (
    params: Params<GroupOptions<Hyper, Fixed>>,
    options?: AllOptions<Hyper, Fixed>,
  ): Optimizer<Live<Hyper>, StateOf<Slots, Added>, GroupOptions<Hyper, Fixed>>;
}

/** TypeScript infers any options for a rule without fixed options; such a rule has none. */
type Known<O extends Options> = string extends keyof O ? Record<never, never> : O;

/** The slots that are missing for some tensors. */
type Missing<Slots, Shapes extends SlotShapes> = {
  [Slot in keyof Shapes]: undefined extends Shapes[Slot] ? Slot & Slots : never;
}[keyof Shapes];

type Made<
  Hyper extends Options,
  Fixed extends Options,
  Slots extends string,
  Added extends string,
  Shapes extends SlotShapes,
> = RuleFactory<Hyper, Known<Fixed>, Exclude<Slots, Missing<Slots, Shapes>>, Added | Missing<Slots, Shapes>>;

/* @__NO_SIDE_EFFECTS__ */
export function rule<
  const Hyper extends Options,
  const Fixed extends Options,
  const Slots extends string,
  const Added extends string = never,
  const Counted extends string = string,
  const Sums extends string = string,
  const Scratch extends string = string,
  Shapes extends SlotShapes = Record<never, never>,
>(
  name: string,
  definition: Definition<Hyper, Fixed, Slots, Added, Counted, Sums, Scratch, Shapes>,
): Made<Hyper, Fixed, Slots, Added, Shapes> {
  const rule = deepFreeze({
    addedState: {},
    startsAt: {},
    programState: [],
    scratch: [],
    shapes: {},
    scalars: {},
    tensorScalars: () => ({}),
    perTensor: false,
    sums: [],
    advance: ({ before }: { before: unknown }) => before,
    conflict: () => undefined,
    ...definition,
    name,
    fixed: { ...definition.fixed, ...groupOptions },
  }) as unknown as Rule;
  const factory = (params: Params<object>, options: object = {}) => {
    const RuleOptimizer = refusing(Optimizer, rule, "optimizer", fixedOptions(rule));
    return new RuleOptimizer(rule, params, options);
  };
  return factoryOf(name, factory, { rule }) as Made<Hyper, Fixed, Slots, Added, Shapes>;
}

/** Freezes a literal: the rule is public, and all optimizers share it. */
function deepFreeze<Literal extends object>(literal: Literal): Literal {
  for (const value of Object.values(literal)) {
    if (typeof value === "object" && value !== null && !Object.isFrozen(value)) deepFreeze(value);
  }
  return Object.freeze(literal);
}
