/** Converts between an optimizer and PyTorch's `state_dict()` of it. */

import {
  type AnyOptimizer,
  type Report,
  groupsOf,
  matchTensors,
  shapeOf,
  startFromParams,
} from "../checkpoint/loading.js";
import { areScheduled, snake, type Values, valuesAt } from "../optimizer/hyper.js";
import type { Group } from "../optimizer/group.js";
import { count, type Options, show } from "../option.js";
import type { Shape } from "../arena/tensor.js";
import { type Dict, isDict, Stored, Tuple, type Value, type Writable } from "./pickle.js";
import { FLOATS, TorchTensor } from "./tensor.js";

/** A rule that torch.optim has, and where the two sides differ. */
interface TorchRule {
  /** Keys that PyTorch's groups have besides, and their values. */
  readonly groupKeys?: Readonly<Record<string, boolean>>;
  /** Our options that PyTorch does not have. */
  readonly unsupported?: readonly string[];
  /** Keys of PyTorch whose name here is not just the camelCase one. */
  readonly renames?: Readonly<Record<string, string>>;
  /** Whether its state has no `step`. */
  readonly hasNoStep?: boolean;
  /** Scalars of the rule that PyTorch keeps with each tensor. */
  readonly scalarSlots?: readonly string[];
  /** Whether these are the scalars of the next step instead of the last one. */
  readonly ofNext?: boolean;
}

const ownOfAdam = ["biasCorrection", "epsRoot", "epsHat", "nesterov", "amsgradCorrected"];

const torchRules: Readonly<Record<string, TorchRule>> = {
  sgd: { hasNoStep: true },
  adagrad: { unsupported: ["epsInSqrt"] },
  rmsprop: { unsupported: ["epsInSqrt"] },
  rprop: {},
  adadelta: {},
  adamax: { unsupported: ["epsOutside"] },
  radam: {},
  nadam: { scalarSlots: ["muProduct"] },
  asgd: { scalarSlots: ["eta", "mu"], ofNext: true },
  adam: { groupKeys: { decoupled_weight_decay: false }, unsupported: ownOfAdam },
  adamw: { groupKeys: { decoupled_weight_decay: true }, unsupported: ownOfAdam },
  muon: {
    renames: { adjust_lr_fn: "adjustLr" },
    unsupported: ["biasCorrection", "inputsFirst", "epsAdded", "maximize"],
    hasNoStep: true,
  },
  adafactor: {},
};

/** Keys without a meaning here: how PyTorch computes, and values that only the first step reads. */
const ignored = [
  "foreach",
  "capturable",
  "differentiable",
  "fused",
  "params",
  "param_names",
  "initial_lr",
  "initial_accumulator_value",
];

function torchRuleOf({ internals: { rule } }: AnyOptimizer): TorchRule {
  const torchRule = Object.hasOwn(torchRules, rule.name) ? torchRules[rule.name] : undefined;
  if (torchRule) return torchRule;
  throw new RangeError(
    `${rule.name} must be a rule of torch.optim that this module reads and writes: ${Object.keys(torchRules).join(", ")}`,
  );
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const optionsIn = ({ internals: { rule } }: AnyOptimizer): Options => ({ ...rule.hyper, ...rule.fixed });

/** Checks a state_dict against an optimizer, changes nothing, and returns the function that writes. */
export function checkStateDict(
  file: Value,
  optimizer: AnyOptimizer,
  steps: number | undefined,
  report: Report,
): () => void {
  const torchRule = torchRuleOf(optimizer);
  const { scalarSlots = [], ofNext = false } = torchRule;
  if (!isDict(file) || !isDict(file.state) || !Array.isArray(file.param_groups)) {
    throw new RangeError(`the file must hold what optimizer.state_dict() gave, got ${described(file)}`);
  }
  const { state, param_groups: there } = file;
  const here = groupsOf(optimizer);
  if (there.length !== here.length)
    throw new RangeError(`there are ${there.length} groups in the file, ${here.length} here`);

  const writes: (() => void)[] = [];
  const views = new Map<string, { shape: Shape; view: Float32Array; start: number }>();
  const found = new Map<string, TorchTensor>();
  const groupSteps: (readonly [Group, number | undefined])[] = [];
  here.forEach((group, index) => {
    const title = `groups[${index}]`;
    const counts = new Set<number>();
    const saved = there[index]!;
    const indices = isDict(saved) ? saved.params : undefined;
    if (!isDict(saved) || !Array.isArray(indices)) throw new RangeError(`${title} must have params in the file`);
    if (indices.length !== group.params.length) {
      throw new RangeError(`${title} has ${indices.length} params in the file, ${group.params.length} here`);
    }
    writes.push(group.stage(optionsOf(title, saved, group, optimizer, torchRule, report)));
    const scalars = { ...optimizer.internals.rule.scalars };
    if (scalarSlots.length > 0) writes.push(() => void (group.scalars = [scalars]));
    group.params.forEach((tensor, i) => {
      for (const [slot, view] of Object.entries(optimizer.internals.viewsOf(tensor).state)) {
        const start = Number(group.fixed[optimizer.internals.rule.startsAt[slot] ?? ""] ?? 0);
        views.set(`${tensor.name}.${snake(slot)}`, { shape: shapeOf(optimizer, slot, tensor), view, start });
      }
      const slots = state[String(indices[i])] ?? Object.create(null);
      if (!isDict(slots))
        throw new RangeError(`the state of ${show(tensor.name)} must be by name, got ${described(slots)}`);
      for (const [slot, value] of Object.entries(slots)) {
        const scalar = scalarSlots.find((name) => snake(name) === slot);
        if (scalar) {
          const kept = number(`${slot} of ${show(tensor.name)}`, value);
          if (!ofNext) scalars[scalar] = kept;
        } else if (slot === "step") counts.add(number(`step of ${show(tensor.name)}`, value));
        else if (value instanceof TorchTensor) found.set(`${tensor.name}.${slot}`, value);
        else if (value !== null)
          throw new RangeError(`${slot} of ${show(tensor.name)} must be a tensor, got ${described(value)}`);
      }
    });
    const [own, ...others] = counts;
    if (others.length > 0) {
      throw new RangeError(`step must be the same for all params of ${title}, got ${[...counts].join(" and ")}`);
    }
    if (own !== undefined) count(0, 0).check(`step of ${title}`, own);
    groupSteps.push([group, own]);
  });
  // PyTorch counts the steps of each parameter: the largest count is the optimizer's.
  const known = groupSteps.flatMap(([, own]) => own ?? []);
  const made = known.length > 0 ? Math.max(...known) : (steps ?? (found.size > 0 ? 1 : 0));
  count(0, 0).check("step", made);
  // PyTorch has no state before the first step.
  const fresh = found.size === 0 && made === 0;
  const pairs = fresh ? [] : matchTensors(views, found, FLOATS, report);
  return () => {
    if (fresh) for (const { start, view } of views.values()) view.fill(start);
    for (const [{ view }, tensor] of pairs) tensor.readInto(view);
    for (const write of writes) write();
    for (const [group, own = 0] of groupSteps) group.since = known.length > 0 ? made - own : 0;
    const { step } = optimizer.internals;
    step.counts = { ...step.counts, steps: made, averaged: 0 }; // PyTorch keeps no average: ours begins here
    step.dropMicroBatches();
    startFromParams(optimizer, new Set(pairs.map(([{ view }]) => view)));
  };
}

/** A group's hyper-parameters in the file, without those that have a schedule here. */
function optionsOf(
  title: string,
  saved: Dict,
  { hyper, fixed }: Group<Values>,
  optimizer: AnyOptimizer,
  { groupKeys = {}, unsupported = [], renames = {} }: TorchRule,
  report: Report,
): Values {
  const { rule } = optimizer.internals;
  const all = new Map(Object.entries(optionsIn(optimizer)));
  const changes: Record<string, unknown> = {};
  const scheduled = (name: string) => areScheduled(rule, { [name]: hyper[name] });
  for (const [key, given] of Object.entries(saved)) {
    if (ignored.includes(key)) continue;
    const name = Object.hasOwn(renames, key) ? renames[key]! : camel(key);
    const usual = all.get(name)?.default; // the meaning of PyTorch's None
    const value = Array.isArray(given)
      ? given.map((item, i) => plain(item) ?? (usual as Value[] | undefined)?.[i])
      : (plain(given) ?? usual);
    const expected = Object.hasOwn(groupKeys, key) ? groupKeys[key] : fixed[name];
    if (expected !== undefined) {
      if (value !== expected) report(`${title}.${key} is ${show(value)} in the file, ${show(expected)} here`);
    } else if (!Object.hasOwn(rule.hyper, name) || unsupported.includes(name)) {
      report(`${title}.${key} is ${show(value)} in the file, no option here`);
    } else if (!scheduled(name)) changes[name] = value;
  }
  const here = { ...hyper, ...fixed };
  for (const name of unsupported) {
    const { default: needed } = all.get(name)!;
    if (here[name] !== needed)
      report(`${title}.${name} is ${show(here[name])} here, and PyTorch has only ${show(needed)}`);
  }
  return changes;
}

/** A number; PyTorch may keep it as a tensor without dimensions. */
const plain = (value: Value): Value =>
  value instanceof TorchTensor && value.shape.length === 0 ? value.read()[0]! : value;

function number(title: string, value: Value): number {
  const x = plain(value);
  if (typeof x !== "number") throw new RangeError(`${title} must be a number, got ${described(value)}`);
  return x;
}

/** Describes a value in a message: a dictionary by its first keys. */
export function described(value: Value): string {
  if (isDict(value))
    return `a dictionary of ${
      Object.keys(value)
        .slice(0, 8)
        .map((key) => show(key))
        .join(", ") || "nothing"
    }`;
  return show(value);
}

/** Makes the state_dict of an optimizer. `store` takes the elements of a tensor. */
export function stateDict(optimizer: AnyOptimizer, store: (numbers: Float32Array, shape: Shape) => Stored): Writable {
  const { rule, step, viewsOf } = optimizer.internals;
  const {
    groupKeys = {},
    unsupported = [],
    renames = {},
    hasNoStep,
    scalarSlots = [],
    ofNext,
  } = torchRuleOf(optimizer);
  const spelt = new Map(Object.entries(renames).map(([there, here]) => [here, there]));
  const state = new Map<number, Writable>();
  let index = 0;
  const groups = groupsOf(optimizer).map(({ params, hyper, fixed, since, scalars: [scalars] }, group) => {
    const made = step.count - since;
    const values = { ...valuesAt(rule, hyper, step.count), ...fixed };
    for (const name of unsupported) {
      const { default: needed } = optionsIn(optimizer)[name]!;
      if (values[name] !== needed)
        throw new RangeError(`groups[${group}].${name} must be ${show(needed)} for PyTorch, got ${show(values[name])}`);
    }
    const options = Object.entries(values)
      .filter(([name]) => !unsupported.includes(name))
      .map(
        ([name, value]) =>
          [spelt.get(name) ?? snake(name), Array.isArray(value) ? new Tuple(value) : (value as Writable)] as const,
      );
    const kept = ofNext
      ? rule.advance({ before: scalars!, options: values, step: made + 1, sums: {}, tensor: params[0]! })
      : scalars!;
    const defaults = { foreach: null, capturable: false, differentiable: false, fused: null };
    const indices = params.map((tensor) => {
      const slots = Object.entries(viewsOf(tensor).state).map(
        ([name, view]) => [snake(name), store(view, shapeOf(optimizer, name, tensor))] as const,
      );
      const numbers = [...(hasNoStep ? [] : [["step", made]]), ...scalarSlots.map((name) => [name, kept[name]])] as [
        string,
        number,
      ][];
      const stepAndScalars = numbers.map(([name, x]) => [snake(name), store(Float32Array.of(x), [])] as const);
      // PyTorch's SGD has no momentum buffer before the first step.
      if (slots.length > 0 && !(hasNoStep && made === 0)) state.set(index, new Map([...stepAndScalars, ...slots]));
      return index++;
    });
    return new Map<string, Writable>([
      ...options,
      ...Object.entries({ ...defaults, ...groupKeys }),
      ["params", indices],
    ]);
  });
  return new Map<string, Writable>([
    ["state", state],
    ["param_groups", groups],
  ]);
}
