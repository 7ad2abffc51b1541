/** The arena: one WebAssembly memory, tensors in it, and the threads that work on it. */

import { compile, compileSync, instantiate, instantiateSync, type Kernels, type Binary } from "../wasm/kernels.js";
import { MAX_BYTES, allocateSpace, PAGE, type Space, spaceIn } from "./memory.js";
import { flag, type Option, resolve, show, whole } from "../option.js";
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
    if (typeof value === "string" || value instanceof URL) return;
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
   * How many threads make a step, the one that calls `step()` included; a whole number in [1, 256]. Default: as many as
   * run at once here, where memory may be shared and workers start, else one. The bits are the same for any number. In
   * Node each takes some 9 MB.
   */
  threads?: number;
  /**
   * Whether the memory is shared between threads. Default: where `SharedArrayBuffer` is allowed, which in browsers is
   * on pages that are cross-origin isolated. Some Web APIs (`TextDecoder`, `crypto.getRandomValues`) refuse views of
   * shared memory.
   */
  shared?: boolean;
  /**
   * Bytes of address space to reserve, a whole number in [65536, 4294967296], rounded down to pages of 65536. Pages
   * take memory only once they are written. Default: 4 GiB, or a half, a quarter, … of it if the platform refuses.
   */
  maxBytes?: number;
  /**
   * Where the package's `dist/worker.js` is served, for pages whose content security policy forbids workers from
   * `blob:` URLs. Default: the package brings its worker along. In Node: a path, or a `file:` URL object.
   */
  workerUrl?: string | URL;
}

/**
 * Makes an arena: compiles the kernels off the main thread, starts the threads, and waits until they are there.
 * A TypeError or RangeError for wrong options, an Error where what was asked for is not allowed: shared memory, threads,
 * WebAssembly; a RangeError where the platform has no address space left.
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
 * Makes an arena at once. As `createArena`, but for the threads: they take part as soon as they are there. On the main
 * thread of a browser, Chrome allows it from version 114 on.
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

/** What `arena.share()` gives: to be posted to another thread, and handed to `attachArena` there. */
export interface ArenaHandle extends Binary {
  readonly protocol: string;
  readonly tensors: readonly { readonly name: string; readonly shape: Shape; readonly at: readonly [number, number] }[];
}

/**
 * The arena of another thread: the same memory, the same tensors (`arena.tensor(name)`, `arena.tensors()`), the same
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

/** Ends the threads of arenas that are gone without having been freed. */
const collected = new FinalizationRegistry<Pool>((pool) => pool.end());

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
    const pool = new Pool(new Runner(space.memory, kernels));
    this.shared = space.shared;
    this.#internals = { space, binary, kernels, pool };
    for (const { name, shape, at } of tensors) this.#add(name, shape, sizeOf(name, shape), ...at);
    collected.register(this, pool, this);
    Object.freeze(this);
  }

  /**
   * How many threads make a step: fewer than were asked for once the thread that made the arena has heard of the death of
   * some. An Error after `free`.
   */
  get threads(): number {
    return this.internals("threads").pool.threads;
  }

  /**
   * Whether a thread of the arena's died in the middle of a step, so that some parameters are of that step and some of
   * the one before. No step is made in such an arena any more. An Error after `free`.
   */
  get torn(): boolean {
    return this.internals("torn").pool.torn;
  }

  /**
   * Makes a record of tensors, all zero, side by side in memory, so that one call updates them all.
   * @param shapes each tensor's name and shape, such as `{ w: [784, 128], b: [128] }`. Names are unique in an arena.
   * A TypeError or RangeError for a wrong or taken name or a wrong shape, a RangeError if memory runs out; nothing is
   * made then.
   */
  tensors<const Shapes extends Readonly<Record<string, Shape>>>(
    shapes: Shapes,
  ): { readonly [Name in keyof Shapes]: Tensor };
  /** All tensors there are, by name; in an attached arena those that were there when it was shared, too. */
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

  /** Makes one tensor, all zero. As `tensors`, for one. */
  tensor(name: string, shape: Shape): Tensor;
  /** The tensor of this name; a RangeError if there is none. */
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
   * A handle to post to other threads, where `attachArena` makes of it an arena over the same memory with the tensors
   * that there are now. An Error if the memory is not shared. An arena that was shared holds its threads until `free`.
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

  /** How many bytes are left. An Error after `free`. */
  get bytesLeft(): number {
    return this.internals("bytesLeft").space.left;
  }

  /**
   * Ends the threads and gives the memory back. Everything of this arena throws from now on; views already taken stay as
   * they are, and keep the memory as long as they are kept. In an arena that was attached: lets go of it here.
   */
  free(): void {
    for (const dependent of this.#dependents) dependent.release();
    this.#dependents.length = 0;
    this.#internals?.pool.free();
    this.#internals = undefined;
    this.#tensors.clear();
    collected.unregister(this);
  }

  /** The memory, the kernels and the threads, or the error that `what` is asked of a freed arena. @internal */
  internals(what: string): ArenaInternals {
    return this.#internals ?? freed(what);
  }

  /** A kernel's place among the binary's exports, as tasks have it. @internal */
  kernel(name: string): number {
    return Object.keys(this.internals("kernel").kernels).indexOf(name);
  }

  /** What holds views, and lets go of them when the arena is freed. @internal */
  onFree<Dependent extends { release(): void }>(dependent: Dependent): Dependent {
    this.#dependents.push(dependent);
    return dependent;
  }

  /** Zeroed memory's address. @internal */
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
