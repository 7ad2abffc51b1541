/** A tensor: parameters and their gradient, as views of the memory of an arena. */

import type { Arena } from "./arena.js";
import { ALIGNMENT } from "./memory.js";
import { roundUp } from "../math.js";
import {
  count,
  flag,
  FREE,
  GRADIENTS,
  isList,
  isRevoked,
  refuseNames,
  show,
  wrongKind,
  wrongValue,
} from "../option.js";
import { INSPECT } from "../platform.js";
import { freed } from "../threads/control.js";

/** The number of elements of a tensor, padded to whole cache lines. No view shows the padding. */
export const padded = (size: number): number => roundUp(size, ALIGNMENT / Float32Array.BYTES_PER_ELEMENT);

/** The sizes of the dimensions: positive whole numbers. A scalar has none. */
export type Shape = readonly number[];

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((size, i) => size === b[i]);

/** The number of elements of a shape. */
export const elementsIn = (shape: Shape): number => shape.reduce((product, size) => product * size, 1);

const place = count(undefined, 0);
const boolean = flag(undefined);

/** Gives a view a `set` whose errors name the tensor. Without an offset, there must be a value for each element. */
export function checkedView<Data extends Float32Array>(view: Data, title: string): Data {
  const set = (values: ArrayLike<number>, offset?: number) => {
    const { length, 0: first } = isRevoked(values) ? {} : Object(values);
    if (!Number.isInteger(length) || (length > 0 && typeof first !== "number")) {
      const remedy = Array.isArray(first) ? "; write values.flat(Infinity)" : "";
      throw wrongKind(`${title}.set: values must be a list of numbers`, values, remedy);
    }
    if (offset !== undefined) {
      place.check(`${title}.set: offset`, offset);
      if (offset + length > view.length) {
        throw new RangeError(
          `${title}.set: offset plus the number of values must be at most ${view.length}, got ${offset} + ${length}`,
        );
      }
    } else if (length !== view.length) {
      const remedy = length < view.length ? "; to set a part, pass an offset: set(values, offset)" : "";
      throw wrongValue(`${title}.set: there must be ${view.length} values`, length, remedy);
    }
    Float32Array.prototype.set.call(view, values, offset);
  };
  refuseNames(view, () => `${title}: there is no`, { zero_: "(); write fill(0)" });
  return Object.defineProperty(view, "set", { value: set });
}

/** Throws the error for a view that a program assigns. */
function replaced(view: string): never {
  throw new TypeError(`${view} is a view of the arena's memory; write its values: ${view}.set(values)`);
}

/** Parameters and their gradient, in an arena. Made by `arena.tensors` or `arena.tensor`. `Data` is the type of the views. */
export class Tensor<Data extends Float32Array = Float32Array> {
  /** The arena whose memory holds the tensor. */
  readonly arena: Arena<Data>;
  /** The name, unique in its arena. */
  readonly name: string;
  /** The sizes of the dimensions. */
  readonly shape: Shape;
  /** The number of elements: the product of the shape. */
  readonly size: number;
  #requiresGrad = true;
  #views: { readonly data: Data; readonly grad: Data } | undefined;

  /** @internal */
  constructor(arena: Arena<Data>, name: string, shape: Shape, data: Data, grad: Data) {
    this.arena = arena;
    this.name = name;
    this.shape = Object.freeze([...shape]);
    this.size = data.length;
    this.#views = { data, grad };
    Object.freeze(this);
  }

  /** The parameters, in row-major order: a view of the arena's memory, never a copy. An Error after `arena.free()`. */
  get data(): Data {
    return (this.#views ?? freed(this.name)).data;
  }

  /** @internal */
  set data(_: never) {
    replaced(`${this.name}.data`);
  }

  /**
   * The gradient, in the order of `data`: also a view. Write it before each step. A step reads it, and writes it only
   * with the options `zeroGrad` and `agc`.
   * @throws an Error after `arena.free()`.
   */
  get grad(): Data {
    return (this.#views ?? freed(this.name)).grad;
  }

  /** @internal */
  set grad(_: never) {
    replaced(`${this.name}.grad`);
  }

  /**
   * Whether the tensor has a gradient. While it is false, steps leave the tensor alone, as PyTorch does when `grad` is None: no
   * weight decay, no momentum, its state and its gradient stay, and its own steps are not counted. Set it to false while the
   * tensor is frozen (PyTorch's `requires_grad = False`), or for a step in which it has no gradient. It holds for all optimizers
   * of the tensor. Checkpoints do not keep it. Default: true.
   * @throws a TypeError for anything but true and false
   */
  get requiresGrad(): boolean {
    return this.#requiresGrad;
  }

  set requiresGrad(value: boolean) {
    boolean.check(`tensor ${show(this.name)}: requiresGrad`, value);
    this.#requiresGrad = value;
  }

  /** Replaces the view of the gradient. TensorFlow.js has the gradient at another address in each step. @internal */
  moveGrad(grad: Float32Array): void {
    this.#views = { data: this.data, grad: grad as Data };
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](_: unknown, __: unknown, inspect: (value: unknown) => string): string {
    const views = this.#views ? ` { data: ${inspect(this.data)}, grad: ${inspect(this.grad)} }` : " (freed)";
    return `Tensor ${show(this.name)} [${this.shape.join(", ")}]${views}`;
  }

  /** @internal */
  release(): void {
    this.#views = undefined;
  }
}

refuseNames(Tensor.prototype, ({ name }) => `${name}: there is no`, {
  backward: `()${GRADIENTS}`,
  zeroGrad: "(); write grad.fill(0)",
  requires_grad: "; write requiresGrad",
  requires_grad_: "(); write requiresGrad",
  trainable: "; write requiresGrad",
  assign: "(); write data.set(values)",
  dispose: FREE,
});

/** The largest number of dimensions, as in PyTorch and NumPy. */
export const MAX_DIMENSIONS = 64;

/**
 * The number of elements of a shape.
 * @throws a TypeError or RangeError for an invalid shape.
 */
export function sizeOf(name: string, shape: Shape): number {
  if (!isList(shape)) {
    throw wrongKind(`tensor ${show(name)}: shape must be a list of sizes such as [784, 128]`, shape);
  }
  if (shape.length > MAX_DIMENSIONS) {
    throw new RangeError(
      `tensor ${show(name)}: shape must have at most ${MAX_DIMENSIONS} dimensions, got ${shape.length}`,
    );
  }
  let size = 1;
  for (const [index, dimension] of shape.entries()) {
    const title = `tensor ${show(name)}: shape[${index}]`;
    if (typeof dimension !== "number") throw wrongKind(`${title} must be a number`, dimension);
    if (!(Number.isInteger(dimension) && dimension >= 1)) {
      throw wrongValue(`${title} must be a positive whole number`, dimension);
    }
    size *= dimension;
  }
  return size;
}
