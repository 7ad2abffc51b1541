/** The progress of an optimizer in a checkpoint: its settings, which must be the same, and its counters and scalars. */

import { hasCommonScalars, sharedOptions, type Scalars } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import { tensorsOf } from "../optimizer/params.js";
import { defaults, flag, isRecord, type Option, type Options, show, whole, wrongValue } from "../option.js";
import type { Checkpointable } from "../optimizer/checkpointable.js";
import { checkObserved, type Observed, plateausOf } from "../schedules/plateau.js";
import { countsIn } from "./counts.js";
import type { Counts } from "../optimizer/step.js";
import type { Tensor } from "../arena/tensor.js";
import { differences, exactNumbers, isObject, type Json, numberFrom, parseObject, short, toJson } from "./json.js";
import { type Report, startFromParams } from "./loading.js";

/** The rule, all options and the groups: they must be the same in the file and in the program. */
export function settingsOf(optimizer: Checkpointable): Json {
  const { rule, step, wrappers } = optimizer.internals;
  const around = Object.fromEntries([...wrappers].map(([name, { options }]) => [name, options]));
  const groups = optimizer.groups.map(({ params, hyper, fixed }) => {
    return { params: params.map(({ name }) => name), ...fixed, ...(hyper as Values) };
  });
  return { rule: rule.name, ...step.shared, ...around, groups };
}

/** The progress of an optimizer, as JSON holds it. */
export function countsOf(optimizer: Checkpointable): Json {
  const scalars = optimizer.groups.map(({ scalars }) => {
    const exact = scalars.map(exactNumbers);
    return exact.length === 1 ? exact[0] : exact;
  });
  const { counts } = optimizer.internals.step;
  const hasMicroBatches = "microBatches" in counts && counts.microBatches !== 0;
  const each = optimizer.groups.map(({ segmentOfEach }) => segmentOfEach ?? [{ since: 0, joined: 0, isDue: true }]);
  return {
    ...counts,
    since: optimizer.groups.map(({ params, isSeparate }, i) => {
      const since = each[i]!.map(({ since }) => since);
      // A list also says that each tensor has its own segment. The order in which norms are summed depends on this.
      const isList =
        params.length > 1 && (new Set(since).size > 1 || (isSeparate && !optimizer.internals.rule.perTensor));
      return isList ? since : since[0];
    }),
    joined: each.map((segments) => {
      const joined = segments.map(({ joined }) => joined);
      return new Set(joined).size > 1 ? joined : joined[0];
    }),
    // Of each tensor, whether it has a gradient among the micro-batches that came.
    isDue: each.map((segments) => {
      const isDue = segments.map(({ isDue }) => isDue);
      return hasMicroBatches && isDue.includes(false) ? isDue : true;
    }),
    scalars,
    observed: plateausOf(optimizer.groups).map(({ observed }) => observed),
  };
}

/**
 * Writes an optimizer's progress. `loaded` are the arrays that were in the file. Copies of parameters that were not in it start
 * anew, except those of a tensor that is not in the file and has made steps.
 */
export function restore(
  optimizer: Checkpointable,
  { counts, groups, observed }: NonNullable<ReturnType<typeof progressIn>>,
  loaded: ReadonlySet<Float32Array>,
): void {
  const { step, viewsOf } = optimizer.internals;
  step.counts = counts;
  for (const { group, since, joined, isDue, scalars } of groups) {
    group.scalars = scalars;
    group.segmentOfEach?.forEach((segment, k) =>
      Object.assign(segment, { since: since[k], joined: joined[k], isDue: isDue[k] }),
    );
  }
  const started = groups.flatMap(({ group: { params }, since }) =>
    params.filter((tensor, k) => loaded.has(tensor.data) || since[k] === counts.steps),
  );
  startFromParams(optimizer, loaded, started);
  for (const tensor of tensorsOf(optimizer.groups)) {
    const { sum } = viewsOf(tensor);
    if (sum && (!loaded.has(sum) || counts.microBatches === 0)) sum.fill(0);
  }
  for (const [plateau, seen] of observed) plateau.observed = seen;
}

/**
 * The settings in a file, with the defaults of options that did not exist when the file was written, and with the names
 * that tensors have here. Groups that the program does not have stay as they are.
 */
function completed(
  { groups, ...rest }: Record<string, Json>,
  optimizer: Checkpointable,
  rename: (name: string) => string,
): Record<string, Json> {
  const { rule, step } = optimizer.internals;
  const defaultsOf = (options: Options) => parseObject(toJson(defaults(options)), "rule");
  const own = defaultsOf({ ...rule.hyper, ...rule.fixed });
  const shared = Object.entries(sharedOptions).filter(([name]) => Object.hasOwn(step.shared, name));
  const names = (params: unknown) =>
    Array.isArray(params) ? params.map((name: unknown) => (typeof name === "string" ? rename(name) : name)) : params;
  const all = Array.isArray(groups)
    ? groups.map((group: unknown, i) =>
        isRecord(group) ? { ...(i < optimizer.groups.length && own), ...group, params: names(group.params) } : group,
      )
    : groups;
  return { ...defaultsOf(Object.fromEntries(shared)), ...rest, groups: all };
}

/**
 * Reads the progress of the optimizer. Undefined for a file of another rule.
 * @param fits whether the file has a tensor with this name and shape
 */
export function progressIn(
  metadata: ReadonlyMap<string, string>,
  optimizer: Checkpointable,
  report: Report,
  rename: (name: string) => string,
  fits: (tensor: Tensor) => boolean,
) {
  const rule = metadata.get("rule");
  if (rule === undefined) {
    report("the file has no optimizer");
    return undefined;
  }
  const here = parseObject(toJson(settingsOf(optimizer)), "rule");
  const there = completed(parseObject(rule, "rule"), optimizer, rename);
  if (there.rule !== here.rule) {
    report(`the optimizer is ${show(there.rule)} in the file, ${show(here.rule)} here`);
    return undefined;
  }
  for (const difference of differences("", there, here)) report(difference);
  const { observed, scalars, since, joined, isDue, ...numbers } = parseObject(metadata.get("counts"), "counts");
  const saved = countsIn("", numbers, Object.keys(optimizer.internals.step.counts), there);
  const schedules = plateausOf(optimizer.groups);
  if (!Array.isArray(observed) || observed.length !== schedules.length) {
    const got = Array.isArray(observed) ? observed.length : "no";
    report(`the file has the progress of ${got} reduceLROnPlateau schedules, the program of ${schedules.length}`);
  }
  const lists = { since, joined, isDue, scalars };
  const places = placesIn(there.groups, lists);
  const placeOf = (tensor: Tensor) => (fits(tensor) ? places.get(tensor.name) : undefined);
  return {
    counts: adapted(saved, optimizer, there, here),
    groups: groupsIn({ counts: saved, lists, placeOf }, optimizer, report),
    observed: schedules.map((plateau, i) => [plateau, observedIn(observed, i) ?? plateau.observed] as const),
  };
}

/** The progress of tensors in a file. */
interface SavedTensors {
  /** The counters in the file. */
  readonly counts: Counts;
  /** Lists with an item for each group. It is the item of all its tensors, or a list with one for each. */
  readonly lists: Readonly<Record<"since" | "joined" | "isDue" | "scalars", unknown>>;
  /** The place of a tensor in the lists, if the file has it. */
  readonly placeOf: (tensor: Tensor) => Place | undefined;
}

/** Reads the progress of each group. */
function groupsIn({ counts, lists, placeOf }: SavedTensors, optimizer: Checkpointable, report: Report) {
  const { since, scalars } = lists;
  const { rule, separate } = optimizer.internals;
  const common = hasCommonScalars(rule) ? tensorsOf(optimizer.groups).map(placeOf).find(Boolean) : undefined;
  const read = <Value>(name: "since" | "joined" | "isDue", place: Place, missing: Value, { check }: Option): Value => {
    const own = itemAt(lists[name], place, missing);
    check(titleAt(name, lists[name], place), own);
    return own as Value;
  };
  // A tensor that is not in the file keeps the steps that it has made in the program, at most as many as the file has.
  const kept = (steps: number) => Math.max(0, counts.steps - (optimizer.steps - steps));
  return optimizer.groups.map((group, i) => {
    const places = group.params.map(placeOf);
    const segments = group.segmentOfEach;
    const [first] = places.filter((place) => place !== undefined);
    const dues = places.map((place) => place !== undefined && read("isDue", place, true, flag(true)));
    const ownJoined = places.map((place, k) => {
      if (!place) return kept(segments?.[k]!.joined ?? 0);
      // Files of earlier versions have no `joined`. In those, a number in `since` means that the whole group joined then.
      const missing = isListed(since, place) ? 0 : itemAt(since, place, 0);
      return read("joined", place, missing as number, whole(0, 0, counts.steps));
    });
    const ownSince = places.map((place, k) =>
      place ? read("since", place, 0, whole(0, ownJoined[k]!, counts.steps)) : kept(segments?.[k]!.since ?? 0),
    );
    const ownScalars = places.map((place) => (place ? itemAt(scalars, place) : exactNumbers(group.scalars[0]!)));
    const differ = (items: readonly unknown[]) => new Set(items.map((item) => JSON.stringify(item))).size > 1;
    const isSeparate =
      separate !== undefined &&
      group.params.length > 1 &&
      !group.isSeparate &&
      (differ(ownSince) ||
        differ(ownJoined) ||
        differ(ownScalars) ||
        (counts.microBatches > 0 && differ(dues)) ||
        places.some((place) => place && isListed(since, place)));
    const all = isSeparate ? group.params.map(() => group.scalars[0]!) : group.scalars;
    return {
      group,
      since: ownSince,
      joined: ownJoined,
      isDue: dues,
      isSeparate,
      scalars: all.map((here, k) => {
        const place = common ?? (all.length === 1 ? first : places[k]);
        const title = `groups[${i}]${all.length > 1 ? `.params[${k}]` : ""}`;
        return place ? scalarsIn(title, here, itemAt(scalars, place), report) : here;
      }),
    };
  });
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
    ...(!kept("nonFinite", "lossScale", "maxConsecutiveErrors") && { skipped: 0 }),
  };
}

/** The place of a tensor in the groups of a file. */
type Place = readonly [group: number, param: number];

/**
 * The places of tensors in the groups of a file, by their names.
 * @param lists an item for each group; it may be a list with an item for each tensor
 * @throws a RangeError for another list.
 */
function placesIn(groups: Json, lists: Record<string, unknown>): ReadonlyMap<string, Place> {
  const places = new Map<string, Place>();
  for (const [name, list] of Object.entries(lists)) {
    if (list !== undefined && !Array.isArray(list)) throw wrongValue(`${name} must be a list`, list);
  }
  (Array.isArray(groups) ? groups : []).forEach((group, i) => {
    const names: readonly unknown[] = isObject(group) && Array.isArray(group.params) ? group.params : [];
    names.forEach((name, k) => {
      if (typeof name === "string") places.set(name, [i, k]);
    });
    for (const [name, list] of Object.entries(lists)) {
      const own: unknown = Array.isArray(list) ? list[i] : undefined;
      if (!Array.isArray(own) || own.length === names.length) continue;
      throw new RangeError(
        `groups[${i}].${name} must have one item for each of ${names.length} params, got ${own.length}`,
      );
    }
  });
  return places;
}

/** Whether a group of the file has an item for each tensor. */
const isListed = (list: unknown, [group]: Place): boolean => Array.isArray(list) && Array.isArray(list[group]);

/** The item of a tensor, or that of all tensors of its group. */
function itemAt(list: unknown, [group, param]: Place, missing?: unknown): unknown {
  const own: unknown = Array.isArray(list) ? list[group] : undefined;
  return own === undefined ? missing : Array.isArray(own) ? own[param] : own;
}

const titleAt = (name: string, list: unknown, place: Place): string =>
  `groups[${place[0]}].${name}${isListed(list, place) ? `[${place[1]}]` : ""}`;

/** Reads a record of scalars. Reports one that has others, and returns the present ones then. */
function scalarsIn(title: string, here: Scalars, given: unknown, report: Report): Scalars {
  const there = Object(given) as Record<string, unknown>;
  const [keys, saved] = [Object.keys(here), Object.keys(there)];
  if (saved.length !== keys.length || !keys.every((key) => Object.hasOwn(there, key))) {
    const has = short(saved.slice(0, 8).join(", ")) || "none";
    report(`${title} has the numbers ${has} in the file, ${keys.join(", ")} here`);
    return here;
  }
  // In the order in which kernels read them.
  return Object.fromEntries(keys.map((key) => [key, numberFrom(`${title}.${key}`, there[key])]));
}

/** Reads what schedule `i` has observed, if the file has it. */
function observedIn(observed: Json, i: number): Observed | undefined {
  const one: unknown = Array.isArray(observed) ? observed[i] : undefined;
  if (one === undefined) return undefined;
  const { best, cooling, ...rest } = Object(one) as Record<string, unknown>;
  const numbers = { best: numberFrom("best", best), cooling: numberFrom("cooling", cooling) };
  return checkObserved({ ...(rest as unknown as Observed), ...numbers });
}
