/** Options given to a rule: checked, completed, written where its kernel reads them, and live from then on. */

import type { Rule } from "./definition.js";
import { checkNames, type Option } from "./option.js";

export type Values = Readonly<Record<string, unknown>>;

/** The rule's defaults with what was given in their place, all of it checked. */
export function resolve(rule: Rule, given: Values): Values {
  const options = { ...rule.hyper, ...rule.fixed };
  checkNames(rule.name, given, Object.keys(options));
  const values = Object.fromEntries(
    Object.entries(options).map(([name, option]) => {
      const { [name]: value = option.default } = given;
      return [name, accept(rule, name, option, value)];
    }),
  );
  checkConflict(rule, values);
  return values;
}

/** What a job needs to know of the values. */
export interface Variant {
  /** The kernel's name: the rule's, then each option that adds state. */
  readonly kernel: string;
  /** What each slot of state starts at. */
  readonly slots: Readonly<Record<string, number>>;
  /** What the gradient is multiplied by. */
  readonly gradScale: number;
}

export function variant(rule: Rule, values: Values): Variant {
  const added = Object.entries(rule.adds).filter(([, option]) => values[option]);
  const start = (slot: string) => [slot, values[rule.fill[slot] ?? ""] ?? 0];
  const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return {
    kernel: [rule.name, ...added.map(([, option]) => option)].map(snake).join("_"),
    slots: Object.fromEntries([...rule.state, ...added.map(([slot]) => slot)].map(start)),
    gradScale: values.maximize ? -1 : 1,
  };
}

/** The hyper-parameters as the Rust struct has them: one double for a number or a flag, n for a list. */
export function fields(rule: Rule, values: Values): number[] {
  return Object.keys(rule.hyper)
    .flatMap((name) => values[name] as number)
    .map(Number);
}

/** The hyper-parameters among the values. What is written to them is checked, and goes to `block`. */
export function live(rule: Rule, values: Values, block: Float64Array): object {
  const hyper = Object.fromEntries(Object.keys(rule.hyper).map((name) => [name, values[name]]));
  block.set(fields(rule, hyper));
  return new Proxy(Object.seal(hyper), {
    set(_, name, value) {
      const key = String(name);
      const option = rule.hyper[key];
      if (option === undefined) refuse(rule, key);
      const accepted = accept(rule, key, option, value);
      const slot = Object.keys(rule.adds).find((slot) => rule.adds[slot] === key);
      if (slot !== undefined && Boolean(accepted) !== Boolean(hyper[key])) {
        throw new TypeError(
          `${rule.name}: ${key} decides whether there is a ${slot}, and was ${hyper[key]} when the optimizer was made; make a new one`,
        );
      }
      checkConflict(rule, { ...hyper, [key]: accepted });
      hyper[key] = accepted;
      block.set(fields(rule, hyper));
      return true;
    },
    defineProperty: () => false,
  });
}

function accept(rule: Rule, name: string, option: Option, value: unknown): unknown {
  option.check(`${rule.name}: ${name}`, value);
  return Array.isArray(value) ? Object.freeze([...value]) : value;
}

function checkConflict(rule: Rule, values: Values): void {
  const conflict = rule.conflict(values);
  if (conflict !== undefined) throw new RangeError(`${rule.name}: ${conflict}`);
}

function refuse(rule: Rule, name: string): never {
  checkNames(rule.name, { [name]: true }, [...Object.keys(rule.hyper), ...Object.keys(rule.fixed)]);
  throw new TypeError(`${rule.name}: ${name} is read when the optimizer is made; make a new one to change it`);
}
