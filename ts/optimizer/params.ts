/** What an optimizer is given to update, and how what it cannot be given is refused. */

import type { Arena } from "../arena/arena.js";
import { tensorKinds, type Rule } from "./definition.js";
import { show } from "../option.js";
import { Tensor } from "../arena/tensor.js";

/** Tensors, by name or in a list. */
export type Tensors = readonly Tensor[] | Readonly<Record<string, Tensor>>;

/** What an optimizer updates: tensors, or groups of tensors with options of their own. */
export type Params<Options> = Tensors | readonly ({ readonly params: Tensors } & Options)[];

/** A group as it was given. */
export interface Given {
  readonly tensors: readonly Tensor[];
  /** The group's own options, and how messages call it. */
  readonly own: object;
  readonly path: string;
}

/** The groups, or the one group that tensors are. */
export function listGroups(rule: Rule, params: Params<object>): Given[] {
  if (!Array.isArray(params) && isGroup(params) && !(params.params instanceof Tensor)) {
    throw new TypeError(
      `${rule.name}: groups must stand in a list, [{ params, ...options }], got one group without it`,
    );
  }
  if (!(Array.isArray(params) && params.some(isGroup))) {
    return [{ tensors: listTensors(`${rule.name}: params ${expected}`, params as Tensors), own: {}, path: "" }];
  }
  return Array.from(params, (item: unknown, index) => listGroup(rule, item, index));
}

/** One of them. */
export function listGroup(rule: Rule, item: unknown, index: number): Given {
  const title = `${rule.name}: groups[${index}]`;
  if (!isGroup(item)) throw new TypeError(`${title} must be a group { params, ...options }, got ${named(item)}`);
  const { params, ...own } = item;
  return { tensors: listTensors(`${title}.params ${expected}`, params), own, path: `groups[${index}].` };
}

const isGroup = (item: unknown): item is { params: Tensors } =>
  typeof item === "object" && item !== null && !(item instanceof Tensor) && "params" in item;

const expected = "must be tensors, by name or in a list, or a list of groups { params, ...options }";

/** The tensors; a TypeError or RangeError that says what was `expected`. */
export function listTensors(expected: string, params: Tensors): readonly Tensor[] {
  if (typeof params !== "object" || params === null) throw new TypeError(`${expected}, got ${show(params)}`);
  if (params instanceof Tensor) throw new TypeError(`${expected}, got one tensor; write [${params.name}]`);
  if (!Array.isArray(params) && Symbol.iterator in params) throw new TypeError(`${expected}, got ${show(params)}`);
  const tensors: readonly Tensor[] = Array.isArray(params) ? Array.from(params) : Object.values(params);
  if (tensors.length === 0) throw new RangeError(`${expected}, got none`);
  for (const tensor of tensors) {
    if (!(tensor instanceof Tensor)) throw new TypeError(`${expected}, got ${show(tensor)} among them`);
  }
  return Object.freeze(tensors);
}

/** The arena that all the tensors share. */
export function commonArena(name: string, tensors: readonly Tensor[]): Arena {
  const [{ arena }] = tensors as [Tensor];
  arena.internals(name);
  const seen = new Set<Tensor>();
  for (const tensor of tensors) {
    if (tensor.arena !== arena) {
      throw new RangeError(
        `${name}: params must be of one arena, but ${named(tensor)} is of another than ${named(tensors[0])}; make one optimizer for each`,
      );
    }
    if (seen.has(tensor))
      throw new RangeError(`${name}: params must be different tensors, but ${named(tensor)} is there twice`);
    seen.add(tensor);
  }
  return arena;
}

/** Refuses tensors that the rule is not for. */
export function checkKind({ name, accepts }: Rule, tensors: readonly Tensor[]): void {
  if (accepts === undefined) return;
  const { fits, is, other: instead } = tensorKinds[accepts];
  const other = tensors.find(({ shape }) => !fits(shape));
  if (other === undefined) return;
  const got = `got shape [${other.shape.join(", ")}]`;
  throw new RangeError(
    `${name}: ${named(other)} must be ${is}, ${got}; put it in another optimizer, such as ${instead}`,
  );
}

/** What is given, for a message. */
export function named(tensor: unknown): string {
  return tensor instanceof Tensor ? `tensor ${show(tensor.name)}` : show(tensor);
}
