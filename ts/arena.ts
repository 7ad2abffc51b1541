/** The arena: one WebAssembly memory, and tensors in it. */

import { instantiate, instantiateSync, type Kernels } from "./kernels.js";
import { ALIGNMENT, LIMIT, ownSpace, PAGE, type Space } from "./memory.js";
import { flag, resolve, show, whole } from "./option.js";

/** How many elements a tensor takes: each begins a cache line. No view shows the padding. */
export function padded(size: number): number {
  const line = ALIGNMENT / Float32Array.BYTES_PER_ELEMENT;
  return Math.ceil(size / line) * line;
}

const options = { maxBytes: whole(undefined, PAGE, LIMIT), shared: flag(undefined) };

export interface ArenaOptions {
  /**
   * Bytes of address space to reserve, a whole number in [65536, 4294967296], rounded down to pages of 65536. Pages
   * take memory only once they are written. Default: 4 GiB, or a half, a quarter, … of it if the platform refuses.
   */
  maxBytes?: number;
  /**
   * Whether the memory is shared between threads. Default: where `SharedArrayBuffer` is allowed, which in browsers is
   * on pages that are cross-origin isolated. Some Web APIs (`TextDecoder`, `crypto.getRandomValues`) refuse views of
   * shared memory.
   */
  shared?: boolean;
}

/** Sizes of a tensor's dimensions: positive whole numbers; none for a scalar. */
export type Shape = readonly number[];

/** Parameters and their gradients, in an arena. */
export class Tensor {
  readonly arena: Arena;
  readonly name: string;
  readonly shape: Shape;
  /** The number of elements: the product of the shape. */
  readonly size: number;
  #views: { readonly data: Float32Array; readonly grad: Float32Array } | undefined;

  /** @internal */
  constructor(arena: Arena, name: string, shape: Shape, data: Float32Array, grad: Float32Array) {
    this.arena = arena;
    this.name = name;
    this.shape = Object.freeze([...shape]);
    this.size = data.length;
    this.#views = { data, grad };
    Object.freeze(this);
  }

  /** The parameters, row by row: a view of the arena's memory, never a copy. An Error after `arena.free()`. */
  get data(): Float32Array {
    return (this.#views ?? freed(this.name)).data;
  }

  /** The gradient, shaped as `data`: a view, too. Yours to write before each step, which only reads it. */
  get grad(): Float32Array {
    return (this.#views ?? freed(this.name)).grad;
  }

  /** @internal */
  release(): void {
    this.#views = undefined;
  }
}

/**
 * Makes an arena, compiling the kernels off the main thread.
 * A TypeError or RangeError for wrong options, an Error where shared memory or the WebAssembly is not allowed.
 */
export async function createArena(given: ArenaOptions = {}): Promise<Arena> {
  const { space, shared } = prepare("createArena", given);
  return new Arena(space, await instantiate(space.memory, shared), shared);
}

/** Makes an arena at once. As `createArena`; on the main thread of a browser, Chrome allows it from version 114 on. */
export function createArenaSync(given: ArenaOptions = {}): Arena {
  const { space, shared } = prepare("createArenaSync", given);
  return new Arena(space, instantiateSync(space.memory, shared), shared);
}

function prepare(title: string, given: ArenaOptions): { space: Space; shared: boolean } {
  const allowed = typeof SharedArrayBuffer === "function" && globalThis.crossOriginIsolated !== false;
  const { maxBytes, shared = allowed } = resolve(title, options, given) as ArenaOptions;
  if (shared && !allowed) {
    throw new Error(
      `${title}: shared memory is not allowed here; send the page with the headers ` +
        "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, or leave shared out",
    );
  }
  return { space: ownSpace(title, maxBytes, shared), shared };
}

function freed(what: string): never {
  throw new Error(`${what}: the arena was freed; make a new one with createArena()`);
}

/** One WebAssembly memory that holds tensors and optimizers' state. Made by `createArena` or `createArenaSync`. */
export class Arena {
  /** Whether the memory is shared between threads. */
  readonly shared: boolean;
  readonly #names = new Set<string>();
  readonly #dependents: { release(): void }[] = [];
  #inner: { readonly space: Space; readonly kernels: Kernels } | undefined;

  /** @internal */
  constructor(space: Space, kernels: Kernels, shared: boolean) {
    this.shared = shared;
    this.#inner = { space, kernels };
    Object.freeze(this);
  }

  /**
   * Makes a record of tensors, all zero, side by side in memory, so that one call updates them all.
   * @param shapes each tensor's name and shape, such as `{ w: [784, 128], b: [128] }`. Names are unique in an arena.
   * A TypeError or RangeError for a wrong or taken name or a wrong shape, a RangeError if memory runs out; nothing is
   * made then.
   */
  tensors<const Shapes extends Readonly<Record<string, Shape>>>(
    shapes: Shapes,
  ): { readonly [Name in keyof Shapes]: Tensor } {
    if (typeof shapes !== "object" || shapes === null || Array.isArray(shapes)) {
      throw new TypeError(`tensors: expected shapes by name such as { w: [784, 128] }, got ${show(shapes)}`);
    }
    const entries = Object.entries(shapes);
    if (entries.length === 0) throw new RangeError("tensors: expected at least one name and shape, got none");
    const sizes = entries.map(([name, shape]) => this.#checkTensor(name, shape));
    const lengths = sizes.map(padded);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    let at = this.reserve(2 * total * 4, `tensors ${entries.map(([name]) => name).join(", ")}`);
    const tensors = entries.map(([name, shape], index) => {
      const size = sizes[index] as number;
      const tensor = new Tensor(this, name, shape, this.floats(at, size), this.floats(at + total * 4, size));
      at += (lengths[index] as number) * 4;
      this.#names.add(name);
      return [name, this.own(tensor)];
    });
    return Object.freeze(Object.fromEntries(tensors));
  }

  /** Makes one tensor, all zero. As `tensors`, for one. */
  tensor(name: string, shape: Shape): Tensor {
    if (typeof name !== "string") throw new TypeError(`tensor: the name must be a string, got ${show(name)}`);
    return this.tensors({ [name]: shape })[name] as Tensor;
  }

  /** How many bytes are left. An Error after `free`. */
  get bytesLeft(): number {
    return this.inner("bytesLeft").space.left;
  }

  /**
   * Gives the memory back. Everything of this arena throws from now on; views already taken stay as they are, and keep
   * the memory as long as they are kept.
   */
  free(): void {
    for (const dependent of this.#dependents) dependent.release();
    this.#dependents.length = 0;
    this.#inner = undefined;
  }

  /** The memory and the kernels, or the error that `what` is asked of a freed arena. @internal */
  inner(what: string): { readonly space: Space; readonly kernels: Kernels } {
    return this.#inner ?? freed(what);
  }

  /** What holds views, and lets go of them when the arena is freed. @internal */
  own<Dependent extends { release(): void }>(dependent: Dependent): Dependent {
    this.#dependents.push(dependent);
    return dependent;
  }

  /** Zeroed memory's address. @internal */
  reserve(bytes: number, what: string): number {
    return this.inner(what).space.reserve(bytes, what);
  }

  /** @internal */
  floats(address: number, length: number): Float32Array {
    return new Float32Array(this.inner("view").space.memory.buffer, address, length);
  }

  /** @internal */
  doubles(address: number, length: number): Float64Array {
    return new Float64Array(this.inner("view").space.memory.buffer, address, length);
  }

  #checkTensor(name: string, shape: Shape): number {
    if (this.#names.has(name)) {
      throw new RangeError(`tensor ${show(name)}: the arena already has a tensor of this name; choose another`);
    }
    if (!Array.isArray(shape)) {
      throw new TypeError(`tensor ${show(name)}: shape must be a list of sizes such as [784, 128], got ${show(shape)}`);
    }
    let size = 1;
    for (const [index, dimension] of shape.entries()) {
      const title = `tensor ${show(name)}: shape[${index}]`;
      if (typeof dimension !== "number") throw new TypeError(`${title} must be a number, got ${show(dimension)}`);
      if (!(Number.isInteger(dimension) && dimension >= 1)) {
        throw new RangeError(`${title} must be a positive whole number, got ${dimension}`);
      }
      size *= dimension;
    }
    return size;
  }
}
