/** Checkpoints: the parameters, the state and the progress of a run, written to bytes and read back. */

import { sharedOptions, type Scalars } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import type { Tensors } from "../optimizer/params.js";
import { count, defaults, finite, type Options, show, within } from "../option.js";
import type { Checkpointable } from "../optimizer/checkpointable.js";
import { Schedule } from "../schedules/schedule.js";
import { checkObserved, type Observed, Plateau } from "../schedules/plateau.js";
import type { Counts } from "../optimizer/step.js";
import type { Shape, Tensor } from "../arena/tensor.js";
import { crc32 } from "./crc32.js";
import { concat } from "./files.js";
import {
  betweenSteps,
  asBytes,
  bytesOf,
  checkOptimizer,
  type Report,
  listModel,
  loadChecked,
  type LoadOptions,
  matchTensors,
  shapeOf,
  startFromParams,
} from "./loading.js";
import { type Contents, decode, encodeHeader, type TensorEntry, headerEnd } from "./safetensors.js";

/** The result of `load`. */
export interface Loaded {
  /** The number of steps that the optimizer has made; 0 without an optimizer. */
  readonly steps: number;
  /** The `extra` that was given to `save`, as `JSON.parse` returns it; undefined if there was none. */
  readonly extra: unknown;
  /** One sentence for each difference that was passed over. Empty unless `strict` is false. */
  readonly leftOut: readonly string[];
}

type Json = unknown;

/** The version of the format that this module writes, in the metadata. */
const VERSION = "1";

/** The header begins with its own checksum, so its place is known before anything is parsed. */
const PREFIX = '{"__metadata__":{"checksum":"';
const CHECKSUM = 8 + PREFIX.length;
const DIGITS = 8;
const BLANK = "0".repeat(DIGITS);
const KEYS = ["checksum", "format", "version", "crc32", "rule", "counts", "extra"];

/**
 * Writes a checkpoint in the safetensors format. Parameters have their own names, the optimizer's state is
 * `optimizer.NAME.SLOT`, and everything else is metadata. Gradients are not saved.
 * @param model the tensors to save, by name or in a list
 * @param optimizer an optimizer of these tensors. Default: none; only the parameters are saved
 * @param extra anything that JSON can hold, such as `{ batches: order.state }`; `load` returns it. Default: nothing
 * @returns the bytes of the file
 * @throws a TypeError or RangeError for wrong arguments; an Error during a step.
 */
export function save(model: Tensors, optimizer?: Checkpointable, extra?: unknown): Uint8Array<ArrayBuffer> {
  return saveParts("save", model, optimizer, extra, concat);
}

/** Calls `write` with the parts of a checkpoint. No step can run in the meantime. */
export function saveParts<Result>(
  title: string,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  extra: unknown,
  write: (parts: readonly Uint8Array[]) => Result,
): Result {
  const list = listModel(title, model);
  const tensors = arraysOf(title, list, optimizer);
  return betweenSteps(title, list, () => {
    let end = 0;
    const entries = [...tensors].map(([name, { shape, view }]) => {
      const begin = end;
      end += view.byteLength;
      return [name, { dtype: "F32", shape, begin, end }] as const;
    });
    const sums = [...tensors].map(([name, { view }]) => [name, hex(crc32(bytesOf(view)))]);
    const metadata = new Map([
      ["checksum", BLANK],
      ["format", "downhill"],
      ["version", VERSION],
      ["crc32", toJson(Object.fromEntries(sums))],
    ]);
    if (optimizer) {
      metadata.set("rule", toJson(settingsOf(optimizer)));
      metadata.set(
        "counts",
        toJson({
          ...optimizer.internals.step.counts,
          since: optimizer.groups.map(({ since = 0 }) => since),
          scalars: optimizer.groups.map(({ scalars }) => (scalars.length === 1 ? scalars[0] : scalars)),
          observed: plateaus(optimizer).map(({ observed }) => observed),
        }),
      );
    }
    if (extra !== undefined) metadata.set("extra", asJson(title, extra));
    const header = encodeHeader(title, { metadata, tensors: new Map(entries) });
    header.set(new TextEncoder().encode(hex(crc32(header))), CHECKSUM);

    return write([header, ...[...tensors.values()].map(({ view }) => bytesOf(view))]);
  });
}

/**
 * Loads a checkpoint that `save` wrote. All checks come first: checksums, names, shapes, the rule and its options. After
 * an error nothing has changed.
 * @param bytes the whole file
 * @param model tensors with the names and shapes of the saved ones
 * @param optimizer an optimizer made like the saved one. Default: none; only the parameters are loaded
 * @throws a RangeError for a damaged file and for a file that does not fit; an Error during a step.
 */
export function load(
  bytes: Uint8Array | ArrayBuffer,
  model: Tensors,
  optimizer?: Checkpointable,
  options: LoadOptions = {},
): Loaded {
  const tensors = listModel("load", model);
  const all = arraysOf("load", tensors, optimizer);
  const file = asBytes("load", bytes);
  return loadChecked("load", tensors, options, (report) => {
    const found = verify(file);
    const progress = optimizer && progressIn(found, optimizer, report);
    const meant = <Value>(map: ReadonlyMap<string, Value>) =>
      progress ? map : new Map([...map].filter(([name]) => !name.startsWith(OPTIMIZER)));
    const pairs = matchTensors(meant(all), meant(found.tensors), ["F32"], report);
    const text = found.metadata.get("extra");
    const extra = text === undefined ? undefined : parse(text, "extra");
    return () => {
      for (const [{ view }, entry] of pairs) bytesOf(view).set(bytesIn(file, found, entry));
      if (optimizer && progress) {
        optimizer.internals.step.counts = progress.counts;
        for (const [group, since, scalars] of progress.groups) {
          group.scalars = scalars;
          if (group.since !== undefined) group.since = since;
        }
        const loaded = new Set(pairs.map(([{ view }]) => view));
        startFromParams(optimizer, loaded);
        for (const tensor of optimizer.groups.flatMap(({ params }) => params)) {
          const { sum } = optimizer.internals.viewsOf(tensor);
          if (sum && (!loaded.has(sum) || progress.counts.microBatches === 0)) sum.fill(0);
        }
        for (const [plateau, observed] of progress.observed) plateau.observed = observed;
      }
      return { steps: optimizer?.steps ?? 0, extra };
    };
  });
}

const OPTIMIZER = "optimizer.";

/** All arrays of a checkpoint by their names in the file. */
function arraysOf(title: string, list: readonly Tensor[], optimizer: Checkpointable | undefined) {
  const tensors = new Set(list);
  const all = new Map<string, { shape: Shape; view: Float32Array }>();
  for (const { name, shape, data } of tensors) {
    if (name.startsWith(OPTIMIZER)) {
      throw new RangeError(
        `${title}: a tensor's name must not begin with "${OPTIMIZER}", as state does, got ${show(name)}`,
      );
    }
    if (all.has(name)) throw new RangeError(`${title}: names must differ, got ${show(name)} of two arenas`);
    all.set(name, { shape, view: data });
  }
  if (optimizer === undefined) return all;
  checkOptimizer(title, optimizer);
  for (const tensor of optimizer.groups.flatMap(({ params }) => params)) {
    if (!tensors.has(tensor)) {
      throw new RangeError(
        `${title}: model must hold all that the optimizer updates, got one without tensor ${show(tensor.name)}`,
      );
    }
    const { state, average, sum, added } = optimizer.internals.viewsOf(tensor);
    const views = { ...state, ...added, ...(average && { average }), ...(sum && { gradSum: sum }) };
    for (const [slot, view] of Object.entries(views)) {
      all.set(`${OPTIMIZER}${tensor.name}.${slot}`, { shape: shapeOf(optimizer, slot, tensor), view });
    }
  }
  return all;
}

const bytesIn = (file: Uint8Array, { start }: { start: number }, { begin, end }: TensorEntry) =>
  file.subarray(start + begin, start + end);

/** Decodes a file and checks every checksum. */
function verify(file: Uint8Array): ReturnType<typeof decode> {
  const end = headerEnd(file);
  const header = file.slice(0, end);
  if (text(header.subarray(8, CHECKSUM)) !== PREFIX) {
    throw new RangeError(
      "the file must be a checkpoint that save() wrote, got another; downhill/torch reads other models",
    );
  }
  const said = text(header.subarray(CHECKSUM, CHECKSUM + DIGITS));
  header.set(new TextEncoder().encode(BLANK), CHECKSUM);
  checkChecksum("the header", said, hex(crc32(header)));
  const found = decode(file);
  const unknown = [...found.metadata.keys()].find((key) => !KEYS.includes(key));
  const { version, format } = Object.fromEntries(found.metadata);
  if (format !== "downhill" || version !== VERSION || unknown !== undefined) {
    const got =
      unknown === undefined ? `format ${format ?? "none"}, version ${version ?? "none"}` : `metadata ${show(unknown)}`;
    throw new RangeError(`the checkpoint must be of version ${VERSION}, got ${got}; a later version may read it`);
  }
  const sums = new Map(Object.entries(parseObject(found.metadata.get("crc32"), "crc32")));
  for (const [name, entry] of found.tensors) {
    if (!sums.has(name)) throw new RangeError(`tensor ${show(name)} must have a checksum, got none`);
    checkChecksum(`tensor ${show(name)}`, sums.get(name), hex(crc32(bytesIn(file, found, entry))));
    sums.delete(name);
  }
  for (const name of sums.keys()) throw new RangeError(`each checksum must be a tensor's, got one of ${show(name)}`);
  return found;
}

function checkChecksum(what: string, said: unknown, is: string): void {
  if (said !== is) throw new RangeError(`${what} is damaged: its checksum is said to be ${show(said)}, and is "${is}"`);
}

/** The rule, all options and the groups: they must be the same in the file and in the program. */
function settingsOf(optimizer: Checkpointable): Json {
  const { rule, step, wrappers } = optimizer.internals;
  const around = Object.fromEntries([...wrappers].map(([name, { options }]) => [name, options]));
  const groups = optimizer.groups.map(({ params, hyper, fixed }) => {
    return { params: params.map(({ name }) => name), ...fixed, ...(hyper as Values) };
  });
  return { rule: rule.name, ...step.shared, ...around, groups };
}

/** Adds the defaults of options that did not exist when the file was written. */
function completed(
  { groups, ...rest }: Record<string, Json>,
  { rule, step }: Checkpointable["internals"],
): Record<string, Json> {
  const defaultsOf = (options: Options) => parseObject(toJson(defaults(options)), "rule");
  const own = defaultsOf({ ...rule.hyper, ...rule.fixed });
  const all = Array.isArray(groups) ? groups.map((group) => ({ ...own, ...group })) : groups;
  const shared = Object.entries(sharedOptions).filter(([name]) => Object.hasOwn(step.shared, name));
  return { ...defaultsOf(Object.fromEntries(shared)), ...rest, groups: all };
}

/** Reads how far the optimizer had come; undefined for a file of another rule. */
function progressIn(found: Contents, optimizer: Checkpointable, report: Report) {
  const { rule, counts } = Object.fromEntries(found.metadata);
  if (rule === undefined) {
    report("the file has no optimizer");
    return undefined;
  }
  const here = parseObject(toJson(settingsOf(optimizer)), "rule");
  const there = completed(parseObject(rule, "rule"), optimizer.internals);
  if (there.rule !== here.rule) {
    report(`the optimizer is ${show(there.rule)} in the file, ${show(here.rule)} here`);
    return undefined;
  }
  for (const difference of differences("", there, here)) report(difference);
  const { observed, scalars, since, ...numbers } = parseObject(counts, "counts");
  const { step } = optimizer.internals;
  const progress = Object.fromEntries(
    Object.keys(step.counts).map((name) => {
      (name === "lossScale" ? within("(0, ∞)", 1) : count(0, 0)).check(name, numbers[name]);
      return [name, numbers[name]];
    }),
  ) as unknown as Counts;
  // Counters of an option that differs begin anew.
  const kept = (...options: string[]) => options.every((option) => there[option] === here[option]);
  const adapted: Counts = {
    ...progress,
    ...(!kept("lossScale") && { lossScale: step.lossScale?.first, goodSteps: 0 }),
    ...(!kept("accumulate", "accumulateBy") && { microBatches: 0 }),
    ...(!kept("ema", "swa") && { averaged: 0 }),
  };
  const schedules = plateaus(optimizer);
  if (!Array.isArray(observed) || observed.length !== schedules.length) {
    const got = Array.isArray(observed) ? observed.length : "none";
    report(`of schedules that observe there are ${got} in the file, ${schedules.length} here`);
  }
  const groups = optimizer.groups.map((group, i) => {
    const isKnown = Array.isArray(there.groups) && i < there.groups.length;
    const joinedAt: unknown = Array.isArray(since) && isKnown ? since[i] : isKnown ? 0 : progress.steps;
    count(0, 0).check(`groups[${i}].since`, joinedAt);
    const given: unknown = Array.isArray(scalars) ? scalars[i] : undefined;
    const read =
      given === undefined ? group.scalars : scalarsOf(i, group, given, isKnown ? there.groups : [], optimizer, report);
    return [group, joinedAt as number, read] as const;
  });
  return {
    counts: adapted,
    groups,
    observed: schedules.map((plateau, i) => [plateau, observedIn(observed, i) ?? plateau.observed] as const),
  };
}

/** Reads the scalars of a group, or of each of its tensors: one object or a list of them. */
function scalarsOf(
  i: number,
  { params, scalars }: Checkpointable["groups"][number],
  given: unknown,
  groups: Json,
  { internals: { rule } }: Checkpointable,
  report: Report,
): readonly Scalars[] {
  const list: readonly unknown[] = [given].flat();
  const names = (groups as readonly { readonly params?: unknown }[])[i]?.params;
  return scalars.map((here, k) => {
    const place = rule.perTensor ? (Array.isArray(names) ? names.indexOf(params[k]!.name) : -1) : k;
    const there = Object(list[place]) as Record<string, unknown>;
    const [title, keys] = [`groups[${i}]${rule.perTensor ? `.params[${k}]` : ""}`, Object.keys(here)];
    if (Object.keys(there).length !== keys.length || !keys.every((key) => Object.hasOwn(there, key))) {
      report(
        `${title} has the numbers ${Object.keys(there).join(", ") || "none"} in the file, ${keys.join(", ")} here`,
      );
      return here;
    }
    for (const key of keys) finite(0).check(`${title}.${key}`, there[key]);
    return Object.fromEntries(keys.map((key) => [key, there[key] as number])); // in the order in which kernels read them
  });
}

/** Reads what schedule `i` has observed, if the file has it. JSON has no infinite numbers: they are text. */
function observedIn(observed: Json, i: number): Observed | undefined {
  const one: unknown = Array.isArray(observed) ? observed[i] : undefined;
  if (one === undefined) return undefined;
  const { best, cooling, ...rest } = Object(one) as Observed;
  return checkObserved({ ...rest, best: Number(best), cooling: Number(cooling) });
}

/** All `reduceLROnPlateau` schedules, in the order of the groups and their options. */
function plateaus(optimizer: Checkpointable): Plateau[] {
  const inside = (value: unknown): Plateau[] => {
    if (value instanceof Plateau) return [value];
    if (value instanceof Schedule) return Object.values(value.options).flatMap(inside);
    return Array.isArray(value) ? value.flatMap(inside) : [];
  };
  return optimizer.groups.flatMap(({ hyper }) => Object.values(hyper as Values).flatMap(inside));
}

/** One sentence for each place where two JSON values differ. */
function* differences(path: string, there: Json, here: Json): Generator<string> {
  const isObject = (value: Json): value is Readonly<Record<string, Json>> =>
    typeof value === "object" && value !== null;
  if (!isObject(there) || !isObject(here) || Array.isArray(there) !== Array.isArray(here)) {
    const [a, b] = [there, here].map((value) => JSON.stringify(value) ?? "nothing");
    if (a !== b) yield `${path} is ${a} in the file, ${b} here`;
    return;
  }
  for (const key of new Set([...Object.keys(there), ...Object.keys(here)])) {
    if (key === "observed") continue; // the progress of a schedule, which is among the counts
    const own = (value: Readonly<Record<string, Json>>) => (Object.hasOwn(value, key) ? value[key] : undefined);
    const inside = Array.isArray(there) ? `${path}[${key}]` : path === "" ? key : `${path}.${key}`;
    yield* differences(inside, own(there), own(here));
  }
}

/** Writes JSON. Numbers that are not finite, and functions, become text. */
const toJson = (value: Json): string =>
  JSON.stringify(value, (_, item) => {
    if (typeof item === "number" && !Number.isFinite(item)) return String(item);
    return typeof item === "function" ? "a function" : item;
  });

function asJson(title: string, extra: unknown): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(extra);
  } catch (cause) {
    throw new TypeError(`${title}: extra must be what JSON can hold: ${(cause as Error).message}`, { cause });
  }
  if (text === undefined) throw new TypeError(`${title}: extra must be what JSON can hold, got ${show(extra)}`);
  return text;
}

function parse(text: string, key: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    throw new RangeError(`the metadata's ${key} must be JSON, got ${show(text.slice(0, 40))}`);
  }
}

/** Parses an object that the metadata holds as JSON. */
function parseObject(text: string | undefined, key: string): Record<string, Json> {
  if (text === undefined) throw new RangeError(`the metadata must have ${key}, got none`);
  const value = parse(text, key);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, Json>;
  throw new RangeError(`the metadata's ${key} must be an object, got ${show(text.slice(0, 40))}`);
}

const text = (bytes: Uint8Array) => String.fromCharCode(...bytes);
const hex = (crc: number) => crc.toString(16).padStart(DIGITS, "0");
