/** What an optimizer's `state_dict()` says, and the optimizer here. */

import { type AnyOptimizer, type Differs, groupsOf, matched, shapeOf, startFromParams } from "../checkpoint/loading.js";
import { areScheduled, snake, type Values, valuesAt } from "../optimizer/hyper.js";
import type { Group } from "../optimizer/group.js";
import { count, type Options, show } from "../option.js";
import type { Shape } from "../arena/tensor.js";
import { type Dict, isDict, Stored, Tuple, type Value, type Writable } from "./pickle.js";
import { FLOATS, TorchTensor } from "./tensor.js";

/** A rule that torch.optim has: what its groups say besides, what of ours it lacks, and whether it counts no steps. */
interface Twin {
  readonly says?: Readonly<Record<string, boolean>>;
  readonly lacks?: readonly string[];
  /** Our names of what is not the same in another spelling. */
  readonly names?: Readonly<Record<string, string>>;
  readonly uncounted?: boolean;
  /** The rule's scalars that PyTorch keeps with each tensor: of the last step, or already of the next. */
  readonly keeps?: readonly string[];
  readonly ofNext?: boolean;
}

const ownOfAdam = ["biasCorrection", "epsRoot", "epsHat", "nesterov", "amsgradCorrected"];

const twins: Readonly<Record<string, Twin>> = {
  sgd: { uncounted: true },
  adagrad: { lacks: ["epsInSqrt"] },
  rmsprop: { lacks: ["epsInSqrt"] },
  rprop: {},
  adadelta: {},
  adamax: { lacks: ["epsOutside"] },
  radam: {},
  nadam: { keeps: ["muProduct"] },
  asgd: { keeps: ["eta", "mu"], ofNext: true },
  adam: { says: { decoupled_weight_decay: false }, lacks: ownOfAdam },
  adamw: { says: { decoupled_weight_decay: true }, lacks: ownOfAdam },
  muon: {
    names: { adjust_lr_fn: "adjustLr" },
    lacks: ["biasCorrection", "inputsFirst", "epsAdded", "maximize"],
    uncounted: true,
  },
  adafactor: {},
};

/** How PyTorch computes, and what has been done with by the first step: of no meaning here. */
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

function twinOf({ inner: { rule } }: AnyOptimizer): Twin {
  const twin = Object.hasOwn(twins, rule.name) ? twins[rule.name] : undefined;
  if (twin) return twin;
  throw new RangeError(
    `${rule.name} must be one of those whose files of PyTorch are read and written here: ${Object.keys(twins).join(", ")}`,
  );
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const optionsIn = ({ inner: { rule } }: AnyOptimizer): Options => ({ ...rule.hyper, ...rule.fixed });

/** Checks all that a state_dict says; what it returns writes it. */
export function prepare(file: Value, optimizer: AnyOptimizer, steps: number | undefined, differs: Differs): () => void {
  const twin = twinOf(optimizer);
  const { keeps = [], ofNext = false } = twin;
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
  const counted: (readonly [Group, number | undefined])[] = [];
  here.forEach((group, index) => {
    const title = `groups[${index}]`;
    const counts = new Set<number>();
    const said = there[index]!;
    const indices = isDict(said) ? said.params : undefined;
    if (!isDict(said) || !Array.isArray(indices)) throw new RangeError(`${title} must have params in the file`);
    if (indices.length !== group.params.length) {
      throw new RangeError(`${title} has ${indices.length} params in the file, ${group.params.length} here`);
    }
    writes.push(group.prepare(optionsOf(title, said, group, optimizer, twin, differs)));
    const scalars = { ...optimizer.inner.rule.scalars };
    if (keeps.length > 0) writes.push(() => void (group.scalars = [scalars]));
    group.params.forEach((tensor, i) => {
      for (const [slot, view] of Object.entries(optimizer.inner.held(tensor).state)) {
        const start = Number(group.fixed[optimizer.inner.rule.fill[slot] ?? ""] ?? 0);
        views.set(`${tensor.name}.${snake(slot)}`, { shape: shapeOf(optimizer, slot, tensor), view, start });
      }
      const slots = state[String(indices[i])] ?? Object.create(null);
      if (!isDict(slots))
        throw new RangeError(`the state of ${show(tensor.name)} must be by name, got ${described(slots)}`);
      for (const [slot, value] of Object.entries(slots)) {
        const scalar = keeps.find((name) => snake(name) === slot);
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
    counted.push([group, own]);
  });
  // PyTorch counts for each parameter: the one that has most steps has all of them.
  const known = counted.flatMap(([, own]) => own ?? []);
  const made = known.length > 0 ? Math.max(...known) : (steps ?? (found.size > 0 ? 1 : 0));
  count(0, 0).check("step", made);
  // Saved before the first step, when PyTorch has no state.
  const fresh = found.size === 0 && made === 0;
  const pairs = fresh ? [] : matched(views, found, FLOATS, differs);
  return () => {
    if (fresh) for (const { start, view } of views.values()) view.fill(start);
    for (const [{ view }, tensor] of pairs) tensor.readInto(view);
    for (const write of writes) write();
    for (const [group, own = 0] of counted) group.since = known.length > 0 ? made - own : 0;
    const { step } = optimizer.inner;
    step.counts = { ...step.counts, steps: made, averaged: 0 }; // PyTorch keeps no average: it begins here
    step.dropMicroBatches();
    startFromParams(optimizer, new Set(pairs.map(([{ view }]) => view)));
  };
}

/** A group's hyper-parameters as the file has them, but for those that a schedule decides. */
function optionsOf(
  title: string,
  said: Dict,
  { hyper, fixed }: Group<Values>,
  optimizer: AnyOptimizer,
  { says = {}, lacks = [], names = {} }: Twin,
  differs: Differs,
): Values {
  const { rule } = optimizer.inner;
  const all = new Map(Object.entries(optionsIn(optimizer)));
  const changes: Record<string, unknown> = {};
  const scheduled = (name: string) => areScheduled(rule, { [name]: hyper[name] });
  for (const [key, given] of Object.entries(said)) {
    if (ignored.includes(key)) continue;
    const name = Object.hasOwn(names, key) ? names[key]! : camel(key);
    const usual = all.get(name)?.default; // what it means where PyTorch has None
    const value = Array.isArray(given)
      ? given.map((item, i) => plain(item) ?? (usual as Value[] | undefined)?.[i])
      : (plain(given) ?? usual);
    const expected = Object.hasOwn(says, key) ? says[key] : fixed[name];
    if (expected !== undefined) {
      if (value !== expected) differs(`${title}.${key} is ${show(value)} in the file, ${show(expected)} here`);
    } else if (!Object.hasOwn(rule.hyper, name) || lacks.includes(name)) {
      differs(`${title}.${key} is ${show(value)} in the file, no option here`);
    } else if (!scheduled(name)) changes[name] = value;
  }
  const here = { ...hyper, ...fixed };
  for (const name of lacks) {
    const { default: needed } = all.get(name)!;
    if (here[name] !== needed)
      differs(`${title}.${name} is ${show(here[name])} here, and PyTorch has but ${show(needed)}`);
  }
  return changes;
}

/** A number that may be a tensor of one. */
const plain = (value: Value): Value =>
  value instanceof TorchTensor && value.shape.length === 0 ? value.read()[0]! : value;

function number(title: string, value: Value): number {
  const x = plain(value);
  if (typeof x !== "number") throw new RangeError(`${title} must be a number, got ${described(value)}`);
  return x;
}

/** What a value of a file is, for a message; of a dictionary, what it holds. */
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

/** The state_dict, and the numbers that go with it. `store` takes a tensor's. */
export function stateDict(optimizer: AnyOptimizer, store: (numbers: Float32Array, shape: Shape) => Stored): Writable {
  const { rule, step, held } = optimizer.inner;
  const { says = {}, lacks = [], names = {}, uncounted, keeps = [], ofNext } = twinOf(optimizer);
  const spelt = new Map(Object.entries(names).map(([there, here]) => [here, there]));
  const state = new Map<number, Writable>();
  let index = 0;
  const groups = groupsOf(optimizer).map(({ params, hyper, fixed, since, scalars: [scalars] }, group) => {
    const made = step.count - since;
    const values = { ...valuesAt(rule, hyper, step.count), ...fixed };
    for (const name of lacks) {
      const { default: needed } = optionsIn(optimizer)[name]!;
      if (values[name] !== needed)
        throw new RangeError(`groups[${group}].${name} must be ${show(needed)} for PyTorch, got ${show(values[name])}`);
    }
    const options = Object.entries(values)
      .filter(([name]) => !lacks.includes(name))
      .map(
        ([name, value]) =>
          [spelt.get(name) ?? snake(name), Array.isArray(value) ? new Tuple(value) : (value as Writable)] as const,
      );
    const kept = ofNext ? rule.advance(scalars!, values, made + 1, {}, params[0]!) : scalars!;
    const defaults = { foreach: null, capturable: false, differentiable: false, fused: null };
    const indices = params.map((tensor) => {
      const slots = Object.entries(held(tensor).state).map(
        ([name, view]) => [snake(name), store(view, shapeOf(optimizer, name, tensor))] as const,
      );
      const numbers = [...(uncounted ? [] : [["step", made]]), ...keeps.map((name) => [name, kept[name]])] as [
        string,
        number,
      ][];
      const counted = numbers.map(([name, x]) => [snake(name), store(Float32Array.of(x), [])] as const);
      // A buffer that is zero is not yet one to PyTorch's SGD.
      if (slots.length > 0 && !(uncounted && made === 0)) state.set(index, new Map([...counted, ...slots]));
      return index++;
    });
    return new Map<string, Writable>([...options, ...Object.entries({ ...defaults, ...says }), ["params", indices]]);
  });
  return new Map<string, Writable>([
    ["state", state],
    ["param_groups", groups],
  ]);
}
