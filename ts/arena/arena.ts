/** The arena: one WebAssembly memory, the tensors in it, and the threads that work on it. */

import { type Code, moduleFor, encode, isModule, type Kernel, type Whole } from "../wasm/kernels.js";
import {
  ALIGNMENT,
  MAX_BYTES,
  allocateSpace,
  PAGE,
  type Space,
  spaceIn,
  suggestCollection,
  bytesToNext,
} from "./memory.js";
import { roundUp, sum } from "../math.js";
import { classOf, flag, isList, isRecord, listNames, type Option, resolve, show, whole, wrongKind } from "../option.js";
import { allowed, cores, INSPECT, outdatedNode, sharingAllowed } from "../platform.js";
import { Pool } from "../threads/pool.js";
import { checkName } from "./names.js";
import { checkedView, MAX_DIMENSIONS, padded, type Shape, sizeOf, Tensor } from "./tensor.js";
import { freed } from "../threads/control.js";
import { Runner } from "../threads/runner.js";
import { PROTOCOL } from "../threads/task.js";

const MAX_THREADS = 256;

const workerUrl: Option<string | URL | undefined, string, undefined> = {
  default: undefined,
  range: "a URL",
  check(title, value) {
    if (typeof value === "string" || classOf(value) === "URL") return;
    throw wrongKind(`${title} must be a URL`, value);
  },
};

const module: Option<Whole | undefined, string, undefined> = {
  default: undefined,
  range: "a WebAssembly.Module or bytes",
  check(title, value) {
    const isBuffer = classOf(value) === "ArrayBuffer" || ArrayBuffer.isView(value);
    // A DataView throws once its buffer was transferred.
    if (isModule(value) || (isBuffer && allowed(() => (value as unknown as BufferSource).byteLength))) return;
    const expected = `${title} must be a WebAssembly.Module, or the bytes of the package's kernels.wasm`;
    throw isBuffer ? new TypeError(`${expected}, got an empty or transferred buffer`) : wrongKind(expected, value);
  },
};

const options = {
  threads: whole(undefined, 1, MAX_THREADS),
  shared: flag(undefined),
  maxBytes: whole(undefined, PAGE, MAX_BYTES),
  workerUrl,
  module,
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
  /**
   * The package's `dist/kernels.wasm` (exported as `downhill/kernels.wasm`), for platforms that compile no WebAssembly at run time, such
   * as Cloudflare Workers: a `WebAssembly.Module`, which works with unshared memory, or the file's bytes, which work with either. Default: none is
   * needed.
   */
  module?: WebAssembly.Module | BufferSource;
}

/** Options of an arena with unshared memory. Web APIs that refuse shared memory accept its views. */
export type UnsharedOptions = ArenaOptions & { shared: false };

/**
 * Makes an arena: reserves its memory, starts the threads, and waits until they are ready.
 * @throws a TypeError or RangeError for wrong options; an Error if the platform does not allow the shared memory, the
 * threads or the WebAssembly that the options require; a RangeError if too little address space is left.
 */
export function createArena(options: UnsharedOptions): Promise<Arena<Float32Array<ArrayBuffer>>>;
export function createArena(options?: ArenaOptions): Promise<Arena>;
export function createArena(given: ArenaOptions = {}): Promise<Arena> {
  const promise = makeArena(given);
  // A program that forgets `await` reads a property of the arena from the promise.
  for (const name of ["shared", ...Object.getOwnPropertyNames(Arena.prototype)]) {
    const get = () => {
      promise.then(
        (arena) => arena.free(),
        () => {},
      );
      throw new TypeError(
        `${name}: createArena() returns a promise; write \`const arena = await createArena()\`, or call createArenaSync()`,
      );
    };
    if (!(name in promise)) Object.defineProperty(promise, name, { get });
  }
  return promise;
}

async function makeArena(given: ArenaOptions): Promise<Arena> {
  const { space, code, threads, asked, workerUrl } = resolveArena("createArena", given);
  const arena = new Arena(space, code);
  try {
    await arena.internals("createArena").pool.start(code, threads, workerUrl);
  } catch (cause) {
    if (asked) {
      arena.free();
      const worker = workerUrl === undefined ? "a worker" : `the worker ${show(String(workerUrl))}`;
      const remedy =
        workerUrl === undefined
          ? "if a content security policy forbids workers from blob: URLs, serve the package's dist/worker.js and pass its URL as workerUrl"
          : "workerUrl must be the URL of this version's dist/worker.js";
      throw new Error(
        `createArena: ${threads} threads are unavailable, ${worker} does not start (${(cause as Error).message}); ${remedy}; or leave threads out`,
        { cause },
      );
    }
  }
  return arena;
}

/**
 * Makes an arena synchronously. Like `createArena`, but it does not wait for the threads. They take part as soon as
 * they are ready.
 */
export function createArenaSync(options: UnsharedOptions): Arena<Float32Array<ArrayBuffer>>;
export function createArenaSync(options?: ArenaOptions): Arena;
export function createArenaSync(given: ArenaOptions = {}): Arena {
  const { space, code, threads, workerUrl } = resolveArena("createArenaSync", given);
  const arena = new Arena(space, code);
  arena
    .internals("createArenaSync")
    .pool.start(code, threads, workerUrl)
    .catch(() => {}); // `arena.threads` does not count a thread that does not start
  return arena;
}

/** The result of `arena.share()`. Post it to another thread, and pass it to `attachArena` there. */
export interface ArenaHandle extends Code {
  readonly protocol: string;
  readonly tensors: readonly { readonly name: string; readonly shape: Shape; readonly at: readonly [number, number] }[];
}

/**
 * Attaches to the arena of another thread: the same memory, the same tensors (`arena.tensor(name)`, `arena.tensors()`),
 * and the same threads for a step.
 * @throws a TypeError for anything but a handle.
 */
export function attachArena(handle: ArenaHandle): Arena {
  const wrong = (got = show(handle), cause?: unknown) =>
    new TypeError(`attachArena: expected the result of arena.share(), got ${got}`, { cause });
  if (!isRecord(handle) || typeof handle.protocol !== "string") throw wrong();
  if (handle.protocol !== PROTOCOL) {
    throw new TypeError(
      "attachArena: the handle is from another version of the package; use the same version in all threads",
    );
  }
  const { memory } = handle;
  const module = moduleFor("attachArena", true, handle.module);
  try {
    const space = spaceIn(memory);
    if (space.shared) return new Arena(space, { memory, module }, [...handle.tensors]);
  } catch (cause) {
    throw wrong("a damaged one", cause);
  }
  throw wrong("one with unshared memory");
}

function resolveArena(title: string, given: ArenaOptions) {
  const node = outdatedNode();
  if (node !== undefined) throw new Error(`${title}: downhill needs Node 20.19 or newer, this is Node ${node}`);
  const allowed = sharingAllowed();
  const values = resolve(title, options, given) as ArenaOptions;
  const { maxBytes, threads, workerUrl } = values;
  // A compiled module works with unshared memory only. Bytes work with both kinds.
  const areSeveral = (threads ?? 1) > 1;
  const shared = values.shared ?? (allowed && (!isModule(values.module) || areSeveral));
  const what = shared ? "shared memory is" : `${threads} threads are`;
  if ((shared || areSeveral) && !allowed) {
    throw new Error(
      `${title}: ${what} not allowed here; send the page with the headers Cross-Origin-Opener-Policy: same-origin and ` +
        `Cross-Origin-Embedder-Policy: require-corp, or omit ${shared ? "shared" : "threads"}`,
    );
  }
  if (!shared && areSeveral) {
    throw new TypeError(`${title}: ${threads} threads require shared memory; omit shared`);
  }
  if (shared && isModule(values.module)) {
    throw new TypeError(
      `${title}: module is compiled for unshared memory; pass the bytes of kernels.wasm, or leave shared and threads out`,
    );
  }
  const module = moduleFor(title, shared, values.module);
  const space = allocateSpace(title, maxBytes, shared);
  return {
    space,
    code: { memory: space.memory, module },
    threads: threads ?? (shared ? Math.min(cores(), MAX_THREADS) : 1),
    asked: threads !== undefined || workerUrl !== undefined,
    workerUrl,
  };
}

/** Ends the threads of an arena that was garbage-collected before it was freed. */
const collected =
  typeof FinalizationRegistry === "function" // Cloudflare Workers may lack it
    ? new FinalizationRegistry<{ pool: Pool; close: () => void }>(({ pool, close }) => {
        pool.end();
        close();
      })
    : undefined;

interface ArenaInternals {
  readonly space: Space;
  readonly code: Code;
  readonly runner: Runner;
  readonly pool: Pool;
}

/** One WebAssembly memory that holds tensors and optimizers' state. Made by `createArena` or `createArenaSync`. `Data` is the type of views. */
export class Arena<Data extends Float32Array = Float32Array> {
  /** Whether the memory is shared between threads. */
  readonly shared: boolean;
  readonly #tensors = new Map<string, Tensor<Data>>();
  /** The addresses of kernels. */
  readonly #kernels = new Map<Kernel, number>();
  readonly #dependents: { release(): void }[] = [];
  #internals: ArenaInternals | undefined;

  /** @internal */
  constructor(space: Space, code: Code, tensors: ArenaHandle["tensors"] = []) {
    const runner = new Runner(code, space.control);
    const pool = new Pool(runner);
    this.shared = space.shared;
    this.#internals = { space, code, runner, pool };
    for (const { name, shape, at } of tensors) this.#add(name, shape, sizeOf(name, shape), ...at);
    collected?.register(this, { pool, close: space.close }, this);
    Object.freeze(this);
  }

  /**
   * The number of threads that make a step. It decreases when a thread dies, once the thread that made the arena has
   * been notified.
   * @throws an Error after `free`.
   */
  get threads(): number {
    return this.internals("threads").pool.threads;
  }

  /**
   * Whether a thread died in the middle of a step, so that some parameters are updated and others are not. Such an
   * arena makes no more steps.
   * @throws an Error after `free`.
   */
  get torn(): boolean {
    return this.internals("torn").pool.torn;
  }

  /**
   * Makes a record of tensors, filled with zeros and adjacent in memory, so that one call updates all of them.
   * @param shapes the name and shape of each tensor, such as `{ w: [784, 128], b: [128] }`. Names are unique in an
   *   arena.
   * @throws a TypeError or RangeError for a wrong shape, or a name that is taken or that a checkpoint cannot have; a RangeError
   *   if memory runs out. Nothing is made then.
   */
  tensors<const Shapes extends Readonly<Record<string, Shape>>>(
    shapes: Shapes,
  ): { readonly [Name in keyof Shapes]: Tensor<Data> };
  /** All tensors, by name. In an attached arena these include the tensors at the time it was shared. */
  tensors(): Readonly<Record<string, Tensor<Data>>>;
  tensors(shapes?: Readonly<Record<string, Shape>>): Readonly<Record<string, Tensor<Data>>> {
    this.internals("tensors");
    if (shapes === undefined) return Object.freeze(Object.fromEntries(this.#tensors));
    if (!isRecord(shapes)) {
      throw wrongKind("tensors: expected shapes by name such as { w: [784, 128] }", shapes);
    }
    // Shapes are read once, because a getter may return another size each time. `sizeOf` refuses those that are not copied.
    const entries = Object.entries(shapes).map(
      ([name, shape]) => [name, isList(shape) && shape.length <= MAX_DIMENSIONS ? Array.from(shape) : shape] as const,
    );
    if (entries.length === 0) throw new RangeError("tensors: expected at least one name and shape, got none");
    for (const [name] of entries) checkName(name);
    const taken = entries.find(([name]) => this.#tensors.has(name));
    if (taken) {
      throw new RangeError(`tensor ${show(taken[0])}: the arena already has a tensor of this name; choose another`);
    }
    const sizes = entries.map(([name, shape]) => sizeOf(name, shape));
    const bytes = sizes.map((size) => 4 * padded(size));
    const total = bytesToNext(sum(bytes));
    let at = this.reserve(2 * total, `tensors ${listNames(Object.keys(shapes))}`);
    const tensors = entries.map(([name, shape], index) => {
      const tensor = this.#add(name, shape, sizes[index]!, at, at + total);
      at += bytes[index]!;
      return [name, tensor];
    });
    return Object.freeze(Object.fromEntries(tensors));
  }

  /** Makes one tensor, filled with zeros. Errors as for `tensors`. */
  tensor(name: string, shape: Shape): Tensor<Data>;
  /**
   * The tensor with this name.
   * @throws a TypeError unless the name is a string; a RangeError if there is no such tensor.
   */
  tensor(name: string): Tensor<Data>;
  tensor(name: string, shape?: Shape): Tensor<Data> {
    if (typeof name !== "string") throw wrongKind("tensor: the name must be a string", name);
    if (shape !== undefined) return this.tensors({ [name]: shape })[name]!;
    this.internals("tensor");
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) {
      const names = listNames(this.#tensors.keys());
      throw new RangeError(
        `tensor ${show(name)}: there is no tensor of this name (there are: ${names}); pass a shape to make one`,
      );
    }
    return tensor;
  }

  /**
   * A handle to post to other threads. There, `attachArena` makes an arena with the same memory and the present
   * tensors. An arena that was shared keeps its threads until `free`.
   * @throws an Error if the memory is not shared.
   */
  share(): ArenaHandle {
    const { code } = this.internals("share");
    if (!this.shared) {
      throw new Error(
        "share: the arena's memory is not shared; make the arena with shared: true, which in browsers requires a page that is cross-origin isolated",
      );
    }
    collected?.unregister(this); // others may need the threads when this side of the arena is gone
    const tensors = [...this.#tensors.values()].map(
      ({ name, shape, data, grad }) => ({ name, shape, at: [data.byteOffset, grad.byteOffset] }) as const,
    );
    return { ...code, protocol: PROTOCOL, tensors };
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](): string {
    if (!this.#internals) return "Arena (freed)";
    const names = listNames(this.#tensors.keys());
    return `Arena { threads: ${this.threads}, shared: ${this.shared}, bytesLeft: ${this.bytesLeft}, tensors: ${names} }`;
  }

  /**
   * The number of free bytes.
   * @throws an Error after `free`.
   */
  get bytesLeft(): number {
    return this.internals("bytesLeft").space.left;
  }

  /**
   * Ends the threads and releases the memory. After that, everything in this arena throws. Views that you took before stay valid
   * and keep the memory as long as you keep them. An attached arena is released in this thread alone, after
   * the step that is under way.
   */
  free(): void {
    suggestCollection(this.#release());
  }

  /**
   * Releases everything and returns the number of bytes that were in use. It is a separate function, so that no
   * reference remains on the stack.
   */
  #release(): number {
    const { space, pool } = this.#internals ?? {};
    const dependents = this.#dependents.splice(0);
    pool?.free(() => {
      for (const dependent of dependents) dependent.release();
    });
    space?.close();
    this.#internals = undefined;
    this.#tensors.clear();
    collected?.unregister(this);
    return space?.used ?? 0;
  }

  /**
   * The memory, the kernels and the threads.
   * @throws an Error that begins with `what` after `free`.
   * @internal
   */
  internals(what: string): ArenaInternals {
    return this.#internals ?? freed(what);
  }

  /** The address of a kernel, which is written to memory once. @internal */
  kernel(kernel: Kernel): number {
    if (!this.#kernels.has(kernel)) this.reserve(0, "a kernel", [kernel]);
    return this.#kernels.get(kernel)!;
  }

  /** Registers an object that holds views. It is told to release them when the arena is freed. @internal */
  onFree<Dependent extends { release(): void }>(dependent: Dependent): Dependent {
    this.#dependents.push(dependent);
    return dependent;
  }

  /** Reserves zeroed memory and returns its address. The kernels are written after it, unless they are in memory. @internal */
  reserve(bytes: number, what: string, kernels: readonly Kernel[] = []): number {
    const { space, code } = this.internals(what);
    const missing = [...new Set(kernels)].filter((kernel) => !this.#kernels.has(kernel));
    const encoded = missing.map((kernel) => encode(kernel, space.shared, code.module !== undefined));
    const lines = (length: number) => roundUp(length, ALIGNMENT);
    const total = lines(bytes) + sum(encoded.map(({ length }) => lines(length)));
    const address = space.reserve(total, what);
    let next = address + lines(bytes);
    missing.forEach((kernel, i) => {
      new Uint8Array(space.memory.buffer, next, encoded[i]!.length).set(encoded[i]!);
      this.#kernels.set(kernel, next);
      next += lines(encoded[i]!.length);
    });
    return address;
  }

  /** @internal */
  floats(address: number, length: number): Data {
    return new Float32Array(this.internals("view").space.memory.buffer, address, length) as Data;
  }

  /** @internal */
  doubles(address: number, length: number): Float64Array {
    return new Float64Array(this.internals("view").space.memory.buffer, address, length);
  }

  #add(name: string, shape: Shape, size: number, data: number, grad: number): Tensor<Data> {
    const tensor = this.onFree(
      new Tensor(
        this,
        name,
        shape,
        checkedView(this.floats(data, size), `${name}.data`),
        checkedView(this.floats(grad, size), `${name}.grad`),
      ),
    );
    this.#tensors.set(name, tensor);
    return tensor;
  }
}
