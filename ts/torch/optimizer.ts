/** Converts between an optimizer and PyTorch's `state_dict()`. */

import { sameShape, type Shape, type Tensor } from "../arena/tensor.js";
import { groupsOf, type Loading, matchTensors, type Report, shapeOf, startFromParams } from "../checkpoint/loading.js";
import { largest } from "../math.js";
import type { Group } from "../optimizer/group.js";
import { areScheduled, type Values, valuesAt } from "../optimizer/hyper.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { camel, count, type Options, show, snake, wrongValue } from "../option.js";
import { type Stored, Tuple, type Writable } from "./pickle.js";
import { asTensor, FLOATS, type FileTensor } from "./tensor.js";
import { type Dict, isDict, Opaque, type Value } from "./unpickle.js";

/** A rule that torch.optim has, and where the two sides differ. */
interface TorchRule {
  /** Additional keys of PyTorch's groups, and their values. */
  readonly groupKeys?: Readonly<Record<string, boolean>>;
  /** Our options that PyTorch does not have. */
  readonly unsupported?: readonly string[];
  /** Keys of PyTorch that have another name here than their camelCase form. */
  readonly renames?: Readonly<Record<string, string>>;
  /** Whether its state has no `step`. */
  readonly hasNoStep?: boolean;
  /** Whether PyTorch creates the state in the constructor, before the first step. */
  readonly hasStateAtOnce?: boolean;
  /** Scalars of the rule that PyTorch keeps with each tensor. */
  readonly scalarSlots?: readonly string[];
  /** Whether PyTorch stores the scalars of the next step instead of the last one. */
  readonly ofNext?: boolean;
}

/** Options of every rule that PyTorch's users apply by hand. */
const notInTorch = ["box", "nonNegative"];
const notInTorchAdam = ["biasCorrection", "epsRoot", "epsHat", "nesterov", "amsgradCorrected"];

const torchRules: Readonly<Record<string, TorchRule>> = {
  sgd: { hasNoStep: true },
  adagrad: { unsupported: ["epsInSqrt"], hasStateAtOnce: true },
  rmsprop: { unsupported: ["epsInSqrt"] },
  rprop: {},
  adadelta: {},
  adamax: { unsupported: ["epsOutside"] },
  radam: {},
  nadam: { scalarSlots: ["muProduct"] },
  asgd: { scalarSlots: ["eta", "mu"], ofNext: true },
  adam: { groupKeys: { decoupled_weight_decay: false }, unsupported: notInTorchAdam },
  adamw: { groupKeys: { decoupled_weight_decay: true }, unsupported: notInTorchAdam },
  muon: {
    renames: { adjust_lr_fn: "adjustLr" },
    unsupported: ["biasCorrection", "inputsFirst", "epsAdded", "maximize"],
    hasNoStep: true,
  },
  adafactor: {},
};

/** The options of torch.optim's rules. Other keys in a group belong to a scheduler or to the user. They are ignored. */
export const torchOptions: ReadonlySet<string> = new Set([
  ...["lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "decoupled_weight_decay", "momentum", "dampening"],
  ...["nesterov", "alpha", "centered", "rho", "lr_decay", "etas", "step_sizes", "lambd", "t0", "momentum_decay"],
  ...["ns_coefficients", "ns_steps", "adjust_lr_fn", "beta2_decay", "d"],
  ...["max_iter", "max_eval", "tolerance_grad", "tolerance_change", "history_size", "line_search_fn"],
]);

function torchRuleOf({ internals: { rule } }: Optimizer): TorchRule {
  const torchRule = Object.hasOwn(torchRules, rule.name) ? torchRules[rule.name] : undefined;
  if (torchRule) return torchRule;
  throw new RangeError(
    `the optimizer must be one of torch.optim (${Object.keys(torchRules).join(", ")}, lbfgs), got ${rule.name}; save and load it with save() and load() of downhill`,
  );
}

const optionsIn = ({ internals: { rule } }: Optimizer): Options => ({ ...rule.hyper, ...rule.fixed });

/** The state of all tensors and the groups in a state_dict. */
export function stateAndGroups(file: Value): { readonly state: Dict; readonly groups: readonly Value[] } {
  if (!isDict(file) || !isDict(file.state) || !Array.isArray(file.param_groups)) {
    throw new RangeError(`the file must hold what optimizer.state_dict() gave, got ${described(file)}`);
  }
  return { state: file.state, groups: file.param_groups };
}

/** The state of a tensor in a file. */
interface SavedState {
  readonly tensor: Tensor;
  readonly slots: ReadonlyMap<string, FileTensor>;
  /** Scalars of the rule. */
  readonly scalars: Readonly<Record<string, number>>;
  /** The number of steps of the tensor, if the file has it. */
  readonly steps: number | undefined;
}

/** Checks a state_dict against an optimizer, changes nothing, and returns the function that writes. */
export function checkStateDict(
  file: Value,
  optimizer: Optimizer,
  steps: number | undefined,
  { report, rename }: Loading,
): () => void {
  const { internals } = optimizer;
  const torchRule = torchRuleOf(optimizer);
  const { state, groups: saved } = stateAndGroups(file);
  const here = groupsOf(optimizer);
  if (saved.length !== here.length) report(`there are ${saved.length} groups in the file, ${here.length} here`);

  const loads = here.slice(0, saved.length).map((group, index) => {
    const title = `groups[${index}]`;
    const dict = saved[index]!;
    if (!isDict(dict) || !Array.isArray(dict.params)) throw new RangeError(`${title} must have params in the file`);
    return {
      group,
      writeOptions: stage(group, optionsOf(title, dict, group, optimizer, torchRule, report), report),
      tensors: pairParams(title, dict, group, report, rename).map(([tensor, key]) =>
        stateOf(tensor, Object.hasOwn(state, key) ? state[key]! : {}, torchRule, report),
      ),
    };
  });
  const listed = loads.flatMap(({ tensors }) => tensors);
  // A tensor of another shape counts as missing: it keeps its steps.
  const tensors = listed.filter(({ tensor, slots }) =>
    Object.keys(internals.viewsOf(tensor).state).every((slot) => {
      const { shape } = slots.get(snake(slot)) ?? {};
      return shape === undefined || sameShape(shape, shapeOf(optimizer, slot, tensor));
    }),
  );
  const made = stepsMade(optimizer, tensors, steps, torchRule);
  const ownSteps = new Map(tensors.map((load) => [load.tensor, ownStepsOf(load, made, torchRule, optimizer)]));

  const fresh = new Set(
    tensors.flatMap(({ tensor, slots }) => (slots.size === 0 && ownSteps.get(tensor) === 0 ? [tensor] : [])),
  );
  const views = new Map<string, { shape: Shape; view: Float32Array; tensor: Tensor }>();
  const found = new Map<string, FileTensor>();
  for (const { tensor, slots } of listed) {
    if (fresh.has(tensor)) continue;
    for (const [slot, view] of Object.entries(internals.viewsOf(tensor).state)) {
      views.set(`${tensor.name}.${snake(slot)}`, { shape: shapeOf(optimizer, slot, tensor), view, tensor });
    }
    for (const [slot, value] of slots) found.set(`${tensor.name}.${slot}`, value);
  }
  const pairs = matchTensors(views, found, FLOATS, report)
    .filter(([{ tensor }]) => ownSteps.has(tensor))
    .map(([{ view }, tensor]) => [view, tensor.inMemory()] as const);

  return () => {
    separateGroups(optimizer, ownSteps);
    for (const { group } of loads) {
      for (const tensor of group.params) if (fresh.has(tensor)) resetState(optimizer, group, tensor);
    }
    for (const [view, tensor] of pairs) tensor.readInto(view);
    for (const { writeOptions } of loads) writeOptions();
    writeSteps(optimizer, tensors, made, ownSteps);
    startFromParams(optimizer, new Set(pairs.map(([view]) => view)));
  };
}

/** The tensors of a group, each with the key of its state. */
function pairParams(
  title: string,
  { params, param_names: given }: Dict,
  group: Group<Values>,
  report: Report,
  rename: (name: string) => string,
): readonly (readonly [Tensor, string])[] {
  const keys = Array.from(params as Value[], (key) => {
    if (typeof key === "number" || typeof key === "string") return String(key);
    throw wrongValue(`${title}.params must be numbers`, key);
  });
  if (keys.length !== group.params.length) {
    report(`${title} has ${keys.length} params in the file, ${group.params.length} here`);
  }
  // PyTorch from 2.6 on can keep names: they tell more than the order.
  const names =
    Array.isArray(given) && given.length === keys.length && given.every((name) => typeof name === "string")
      ? given.map((name) => rename(name as string))
      : undefined;
  if (names === undefined) {
    return group.params.slice(0, keys.length).map((tensor, i) => [tensor, keys[i]!]);
  }
  const places = new Map(names.map((name, i) => [name, i]));
  return group.params.flatMap((tensor) => {
    const place = places.get(tensor.name);
    if (place !== undefined) return [[tensor, keys[place]!] as const];
    report(`${title} has the params ${show(names)} in the file, and none is ${show(tensor.name)}`);
    return [];
  });
}

/** The largest number of entries in the state of a tensor. PyTorch's optimizers have at most six. */
const MAX_STATE = 64;

/** Reads what a file has for a tensor. */
function stateOf(
  tensor: Tensor,
  saved: Value,
  { scalarSlots = [], hasNoStep = false }: TorchRule,
  report: Report,
): SavedState {
  const title = `the state of ${show(tensor.name)}`;
  if (!isDict(saved)) throw new RangeError(`${title} must be by name, got ${described(saved)}`);
  // Many tensors can have the same dictionary, so its size is limited.
  const { length } = Object.keys(saved);
  if (length > MAX_STATE) throw new RangeError(`${title} must have at most ${MAX_STATE} entries, got ${length}`);
  const slots = new Map<string, FileTensor>();
  const scalars: Record<string, number> = {};
  let steps: number | undefined;
  for (const [slot, value] of Object.entries(saved)) {
    if (value === null) continue;
    const scalar = scalarSlots.find((name) => snake(name) === slot);
    const tensorThere = asTensor(value);
    if (scalar) scalars[scalar] = numberOf(`${slot} of ${show(tensor.name)}`, value);
    else if (slot === "step") {
      steps = numberOf(`step of ${show(tensor.name)}`, value);
      count(0, 0).check(`step of ${show(tensor.name)}`, steps);
    } else if (tensorThere) slots.set(slot, tensorThere);
    else report(`${title} has ${show(slot)} in the file, which must be a tensor, got ${described(value)}`);
  }
  const needed = [...(hasNoStep ? [] : ["step"]), ...scalarSlots.map(snake)];
  const missing = slots.size > 0 ? needed.find((slot) => saved[slot] === undefined || saved[slot] === null) : undefined;
  if (missing !== undefined) report(`${title} has no ${show(missing)} in the file`);
  return { tensor, slots, scalars, steps };
}

/** The number of steps of the optimizer: the largest of its tensors'. */
function stepsMade(
  optimizer: Optimizer,
  tensors: readonly SavedState[],
  given: number | undefined,
  { hasNoStep = false }: TorchRule,
): number {
  const known = tensors.flatMap(({ steps }) => steps ?? []);
  // Tensors that the file does not have keep their steps.
  const loaded = new Set(tensors.map(({ tensor }) => tensor));
  const kept = groupsOf(optimizer).flatMap(({ params, segmentOfEach }) =>
    params.flatMap((tensor, i) => (loaded.has(tensor) ? [] : [optimizer.steps - segmentOfEach[i]!.since])),
  );
  if (!hasNoStep && known.length > 0) return largest([...known, ...kept]);
  return largest(kept, given ?? (tensors.some(({ slots }) => slots.size > 0) ? 1 : 0));
}

/** The number of steps of one tensor. A tensor without state has made none, unless its rule needs no state. */
function ownStepsOf(
  { tensor, slots, steps }: SavedState,
  made: number,
  { hasNoStep = false }: TorchRule,
  { internals }: Optimizer,
) {
  if (!hasNoStep) return steps ?? 0;
  const isStateless = Object.keys(internals.viewsOf(tensor).state).length === 0;
  return slots.size > 0 || isStateless ? made : 0;
}

/** Sets a tensor's state to that before the first step. */
function resetState({ internals }: Optimizer, group: Group<Values>, tensor: Tensor): void {
  for (const [slot, view] of Object.entries(internals.viewsOf(tensor).state)) {
    view.fill(Number(group.fixed[internals.rule.startsAt[slot] ?? ""] ?? 0));
  }
}

/**
 * Gives each tensor of a group its own segment if the steps in the file differ, because then their scalars differ. This takes
 * memory, so it comes before anything is written.
 */
function separateGroups({ internals, groups }: Optimizer, ownSteps: ReadonlyMap<Tensor, number>): void {
  for (const group of groups) {
    const steps = new Set(group.params.map((tensor: Tensor) => ownSteps.get(tensor)));
    if (steps.size > 1) internals.separate(group);
  }
}

/** Writes the steps of the optimizer and its tensors, and the scalars that belong to them. */
function writeSteps(
  optimizer: Optimizer,
  tensors: readonly SavedState[],
  made: number,
  ownSteps: ReadonlyMap<Tensor, number>,
): void {
  const { step, rule } = optimizer.internals;
  const { scalarSlots = [], ofNext = false } = torchRuleOf(optimizer);
  const saved = new Map(tensors.map(({ tensor, scalars }) => [tensor, ofNext ? {} : scalars]));
  for (const group of groupsOf(optimizer)) {
    // Tensors that the file does not have keep their steps.
    const since = group.segmentOfEach.map(({ since }, i) => {
      return made - (ownSteps.get(group.params[i]!) ?? optimizer.steps - since);
    });
    group.segmentOfEach.forEach((segment, i) => Object.assign(segment, { since: since[i], joined: 0 }));
    if (scalarSlots.length === 0) continue;
    group.scalars = group.scalars.map((scalars, i) => {
      const tensor = group.params[i]!;
      return ownSteps.has(tensor) ? { ...rule.scalars, ...saved.get(tensor) } : scalars;
    });
  }
  step.counts = { ...step.counts, steps: made, averaged: 0 }; // PyTorch keeps no average: ours begins here
  step.dropMicroBatches();
}

/** Checks hyper-parameters. Returns a function that writes the valid ones. Reports each invalid one. */
function stage(group: Group<Values>, changes: Values, report: Report): () => void {
  const accepted: Record<string, unknown> = {};
  const errorOf = ([name, value]: [string, unknown]) => {
    try {
      group.stage({ ...accepted, [name]: value });
      accepted[name] = value;
      return undefined;
    } catch (error) {
      return error as Error;
    }
  };
  // An option may be allowed only together with another, so those that were refused are tried again.
  let refused = Object.entries(changes);
  for (let before = Infinity; refused.length < before;) {
    before = refused.length;
    refused = refused.filter((change) => errorOf(change));
  }
  for (const change of refused) report(errorOf(change)!.message);
  return group.stage(accepted);
}

/** A group's hyper-parameters in the file, without those that have a schedule here. */
function optionsOf(
  title: string,
  saved: Dict,
  { hyper, fixed }: Group<Values>,
  optimizer: Optimizer,
  { groupKeys = {}, unsupported = [], renames = {} }: TorchRule,
  report: Report,
): Values {
  const { rule } = optimizer.internals;
  const all = new Map(Object.entries(optionsIn(optimizer)));
  const changes: Record<string, unknown> = {};
  const scheduled = (name: string) => areScheduled(rule, { [name]: hyper[name] });
  for (const [key, given] of Object.entries(saved)) {
    if (!torchOptions.has(key)) continue;
    const name = Object.hasOwn(renames, key) ? renames[key]! : camel(key);
    const usual = all.get(name)?.default; // the meaning of PyTorch's None
    const value =
      Array.isArray(given) && given.length <= MAX_LIST
        ? given.map((item, i) => numberIn(item) ?? (usual as Value[] | undefined)?.[i])
        : (numberIn(given) ?? usual);
    const expected = Object.hasOwn(groupKeys, key) ? groupKeys[key] : fixed[name];
    if (expected !== undefined) {
      // A tensor as a rate has the number here, rounded.
      const isRounded = typeof expected === "number" && value === Math.fround(expected);
      if (value !== expected && !isRounded)
        report(`${title}.${key} is ${show(value)} in the file, ${show(expected)} here`);
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

/** The longest list that an option may be. */
const MAX_LIST = 16;

/** A number; PyTorch may keep it as a tensor with one element. */
export function numberIn(value: Value): Value {
  const tensor = asTensor(value);
  return tensor?.shape.every((size) => size === 1) ? tensor.item() : value;
}

export function numberOf(title: string, value: Value): number {
  const x = numberIn(value);
  if (typeof x !== "number") throw new RangeError(`${title} must be a number, got ${described(value)}`);
  return x;
}

/** Describes a value in a message: a dictionary by its first keys. */
export function described(value: unknown): string {
  if (value instanceof Opaque) return value.type;
  const tensor = asTensor(value);
  if (tensor) return `a tensor, ${tensor.dtype} ${show(tensor.shape)}`;
  if (!isDict(value)) return show(value);
  const keys: string[] = [];
  for (const key in value) {
    if (keys.length === 8) break;
    keys.push(show(key));
  }
  return `a dictionary of ${keys.join(", ") || "nothing"}`;
}

/** Makes the state_dict of an optimizer. `store` takes the elements of a tensor. */
export function stateDict(optimizer: Optimizer, store: (numbers: Float32Array, shape: Shape) => Stored): Writable {
  const { rule, step, viewsOf } = optimizer.internals;
  const {
    groupKeys = {},
    unsupported = [],
    renames = {},
    hasNoStep = false,
    hasStateAtOnce = false,
    scalarSlots = [],
    ofNext = false,
  } = torchRuleOf(optimizer);
  const torchNames = new Map(Object.entries(renames).map(([there, here]) => [here, there]));
  const state = new Map<number, Writable>();
  let index = 0;
  const groups = groupsOf(optimizer).map(({ params, hyper, fixed, segmentOfEach, scalars }, group) => {
    const values = { ...valuesAt(rule, hyper, step.count), ...fixed };
    for (const name of unsupported) {
      const { default: needed } = optionsIn(optimizer)[name]!;
      if (values[name] !== needed)
        throw wrongValue(`groups[${group}].${name} must be ${show(needed)} for PyTorch`, values[name]);
    }
    const options = Object.entries(values)
      .filter(([name]) => !unsupported.includes(name) && !notInTorch.includes(name))
      .map(
        ([name, value]) =>
          [torchNames.get(name) ?? snake(name), Array.isArray(value) ? new Tuple(value) : (value as Writable)] as const,
      );
    const defaults = { foreach: null, capturable: false, differentiable: false, fused: null };
    const indices = params.map((tensor, i) => {
      const made = step.count - segmentOfEach[i]!.since;
      const before = scalars[i] ?? scalars[0]!;
      const kept = ofNext ? rule.advance({ before, options: values, step: made + 1, sums: {}, tensor }) : before;
      const slots = Object.entries(viewsOf(tensor).state).map(
        ([name, view]) => [snake(name), store(view, shapeOf(optimizer, name, tensor))] as const,
      );
      const numbers = [
        ...(hasNoStep ? [] : [["step", made] as const]),
        ...scalarSlots.map((name) => [name, kept[name]!] as const),
      ].map(([name, x]) => [snake(name), store(Float32Array.of(x), [])] as const);
      // PyTorch has no state of a tensor before its first step.
      if (slots.length > 0 && (made > 0 || hasStateAtOnce)) state.set(index, new Map([...numbers, ...slots]));
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
