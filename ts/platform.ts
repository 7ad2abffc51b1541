/** Differences between Node and browsers. Bun and Deno have Node's modules. */

interface Port {
  onmessage: ((event: { data: any }) => void) | null;
  postMessage(message: unknown): void;
}

interface NodeWorker {
  on(event: "message" | "error" | "exit", listener: (value: unknown) => void): void;
  postMessage(message: unknown): void;
  terminate(): Promise<unknown>;
  unref(): void;
}

interface NodeFile {
  stat(): Promise<NodeStats>;
  read(into: Uint8Array, at: number, length: number, position: number): Promise<{ bytesRead: number }>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface NodeStats {
  readonly dev: number;
  readonly ino: number;
  readonly size: number;
  readonly mode: number;
  readonly mtimeMs: number;
  isFile(): boolean;
  isDirectory(): boolean;
  isSymbolicLink(): boolean;
}

type TextClasses = Pick<typeof globalThis, "TextDecoder" | "TextEncoder">;

interface NodeModules {
  worker_threads: {
    parentPort: Port | null;
    MessageChannel: typeof MessageChannel;
    Worker: new (source: string | URL, options: object) => NodeWorker;
  };
  os: { availableParallelism(): number; hostname(): string };
  perf_hooks: { performance: { now(): number } };
  timers: { setImmediate(task: () => void): unknown };
  fs: {
    existsSync(path: string): boolean;
    realpathSync(path: string): string;
    lstatSync(path: string, options: { throwIfNoEntry: false }): NodeStats | undefined;
    readlinkSync(path: string): string;
    readdirSync(path: string): string[];
    unlinkSync(path: string): void;
    constants: { O_WRONLY: number; O_CREAT: number; O_EXCL: number; O_SYNC?: number };
    openSync(path: string, flags: string | number, mode?: number): number;
    readSync(file: number, into: Uint8Array, at: number, length: number, position: number): number;
    writeSync(file: number, bytes: Uint8Array): number;
    fsync(file: number, done: (error: Error | null) => void): void;
    fchmodSync(file: number, mode: number): void;
    closeSync(file: number): void;
    fstatSync(file: number): NodeStats;
    promises: {
      stat(path: string): Promise<NodeStats>;
      open(path: string, flags: string): Promise<NodeFile>;
      rename(from: string, to: string): Promise<void>;
      unlink(path: string): Promise<void>;
    };
  };
  path: {
    basename(path: string): string;
    dirname(path: string): string;
    join(...paths: string[]): string;
    resolve(...paths: string[]): string;
  };
  url: { fileURLToPath(url: string): string };
  util: TextClasses;
  /** Without `crc32` before Node 20.15 and 22.2. */
  zlib: { crc32?(bytes: Uint8Array): number };
}

/** Returns a module of Node, or undefined in browsers. Bundlers for browsers do not see this import. */
export function nodeModule<Name extends keyof NodeModules>(name: Name): NodeModules[Name] | undefined {
  const { process } = globalThis as { process?: { getBuiltinModule?(id: string): NodeModules[Name] } };
  return allowed(() => process?.getBuiltinModule?.(`node:${name}`));
}

/** Calls `use`. Returns undefined if it throws, as Node's functions do in the edge runtime of Next.js, for example. */
export function allowed<Result>(use: () => Result): Result | undefined {
  try {
    return use();
  } catch {
    return undefined;
  }
}

/** The version of Node, if it is too old for `nodeModule`. */
export function outdatedNode(): string | undefined {
  const { process } = globalThis as { process?: { versions?: { node?: string }; getBuiltinModule?: unknown } };
  return allowed(() => (process?.getBuiltinModule === undefined ? process?.versions?.node : undefined));
}

/** A class for UTF-8. jsdom has none, so in Jest it is Node's. */
const textClass = <Name extends keyof TextClasses>(name: Name): TextClasses[Name] =>
  name in globalThis ? globalThis[name] : nodeModule("util")![name];

/** The text in UTF-8. */
export const encodeText = (text: string): Uint8Array => new (textClass("TextEncoder"))().encode(text);

/** A decoder of UTF-8. It keeps a byte order mark if `isStrict`, and throws a TypeError for bytes that are no text. */
export const textDecoder = (isStrict = false): TextDecoder =>
  new (textClass("TextDecoder"))("utf-8", { fatal: isStrict, ignoreBOM: isStrict });

/** The method by which Node's `console.log` shows an object. */
export const INSPECT: unique symbol = Symbol.for("nodejs.util.inspect.custom") as never;

/** A module of WebAssembly without content. */
export const EMPTY_MODULE: Uint8Array<ArrayBuffer> = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);

/** Whether threads may share memory: in browsers, on pages that are cross-origin isolated. */
export const sharingAllowed = (): boolean =>
  typeof SharedArrayBuffer === "function" && globalThis.crossOriginIsolated !== false;

/** Returns the number of threads that the machine can run in parallel. */
export const cores = (): number =>
  nodeModule("os")?.availableParallelism() ?? globalThis.navigator?.hardwareConcurrency ?? 1;

/** A thread that was started. */
export interface Thread {
  /** Fulfilled when the thread is ready to work. Rejected if it ends before. */
  readonly ready: Promise<void>;
  /** Fulfilled with the cause once it has ended by itself. */
  readonly gone: Promise<unknown>;
  end(): void;
}

/** The number of seconds that a thread may take to answer. */
const START_TIMEOUT_SECONDS = 20;

/**
 * Starts a thread. While it works, it does not keep the process alive.
 * @param source the source code of the thread, for an undefined `url`
 * @param message the message that is posted to the thread
 * @param expected the message that the thread sends when it is ready
 */
export function startThread(source: string, url: string | URL | undefined, message: object, expected: string): Thread {
  let leave!: (cause: unknown) => void;
  const gone = new Promise((resolve) => {
    leave = resolve;
  });
  let seconds = 0;
  // Seconds are counted by a timer, so that one long task here does not use up the time.
  const timer: unknown = setInterval(() => {
    if (++seconds === START_TIMEOUT_SECONDS) leave(new Error(`no answer in ${START_TIMEOUT_SECONDS} seconds`));
  }, 1000);
  (timer as { unref?(): void } | undefined)?.unref?.();
  const stop = () => clearInterval(timer as number);
  let answered!: (answer: unknown) => void;
  const ready = new Promise<void>((resolve, reject) => {
    gone.then(reject);
    answered = (answer) => {
      if (answer === expected) resolve();
      else leave(new Error("it runs another version of the package"));
    };
  });
  let end = () => {};
  try {
    const worker = (nodeModule("worker_threads") ? startNodeWorker : startWebWorker)(source, url, answered, leave);
    end = worker.end;
    // No closure uses the message, because closures stay until the thread has ended, and the message holds the arena's memory.
    worker.post(message);
  } catch (cause) {
    leave(cause);
  }
  ready.then(stop, stop); // callers that await `ready` handle the rejection
  return {
    ready,
    gone,
    end() {
      stop();
      end();
    },
  };
}

type Start = (
  source: string,
  url: string | URL | undefined,
  answered: (answer: unknown) => void,
  gone: (cause: unknown) => void,
) => { readonly post: (message: object) => void; readonly end: () => void };

const startNodeWorker: Start = (source, url, answered, gone) => {
  const { Worker } = nodeModule("worker_threads")!;
  const worker = new Worker(url ?? source, { eval: url === undefined, execArgv: [], name: "downhill" });
  worker.on("message", (answer) => {
    worker.unref();
    answered(answer);
  });
  worker.on("error", gone);
  worker.on("exit", () => gone(new Error("it ended")));
  return { post: (message) => worker.postMessage(message), end: () => void worker.terminate() };
};

/** The worker's source as a URL, made once. */
let blob: string | undefined;

const startWebWorker: Start = (source, url, answered, gone) => {
  blob ??= url ? undefined : URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const worker = new Worker(url ?? blob!, { type: "module", name: "downhill" });
  worker.onmessage = ({ data }) => answered(data);
  worker.onerror = (event) => {
    event.preventDefault();
    gone(new Error(event.message ?? "it does not load"));
  };
  return { post: (message) => worker.postMessage(message), end: () => worker.terminate() };
};
