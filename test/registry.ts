/** Every registered rule, and for each the option sets that between them reach all of its kernels and branches. */

import type { Rule } from "../ts/definition.js";
import { resolveRule, type Values, variantOf } from "../ts/hyper.js";
import type { Option } from "../ts/option.js";
import * as registered from "../ts/rules/index.js";

export type AnyFactory = ((params: any, options?: any) => any) & { readonly rule: Rule };

export const factories: readonly AnyFactory[] = Object.values(registered);

export interface Case {
  readonly name: string;
  readonly factory: AnyFactory;
  readonly rule: Rule;
  readonly options: Values;
  /** The options with the defaults of those not given. */
  readonly values: Values;
}

/** A value in an option's range that is not its default. */
export function another(option: Option): unknown {
  if (typeof option.default === "boolean") return !option.default;
  const values = option.range === "[0, ∞)" ? [0.02, 0.03] : [0.8, 0.95];
  return Array.isArray(option.default) ? option.default.map((_, index) => values[index]) : values[0];
}

/** All flags and options that add state, on and off, with every number at its default and at another value. */
function casesOf(factory: AnyFactory): Case[] {
  const { rule } = factory;
  const all = { ...rule.hyper, ...rule.fixed };
  const switches = Object.keys(all).filter(
    (name) =>
      name !== "maximize" && (typeof all[name]!.default === "boolean" || Object.values(rule.adds).includes(name)),
  );
  const numbers = Object.keys(all).filter(
    (name) => typeof all[name]!.default !== "boolean" && !switches.includes(name),
  );
  const subsets = Array.from({ length: 2 ** switches.length }, (_, bits) => switches.filter((_, i) => (bits >> i) & 1));
  return [[], numbers].flatMap((others) =>
    subsets.flatMap((on) => {
      const options = Object.fromEntries([...on, ...others].map((name) => [name, another(all[name]!)]));
      try {
        const values = resolveRule(rule, options);
        return [{ name: `${rule.name} ${JSON.stringify(options)}`, factory, rule, options, values }];
      } catch {
        return []; // options that contradict each other
      }
    }),
  );
}

export const cases: readonly Case[] = factories.flatMap(casesOf);

/** The names of the kernels that the cases reach. */
export const kernelNames = [...new Set(cases.map(({ rule, values }) => variantOf(rule, values).kernel))];
