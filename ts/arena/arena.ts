/** The arena: one WebAssembly memory, the tensors in it, and the threads that work on it. */

import { compile, compileSync, instantiate, instantiateSync, type Kernels, type Binary } from "../wasm/kernels.js";
import { MAX_BYTES, allocateSpace, PAGE, type Space, spaceIn, suggestCollection } from "./memory.js";
import { classOf, flag, type Option, resolve, show, whole } from "../option.js";
import { cores, sharingAllowed } from "../platform.js";
import { Pool } from "../threads/pool.js";
import { padded, type Shape, sizeOf, Tensor } from "./tensor.js";
import { freed } from "../threads/control.js";
import { Runner } from "../threads/runner.js";
import { PROTOCOL } from "../threads/task.js";

const MOST_THREADS = 256;

const workerUrl: Option<string | URL | undefined, string, undefined> = {
  default: undefined,
  range: "a URL",
  check(title, value) {
    if (typeof value === "string" || classOf(value) === "URL") return;
    throw new TypeError(`${title} must be a URL, got ${show(value)}`);
  },
};

const options = {
  threads: whole(undefined, 1, MOST_THREADS),
  shared: flag(undefined),
  maxBytes: whole(undefined, PAGE, MAX_BYTES),
  workerUrl,
};

export interface ArenaOptions {
  /**
   * The number of threads that make a step, including the thread that calls `step()`: a whole number in [1, 256]. Default: the number of
   * cores if memory may be shared and workers start, else 1. Results are identical for any number. In
   * Node a thread uses about 9 MB.
   */
  threads?: number;
  /**
   * Whether the memory is shared between threads. Default: true where `SharedArrayBuffer` is allowed, which in browsers requires
   * a cross-origin isolated page. Some Web APIs (`TextDecoder`, `crypto.getRandomValues`) refuse views of
   * shared memory.
   */
  shared?: boolean;
  /**
   * The number of bytes of address space to reserve: a whole number in [65536, 4294967296], rounded down to pages of 65536. A page
   * takes memory once it is written. Default: 4 GiB, or the largest half, quarter, … of it that the platform allows.
   */
  maxBytes?: number;
  /**
   * The URL of the package's `dist/worker.js`, for pages whose content security policy forbids workers from
   * `blob:` URLs. In Node: a path, or a `file:` URL object. Default: none is needed.
   */
  workerUrl?: string | URL;
}

/**
 * Makes an arena: compiles the kernels off the main thread, starts the threads, and waits until they are ready.
 * A TypeError or RangeError for wrong options; an Error if shared memory, threads or WebAssembly are asked for and not
 * allowed; a RangeError if the platform has too little address space left.
 */
export async function createArena(given: ArenaOptions = {}): Promise<Arena> {
  const { space, threads, asked, workerUrl } = resolveArena("createArena", given);
  const binary = { memory: space.memory, module: await compile(space.shared) };
  const arena = new Arena(space, binary, await instantiate(binary));
  try {
    await arena.internals("createArena").pool.start(binary, threads, workerUrl);
  } catch (cause) {
    if (asked) {
      arena.free();
      throw new Error(
        `createArena: ${threads} threads cannot be had, a worker does not start (${(cause as Error).message}); if a ` +
          "content security policy forbids workers from blob: URLs, serve the package's dist/worker.js and name its URL " +
          "as workerUrl; or leave threads out",
        { cause },
      );
    }
  }
  return arena;
}

/**
 * Makes an arena synchronously. As `createArena`, but it does not wait for the threads: they take part as soon as they are
 * ready. On the main thread, Chrome allows it since version 114.
 */
export function createArenaSync(given: ArenaOptions = {}): Arena {
  const { space, threads, workerUrl } = resolveArena("createArenaSync", given);
  const binary = { memory: space.memory, module: compileSync(space.shared) };
  const arena = new Arena(space, binary, instantiateSync(binary));
  arena
    .internals("createArenaSync")
    .pool.start(binary, threads, workerUrl)
    .catch(() => {}); // `arena.threads` tells
  return arena;
}

/** The result of `arena.share()`. Post it to another thread, and pass it to `attachArena` there. */
export interface ArenaHandle extends Binary {
  readonly protocol: string;
  readonly tensors: readonly { readonly name: string; readonly shape: Shape; readonly at: readonly [number, number] }[];
}

/**
 * Attaches to the arena of another thread: the same memory, the same tensors (`arena.tensor(name)`, `arena.tensors()`), and the same
 * threads for a step. A TypeError for anything but a handle.
 */
export function attachArena(handle: ArenaHandle): Arena {
  if (typeof handle !== "object" || handle === null || typeof handle.protocol !== "string") {
    throw new TypeError(`attachArena: expected what arena.share() gave, posted as it is, got ${show(handle)}`);
  }
  if (handle.protocol !== PROTOCOL) {
    throw new TypeError("attachArena: the arena is of another version of the package; use the same one in all threads");
  }
  try {
    const kernels = instantiateSync(handle);
    if (Object.keys(kernels).length === 0) throw new TypeError("the module is another");
    return new Arena(spaceIn(handle.memory), handle, kernels, [...handle.tensors]);
  } catch (cause) {
    throw new TypeError("attachArena: expected what arena.share() gave, posted as it is", { cause });
  }
}

function resolveArena(title: string, given: ArenaOptions) {
  const allowed = sharingAllowed();
  const { maxBytes, shared = allowed, threads, workerUrl } = resolve(title, options, given) as ArenaOptions;
  const what = shared ? "shared memory is" : `${threads} threads are`;
  if ((shared || (threads ?? 1) > 1) && !allowed) {
    throw new Error(
      `${title}: ${what} not allowed here; send the page with the headers Cross-Origin-Opener-Policy: same-origin and ` +
        `Cross-Origin-Embedder-Policy: require-corp, or leave ${shared ? "shared" : "threads"} out`,
    );
  }
  if (!shared && (threads ?? 1) > 1) {
    throw new TypeError(`${title}: ${threads} threads need shared memory; leave shared out`);
  }
  return {
    space: allocateSpace(title, maxBytes, shared),
    threads: threads ?? (shared ? Math.min(cores(), MOST_THREADS) : 1),
    asked: threads !== undefined || workerUrl !== undefined,
    workerUrl,
  };
}

/** Ends the threads of an arena that was garbage-collected before it was freed. */
const collected = new FinalizationRegistry<{ pool: Pool; close: () => void }>(({ pool, close }) => {
  pool.end();
  close();
});

interface ArenaInternals {
  readonly space: Space;
  readonly binary: Binary;
  readonly kernels: Kernels;
  readonly pool: Pool;
}

/** One WebAssembly memory that holds tensors and optimizers' state. Made by `createArena` or `createArenaSync`. */
export class Arena {
  /** Whether the memory is shared between threads. */
  readonly shared: boolean;
  readonly #tensors = new Map<string, Tensor>();
  readonly #dependents: { release(): void }[] = [];
  #internals: ArenaInternals | undefined;

  /** @internal */
  constructor(space: Space, binary: Binary, kernels: Kernels, tensors: ArenaHandle["tensors"] = []) {
    const pool = new Pool(new Runner(space.memory, kernels, space.control));
    this.shared = space.shared;
    this.#internals = { space, binary, kernels, pool };
    for (const { name, shape, at } of tensors) this.#add(name, shape, sizeOf(name, shape), ...at);
    collected.register(this, { pool, close: space.close }, this);
    Object.freeze(this);
  }

  /**
   * The number of threads that make a step. It falls when a thread dies, as soon as the thread that made the arena is
   * told. An Error after `free`.
   */
  get threads(): number {
    return this.internals("threads").pool.threads;
  }

  /**
   * Whether a thread died in the middle of a step, so that some parameters are updated and others are not. Such an arena
   * makes no more steps. An Error after `free`.
   */
  get torn(): boolean {
    return this.internals("torn").pool.torn;
  }

  /**
   * Makes a record of tensors, filled with zeros and adjacent in memory, so that one kernel call updates all of them.
   * @param shapes the name and shape of each tensor, such as `{ w: [784, 128], b: [128] }`. Names are unique in an arena.
   * A TypeError or RangeError for a wrong shape or a name that is taken; a RangeError if memory runs out. Nothing is
   * made then.
   */
  tensors<const Shapes extends Readonly<Record<string, Shape>>>(
    shapes: Shapes,
  ): { readonly [Name in keyof Shapes]: Tensor };
  /** All tensors, by name. In an attached arena these include the tensors at the time it was shared. */
  tensors(): Readonly<Record<string, Tensor>>;
  tensors(shapes?: Readonly<Record<string, Shape>>): Readonly<Record<string, Tensor>> {
    this.internals("tensors");
    if (shapes === undefined) return Object.freeze(Object.fromEntries(this.#tensors));
    if (typeof shapes !== "object" || shapes === null || Array.isArray(shapes)) {
      throw new TypeError(`tensors: expected shapes by name such as { w: [784, 128] }, got ${show(shapes)}`);
    }
    const entries = Object.entries(shapes);
    if (entries.length === 0) throw new RangeError("tensors: expected at least one name and shape, got none");
    const taken = entries.find(([name]) => this.#tensors.has(name));
    if (taken) {
      throw new RangeError(`tensor ${show(taken[0])}: the arena already has a tensor of this name; choose another`);
    }
    const sizes = entries.map(([name, shape]) => sizeOf(name, shape));
    const bytes = sizes.map((size) => 4 * padded(size));
    const total = bytes.reduce((sum, length) => sum + length, 0);
    let at = this.reserve(2 * total, `tensors ${entries.map(([name]) => name).join(", ")}`);
    const tensors = entries.map(([name, shape], index) => {
      const tensor = this.#add(name, shape, sizes[index]!, at, at + total);
      at += bytes[index]!;
      return [name, tensor];
    });
    return Object.freeze(Object.fromEntries(tensors));
  }

  /** Makes one tensor, filled with zeros. Errors as for `tensors`. */
  tensor(name: string, shape: Shape): Tensor;
  /** The tensor with this name; a RangeError if there is none. */
  tensor(name: string): Tensor;
  tensor(name: string, shape?: Shape): Tensor {
    if (typeof name !== "string") throw new TypeError(`tensor: the name must be a string, got ${show(name)}`);
    if (shape !== undefined) return this.tensors({ [name]: shape })[name]!;
    this.internals("tensor");
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) {
      const names = [...this.#tensors.keys()].join(", ") || "none";
      throw new RangeError(`tensor ${show(name)}: there is none of this name (there are: ${names}); a shape makes one`);
    }
    return tensor;
  }

  /**
   * A handle to post to other threads. There, `attachArena` makes an arena with the same memory and the present tensors.
   * An Error if the memory is not shared. An arena that was shared keeps its threads until `free`.
   */
  share(): ArenaHandle {
    const { binary } = this.internals("share");
    if (!this.shared) {
      throw new Error(
        "share: the arena's memory is not shared; make the arena with shared: true, which in browsers takes a page that is cross-origin isolated",
      );
    }
    collected.unregister(this); // others may need the threads when this side of the arena is gone
    const tensors = [...this.#tensors.values()].map(
      ({ name, shape, data, grad }) => ({ name, shape, at: [data.byteOffset, grad.byteOffset] }) as const,
    );
    return { ...binary, protocol: PROTOCOL, tensors };
  }

  /** The number of free bytes. An Error after `free`. */
  get bytesLeft(): number {
    return this.internals("bytesLeft").space.left;
  }

  /**
   * Ends the threads and releases the memory. After that, everything in this arena throws. Views that you took before stay valid
   * and keep the memory as long as you keep them. An attached arena is released in this thread alone.
   */
  free(): void {
    suggestCollection(this.#release());
  }

  /** Releases everything and returns the number of bytes that were in use. A function of its own, so that no reference is left on the stack. */
  #release(): number {
    for (const dependent of this.#dependents) dependent.release();
    const { space, pool } = this.#internals ?? {};
    pool?.free();
    space?.close();
    this.#dependents.length = 0;
    this.#internals = undefined;
    this.#tensors.clear();
    collected.unregister(this);
    return space?.used ?? 0;
  }

  /** The memory, the kernels and the threads; an Error that begins with `what` after `free`. @internal */
  internals(what: string): ArenaInternals {
    return this.#internals ?? freed(what);
  }

  /** The index of a kernel among the module's exports. @internal */
  kernel(name: string): number {
    return Object.keys(this.internals("kernel").kernels).indexOf(name);
  }

  /** Registers an object that holds views. It is told to release them when the arena is freed. @internal */
  onFree<Dependent extends { release(): void }>(dependent: Dependent): Dependent {
    this.#dependents.push(dependent);
    return dependent;
  }

  /** Reserves zeroed memory and returns its address. @internal */
  reserve(bytes: number, what: string): number {
    return this.internals(what).space.reserve(bytes, what);
  }

  /** @internal */
  floats(address: number, length: number): Float32Array {
    return new Float32Array(this.internals("view").space.memory.buffer, address, length);
  }

  /** @internal */
  doubles(address: number, length: number): Float64Array {
    return new Float64Array(this.internals("view").space.memory.buffer, address, length);
  }

  #add(name: string, shape: Shape, size: number, data: number, grad: number): Tensor {
    const tensor = this.onFree(new Tensor(this, name, shape, this.floats(data, size), this.floats(grad, size)));
    this.#tensors.set(name, tensor);
    return tensor;
  }
}
