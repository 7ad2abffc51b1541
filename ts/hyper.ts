/** A rule's options: together, on the wire, and live. */

import type { Rule } from "./definition.js";
import { accept, noOption, resolve } from "./option.js";

export type Values = Readonly<Record<string, unknown>>;

/** The values of a rule's options: the defaults, over them what was given for all groups, over that a group's own. */
export function resolveRule(rule: Rule, given: unknown, own: unknown = {}, path = ""): Values {
  const options = optionsOf(rule);
  const values = resolve(rule.name, options, own, path, resolve(rule.name, options, given));
  checkConflict(rule, values);
  return values;
}

const optionsOf = (rule: Rule) => ({ ...rule.hyper, ...rule.fixed });

/** What of the values decides how a job is laid out. */
export interface Variant {
  /** The kernel's name: the rule's, then each option that adds state. */
  readonly kernel: string;
  /** What each slot of state starts at. */
  readonly slots: Readonly<Record<string, number>>;
}

export function variantOf(rule: Rule, values: Values): Variant {
  const added = Object.entries(rule.adds).filter(([, option]) => values[option]);
  const start = (slot: string) => [slot, values[rule.fill[slot] ?? ""] ?? 0];
  return {
    kernel: [rule.name, ...added.map(([, option]) => option)].map(snake).join("_"),
    slots: Object.fromEntries([...rule.state, ...added.map(([slot]) => slot)].map(start)),
  };
}

/** A name as Rust spells it. */
export const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** The hyper-parameters as the Rust struct has them: one double for a number or a flag, n for a list. */
export function fields(rule: Rule, values: Values): number[] {
  return Object.keys(rule.hyper)
    .flatMap((name) => values[name] as number)
    .map(Number);
}

/**
 * The hyper-parameters among the values, as an object that checks what is written to it.
 * @param beforeChange called before a value that is right takes the place of another
 */
export function liveHyper(rule: Rule, values: Values, beforeChange: () => void): Values {
  const hyper = Object.fromEntries(Object.keys(rule.hyper).map((name) => [name, values[name]]));
  return new Proxy(Object.seal(hyper), {
    set(_, key, value) {
      const name = String(key);
      if (!Object.hasOwn(rule.hyper, name)) refuse(rule, name);
      const accepted = accept(`${rule.name}: ${name}`, rule.hyper[name] as Rule["hyper"][string], value);
      const slot = Object.keys(rule.adds).find((slot) => rule.adds[slot] === name);
      if (slot !== undefined && Boolean(accepted) !== Boolean(hyper[name])) {
        throw new TypeError(
          `${rule.name}: ${name} decides whether there is a ${slot}, and was ${hyper[name]} when the optimizer was made; make a new one`,
        );
      }
      checkConflict(rule, { ...hyper, [name]: accepted });
      beforeChange();
      hyper[name] = accepted;
      return true;
    },
    defineProperty: () => false,
  });
}

function checkConflict(rule: Rule, values: Values): void {
  const conflict = rule.conflict(values);
  if (conflict !== undefined) throw new RangeError(`${rule.name}: ${conflict}`);
}

function refuse(rule: Rule, name: string): never {
  if (!Object.hasOwn(rule.fixed, name)) {
    throw noOption(rule.name, "", name, Object.keys(optionsOf(rule)));
  }
  throw new TypeError(`${rule.name}: ${name} is read when the optimizer is made; make a new one to change it`);
}
