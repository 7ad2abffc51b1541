/** Options: their ranges, their checks, and the messages for wrong values. */

/** One option: its default, its range, and its check. */
export interface Option<Value = unknown, Range extends string = string, Default = Value> {
  readonly default: Default;
  readonly range: Range;
  /** Throws unless `value` is a `Value` in `range`; `title` names it in the message. */
  check(title: string, value: unknown): unknown;
}

export type Options = Readonly<Record<string, Option>>;

export type ValueOf<O> = O extends Option<infer Value, string, unknown> ? Value : never;

/** The values of options. */
export type Chosen<O extends Options> = { readonly [Name in keyof O]: ValueOf<O[Name]> };

/** The type of a default: a number, a list of numbers, or undefined if the option is required. */
type Numbers = number | readonly number[] | undefined;
type Widened<D extends Numbers> = D extends readonly number[] ? { readonly [Index in keyof D]: number } : number;

/** Numbers in [0, ∞). */
/* @__NO_SIDE_EFFECTS__ */
export function nonNegative<const D extends Numbers>(value: D): Option<Widened<D>, "[0, ∞)", D> {
  return within("[0, ∞)", value);
}

/** Numbers in [0, 1): decays and momenta. */
/* @__NO_SIDE_EFFECTS__ */
export function unit<const D extends Numbers>(value: D): Option<Widened<D>, "[0, 1)", D> {
  return within("[0, 1)", value);
}

/** Numbers in [0, 1]. */
/* @__NO_SIDE_EFFECTS__ */
export function fraction<const D extends Numbers>(value: D): Option<Widened<D>, "[0, 1]", D> {
  return within("[0, 1]", value);
}

/** Numbers in (0, ∞]: limits, where Infinity means none. */
/* @__NO_SIDE_EFFECTS__ */
export function threshold<const D extends Numbers>(value: D): Option<Widened<D>, "(0, ∞]", D> {
  return within("(0, ∞]", value);
}

/** Finite numbers. */
/* @__NO_SIDE_EFFECTS__ */
export function finite<const D extends Numbers>(value: D): Option<Widened<D>, "(-∞, ∞)", D> {
  return within("(-∞, ∞)", value);
}

/** The text of an upper bound. Infinity has no literal type, only `number`. */
type Text<Most extends number> = number extends Most ? "∞" : Most;

/** Whole numbers from `least` to `most`. */
/* @__NO_SIDE_EFFECTS__ */
export function whole<const D extends number | undefined, const Least extends number, const Most extends number>(
  value: D,
  least: Least,
  most: Most,
): Option<number, `[${Least}, ${Text<Most>}]`, D> {
  const range = `[${least}, ${most === Infinity ? "∞" : most}]` as `[${Least}, ${Text<Most>}]`;
  return wholeIn(range, value, least, most);
}

/** Whole numbers from `least` on. */
/* @__NO_SIDE_EFFECTS__ */
export function count<const D extends number | undefined, const Least extends number>(
  value: D,
  least: Least,
): Option<number, `[${Least}, ∞)`, D> {
  return wholeIn(`[${least}, ∞)`, value, least, Number.MAX_SAFE_INTEGER);
}

function wholeIn<Range extends string, D>(
  range: Range,
  value: D,
  least: number,
  most: number,
): Option<number, Range, D> {
  return {
    default: value,
    range,
    check(title, x) {
      if (typeof x !== "number") throw wrongKind(`${title} must be a whole number in ${range}`, x);
      const fits = x >= least && x <= most && (Number.isInteger(x) || x === Infinity);
      if (!fits) throw wrongValue(`${title} must be a whole number in ${range}`, x);
    },
  };
}

/* @__NO_SIDE_EFFECTS__ */
export function flag<const D extends boolean | undefined>(value: D): Option<boolean, "true or false", D> {
  return {
    default: value,
    range: "true or false",
    check(title, x) {
      if (typeof x !== "boolean") throw wrongKind(`${title} must be true or false`, x);
    },
  };
}

/** One of some words. */
/* @__NO_SIDE_EFFECTS__ */
export function oneOf<const Words extends readonly string[]>(...words: Words): Option<Words[number], string, Words[0]> {
  const range = words.map((word) => show(word)).join(" or ");
  return {
    default: words[0] as Words[0],
    range,
    check(title, x) {
      if (typeof x !== "string") throw wrongKind(`${title} must be ${range}`, x);
      if (!words.includes(x)) throw wrongValue(`${title} must be ${range}`, x);
    },
  };
}

/** The values of an option, or a word. */
/* @__NO_SIDE_EFFECTS__ */
export function orWord<const Word extends string, Value, Range extends string, D>(
  word: Word,
  option: Option<Value, Range, D>,
): Option<Value | Word, `${Range} or '${Word}'`, D> {
  return {
    default: option.default,
    range: `${option.range} or '${word}'`,
    check(title, x) {
      if (x === word) return;
      if (typeof x === "string") throw wrongValue(`${title} must be in ${option.range} or ${show(word)}`, x);
      option.check(title, x);
    },
  };
}

/** The range of an option, as it follows "must be": an interval, or words. */
export const inWords = (range: string): string => (/^[[(]/.test(range) ? `in ${range}` : range);

/** Lists of at least `least` values of an option. */
/* @__NO_SIDE_EFFECTS__ */
export function listOf<Value>(
  option: Option<Value, string, unknown>,
  least = 1,
): Option<readonly Value[], string, undefined> {
  return {
    default: undefined,
    range: `a list, each ${inWords(option.range)}`,
    check(title, x) {
      if (!Array.isArray(x)) throw wrongKind(`${title} must be a list`, x);
      if (x.length < least) throw new RangeError(`${title} must not be empty`);
      for (const [index, element] of x.entries()) option.check(`${title}[${index}]`, element);
    },
  };
}

/** Numbers in an interval, such as `"(0, 1]"`. */
/* @__NO_SIDE_EFFECTS__ */
export function within<const Range extends string, const D extends Numbers>(
  range: Range,
  value: D,
): Option<Widened<D>, Range, D> {
  const [low, high] = range
    .slice(1, -1)
    .split(", ")
    .map((end) => Number(end.replace("∞", "Infinity"))) as [number, number];
  const holds = (x: number) =>
    (range.startsWith("[") ? x >= low : x > low) && (range.endsWith("]") ? x <= high : x < high);
  const number = (title: string, x: unknown) => {
    if (typeof x !== "number") throw wrongKind(`${title} must be a number in ${range}`, x);
    if (!holds(x)) throw wrongValue(`${title} must be in ${range}`, x);
  };
  const list = (title: string, x: unknown) => {
    const { length } = value as readonly number[];
    if (!Array.isArray(x)) throw wrongKind(`${title} must be a list of ${length} numbers`, x);
    if (x.length !== length) throw wrongValue(`${title} must have ${length} numbers`, x.length);
    for (const [index, element] of x.entries()) number(`${title}[${index}]`, element);
  };
  return { default: Object.freeze(value), range, check: Array.isArray(value) ? list : number };
}

/**
 * The values of options: the given ones, all checked, and `others` for those that are missing or undefined.
 * Each is read once.
 * @param path the prefix of option names in messages
 * @param besides the names of properties of `given` that are not options
 */
export function resolve(
  title: string,
  options: Options,
  given: unknown,
  path = "",
  others: Readonly<Record<string, unknown>> = defaults(options),
  besides: readonly string[] = [],
): Record<string, unknown> {
  const names = Object.keys(options);
  checkRecord(title, names, given);
  const unknown = Object.keys(given).find((name) => !names.includes(name) && !besides.includes(name));
  if (unknown !== undefined) throw noOption(title, path, unknown, names);
  const values = { ...others };
  for (const [name, option] of Object.entries(options)) {
    const value = given[name];
    if (value !== undefined) values[name] = accept(`${title}: ${path}${name}`, option, value);
  }
  return values;
}

/**
 * Throws a TypeError for options that are not an object, or that are one without names, such as an optimizer.
 * @param names the names of the options
 */
export function checkRecord(
  title: string,
  names: readonly string[],
  given: unknown,
): asserts given is Readonly<Record<string, unknown>> {
  if (isNamed(given) || (isRecord(given) && names.some((name) => name in given))) return;
  throw wrongKind(`${title}: options must be an object such as { ${names[0]}: … }`, given);
}

/** Gives a factory its name, and properties. `console.log` shows only the name. */
/* @__NO_SIDE_EFFECTS__ */
export function factoryOf(name: string, make: Function, properties: object): unknown {
  for (const [key, value] of Object.entries({ name, ...properties })) Object.defineProperty(make, key, { value });
  return make;
}

/**
 * Whether a value is an object with named properties, of any realm: not a list, a date, a promise, a map or any other
 * built-in object. An instance of a class is also a record; its getters may be on the prototype.
 */
export const isRecord = (value: unknown): value is Record<string, unknown> =>
  classOf(value) === "Object" && !(Symbol.iterator in (value as object));

/**
 * The class of a built-in object; "Object" for others, and for primitives their type. It works for objects of other
 * realms (iframes, `vm` contexts), where `instanceof` fails.
 */
export function classOf(value: unknown): string {
  try {
    return Object.prototype.toString.call(value).slice(8, -1);
  } catch {
    return REVOKED;
  }
}
const REVOKED = "revoked Proxy";

/** Whether a value is a proxy that was revoked. `Array.isArray`, `instanceof` and the like throw for it. */
export const isRevoked = (value: unknown): boolean => classOf(value) === REVOKED;

/** Whether a value is a list. */
export const isList = (value: unknown): value is readonly unknown[] => !isRevoked(value) && Array.isArray(value);

/** A record of other values by the same names. */
export const mapValues = <Value, Result>(
  record: Readonly<Record<string, Value>>,
  map: (value: Value) => Result,
): Record<string, Result> => Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));

/** The values of these options. */
export const pick = (options: object, values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(Object.keys(options).map((name) => [name, values[name]]));

export const defaults = (options: Options): Record<string, unknown> => mapValues(options, (option) => option.default);

/** A checked value. Lists and plain objects are copied and frozen before the check, so that they cannot change after it. */
export function accept(title: string, option: Option, value: unknown): unknown {
  if (isList(value) && value.length > MAX_LENGTH) {
    throw wrongValue(`${title} must have at most ${MAX_LENGTH} values`, value.length);
  }
  const accepted = frozenCopy(value);
  option.check(title, accepted);
  return accepted;
}

/** The longest name of an unknown option in a message, in characters. */
const MAX_NAME = 60;

/** The largest depth and length of options. Values beyond these are not copied. `accept` and the checks refuse them. */
const MAX_DEPTH = 4;
const MAX_LENGTH = 2 ** 20;

function frozenCopy(value: unknown, depth = MAX_DEPTH): unknown {
  if (isRevoked(value)) return Symbol(REVOKED); // no check accepts it
  if (depth === 0) return value;
  if (isList(value)) {
    if (value.length > MAX_LENGTH) return value;
    return Object.freeze(Array.from(value, (item) => frozenCopy(item, depth - 1)));
  }
  if (!isPlain(value)) return value;
  return Object.freeze(mapValues(value, (item) => frozenCopy(item, depth - 1)));
}

/** Whether a value is an object literal, of any realm. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (!isRecord(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** Whether a value is an object literal, or another record with keys of its own. An optimizer has none, for example. */
export const isNamed = (value: unknown): value is Record<string, unknown> =>
  isPlain(value) || (isRecord(value) && Object.keys(value).length > 0);

/** Whether a value can be called: a function, but not a class. */
export const isCallable = (value: unknown): value is (...args: never[]) => unknown =>
  typeof value === "function" && !isClass(value);

const isClass = (value: Function) => /^class\b/.test(Function.prototype.toString.call(value));

/** A name in snake case, as in Rust and Python. */
export const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** A name in camel case, as in TypeScript. */
export const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

/** The remedy for gradients, or a loss, that are passed to a call. */
export const GRADIENTS = "; write gradients to each tensor's grad";

/** The remedy for a call that would free the memory of one object. */
export const FREE = "(); free all memory of the arena with arena.free()";

/**
 * Makes an object throw a TypeError when a program uses a name that the object does not have. Each name counts in camel case
 * and in snake case.
 * @param prototype the object itself, or the prototype of several
 * @param title the text before the name in the message
 * @param remedies the text after each name
 * @param isRead whether reading is an error, and not only assigning
 */
export function refuseNames<Owner extends object>(
  prototype: Owner,
  title: (owner: Owner) => string,
  remedies: Readonly<Record<string, string>>,
  isRead = true,
): void {
  for (const [known, remedy] of Object.entries(remedies)) {
    for (const name of new Set([known, snake(known)])) {
      const fail = function (this: Owner) {
        throw new TypeError(`${title(this)} ${name}${remedy}`);
      };
      Object.defineProperty(prototype, name, { get: isRead ? fail : undefined, set: fail });
    }
  }
}

/** The error for a value of a wrong kind. `expected` says what it must be, and `rest` ends the sentence: a detail, the remedy. */
export const wrongKind = (expected: string, got: unknown, rest = ""): TypeError =>
  new TypeError(mismatch(expected, got, rest));

/** The error for a value of the right kind that is not allowed, and for wrong content of a file. */
export const wrongValue = (expected: string, got: unknown, rest = ""): RangeError =>
  new RangeError(mismatch(expected, got, rest));

const mismatch = (expected: string, got: unknown, rest: string) => `${expected}, got ${show(got)}${rest}`;

/** The error for an unknown name, which suggests the most similar one. */
export function noOption(title: string, path: string, name: string, names: readonly string[], kind = "option") {
  const given = name.length > MAX_NAME ? `${name.slice(0, MAX_NAME)}…` : name;
  const near = nearest(given, names);
  const hint = near === undefined ? "there are" : `did you mean "${near}"? There are`;
  return new TypeError(`${title}: no ${kind} "${path}${given}"; ${hint} ${names.join(", ")}`);
}

/** Names in other libraries. */
const aliases: Readonly<Record<string, string>> = {
  learningrate: "lr",
  epsilon: "eps",
  beta1: "betas",
  beta2: "betas",
  b1: "betas",
  b2: "betas",
  maxnorm: "clipNorm",
  maxgradnorm: "clipNorm",
  gradclip: "clipNorm",
  emadecay: "ema",
  peak: "peakValue",
  totalsteps: "decaySteps",
  k: "syncPeriod",
  alpha: "slowStepSize",
};

const lettersOf = (name: string) => name.toLowerCase().replace(/[^a-z0-9]/g, "");

/** The name for the same thing: that of an alias, or one that differs only in its spelling. */
export function synonym(given: string, names: readonly string[]): string | undefined {
  const letters = lettersOf(given);
  const alias = Object.hasOwn(aliases, letters) ? aliases[letters] : undefined;
  return names.find((name) => name === alias || name.toLowerCase() === letters);
}

/** The name for the same thing, or else the most similar name, if one is similar enough. */
function nearest(given: string, names: readonly string[]): string | undefined {
  const same = synonym(given, names);
  if (same !== undefined) return same;
  const letters = lettersOf(given);
  const likeness = (name: string) => (2 * sharedLetters(letters, name.toLowerCase())) / (letters.length + name.length);
  const best = [...names].sort((a, b) => likeness(b) - likeness(a))[0];
  return best !== undefined && likeness(best) > 0.7 ? best : undefined;
}

/** The length of the longest common subsequence of letters. */
function sharedLetters(a: string, b: string): number {
  let row = new Array<number>(b.length + 1).fill(0);
  for (const letter of a) {
    const next = [0];
    for (let j = 0; j < b.length; j++) {
      next.push(letter === b[j] ? (row[j] as number) + 1 : Math.max(next[j] as number, row[j + 1] as number));
    }
    row = next;
  }
  return row[b.length] as number;
}

/** The longest text of a value in a message, in characters, and the most items of a list. */
const MAX_SHOWN = 120;
const MAX_ITEMS = 16;

/** Returns the text of a value for a message. Its length and the time are limited, whatever the value is. */
export function show(value: unknown): string {
  const text = shown(value, 3, MAX_SHOWN);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

/** The text of a value, cut after `room` characters or a little more. */
function shown(value: unknown, depth: number, room: number): string {
  if (typeof value === "string")
    return value.length > room ? `${JSON.stringify(value.slice(0, room))}…` : JSON.stringify(value);
  if (typeof value === "bigint")
    return value < 1n << 64n && value > -1n << 64n ? `${value}n` : "a bigint beyond 64 bits";
  if (isList(value)) return depth === 0 ? "[…]" : `[${listed(value, depth - 1, room)}]`;
  if (typeof value === "function") return isClass(value) ? "a class" : "a function";
  if (typeof value === "object" && value !== null) return `an object (${constructorName(value)})`;
  return String(value);
}

/** The text of names for a message: those that fit, or "none". */
export const listNames = (names: Iterable<string>): string =>
  listed(Array.from(names), 0, MAX_SHOWN, (name) => name.slice(0, MAX_SHOWN)) || "none";

/** The name of an object's class. Reading it may run a getter of the object, which may throw. */
function constructorName(value: object): string {
  try {
    const name: unknown = value.constructor?.name;
    return typeof name === "string" && name !== "" ? name.slice(0, 40) : "no class";
  } catch {
    return "no class";
  }
}

/** A list's first items. */
function listed<Item>(
  list: readonly Item[],
  depth: number,
  room: number,
  text: (item: Item, depth: number, room: number) => string = shown,
): string {
  const items: string[] = [];
  let length = 0;
  for (let i = 0; i < list.length; i++) {
    if (i === MAX_ITEMS || length > room) return [...items, "…"].join(", ");
    items.push(text(list[i]!, depth, room - length));
    length += items[i]!.length + 2;
  }
  return items.join(", ");
}
