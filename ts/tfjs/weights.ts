/**
 * The state of an optimizer as named tensors. For rules that TensorFlow.js also has, their names and their order are those of its
 * optimizers, so that each can continue from a file of the other.
 */

import { engine, mul, type Optimizer, scalar, Tensor, tensor1d, type Variable } from "@tensorflow/tfjs-core";
import { sameShape } from "../arena/tensor.js";
import type { Rule, Scalars } from "../optimizer/definition.js";
import { areScheduled, type Values, valuesAt, variantOf } from "../optimizer/hyper.js";
import { AVERAGE, GRAD_SUM } from "../optimizer/segment.js";
import { LossScale } from "../optimizer/lossScale.js";
import type { Counts } from "../optimizer/step.js";
import { countsIn } from "../checkpoint/counts.js";
import { exactNumbers, numberFrom } from "../checkpoint/json.js";
import { count, isRecord, show, whole, wrongKind, wrongValue } from "../option.js";
import { revived } from "../schedules/data.js";
import { checkObserved, type Observed, plateausOf } from "../schedules/plateau.js";
import { plain } from "../schedules/schedule.js";
import type { Entry } from "./entries.js";
import type { Settings, TfjsGroup } from "./groups.js";

export type NamedTensor = Awaited<ReturnType<Optimizer["getWeights"]>>[number];

/** The names of slots in files of TensorFlow.js, in its order. */
const tfjsNames: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  sgd: { momentumBuffer: "momentum" },
  momentum: { momentumBuffer: "momentum" },
  adagrad: { sum: "accumulator" },
  adadelta: { squareAvg: "accum_grad", accDelta: "accum_var" },
  adam: { expAvg: "m", expAvgSq: "v" },
  adamax: { expAvg: "m", expInf: "v" },
  rmsprop: { squareAvg: "rms", momentumBuffer: "momentum", gradAvg: "mg" },
};

/**
 * The factor that converts a momentum buffer of TensorFlow.js to the rule's. The buffer of its Momentum does not
 * contain the rate, and that of `momentum` does. The buffer of its RMSProp contains the rate, and that of `rmsprop`
 * does not.
 */
const factors: Readonly<Record<string, (lr: number) => number>> = {
  momentum: (lr) => -lr,
  rmsprop: (lr) => 1 / lr,
};

export const ITERATIONS = "iter";
/** The name of the tensor with all progress besides steps and state: JSON, one character per number. */
const PROGRESS = "downhill";

/** The slots that a variable of a group has, by their names in files, in the order of files. */
function slotsOf(rule: Rule, { values }: TfjsGroup): ReadonlyMap<string, string> {
  const { slots, hasAverage, hasAccumulator } = variantOf(rule, values);
  const names = tfjsNames[rule.name] ?? {};
  const own = [...Object.keys(slots), ...(hasAverage ? [AVERAGE] : []), ...(hasAccumulator ? [GRAD_SUM] : [])];
  // TensorFlow.js's RMSProp always has a buffer.
  const theirs = Object.keys(names).filter(
    (slot) => own.includes(slot) || (rule.name === "rmsprop" && slot === "momentumBuffer"),
  );
  const others = own.filter((slot) => !(slot in names));
  return new Map([
    ...theirs.map((slot) => [names[slot]!, slot] as const),
    ...others.map((slot) => [slot, slot] as const),
  ]);
}

/** Returns the function that gives the factor of a group's slot, at the last rate that was not zero. */
function factorsAt(rule: Rule, steps: number): (group: TfjsGroup, slot: string) => number {
  const factor = factors[rule.name];
  const known = new Map<TfjsGroup, number>();
  return (group, slot) => {
    if (factor === undefined || slot !== "momentumBuffer") return 1;
    if (!known.has(group)) {
      const lr = lastRate(rule, group, steps);
      known.set(group, lr === 0 ? 1 : factor(lr));
    }
    return known.get(group)!;
  };
}

/** The rate of the last step whose rate was not zero, or the last other rate of the group, or zero. */
function lastRate(rule: Rule, group: TfjsGroup, steps: number): number {
  const values = { ...group.values, ...(group.hyper as Values) };
  const last = Math.max(0, steps - 1);
  const first = areScheduled(rule, values) ? 0 : last;
  let lr = 0;
  for (let step = last; step >= first && lr === 0; step--) ({ lr } = valuesAt(rule, values, step) as { lr: number });
  return lr || group.lastRate;
}

interface Weight {
  readonly name: string;
  readonly tensor: Tensor;
  /** Whether the tensor is a variable of the optimizer. */
  readonly isOwn: boolean;
}

export function writeWeights(settings: Settings, entries: readonly Entry[], counts: Counts): Weight[] {
  const { rule, groupOf } = settings;
  const factorOf = factorsAt(rule, counts.steps);
  const names = new Set(entries.flatMap(({ name }) => [...slotsOf(rule, groupOf(name)).keys()]));
  const state = [...names].flatMap((suffix) =>
    entries.flatMap((entry): Weight[] => {
      const group = groupOf(entry.name);
      const slot = slotsOf(rule, group).get(suffix);
      if (slot === undefined) return [];
      const name = `${entry.name}/${suffix}`;
      const variable = entry.state.get(slot);
      if (variable === undefined) {
        const like = [...entry.state.values()][0];
        const isMissing = rule.name === "rmsprop" && slot === "momentumBuffer" && like;
        return isMissing
          ? [{ name, tensor: engine().makeTensor(new Float32Array(like.size), like.shape, "float32"), isOwn: false }]
          : [];
      }
      const factor = factorOf(group, slot);
      if (factor === 1) return [{ name, tensor: variable, isOwn: true }];
      return [{ name, tensor: mul(variable, 1 / factor), isOwn: false }];
    }),
  );
  const iterations = { name: ITERATIONS, tensor: scalar(counts.steps, "int32"), isOwn: false };
  const inOrder = new Set(state.map(({ name }) => name.slice(0, name.lastIndexOf("/"))));
  const progress = progressOf(settings, entries, counts, [...inOrder]);
  if (progress === undefined) return [iterations, ...state];
  const codes = Array.from(JSON.stringify(progress), (character) => character.charCodeAt(0));
  return [iterations, ...state, { name: PROGRESS, tensor: tensor1d(codes, "int32"), isOwn: false }];
}

interface Progress {
  readonly counts: Omit<Counts, "steps">;
  /** The names of variables, if these or their order do not follow from the state. */
  readonly names: readonly string[];
  /** By the names of variables. One that is missing is 0. */
  readonly since: Readonly<Record<string, number>>;
  /** The same. */
  readonly joined: Readonly<Record<string, number>>;
  readonly scalars: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** The names of variables that had a gradient in a micro-batch of the next step. */
  readonly due: readonly string[];
  readonly observed: readonly unknown[];
  /** For each group with a rate of zero, the last other rate, by which momentum was converted. Otherwise 0. */
  readonly rates: readonly number[];
}

/** The progress that files of TensorFlow.js cannot store. Undefined if there is none. */
function progressOf(
  { rule, groups }: Settings,
  entries: readonly Entry[],
  counts: Counts,
  /** The names of the variables with state, in the order of the state. */
  inOrder: readonly string[],
): Progress | undefined {
  const { steps: _, ...rest } = counts;
  const names = entries.map(({ name }) => name);
  const isImplied = names.length === inOrder.length && names.every((name, i) => name === inOrder[i]);
  // TensorFlow.js's optimizers without state accept no other tensor. Names and the steps of a variable do not matter to them, and
  // they have no groups.
  const isStateless = rule.name in tfjsNames && inOrder.length === 0 && groups.length === 1;
  const late = isStateless ? [] : entries.filter(({ since }) => since > 0);
  const since = Object.fromEntries(late.map(({ name, since }) => [name, since]));
  const joined = Object.fromEntries(late.flatMap(({ name, joined }) => (joined > 0 ? [[name, joined]] : [])));
  const hasScalars = Object.keys(rule.scalars).length > 0;
  const scalars = hasScalars
    ? Object.fromEntries(entries.flatMap(({ name, scalars }) => (scalars ? [[name, exactNumbers(scalars)]] : [])))
    : {};
  const observed = plateausOf(groups).map(({ observed }) => plain(observed));
  const rates = groups.map(({ hyper, lastRate }) =>
    rule.name in factors && (hyper as Values).lr === 0 ? lastRate : 0,
  );
  const isPlain =
    groups[0]!.values.lossScale !== "dynamic" &&
    rest.microBatches === 0 &&
    rest.averaged === 0 &&
    rates.every((rate) => rate === 0);
  if (isPlain && (isImplied || isStateless) && !hasScalars && observed.length === 0 && Object.keys(since).length === 0)
    return undefined;
  const due = entries.filter(({ isDue }) => isDue).map(({ name }) => name);
  return { counts: rest, names: isImplied ? [] : names, since, joined, scalars, due, observed, rates };
}

/** Reads weights. All are checked before anything is made or assigned. */
export async function readWeights(
  { rule, groups, groupOf }: Settings,
  weights: readonly NamedTensor[],
): Promise<{ entries: Entry[]; counts: Counts }> {
  const title = `${rule.name}: setWeights`;
  if (!Array.isArray(weights)) throw wrongKind(`${title}: weights must be a list of { name, tensor }`, weights);
  const checkAll = () => weights.forEach((weight, i) => checkWeight(`${title}: weights[${i}]`, weight));
  checkAll();
  const [first, ...rest] = weights as NamedTensor[];
  if (first?.name !== ITERATIONS) {
    throw wrongValue(`${title}: the first weight must be the number of steps, "${ITERATIONS}"`, first?.name);
  }
  if (first.tensor.size !== 1)
    throw new RangeError(`${title}: "${ITERATIONS}" must be one number, got shape ${show(first.tensor.shape)}`);
  const last = rest.find(({ name }) => name === PROGRESS);
  const [numbers, codes] = await Promise.all([first.tensor.data(), last?.tensor.data()]);
  checkAll(); // the program may have disposed some meanwhile
  const steps = numbers[0]!;
  count(0, 0).check(`${title}: ${ITERATIONS}`, steps);
  const progress = codes && parse(title, codes);
  const found = new Map((progress?.names ?? []).map((name) => [name, new Map<string, Tensor>()]));
  for (const { name, tensor } of rest.filter((weight) => weight !== last)) {
    const at = name.lastIndexOf("/");
    const [variable, suffix] = [name.slice(0, at), name.slice(at + 1)];
    const slot = slotsOf(rule, groupOf(variable)).get(suffix);
    if (slot === undefined) {
      const known = [...slotsOf(rule, groupOf(variable)).keys()].map((name) => `/${name}`).join(", ") || "none";
      throw wrongValue(`${title}: the name of a weight must end with one of ${known}`, name);
    }
    if (tensor.dtype !== "float32") throw new TypeError(`${title}: ${show(name)} must be float32, got ${tensor.dtype}`);
    if (tensor.size === 0) continue; // a variable without elements, which has no state here
    const known = found.get(variable) ?? new Map<string, Tensor>();
    if (known.has(slot)) throw new RangeError(`${title}: ${show(name)} must come once, it came twice`);
    found.set(variable, known.set(slot, tensor));
  }
  // Without micro-batches, a sum of gradients is zero.
  const isOptional = (slot: string) => rule.shapes[slot] || (slot === GRAD_SUM && !progress?.counts.microBatches);
  for (const [name, slots] of found) {
    const isMissing = (slot: string) => !slots.has(slot) && isNeeded(rule, groupOf(name), slot) && !isOptional(slot);
    const missing = [...slotsOf(rule, groupOf(name))].find(([, slot]) => isMissing(slot));
    if (missing) throw new RangeError(`${title}: ${show(`${name}/${missing[0]}`)} is missing`);
    const [usual, ...others] = [...slots].filter(([slot]) => !rule.shapes[slot]).map(([, { shape }]) => shape);
    const other = others.find((shape) => !sameShape(shape, usual!));
    if (other) {
      throw wrongValue(`${title}: the state of ${show(name)} must have one shape`, usual, ` and ${show(other)}`);
    }
  }
  const counts = progress
    ? countsIn(`${title}: `, { ...progress.counts, steps }, Object.keys(startCounts(groups)), groups[0]!.values)
    : { ...startCounts(groups), steps };
  const sinceOf = (name: string) => progress?.since[name] ?? 0;
  const joinedOf = (name: string) => progress?.joined[name] ?? 0;
  const scalars = new Map<string, Scalars>();
  for (const name of found.keys()) {
    whole(0, 0, steps).check(`${title}: since of ${show(name)}`, sinceOf(name));
    whole(0, 0, sinceOf(name)).check(`${title}: joined of ${show(name)}`, joinedOf(name));
    const saved = progress?.scalars[name];
    if (saved === undefined) continue;
    const numbers = Object.keys(rule.scalars).map((key) => [key, numberFrom(`${title}: ${key}`, saved[key])]);
    scalars.set(name, Object.fromEntries(numbers) as Scalars);
  }
  const observing = plateausOf(groups).flatMap((plateau, i) => {
    const observed = revived(progress?.observed[i]) as Observed | undefined;
    return observed ? [{ plateau, observed: checkObserved(observed) }] : [];
  });
  // From here on nothing is refused.
  progress?.rates.forEach((rate, i) => {
    const group = groups[i];
    if (group && rate !== 0) group.lastRate = rate;
  });
  for (const { plateau, observed } of observing) plateau.observed = observed;
  const factorOf = factorsAt(rule, steps);
  const entries = [...found].map(([name, slots]): Entry => {
    const group = groupOf(name);
    const state = new Map<string, Variable>();
    for (const [slot, tensor] of slots) {
      if (!isNeeded(rule, group, slot)) continue;
      const factor = factorOf(group, slot);
      const values = factor === 1 ? tensor : mul(tensor, factor);
      state.set(slot, engine().makeVariable(values, false) as Variable);
      if (values !== tensor) values.dispose();
    }
    const [since, joined, isDue] = [sinceOf(name), joinedOf(name), progress?.due.includes(name) ?? false];
    return { name, variable: undefined, state, since, joined, isDue, scalars: scalars.get(name) };
  });
  return { entries, counts };
}

function checkWeight(what: string, weight: unknown): void {
  const { name, tensor } = isRecord(weight) ? weight : {};
  if (typeof name !== "string" || !(tensor instanceof Tensor))
    throw wrongKind(`${what} must be { name, tensor }`, weight);
  if (tensor.isDisposed)
    throw new RangeError(`${what}: ${show(name)} must have its values, got a tensor that is disposed`);
}

const isNeeded = (rule: Rule, { values }: TfjsGroup, slot: string) =>
  slot in variantOf(rule, values).slots || slot === AVERAGE || slot === GRAD_SUM;

/** The counts before the first step. */
export function startCounts(groups: readonly TfjsGroup[]): Counts {
  const { first } = new LossScale(groups[0]!.values.lossScale as number | "dynamic");
  return { steps: 0, lossScale: first, goodSteps: 0, microBatches: 0, averaged: 0, skipped: 0 };
}

function parse(title: string, codes: ArrayLike<number>): Progress {
  try {
    const text = Array.from(codes, (code) => String.fromCharCode(code)).join("");
    const { counts = {}, names = [], since = {}, joined = {}, ...others } = JSON.parse(text);
    const { scalars = {}, due = [], observed = [], rates = [] } = others;
    const records = [counts, since, joined, scalars, ...Object.values(scalars)];
    if (!records.every(isRecord) || ![names, due, observed, rates].every(Array.isArray))
      throw new TypeError("it has other parts");
    if (!names.every((name: unknown) => typeof name === "string")) throw new TypeError("it has other names");
    if (!rates.every(Number.isFinite)) throw new TypeError("it has other rates");
    return { counts, names, since, joined, scalars, due, observed, rates } as Progress;
  } catch (cause) {
    throw new RangeError(`${title}: the tensor "${PROGRESS}" is damaged`, { cause });
  }
}
