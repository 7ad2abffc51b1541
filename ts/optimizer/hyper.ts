/** The options of a rule: their values, their numbers for kernels, and live changes. */

import { sharedOptions, type Rule } from "./definition.js";
import {
  accept,
  type Chosen,
  isCallable,
  mapValues,
  noOption,
  type Option,
  type Options,
  pick,
  refuseNames,
  resolve,
  snake,
  synonym,
  wrongKind,
} from "../option.js";
import { OfStep } from "../schedules/ofStep.js";

export type Values = Readonly<Record<string, unknown>>;

/** The parts of a rule that options depend on. */
type Optioned = Pick<Rule, "name" | "hyper" | "fixed" | "addedState" | "conflict">;

/** The values of live and fixed options, with defaults for missing ones. */
export function resolveOptions(rule: Optioned, given: unknown): Values {
  const values = resolve(rule.name, optionsOf(rule), given);
  valuesAt(rule, values, 0);
  return values;
}

/** The values of a rule's options for all groups: the given ones, else the defaults. */
export function resolveAll(rule: Rule, given: unknown): Values {
  const values: Values = resolve(rule.name, { ...optionsOf(rule), ...sharedOptions }, given);
  const wrong = conflictOf(values as Chosen<typeof sharedOptions>);
  if (wrong !== undefined) throw new RangeError(`${rule.name}: ${wrong}`);
  return values;
}

/** The message for options for all groups that are valid one by one, but not together. */
function conflictOf(values: Chosen<typeof sharedOptions>): string | undefined {
  const { ema, swa, lossScale } = values;
  if (values.emaWarmup && !ema) return "emaWarmup requires ema, got none";
  if (values.averageStart && !ema && !swa) return "averageStart requires ema or swa, got neither";
  if (ema && swa) return "ema and swa must not both be given";
  if (values.maxConsecutiveErrors !== Infinity && values.nonFinite !== "skip" && lossScale !== "dynamic") {
    return 'maxConsecutiveErrors needs nonFinite: "skip" or lossScale: "dynamic"; no step is skipped without them';
  }
  const scale = values.gradScale / (lossScale === "dynamic" ? 1 : lossScale);
  if (Math.fround(scale) < Infinity) return undefined;
  return `gradScale / lossScale must be in the range of float32 (at most 3.4e38), got ${scale}`;
}

/**
 * The values of a rule's options for one group: its own, else those for all groups.
 * @param group `{ params, ...options }`
 */
export function resolveGroup(rule: Rule, all: Values, group: object = {}, path = ""): Values {
  const shared = Object.keys(sharedOptions).find((name) => name in group || snake(name) in group);
  if (shared !== undefined) {
    throw new TypeError(
      `${rule.name}: ${path}${shared} is the same for all groups; pass it as an option of the optimizer`,
    );
  }
  const values = resolve(rule.name, optionsOf(rule), group, path, all, ["params"]);
  valuesAt(rule, values, 0, path);
  const [low, high] = boundsOf(values);
  if (low > high || Math.fround(low) === Infinity || Math.fround(high) === -Infinity) {
    const where = values.nonNegative ? " with nonNegative" : "";
    throw new RangeError(
      `${rule.name}: ${path}box${where} must be [low, high] with low at most high and a finite float32 number between them, got [${low}, ${high}]`,
    );
  }
  return values;
}

/** The least and the greatest value of a group's parameters. */
export function boundsOf({ box, nonNegative }: Values): readonly [low: number, high: number] {
  const [low, high] = box as readonly [number, number];
  return [nonNegative ? Math.max(low, 0) : low, high];
}

const optionsOf = (rule: Optioned): Options => ({ ...liveOptions(rule), ...rule.fixed });

/** The live options of a rule. Instead of a number they accept a schedule or a function of the step. */
const liveOptions = (rule: Optioned): Options =>
  mapValues(rule.hyper, (option) => ({ ...option, check: checkScheduled(option) }));

function checkScheduled(option: Option): Option["check"] {
  if (typeof option.default === "boolean") return option.check;
  // The numbers of a schedule are checked at each step. Here the default is checked instead.
  const now = (value: unknown, instead: unknown) => (isScheduled(value) ? instead : value);
  return (title, value) => {
    const { default: instead } = option;
    const list = Array.isArray(value) && Array.isArray(instead);
    option.check(title, list ? value.map((item, i) => now(item, instead[i] ?? instead[0])) : now(value, instead));
  };
}

type Scheduled = OfStep | ((step: number) => number);
const isScheduled = (value: unknown): value is Scheduled => value instanceof OfStep || isCallable(value);

/** The steps for which each schedule is being computed, the innermost last. */
const computing = new WeakMap<Scheduled, number[]>();

/**
 * The values of options at a step, counted from 0. Schedules are replaced by their numbers.
 * @throws a RangeError or TypeError if a schedule returns a value that its option does not allow; an Error if a function
 * makes the optimizer call it again for the same step.
 */
export function valuesAt(rule: Optioned, values: Values, step: number, path = ""): Values {
  const now: Record<string, unknown> = { ...values };
  for (const name in rule.hyper) {
    const value = values[name];
    if (!hasSchedule(value)) continue;
    const title = `${rule.name}: at step ${step}, ${path}${name}`;
    const numberAt = (value: unknown) => {
      if (!isScheduled(value)) return value;
      const steps = computing.get(value) ?? [];
      if (steps.includes(step)) {
        throw new Error(
          `${title} needs itself: its function sets or reads options of the optimizer; let it return a number only`,
        );
      }
      if (steps.push(step) === 1) computing.set(value, steps);
      try {
        return value instanceof OfStep ? value.at(step) : value(step);
      } finally {
        steps.pop();
      }
    };
    now[name] = Array.isArray(value) ? value.map(numberAt) : numberAt(value);
    rule.hyper[name]!.check(title, now[name]);
  }
  const conflict = rule.conflict(now);
  if (conflict !== undefined) throw new RangeError(`${rule.name}: ${path}${conflict}`);
  return now;
}

const hasSchedule = (value: unknown) => isScheduled(value) || (Array.isArray(value) && value.some(isScheduled));

/** Whether a rule's values depend on the step. */
export const areScheduled = (rule: Optioned, values: Values): boolean =>
  Object.keys(rule.hyper).some((name) => hasSchedule(values[name]));

/** The parts of a rule and its options that determine the memory of a segment. */
export interface Variant {
  /** The rule's kernels, by name. */
  readonly kernels: Rule["kernels"];
  /** The name of the kernel: the rule's name, then each option that adds state. */
  readonly kernel: string;
  /** The name of the kernel that computes the rule's sums. */
  readonly measure: string | undefined;
  /** The slot that averages the user's estimates of the Hessian. */
  readonly hessianSlot: string | undefined;
  /** The start of each slot of state: a number, or a copy of the parameters. */
  readonly slots: Readonly<Record<string, number | "params">>;
  /** The slots in scratch memory. */
  readonly scratch: readonly string[];
  /** The slots that the kernels use, of state and of scratch memory. */
  readonly kernelSlots: readonly string[];
  /** The shapes of slots that differ from the tensor's shape. */
  readonly shapes: Rule["shapes"];
  /** Whether there is an average of the parameters. */
  readonly hasAverage: boolean;
  /** Whether there is a sum of the gradients of micro-batches. */
  readonly hasAccumulator: boolean;
  readonly zeroGrad: boolean;
  /** The least and the greatest value of the parameters; undefined without bounds. */
  readonly bounds: readonly [low: number, high: number] | undefined;
  /** Whether each tensor is a segment of its own. */
  readonly oneTensorEach: boolean;
  readonly agc: number;
}

export function variantOf(rule: Rule, values: Values): Variant {
  const added = Object.entries(rule.addedState).filter(([, option]) => values[option]);
  const kernel = [rule.name, ...added.map(([, option]) => option)].map(snake).join("_");
  const start = (slot: string) => {
    const from = rule.startsAt[slot];
    return [slot, from === "params" ? from : (values[from ?? ""] ?? 0)];
  };
  const [low, high] = boundsOf(values);
  const bounds = low > -Infinity || high < Infinity ? ([low, high] as const) : undefined;
  const slots = [...rule.state, ...added.map(([slot]) => slot)];
  return {
    kernels: rule.kernels,
    kernel,
    measure: rule.sums.length > 0 ? `${kernel}_measure` : undefined,
    hessianSlot: rule.hessian?.slot,
    slots: Object.fromEntries(slots.map(start)),
    scratch: rule.scratch,
    kernelSlots: [...slots, ...rule.scratch].filter((slot) => !rule.programState.includes(slot)),
    shapes: rule.shapes,
    hasAverage: Boolean(values.ema || values.swa),
    hasAccumulator: values.accumulate !== 1,
    zeroGrad: values.zeroGrad === true,
    bounds,
    // Between tensors there is padding, which has no bounds.
    oneTensorEach:
      bounds !== undefined || rule.perTensor || values.clipTensorNorm !== Infinity || values.agc !== Infinity,
    agc: values.agc as number,
  };
}

/** The numbers of the hyper-parameters, in the order of the Rust struct: one double for a number or a flag, n for a list. */
export function fields(rule: Rule, values: Values): number[] {
  const numbers: number[] = [];
  // A loop, because `flatMap` takes more than a microsecond, and a schedule comes here at each step.
  for (const name in rule.hyper) {
    const value = values[name];
    if (Array.isArray(value)) numbers.push(...value);
    else numbers.push(Number(value));
  }
  return numbers;
}

/** Live hyper-parameters. */
export interface LiveOptions {
  /** An object that checks each assignment. */
  readonly hyper: Values;
  /** Checks several changes together. The result makes them. */
  stage(changes: Values): () => void;
}

/** Makes the hyper-parameters among the values live. `beforeChange` is called before a valid change is made. */
export function liveHyper(rule: Optioned, values: Values, beforeChange: () => void): LiveOptions {
  const options = liveOptions(rule);
  const hyper = Object.seal(pick(rule.hyper, values));
  const stage = (changes: Values) => {
    const accepted: Record<string, unknown> = {};
    for (const [name, value] of Object.entries(changes)) {
      if (!Object.hasOwn(rule.hyper, name)) refuse(rule, name, values);
      accepted[name] = accept(`${rule.name}: ${name}`, options[name]!, value);
      const slot = Object.keys(rule.addedState).find((slot) => rule.addedState[slot] === name);
      if (slot !== undefined && Boolean(accepted[name]) !== Boolean(hyper[name])) {
        throw wrongKind(
          `${rule.name}: ${name} must ${hyper[name] ? "not be 0" : "stay 0"}, because the optimizer was made ${hyper[name] ? "with" : "without"} ${slot}`,
          accepted[name],
          "; make a new optimizer to change it",
        );
      }
    }
    valuesAt(rule, { ...hyper, ...accepted }, 0);
    return () => {
      beforeChange();
      Object.assign(hyper, accepted);
    };
  };
  const proxy = new Proxy(hyper, {
    get(target, key) {
      // A name of another library would be undefined, and NaN in a product.
      const isWrong = typeof key === "string" && !(key in target) && synonym(key, Object.keys(target));
      return isWrong ? refuse(rule, key, values) : target[key as string];
    },
    set(_, key, value) {
      stage({ [String(key)]: value })();
      return true;
    },
    defineProperty: () => false,
  });
  return { hyper: proxy, stage };
}

type Class = new (...args: any[]) => any;

/** The classes that `refusing` made, by rule and by the class that they extend. */
const classes = new WeakMap<object, Map<Class, Class>>();

/**
 * A class for the objects of a rule, in which options that are written to a wrong place are errors that name the remedy:
 * `optimizer.lr` names `optimizer.hyper.lr`. There is one for each rule, because objects with many accessors of their own are slow.
 */
export function refusing<Base extends Class>(base: Base, rule: Refused, owner: string, fixed?: object): Base {
  const known = classes.get(rule) ?? new Map<Class, Class>();
  if (!known.has(base)) {
    const made = class extends base {};
    Object.defineProperty(made, "name", { value: base.name });
    refuseOptions(made.prototype, rule, owner, fixed);
    classes.set(rule, known.set(base, made));
  }
  return known.get(base) as Base;
}

type Refused = Pick<Optioned, "name" | "hyper" | "fixed">;

/** The options that are fixed when an optimizer is made: the rule's own, and those of every optimizer. */
export const fixedOptions = (rule: Optioned): object => ({ ...rule.fixed, ...sharedOptions });

/**
 * Defines the errors of `refusing` in a prototype, or in an object. Its property `hyper` cannot be replaced then.
 * @param owner the variable whose property `hyper` has the hyper-parameters
 * @param fixed the options that cannot change
 */
export function refuseOptions(prototype: object, rule: Refused, owner: string, fixed: object = rule.fixed): void {
  const { hyper } = rule;
  const define = (name: string, remedy: string, isRead = true) => {
    if (!(name in prototype)) refuseNames(prototype, () => `${rule.name}:`, { [name]: ` ${remedy}` }, isRead);
  };
  for (const name of Object.keys(hyper)) define(name, `is a property of ${owner}.hyper; write ${owner}.hyper.${name}`);
  for (const [name, here] of Object.entries(elsewhere)) {
    const place = here in hyper ? `${owner}.hyper` : owner;
    if (here in hyper || here in prototype) define(name, `is called ${here} here; write ${place}.${here}`);
  }
  for (const name of Object.keys(fixed)) define(name, FIXED, false);
  const property = (of: object) => Object.getOwnPropertyDescriptor(of, "hyper");
  const { value, get = () => value } = (property(prototype) ?? property(Object.getPrototypeOf(prototype)))!;
  const set = function (this: { readonly hyper: unknown }) {
    void this.hyper; // may throw an error that says where the hyper-parameters are
    const [first] = Object.keys(hyper);
    throw new TypeError(`${rule.name}: hyper is always the same object; write its properties, such as hyper.${first}`);
  };
  Object.defineProperty(prototype, "hyper", { get, set });
}

/** Names of other libraries, and the names here: of hyper-parameters, and of the owner's properties. */
const elsewhere = { paramGroups: "groups", addParamGroup: "addGroup", learningRate: "lr", iterations: "steps" };

const FIXED = "is fixed when the optimizer is made; make a new optimizer to change it";

function refuse(rule: Optioned, name: string, values: Values): never {
  if (!Object.hasOwn(values, name)) {
    throw noOption(rule.name, "", name, Object.keys(optionsOf(rule)));
  }
  throw new TypeError(`${rule.name}: ${name} ${FIXED}`);
}
