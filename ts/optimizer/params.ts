/** The `params` of an optimizer: tensors, or groups of tensors. */

import { Arena } from "../arena/arena.js";
import { tensorKinds, type Rule } from "./definition.js";
import { isList, isPlain, isRecord, isRevoked, show, wrongKind } from "../option.js";
import { type Shape, Tensor } from "../arena/tensor.js";

/** Tensors by name. */
export interface NamedTensors {
  readonly [name: string]: Tensor;
  // Lists have this symbol. So TypeScript does not take a list of groups for names, and its error names the wrong option.
  readonly [Symbol.unscopables]?: undefined;
}

/** Tensors, by name or in a list. */
export type Tensors = readonly Tensor[] | NamedTensors;

/** Tensors with options of their own. */
export type TensorGroup<Options> = {
  /** The tensors of the group, by name or in a list. */
  readonly params: Tensors;
} & Options;

/** Tensors, or groups of tensors that each have their own options. */
export type Params<Options> = Tensors | readonly TensorGroup<Options>[];

/** The tensors of all groups, in order. */
export const tensorsOf = (groups: readonly { readonly params: readonly Tensor[] }[]): Tensor[] =>
  groups.flatMap(({ params }) => params);

/** A group as it was given. */
export interface Given {
  readonly tensors: readonly Tensor[];
  /** The options of the group alone; other properties are `params`. */
  readonly options: object;
  /** The beginning of option names in messages. */
  readonly path: string;
}

/** The groups of the params. Plain tensors are one group. */
export function listGroups(rule: Rule, params: Params<object>): Given[] {
  if (!isList(params) && isGroup(params) && !isTensor(params.params)) {
    throw new TypeError(
      `${rule.name}: groups must be a list, [{ params, ...options }], got one group outside of a list`,
    );
  }
  // `Object.values` skips holes. A list may have billions of them.
  if (!(isList(params) && Object.values(params).some(isGroup))) {
    return [{ tensors: listTensors(`${rule.name}: params ${expected}`, params as Tensors), options: {}, path: "" }];
  }
  return Array.from<unknown, Given>(params, (item, index) => listGroup(rule, item, index));
}

/** One group of a list. */
export function listGroup(rule: Rule, item: unknown, index: number): Given {
  const title = `${rule.name}: groups[${index}]`;
  if (!isGroup(item)) throw new TypeError(`${title} must be a group { params, ...options }, got ${named(item)}`);
  // As in PyTorch, a group may be empty.
  const tensors = listTensors(`${title}.params must be tensors, by name or in a list`, item.params, true);
  return { tensors, options: item, path: `groups[${index}].` };
}

const isTensor = (value: unknown): value is Tensor => !isRevoked(value) && value instanceof Tensor;

const isGroup = (item: unknown): item is { params: Tensors } =>
  typeof item === "object" && item !== null && !isRevoked(item) && !isTensor(item) && "params" in item;

const expected = "must be tensors, by name or in a list, or a list of groups { params, ...options }";

/** The tensors of a record or a list, or else a TypeError or RangeError that begins with `expected`. */
export function listTensors(expected: string, params: Tensors, mayBeEmpty = false): readonly Tensor[] {
  if (!isList(params) && !isRecord(params)) throw wrongKind(expected, params);
  if (params instanceof Tensor) throw new TypeError(`${expected}, got one tensor; write [${params.name}]`);
  if ((params as unknown) instanceof Arena) throw new TypeError(`${expected}, got an arena; write arena.tensors()`);
  const given: readonly unknown[] = isList(params) ? params : Object.values(params);
  const tensors = Array.from(given, (tensor) => {
    if (isTensor(tensor)) return tensor;
    const remedy = isRecord(tensor) && !isGroup(tensor) ? '; records are not nested: name a tensor "layer.w"' : "";
    throw wrongKind(expected, tensor, ` among them${remedy}`);
  });
  if (tensors.length === 0 && !mayBeEmpty) {
    const got = isList(params) || isPlain(params) ? "none" : `${show(params)} without any`;
    throw new RangeError(`${expected}, got ${got}`);
  }
  return Object.freeze(tensors);
}

/**
 * The arena of the tensors.
 * @param present the tensors that the optimizer has already
 * @throws a RangeError if they do not share one, or if one of them appears twice.
 */
export function commonArena(
  name: string,
  tensors: readonly Tensor[],
  present: ReadonlyMap<Tensor, unknown> = new Map(),
): Arena {
  const [first = tensors[0]] = present.keys();
  if (first === undefined) throw new RangeError(`${name}: params ${expected}, got none`);
  const { arena } = first;
  arena.internals(name);
  const seen = new Set<Tensor>();
  for (const tensor of tensors) {
    if (tensor.arena !== arena) {
      throw new RangeError(
        `${name}: params must be from one arena, but ${named(tensor)} is in another arena than ${named(first)}; make an optimizer for each arena`,
      );
    }
    const isPresent = present.has(tensor);
    if (isPresent || seen.has(tensor)) {
      const where = isPresent ? "is in another group of this optimizer" : "is there twice";
      throw new RangeError(`${name}: params must be different tensors, but ${named(tensor)} ${where}`);
    }
    seen.add(tensor);
  }
  return arena;
}

/**
 * Throws a RangeError for a shape that the rule does not accept.
 * @param what gives the name of its tensor for the error
 */
export function checkShape({ name, accepts }: Rule, shape: Shape, what: () => string): void {
  if (accepts === undefined) return;
  const { fits, is, other } = tensorKinds[accepts];
  if (fits(shape)) return;
  throw new RangeError(
    `${name}: ${what()} must be ${is}, got shape ${show(shape)}; use another optimizer for it, such as ${other}`,
  );
}

/** A tensor's name for a message, or the value that is no tensor. */
export function named(tensor: unknown): string {
  return isTensor(tensor) ? `tensor ${show(tensor.name)}` : show(tensor);
}
