/** JSON in a checkpoint's metadata: written without loss, read with checks, and compared. */

import { Tensor } from "../arena/tensor.js";
import { isPlain, isRecord, mapValues, show, wrongValue } from "../option.js";

export type Json = unknown;

/** A JSON object or list. */
export const isObject = (value: Json): value is Readonly<Record<string, Json>> =>
  typeof value === "object" && value !== null;

/** The most items of a list or an object of the file that are named, if the program does not have them. */
const MAX_STRANGE = 100;

/** One sentence for each place where two JSON values differ. */
export function* differences(path: string, there: Json, here: Json): Generator<string> {
  if (!isObject(there) || !isObject(here) || Array.isArray(there) !== Array.isArray(here)) {
    if (there !== here) yield `${path} is ${brief(there)} in the file, ${brief(here)} here`;
    return;
  }
  let strange = 0;
  for (const key of new Set([...Object.keys(here), ...Object.keys(there)])) {
    if (key === "observed") continue; // the progress of a schedule, which is among the counts
    if (!Object.hasOwn(here, key) && ++strange > MAX_STRANGE) {
      yield `${path === "" ? "the optimizer" : path} has more in the file`;
      return;
    }
    const own = (value: Readonly<Record<string, Json>>) => (Object.hasOwn(value, key) ? value[key] : undefined);
    const name = key.length > 40 ? `${key.slice(0, 40)}…` : key;
    const inside = Array.isArray(there) ? `${path}[${key}]` : path === "" ? name : `${path}.${name}`;
    yield* differences(inside, own(there), own(here));
  }
}

/** The beginning of a JSON value's text, in a time that does not depend on the value. */
function brief(value: Json): string {
  let room = 400;
  const text = (value: Json, depth: number): string => {
    if (room <= 0 || (depth === 0 && isObject(value))) return "…";
    if (!isObject(value)) {
      const written = typeof value === "string" ? show(value) : (JSON.stringify(value) ?? "nothing");
      room -= written.length + 1; // and a comma
      return written;
    }
    const parts: string[] = [];
    for (const key in value) {
      if (room <= 0) {
        parts.push("…");
        break;
      }
      const label = Array.isArray(value) ? "" : `${show(key)}:`;
      room -= label.length;
      parts.push(label + text(value[key], depth - 1));
    }
    return Array.isArray(value) ? `[${parts.join(",")}]` : `{${parts.join(",")}}`;
  };
  return text(value, 4);
}

/** Writes JSON. Numbers that are not finite, and functions, become text. */
export const toJson = (value: Json): string =>
  JSON.stringify(value, (_, item) => {
    if (typeof item === "number" && !Number.isFinite(item)) return String(item);
    return typeof item === "function" ? "a function" : item;
  });

/** The numbers that JSON cannot hold: they are text. */
const wordsForNumbers = ["NaN", "Infinity", "-Infinity", "-0"];

/** Converts a number to JSON without loss: to a number, or to text. */
const exactNumber = (x: number): number | string => (Object.is(x, -0) ? "-0" : Number.isFinite(x) ? x : String(x));

/** Reads what `exactNumber` or `toJson` wrote. */
export function numberFrom(title: string, value: unknown): number {
  if (typeof value === "string" && wordsForNumbers.includes(value)) return Number(value);
  if (typeof value !== "number") throw wrongValue(`${title} must be a number`, value);
  return value;
}

/** Converts numbers by name to JSON without loss. */
export const exactNumbers = (numbers: Readonly<Record<string, number>>): Record<string, number | string> =>
  mapValues(numbers, exactNumber);

/**
 * Whether JSON would change a value without an error. Two changes are allowed: -0 becomes 0, and properties that are
 * undefined are left out, which read the same.
 */
function isLost(value: unknown): boolean {
  if (typeof value === "number") return !Number.isFinite(value);
  if (Array.isArray(value)) return value.includes(undefined);
  if (typeof value !== "object" || value === null) return typeof value === "function" || typeof value === "symbol";
  // Other objects without keys are such as a Map.
  return !isPlain(value) && (ArrayBuffer.isView(value) || value instanceof Tensor || Object.keys(value).length === 0);
}

export function asJson(title: string, extra: unknown): string {
  const expected = `${title}: extra must be what JSON can hold`;
  let text: string | undefined;
  let lost: string | undefined;
  try {
    text = JSON.stringify(extra, (key, value) => {
      if (isLost(value)) lost ??= `${show(value)}${key && ` as ${show(key)}`}`;
      return lost === undefined ? value : undefined; // the content of a value that is refused may be long
    });
  } catch (cause) {
    throw new TypeError(`${expected}: it has a BigInt, contains itself, is nested too deeply, or its toJSON throws`, {
      cause,
    });
  }
  if (lost !== undefined || text === undefined) {
    throw new TypeError(
      `${expected}, got ${lost ?? show(extra)}; convert it to finite numbers, text, lists or plain objects`,
    );
  }
  return text;
}

export function parse(text: string, key: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    throw wrongValue(`the metadata's ${key} must be JSON`, text.slice(0, 40));
  }
}

/** Parses an object that the metadata holds as JSON. */
export function parseObject(text: string | undefined, key: string): Record<string, Json> {
  if (text === undefined) throw new RangeError(`the metadata must have ${key}, got none`);
  const value = parse(text, key);
  if (isRecord(value)) return value as Record<string, Json>;
  throw wrongValue(`the metadata's ${key} must be an object`, text.slice(0, 40));
}

/** The beginning of a text, without quotes. */
export const short = (text: string) => (text.length > 20 ? `${text.slice(0, 20)}…` : text);
