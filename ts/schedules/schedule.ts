/** A schedule: a number as a function of the step, which can also be written as data. */

import { INSPECT } from "../platform.js";
import {
  type Chosen,
  count,
  factoryOf,
  inWords,
  isCallable,
  isRecord,
  mapValues,
  type Option,
  type Options,
  resolve,
  show,
  type ValueOf,
  wrongKind,
} from "../option.js";
import { OfStep } from "./ofStep.js";

const steps = count(0, 0);

/** A number that depends on the step. Made by `stepLR`, `warmupCosineDecay` and the others. */
export class Schedule extends OfStep {
  /** The name of the factory. */
  readonly name: string;
  /** All options, with defaults. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly #at: (step: number) => number;

  /** @internal */
  constructor(name: string, options: Readonly<Record<string, unknown>>, at: (step: number) => number) {
    super();
    this.name = name;
    this.options = Object.freeze(options);
    this.#at = at;
  }

  /**
   * The value at a step, counted from 0.
   * @throws a TypeError or RangeError unless the step is a whole number in [0, ∞).
   */
  override at(step: number): number {
    steps.check(`${this.name}: at(step): step`, step);
    return this.#at(step);
  }

  /** Returns the schedule as JSON data. `scheduleFrom(data)` makes the schedule again. */
  toJSON(): Readonly<Record<string, unknown>> {
    return { schedule: this.name, ...(plain(this.options) as typeof this.options) };
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](): string {
    return `${this}`;
  }

  /** The call that makes the schedule, as code. */
  override toString(): string {
    return `${this.name}(${written(this.options)})`;
  }
}

/** The message for divisors that make a rate of a schedule infinite; undefined for others. */
export const tooSmallDivisors = (name: string, highest: number, divFactor: number, finalDivFactor: number) =>
  Number.isFinite(highest / divFactor) && Number.isFinite(highest / divFactor / finalDivFactor)
    ? undefined
    : `${name} divided by divFactor and by finalDivFactor must be finite; use larger divisors`;

/** A value as JSON. JSON has no infinite numbers: they become strings, such as "Infinity". */
export function plain(value: unknown): unknown {
  if (typeof value === "number") return Number.isFinite(value) ? value : `${value}`;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || value instanceof Schedule) return value;
  return mapValues(value as Readonly<Record<string, unknown>>, plain);
}

function written(value: unknown): string {
  if (value instanceof Schedule) return `${value}`;
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  if (typeof value === "number" || typeof value === "function") return `${value}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "undefined";
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  const key = (name: string) => (/^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name));
  return `{ ${entries.map(([name, item]) => `${key(name)}: ${written(item)}`).join(", ")} }`;
}

/** The options without a default. */
type Needed<O extends Options> = { [N in keyof O]: undefined extends O[N]["default"] ? N : never }[keyof O];
/** The options as a program gives them. */
export type Given<O extends Options> = { readonly [N in Exclude<keyof O, Needed<O>>]?: ValueOf<O[N]> } & {
  readonly [N in Needed<O>]: ValueOf<O[N]>;
};

/**
 * Makes a schedule. The build gives the type of the options a name, so that editors show `StepLROptions`.
 * @throws a TypeError or RangeError for wrong or missing options.
 */
export interface ScheduleFactory<Given = any, Made = Schedule> {
  (options: Given): Made;
  /** The options, their defaults and ranges. */
  readonly options: { readonly [Name in keyof Given]-?: Option };
}

/**
 * Makes the factory of a schedule.
 * @param at returns the function of the step, for complete options
 * @param conflict returns the message for options that are valid one by one and not together
 */
/* @__NO_SIDE_EFFECTS__ */
export function schedule<const O extends Options>(
  name: string,
  options: O,
  at: (options: Chosen<O>) => (step: number) => number,
  conflict: (options: Chosen<O>) => string | undefined = () => undefined,
): ScheduleFactory<Given<O>> {
  const factory = (given: object) => {
    const values = complete(name, options, given);
    const wrong = conflict(values);
    if (wrong !== undefined) throw new RangeError(`${name}: ${wrong}`);
    return new Schedule(name, values, at(values));
  };
  return factoryOf(name, factory, { options: frozen(options) }) as ScheduleFactory<Given<O>>;
}

/** Freezes options, because a factory hands them out. */
/* @__NO_SIDE_EFFECTS__ */
export function frozen<O extends Options>(options: O): O {
  for (const option of Object.values(options)) Object.freeze(option);
  return Object.freeze(options);
}

/**
 * The values of the options.
 * @throws a TypeError if one without a default is missing.
 */
export function complete<O extends Options>(name: string, options: O, given: unknown) {
  if (isRecord(given) && isCallable(given.step)) {
    throw new TypeError(
      `${name}: expected options, got an optimizer; make the optimizer with the schedule, such as { lr: ${name}({ … }) }`,
    );
  }
  const values = resolve(name, options, given);
  const missing = Object.keys(options).find((key) => values[key] === undefined);
  if (missing !== undefined) {
    throw new TypeError(`${name}: ${missing} is missing; it must be ${inWords(options[missing]!.range)}`);
  }
  return values as Chosen<O>;
}

/** An option whose value is a schedule. */
export const scheduleOption: Option<Schedule, string, undefined> = {
  default: undefined,
  range: "a schedule",
  check(title, value) {
    if (!(value instanceof Schedule)) throw wrongKind(`${title} must be a schedule`, value);
  },
};

/** The value at a fraction of the way from `start` to `end`. It is finite if both are. */
export function lerp(start: number, end: number, fraction: number): number {
  const way = end - start;
  return Number.isFinite(way) ? start + way * fraction : start * (1 - fraction) + end * fraction;
}

/** A product, which is 0 if a factor is 0, even if the other one has grown to infinity. */
export const times = (a: number, b: number): number => (a === 0 || b === 0 ? 0 : a * b);

/** Runs schedules one after another. Each counts its steps from its bound. */
export function inTurn(
  schedules: readonly Pick<Schedule, "at">[],
  bounds: readonly number[],
): (step: number) => number {
  return (step) => {
    const past = bounds.filter((bound) => bound <= step).length;
    return schedules[past]!.at(step - (past === 0 ? 0 : bounds[past - 1]!));
  };
}

/** The message for invalid bounds between schedules. */
export function ordered(name: string, schedules: readonly unknown[], bounds: readonly number[]): string | undefined {
  if (bounds.length !== schedules.length - 1) {
    return `${name} must be one fewer than the ${schedules.length} schedules, got ${bounds.length}`;
  }
  const rising = bounds.every((bound, i) => i === 0 || bound > bounds[i - 1]!);
  return rising ? undefined : `${name} must rise, got ${show(bounds)}`;
}
