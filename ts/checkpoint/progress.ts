/** The progress of an optimizer in a checkpoint: its settings, which must be the same, and its counters and scalars. */

import { sharedOptions, type Scalars } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import { defaults, flag, isRecord, type Options, show, whole } from "../option.js";
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
    observed: plateausOf(optimizer.groups).map(({ observed }) => observed),
  };
}

/**
 * Writes an optimizer's progress. `loaded` are the arrays that were in the file. The others get their initial values.
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
        i < optimizer.groups.length && isRecord(group) ? { ...own, ...group, params: names(group.params) } : group,
      )
    : groups;
  return { ...defaultsOf(Object.fromEntries(shared)), ...rest, groups: all };
}

/** Reads the progress of the optimizer. Undefined for a file of another rule. */
export function progressIn(
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
    const got = Array.isArray(observed) ? observed.length : "none";
    report(`the file has ${got} of the schedules that observe, the program ${schedules.length}`);
  }
  const groups = optimizer.groups.map((group, i) => {
    const places = placesIn(there.groups, i, group.params);
    const of = (list: unknown): unknown => (Array.isArray(list) && places ? list[i] : undefined);
    for (const [name, list] of Object.entries({ since, isDue, scalars })) {
      checkLength(`groups[${i}].${name}`, of(list), there.groups, i);
    }
    const dues = of(isDue);
    const areDue = group.params.map((_, k) => {
      const own: unknown = places?.[k] === undefined ? false : Array.isArray(dues) ? dues[places[k]] : true;
      flag(true).check(`groups[${i}].isDue[${k}]`, own);
      return own as boolean;
    });
    const first: unknown = Array.isArray(since) && places ? since[i] : places ? 0 : saved.steps;
    const isList = Array.isArray(first);
    // Files of earlier versions have no steps that some tensors did not make.
    const ownJoined = of(joined) ?? (isList ? 0 : first);
    whole(0, 0, saved.steps).check(`groups[${i}].joined`, ownJoined);
    const ownSince = group.params.map((_, k) => {
      const own: unknown = isList ? (places![k] === undefined ? saved.steps : first[places![k]]) : first;
      whole(0, ownJoined as number, saved.steps).check(`groups[${i}].since${isList ? `[${k}]` : ""}`, own);
      return own as number;
    });
    const given: unknown = of(scalars);
    const isSeparate = isList && group.params.length > 1 && !group.isSeparate;
    return {
      group,
      since: ownSince,
      joined: ownJoined as number,
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
              places!,
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

/**
 * Returns the indices of tensors in a group of the file, by their names; undefined if the file does not have the group.
 */
function placesIn(groups: Json, i: number, params: readonly Tensor[]): readonly (number | undefined)[] | undefined {
  if (!Array.isArray(groups) || i >= groups.length) return undefined;
  const names: unknown = isObject(groups[i]) ? groups[i].params : undefined;
  const places = new Map(Array.isArray(names) ? names.map((name, k) => [name as unknown, k] as const) : []);
  return params.map(({ name }) => places.get(name));
}

/** Throws a RangeError for a list that does not have an item for each tensor of a group of the file. */
function checkLength(title: string, list: unknown, groups: Json, i: number): void {
  const names: unknown = Array.isArray(groups) && isObject(groups[i]) ? groups[i].params : undefined;
  if (!Array.isArray(list) || !Array.isArray(names) || list.length === names.length) return;
  throw new RangeError(`${title} must have one item for each of ${names.length} params, got ${list.length}`);
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
