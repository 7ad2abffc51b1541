/** An optimizer's options as data, for `model.save` and `tf.loadLayersModel`. */

import type { Rule } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import { isRecord, mapValues, wrongKind } from "../option.js";
import { revived } from "../schedules/data.js";
import { Schedule } from "../schedules/schedule.js";
import type { TfjsGroup } from "./groups.js";

type Data = unknown;

/**
 * The options of an optimizer and of its groups.
 * @param options those of variables that are in no group; defaults may be missing
 */
export function configOf(rule: Rule, options: Values, groups: readonly TfjsGroup[]): Data {
  const common = (name: string) => (name in options ? options[name] : rule.hyper[name]!.default);
  const listed = groups.map(({ hyper, variables, own }) => {
    const present = Object.entries(hyper as Values).filter(([name, value]) => name in own || value !== common(name));
    const changed = { ...own, ...Object.fromEntries(present) };
    const pattern = variables instanceof RegExp ? { pattern: variables.source, flags: variables.flags } : variables;
    return { variables: pattern, ...changed };
  });
  const all = { ...options, ...(groups.length > 0 && { groups: listed }) };
  return Object.fromEntries(
    Object.entries(all)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, toData(`${rule.name}: ${name}`, value)]),
  );
}

/**
 * When TensorFlow.js reads a file, it converts strings from snake_case to camelCase. So underscores in strings are
 * escaped, and the sign that escapes them.
 */
const escaped = (text: string) => text.replaceAll("%", "%25").replaceAll("_", "%5F");
const unescaped = (text: string) => text.replaceAll("%5F", "_").replaceAll("%25", "%");

function toData(title: string, value: unknown): Data {
  if (typeof value === "function") {
    throw new TypeError(`${title} is a function, which a file cannot hold; use a schedule such as warmupCosineDecay`);
  }
  if (value instanceof Schedule) return toData(title, value.toJSON());
  if (typeof value === "number" && !Number.isFinite(value)) return `${value}`;
  if (typeof value === "string") return escaped(value);
  if (Array.isArray(value)) return value.map((item) => toData(title, item));
  if (typeof value !== "object" || value === null) return value;
  return mapValues(value as Values, (item) => toData(title, item));
}

/**
 * The options that `configOf` wrote.
 * @throws a TypeError for anything but a record; the options themselves are not checked here.
 */
export function optionsFrom(config: unknown): Values {
  if (!isRecord(config)) throw wrongKind("fromConfig: config must be what getConfig() returned", config);
  const { customObjects: _, ...data } = config; // TensorFlow.js adds it
  const options = revived(words(data)) as Record<string, any>;
  if (Array.isArray(options.groups)) options.groups = options.groups.map(withPattern);
  return options;
}

/** A group with its pattern. What is no group is left to the checks of the options. */
function withPattern(group: unknown): unknown {
  const { variables, ...rest } = Object(group);
  return typeof variables?.pattern === "string"
    ? { variables: new RegExp(variables.pattern, variables.flags), ...rest }
    : group;
}

/** Restores strings. */
function words(data: Data): Data {
  if (typeof data === "string") return unescaped(data);
  if (Array.isArray(data)) return data.map(words);
  if (typeof data !== "object" || data === null) return data;
  return mapValues(data as Values, words);
}
