/** The arena: one WebAssembly memory, and tensors in it. */

import { compile, compileSync, instantiate, type Kernels } from "./kernels.js";
import { ALIGNMENT, ownSpace, type Space } from "./memory.js";
import { checkNames, show } from "./option.js";

/** How many elements a tensor takes: each begins a cache line. No view shows the padding. */
export function padded(size: number): number {
  const line = ALIGNMENT / Float32Array.BYTES_PER_ELEMENT;
  return Math.ceil(size / line) * line;
}

/** The most elements a memory of 32-bit addresses could hold. */
const MOST = 2 ** 30;

export interface ArenaOptions {
  /**
   * Bytes of address space to reserve, a whole number in [65536, 4294967296]. Pages take memory only once they are
   * written. Default: 4 GiB, or as much of it as the platform grants.
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
  readonly #data: Float32Array;
  readonly #grad: Float32Array;

  /** @internal */
  constructor(arena: Arena, name: string, shape: Shape, data: Float32Array, grad: Float32Array) {
    this.arena = arena;
    this.name = name;
    this.shape = Object.freeze([...shape]);
    this.size = data.length;
    this.#data = data;
    this.#grad = grad;
  }

  /** The parameters, row by row: a view of the arena's memory, never a copy. Error after `arena.free()`. */
  get data(): Float32Array {
    this.arena.check(this.name);
    return this.#data;
  }

  /** The gradient, shaped as `data`: a view too. Yours to write before each step; `step` only reads it. */
  get grad(): Float32Array {
    this.arena.check(this.name);
    return this.#grad;
  }
}

/** Makes an arena, compiling the kernels off the main thread the first time. */
export async function createArena(options: ArenaOptions = {}): Promise<Arena> {
  const shared = wantsShared(options);
  const module = await compile(shared);
  return new Arena(module, ownSpace(options.maxBytes, shared), shared);
}

/** Makes an arena at once. */
export function createArenaSync(options: ArenaOptions = {}): Arena {
  const shared = wantsShared(options);
  return new Arena(compileSync(shared), ownSpace(options.maxBytes, shared), shared);
}

function wantsShared(options: ArenaOptions): boolean {
  checkNames("createArena", options, ["maxBytes", "shared"]);
  const allowed = typeof SharedArrayBuffer === "function" && globalThis.crossOriginIsolated !== false;
  const { shared = allowed } = options;
  if (typeof shared !== "boolean") {
    throw new TypeError(`createArena: shared must be true or false, got ${show(shared)}`);
  }
  if (shared && !allowed) {
    throw new Error(
      "createArena: shared memory is not allowed here; send the page with the headers " +
        "Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, or leave shared out",
    );
  }
  return shared;
}

/** One WebAssembly memory that holds tensors and optimizers' state. Made by `createArena` or `createArenaSync`. */
export class Arena {
  /** Whether the memory is shared between threads. */
  readonly shared: boolean;
  readonly #names = new Set<string>();
  #space: Space | undefined;
  #kernels: Kernels;

  /** @internal */
  constructor(module: WebAssembly.Module, space: Space, shared: boolean) {
    this.shared = shared;
    this.#space = space;
    this.#kernels = instantiate(module, space.memory);
  }

  /**
   * Makes a record of tensors, all zero, side by side in memory, so that one call updates them all.
   * @param shapes each tensor's name and shape, such as `{ w: [784, 128], b: [128] }`. Names are unique in an arena.
   */
  tensors<const Shapes extends Readonly<Record<string, Shape>>>(
    shapes: Shapes,
  ): { readonly [Name in keyof Shapes]: Tensor } {
    const entries = Object.entries(shapes);
    if (entries.length === 0) throw new RangeError("tensors: expected at least one name and shape, got none");
    const sizes = entries.map(([name, shape]) => this.#checkTensor(name, shape));
    const lengths = sizes.map(padded);
    const total = lengths.reduce((sum, length) => sum + length, 0);
    const start = this.reserve(2 * total * 4, `${show(entries.map(([name]) => name))} with gradients`);
    let at = start;
    const tensors = entries.map(([name, shape], index) => {
      const size = sizes[index] as number;
      const tensor = new Tensor(this, name, shape, this.floats(at, size), this.floats(at + total * 4, size));
      at += (lengths[index] as number) * 4;
      this.#names.add(name);
      return [name, tensor];
    });
    return Object.freeze(Object.fromEntries(tensors));
  }

  /** Makes one tensor, all zero. As `tensors`, for one. */
  tensor(name: string, shape: Shape): Tensor {
    return this.tensors({ [name]: shape })[name] as Tensor;
  }

  /** Gives the memory back. Tensors and optimizers of this arena throw from now on; views already taken keep it alive. */
  free(): void {
    this.#space = undefined;
    this.#kernels = {};
  }

  /** Throws if the arena was freed; `what` is what was asked for. @internal */
  check(what: string): Space {
    if (this.#space === undefined) {
      throw new Error(`${what}: its arena was freed; make a new one with createArena()`);
    }
    return this.#space;
  }

  /** How many bytes are left. */
  get left(): number {
    return this.check("left").left;
  }

  /** @internal */
  get kernels(): Kernels {
    return this.#kernels;
  }

  /** Zeroed memory's address. @internal */
  reserve(bytes: number, what: string): number {
    return this.check(what).reserve(bytes, what);
  }

  /** @internal */
  floats(address: number, length: number): Float32Array {
    return new Float32Array(this.check("view").memory.buffer, address, length);
  }

  /** @internal */
  doubles(address: number, length: number): Float64Array {
    return new Float64Array(this.check("view").memory.buffer, address, length);
  }

  #checkTensor(name: string, shape: Shape): number {
    if (this.#names.has(name)) {
      throw new RangeError(`tensor ${show(name)}: the arena already has a tensor of this name; choose another`);
    }
    if (!Array.isArray(shape)) {
      throw new TypeError(`tensor ${show(name)}: shape must be a list of sizes such as [784, 128], got ${show(shape)}`);
    }
    const size = shape.reduce((product: number, dimension: unknown, index) => {
      const title = `tensor ${show(name)}: shape[${index}]`;
      if (typeof dimension !== "number") throw new TypeError(`${title} must be a number, got ${show(dimension)}`);
      if (!(Number.isInteger(dimension) && dimension >= 1)) {
        throw new RangeError(`${title} must be a positive whole number, got ${dimension}`);
      }
      return product * dimension;
    }, 1);
    if (size > MOST) {
      throw new RangeError(
        `tensor ${show(name)}: shape ${show(shape)} must have at most ${MOST} elements, got ${size}`,
      );
    }
    return size;
  }
}
