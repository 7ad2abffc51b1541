/** Checkpoints: the parameters, the state and the progress of a run, written to bytes and read back. */

import { sharedOptions, type Scalars } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import type { Tensors } from "../optimizer/params.js";
import { count, defaults, flag, type Option, type Options, show, whole, within } from "../option.js";
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
  type Loading,
  type Report,
  renamed,
  listModel,
  loadChecked,
  type LoadOptions,
  matchTensors,
  shapeOf,
  startFromParams,
} from "./loading.js";
import { decode, encodeHeader, type TensorEntry, headerEnd } from "./safetensors.js";

/** The result of `load`. */
export interface Loaded {
  /** The number of steps that the optimizer has made; 0 without an optimizer. */
  readonly steps: number;
  /** The `extra` that was given to `save`, as `JSON.parse` returns it; undefined if there was none. */
  readonly extra: unknown;
  /** One sentence for each difference that was ignored. Empty unless `strict` is false. */
  readonly leftOut: readonly string[];
}

type Json = unknown;

/** The version of the format that this module writes, in the metadata. */
const VERSION = "1";

/** The header begins with its checksum. So the position of the checksum is known before the header is parsed. */
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

/** Calls `write` with the byte arrays that make up a checkpoint. No step can run during the call. */
export function saveParts<Result>(
  title: string,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  extra: unknown,
  write: (parts: readonly Uint8Array[]) => Result,
): Result {
  const tensors = listModel(title, model);
  const arrays = arraysOf(title, tensors, optimizer);
  const more = extra === undefined ? undefined : asJson(title, extra);
  return betweenSteps(title, tensors.values(), () => {
    let end = 0;
    const entries = [...arrays].map(([name, { shape, view }]) => {
      const begin = end;
      end += view.byteLength;
      return [name, { dtype: "F32", shape, begin, end }] as const;
    });
    const sums = [...arrays].map(([name, { view }]) => [name, hex(crc32(bytesOf(view)))]);
    const metadata = new Map([
      ["checksum", BLANK],
      ["format", "downhill"],
      ["version", VERSION],
      ["crc32", toJson(Object.fromEntries(sums))],
    ]);
    if (optimizer) {
      metadata.set("rule", toJson(settingsOf(optimizer)));
      metadata.set("counts", toJson(countsOf(optimizer)));
    }
    if (more !== undefined) metadata.set("extra", more);
    const header = encodeHeader(title, { metadata, tensors: new Map(entries) });
    header.set(new TextEncoder().encode(hex(crc32(header))), CHECKSUM);

    return write([header, ...[...arrays.values()].map(({ view }) => bytesOf(view))]);
  });
}

/** The progress of an optimizer, as JSON holds it. */
function countsOf(optimizer: Checkpointable): Json {
  const scalars = optimizer.groups.map(({ scalars }) => {
    const exact = scalars.map((record) =>
      Object.fromEntries(Object.entries(record).map(([name, x]) => [name, exactNumber(x)])),
    );
    return exact.length === 1 ? exact[0] : exact;
  });
  const { counts } = optimizer.internals.step;
  const hasMicroBatches = "microBatches" in counts && counts.microBatches !== 0;
  return {
    ...counts,
    since: optimizer.groups.map((group) => {
      const { params, since = [0], isSeparate } = group;
      // A list also says that each tensor has its own segment. The order in which norms are summed depends on this.
      const isList =
        params.length > 1 && (new Set(since).size > 1 || (isSeparate && !optimizer.internals.rule.perTensor));
      return isList ? since : since[0];
    }),
    joined: optimizer.groups.map(({ joined = 0 }) => joined),
    // Of each tensor, whether it has a gradient among the micro-batches that came.
    isDue: optimizer.groups.map(({ isDue = [] }) => (hasMicroBatches && isDue.includes(false) ? isDue : true)),
    scalars,
    observed: plateausOf(optimizer).map(({ observed }) => observed),
  };
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
  const file = asBytes("load", bytes);
  return loadFrom("load", file, file.length, (begin, end) => file.subarray(begin, end), model, optimizer, options);
}

/**
 * Loads what fits from a file.
 * @param header the beginning of the file, with its whole header
 * @param size the size of the file, in bytes
 * @param read returns the bytes from `begin` to `end`
 */
export function loadFrom(
  title: string,
  header: Uint8Array,
  size: number,
  read: (begin: number, end: number) => Uint8Array,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  options: LoadOptions,
): Loaded {
  const { tensors, check } = checkerOf(title, header, size, model, optimizer);
  return loadChecked(title, tensors.values(), options, (loading) => {
    const { pairs, progress, extra } = check(loading);
    const loads = pairs.map(([{ view }, { name, begin, end, checksum }]) => {
      const bytes = read(begin, end);
      if (bytes.length < end - begin) throw new RangeError(`tensor ${show(name)} is cut off: the file became shorter`);
      checkChecksum(`tensor ${show(name)}`, checksum, hex(crc32(bytes)));
      return [view, bytes] as const;
    });
    return () => {
      // This reserves memory and can fail, so it comes first.
      for (const { group, isSeparate } of progress?.groups ?? [])
        if (isSeparate) optimizer!.internals.separate?.(group);
      for (const [view, bytes] of loads) bytesOf(view).set(bytes);
      if (optimizer && progress) restore(optimizer, progress, new Set(loads.map(([view]) => view)));
      return { steps: optimizer?.steps ?? 0, extra };
    };
  });
}

/**
 * The parts of a file that `loadFrom` will read.
 * @throws a RangeError for a file that does not fit.
 */
export function partsToRead(
  title: string,
  header: Uint8Array,
  size: number,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  options: LoadOptions,
): readonly { readonly begin: number; readonly end: number }[] {
  const { tensors, check } = checkerOf(title, header, size, model, optimizer);
  return loadChecked(title, tensors.values(), options, (loading) => {
    const { pairs } = check(loading);
    return () => ({ parts: pairs.map(([, part]) => part) });
  }).parts;
}

/** The checks of a file that need only its header. */
function checkerOf(
  title: string,
  header: Uint8Array,
  size: number,
  model: Tensors,
  optimizer: Checkpointable | undefined,
) {
  const tensors = listModel(title, model);
  const here = arraysOf(title, tensors, optimizer);
  const check = ({ report, rename }: Loading) => {
    const { metadata, tensors: there } = readHeader(header, size);
    const progress = optimizer && progressIn(metadata, optimizer, report, rename);
    const meant = <Value>(map: ReadonlyMap<string, Value>) =>
      progress ? map : new Map([...map].filter(([name]) => !name.startsWith(OPTIMIZER)));
    const pairs = matchTensors(meant(here), renamed(meant(there), renameArray(rename)), ["F32"], report);
    const text = metadata.get("extra");
    return { pairs, progress, extra: text === undefined ? undefined : parse(text, "extra") };
  };
  return { tensors, check };
}

/**
 * Writes an optimizer's progress. `loaded` are the arrays that were in the file. The others get their initial values.
 */
function restore(
  optimizer: Checkpointable,
  { counts, groups, observed }: NonNullable<ReturnType<typeof progressIn>>,
  loaded: ReadonlySet<Float32Array>,
): void {
  const { step, viewsOf } = optimizer.internals;
  step.counts = counts;
  for (const { group, since, joined, isDue, scalars } of groups) {
    group.scalars = scalars;
    if (group.since === undefined) continue;
    group.since = since;
    group.joined = joined;
    group.isDue = isDue;
  }
  startFromParams(optimizer, loaded);
  for (const tensor of optimizer.groups.flatMap(({ params }) => params)) {
    const { sum } = viewsOf(tensor);
    if (sum && (!loaded.has(sum) || counts.microBatches === 0)) sum.fill(0);
  }
  for (const [plateau, seen] of observed) plateau.observed = seen;
}

const OPTIMIZER = "optimizer.";

/** Renames an array of a file: a parameter, or `optimizer.NAME.SLOT`. */
const renameArray = (rename: (name: string) => string) => (name: string) => {
  if (!name.startsWith(OPTIMIZER)) return rename(name);
  const end = name.lastIndexOf(".");
  return `${OPTIMIZER}${rename(name.slice(OPTIMIZER.length, end))}${name.slice(end)}`;
};

/** All arrays of a checkpoint by their names in the file. */
function arraysOf(title: string, tensors: ReadonlyMap<string, Tensor>, optimizer: Checkpointable | undefined) {
  const all = new Map<string, { shape: Shape; view: Float32Array }>();
  for (const [name, { shape, data }] of tensors) {
    if (name.startsWith(OPTIMIZER)) {
      throw new RangeError(
        `${title}: a tensor's name must not begin with "${OPTIMIZER}", the prefix of state, got ${show(name)}`,
      );
    }
    all.set(name, { shape, view: data });
  }
  if (optimizer === undefined) return all;
  checkOptimizer(title, optimizer);
  for (const tensor of optimizer.groups.flatMap(({ params }) => params)) {
    if (tensors.get(tensor.name) !== tensor) {
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

/** A tensor in a checkpoint: the place of its bytes in the file, and their checksum. */
interface SavedTensor extends TensorEntry {
  readonly name: string;
  readonly checksum: unknown;
}

/** Decodes the header of a checkpoint, and checks its checksum. */
function readHeader(file: Uint8Array, size: number) {
  const end = headerEnd(file, size);
  const header = file.slice(0, end);
  if (text(header.subarray(8, CHECKSUM)) !== PREFIX) {
    throw new RangeError(
      "the file must be a checkpoint that save() wrote, got another; downhill/torch reads other models",
    );
  }
  const saved = text(header.subarray(CHECKSUM, CHECKSUM + DIGITS));
  header.set(new TextEncoder().encode(BLANK), CHECKSUM);
  checkChecksum("the header", saved, hex(crc32(header)));
  const { metadata, tensors, start } = decode(file, size);
  const unknown = [...metadata.keys()].find((key) => !KEYS.includes(key));
  const [format, version] = [metadata.get("format"), metadata.get("version")];
  if (format !== "downhill" || version !== VERSION || unknown !== undefined) {
    const got =
      unknown === undefined
        ? `format ${format === undefined ? "none" : short(format)}, version ${version === undefined ? "none" : short(version)}`
        : `metadata ${show(unknown)}`;
    throw new RangeError(`the checkpoint must be of version ${VERSION}, got ${got}; a later version may read it`);
  }
  const sums = new Map(Object.entries(parseObject(metadata.get("crc32"), "crc32")));
  const saves = new Map<string, SavedTensor>();
  for (const [name, entry] of tensors) {
    if (!sums.has(name)) throw new RangeError(`tensor ${show(name)} must have a checksum, got none`);
    saves.set(name, { ...entry, begin: start + entry.begin, end: start + entry.end, name, checksum: sums.get(name) });
    sums.delete(name);
  }
  for (const name of sums.keys())
    throw new RangeError(`each checksum must belong to a tensor, got one of ${show(name)}`);
  return { metadata, tensors: saves };
}

/** The beginning of a text, without quotes. */
const short = (text: string) => (text.length > 20 ? `${text.slice(0, 20)}…` : text);

function checkChecksum(what: string, saved: unknown, is: string): void {
  if (saved !== is)
    throw new RangeError(`${what} is damaged: the file says that its checksum is ${show(saved)}, but it is "${is}"`);
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

/** Reads the progress of the optimizer. Undefined for a file of another rule. */
function progressIn(
  metadata: ReadonlyMap<string, string>,
  optimizer: Checkpointable,
  report: Report,
  rename: (name: string) => string,
) {
  const rule = metadata.get("rule");
  if (rule === undefined) {
    report("the file has no optimizer");
    return undefined;
  }
  const here = parseObject(toJson(settingsOf(optimizer)), "rule");
  const there = withNames(completed(parseObject(rule, "rule"), optimizer.internals), rename);
  if (there.rule !== here.rule) {
    report(`the optimizer is ${show(there.rule)} in the file, ${show(here.rule)} here`);
    return undefined;
  }
  for (const difference of differences("", there, here)) report(difference);
  const { observed, scalars, since, joined, isDue, ...numbers } = parseObject(metadata.get("counts"), "counts");
  const saved = readCounts(numbers, optimizer, there);
  const schedules = plateausOf(optimizer);
  if (!Array.isArray(observed) || observed.length !== schedules.length) {
    const got = Array.isArray(observed) ? observed.length : "none";
    report(`the file has ${got} of the schedules that observe, the program ${schedules.length}`);
  }
  const groups = optimizer.groups.map((group, i) => {
    const place = placesIn(there.groups, i, group.params);
    const of = (list: unknown): unknown => (Array.isArray(list) && place ? list[i] : undefined);
    const dues = of(isDue);
    const areDue = group.params.map((_, k) => {
      const own: unknown = Array.isArray(dues) && place![k] !== undefined ? dues[place![k]] : true;
      flag(true).check(`groups[${i}].isDue[${k}]`, own);
      return own as boolean;
    });
    const first: unknown = Array.isArray(since) && place ? since[i] : place ? 0 : saved.steps;
    const isList = Array.isArray(first);
    // Files of earlier versions have no steps that some tensors did not make.
    const begun = of(joined) ?? (isList ? 0 : first);
    whole(0, 0, saved.steps).check(`groups[${i}].joined`, begun);
    const joinedAt = group.params.map((_, k) => {
      const own: unknown = isList ? (place![k] === undefined ? saved.steps : first[place![k]]) : first;
      whole(0, begun as number, saved.steps).check(`groups[${i}].since${isList ? `[${k}]` : ""}`, own);
      return own as number;
    });
    const given: unknown = place && Array.isArray(scalars) ? scalars[i] : undefined;
    const isSeparate = isList && group.params.length > 1 && !group.isSeparate;
    return {
      group,
      since: joinedAt,
      joined: begun as number,
      isDue: areDue,
      isSeparate,
      scalars:
        given === undefined
          ? group.scalars
          : scalarsOf(
              `groups[${i}]`,
              group,
              given,
              isSeparate ? group.params.length : group.scalars.length,
              place!,
              report,
            ),
    };
  });
  return {
    counts: adapted(saved, optimizer, there, here),
    groups,
    observed: schedules.map((plateau, i) => [plateau, observedIn(observed, i) ?? plateau.observed] as const),
  };
}

/** Reads the counters, which must agree with each other and with the options in the file. */
function readCounts(
  numbers: Record<string, Json>,
  { internals: { step } }: Checkpointable,
  there: Record<string, Json>,
) {
  const { steps, lossScale, accumulate } = { ...numbers, ...there } as Record<string, unknown>;
  count(0, 0).check("steps", numbers.steps);
  const most = steps as number;
  const isDynamic = there.lossScale === "dynamic";
  const range: Readonly<Record<string, Option>> = {
    steps: count(0, 0),
    lossScale: within("(0, ∞)", 1),
    goodSteps: whole(0, 0, isDynamic ? most : 0),
    microBatches: whole(0, 0, typeof accumulate === "number" ? Math.max(0, accumulate - 1) : 0),
    averaged: whole(0, 0, there.ema || there.swa ? most : 0),
    skipped: count(0, 0),
  };
  const counts = Object.fromEntries(
    Object.keys(step.counts).map((name) => {
      const value = name === "skipped" ? (numbers[name] ?? 0) : numbers[name]; // earlier versions did not count them
      range[name]!.check(name, value);
      return [name, value];
    }),
  ) as unknown as Counts;
  if ("lossScale" in counts && !isDynamic && counts.lossScale !== lossScale) {
    throw new RangeError(`counts.lossScale must be the option's ${show(lossScale)}, got ${show(counts.lossScale)}`);
  }
  return counts;
}

/** The counters. Those of an option that differs get their initial values. */
function adapted(
  counts: Counts,
  { internals: { step } }: Checkpointable,
  there: Record<string, Json>,
  here: Record<string, Json>,
): Counts {
  const kept = (...options: string[]) => options.every((option) => there[option] === here[option]);
  return {
    ...counts,
    ...(!kept("lossScale") && { lossScale: step.lossScale?.first, goodSteps: 0 }),
    ...(!kept("accumulate", "accumulateBy") && { microBatches: 0 }),
    ...(!kept("ema", "swa") && { averaged: 0 }),
  };
}

/** The settings in a file, with the names that tensors have here. */
function withNames(settings: Record<string, Json>, rename: (name: string) => string): Record<string, Json> {
  const { groups } = settings;
  if (!Array.isArray(groups)) return settings;
  const names = (params: unknown) =>
    Array.isArray(params) ? params.map((name: unknown) => (typeof name === "string" ? rename(name) : name)) : params;
  return {
    ...settings,
    groups: groups.map((group: unknown) => (isObject(group) ? { ...group, params: names(group.params) } : group)),
  };
}

/**
 * Returns the indices of tensors in a group of the file, by their names; undefined if the file does not have the group.
 */
function placesIn(groups: Json, i: number, params: readonly Tensor[]): readonly (number | undefined)[] | undefined {
  if (!Array.isArray(groups) || i >= groups.length) return undefined;
  const names: unknown = isObject(groups[i]) ? groups[i].params : undefined;
  const places = new Map(Array.isArray(names) ? names.map((name, k) => [name as unknown, k] as const) : []);
  return params.map(({ name }) => places.get(name));
}

/** Reads `count` records of scalars: one of the group, or one of each of its tensors. */
function scalarsOf(
  title: string,
  { scalars }: Checkpointable["groups"][number],
  given: unknown,
  count: number,
  places: readonly (number | undefined)[],
  report: Report,
): readonly Scalars[] {
  return Array.from({ length: count }, (_, k) => {
    const here = scalars[k] ?? scalars[0]!;
    const there = Object(Array.isArray(given) ? given[places[k] ?? -1] : given) as Record<string, unknown>;
    const name = count > 1 ? `${title}.params[${k}]` : title;
    const [keys, saved] = [Object.keys(here), Object.keys(there)];
    if (saved.length !== keys.length || !keys.every((key) => Object.hasOwn(there, key))) {
      const has = short(saved.slice(0, 8).join(", ")) || "none";
      report(`${name} has the numbers ${has} in the file, ${keys.join(", ")} here`);
      return here;
    }
    // In the order in which kernels read them.
    return Object.fromEntries(keys.map((key) => [key, numberFrom(`${name}.${key}`, there[key])]));
  });
}

/** Reads what schedule `i` has observed, if the file has it. */
function observedIn(observed: Json, i: number): Observed | undefined {
  const one: unknown = Array.isArray(observed) ? observed[i] : undefined;
  if (one === undefined) return undefined;
  const { best, cooling, ...rest } = Object(one) as Record<string, unknown>;
  const numbers = { best: numberFrom("best", best), cooling: numberFrom("cooling", cooling) };
  return checkObserved({ ...(rest as unknown as Observed), ...numbers });
}

/** All `reduceLROnPlateau` schedules, in the order of the groups and their options. */
function plateausOf(optimizer: Checkpointable): Plateau[] {
  const inside = (value: unknown): Plateau[] => {
    if (value instanceof Plateau) return [value];
    if (value instanceof Schedule) return Object.values(value.options).flatMap(inside);
    return Array.isArray(value) ? value.flatMap(inside) : [];
  };
  return optimizer.groups.flatMap(({ hyper }) => Object.values(hyper as Values).flatMap(inside));
}

/** A JSON object or list. */
const isObject = (value: Json): value is Readonly<Record<string, Json>> => typeof value === "object" && value !== null;

/** One sentence for each place where two JSON values differ. */
function* differences(path: string, there: Json, here: Json): Generator<string> {
  if (!isObject(there) || !isObject(here) || Array.isArray(there) !== Array.isArray(here)) {
    if (there !== here) yield `${path} is ${brief(there)} in the file, ${brief(here)} here`;
    return;
  }
  for (const key of new Set([...Object.keys(there), ...Object.keys(here)])) {
    if (key === "observed") continue; // the progress of a schedule, which is among the counts
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
      room -= written.length;
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
const toJson = (value: Json): string =>
  JSON.stringify(value, (_, item) => {
    if (typeof item === "number" && !Number.isFinite(item)) return String(item);
    return typeof item === "function" ? "a function" : item;
  });

/** The numbers that JSON cannot hold: they are text. */
const wordsForNumbers = ["NaN", "Infinity", "-Infinity", "-0"];

/** Converts a number to JSON without loss: to a number, or to text. */
const exactNumber = (x: number): number | string => (Object.is(x, -0) ? "-0" : Number.isFinite(x) ? x : String(x));

/** Reads what `exactNumber` or `toJson` wrote. */
function numberFrom(title: string, value: unknown): number {
  if (typeof value === "string" && wordsForNumbers.includes(value)) return Number(value);
  if (typeof value !== "number") throw new RangeError(`${title} must be a number, got ${show(value)}`);
  return value;
}

function asJson(title: string, extra: unknown): string {
  const expected = `${title}: extra must be what JSON can hold`;
  let text: string | undefined;
  try {
    text = JSON.stringify(extra);
  } catch (cause) {
    throw new TypeError(`${expected}: it has a BigInt, contains itself, is nested too deeply, or its toJSON throws`, {
      cause,
    });
  }
  if (text === undefined) throw new TypeError(`${expected}, got ${show(extra)}`);
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
