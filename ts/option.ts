/** What a rule's options may be, and the words in which a wrong one is refused. */

/** One option: its default, what it may be, and the check. */
export interface Option<Value = unknown, Range extends string = string, Default = Value> {
  readonly default: Default;
  readonly range: Range;
  /** Throws unless `value` is a `Value` in `range`; `title` names it in the message. */
  check(title: string, value: unknown): void;
}

export type Options = Readonly<Record<string, Option>>;

export type ValueOf<O> = O extends Option<infer Value, string, unknown> ? Value : never;

type Numbers = number | readonly number[];
type Widened<D extends Numbers> = D extends number ? number : { readonly [Index in keyof D]: number };

/** Numbers in [0, ∞). */
/* @__NO_SIDE_EFFECTS__ */
export function nonNegative<const D extends Numbers>(value: D): Option<Widened<D>, "[0, ∞)", D> {
  return interval("[0, ∞)", value, (x) => x >= 0 && x < Infinity);
}

/** Numbers in [0, 1): decays and momenta. */
/* @__NO_SIDE_EFFECTS__ */
export function unit<const D extends Numbers>(value: D): Option<Widened<D>, "[0, 1)", D> {
  return interval("[0, 1)", value, (x) => x >= 0 && x < 1);
}

/** Numbers in [0, 1]. */
/* @__NO_SIDE_EFFECTS__ */
export function fraction<const D extends Numbers>(value: D): Option<Widened<D>, "[0, 1]", D> {
  return interval("[0, 1]", value, (x) => x >= 0 && x <= 1);
}

/* @__NO_SIDE_EFFECTS__ */
export function flag<const D extends boolean>(value: D): Option<boolean, "true or false", D> {
  return {
    default: value,
    range: "true or false",
    check(title, value) {
      if (typeof value !== "boolean") throw new TypeError(`${title} must be true or false, got ${show(value)}`);
    },
  };
}

function interval<Range extends string, D extends Numbers>(
  range: Range,
  value: D,
  holds: (x: number) => boolean,
): Option<Widened<D>, Range, D> {
  const number = (title: string, x: unknown) => {
    if (typeof x !== "number") throw new TypeError(`${title} must be a number in ${range}, got ${show(x)}`);
    if (!holds(x)) throw new RangeError(`${title} must be in ${range}, got ${x}`);
  };
  const list = (title: string, x: unknown) => {
    const { length } = value as readonly number[];
    if (!Array.isArray(x)) throw new TypeError(`${title} must be a list of ${length} numbers, got ${show(x)}`);
    if (x.length !== length) throw new RangeError(`${title} must have ${length} numbers, got ${x.length}`);
    x.forEach((element, index) => {
      number(`${title}[${index}]`, element);
    });
  };
  return { default: value, range, check: typeof value === "number" ? number : list };
}

/** Throws if `given` has a name that is not among `names`, with the nearest one. */
export function checkNames(title: string, given: object, names: readonly string[]): void {
  for (const name of Object.keys(given)) {
    if (names.includes(name)) continue;
    const near = nearest(name, names);
    const hint = near === undefined ? "" : `did you mean "${near}"? `;
    throw new TypeError(`${title}: no option "${name}"; ${hint}There are ${names.join(", ")}`);
  }
}

/** The name that has most of its letters, in order, in what was given: `lr` for `learningRate`, `eps` for `epsilon`. */
function nearest(given: string, names: readonly string[]): string | undefined {
  const letters = given.toLowerCase().replace(/[^a-z]/g, "");
  const share = (name: string) => common(letters, name.toLowerCase()) / name.length;
  const best = [...names].sort((a, b) => share(b) - share(a) || b.length - a.length)[0];
  return best !== undefined && share(best) >= 0.75 ? best : undefined;
}

/** The length of the longest sequence of letters that `a` and `b` share. */
function common(a: string, b: string): number {
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

/** A value as a message shows it. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(show).join(", ")}]`;
  if (typeof value === "function") return "a function";
  if (typeof value === "object" && value !== null) return `an object (${value.constructor?.name ?? "no class"})`;
  return String(value);
}
