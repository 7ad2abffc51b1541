/**
 * Tests of threads: their number, `stepAsync`, sharing, and dying threads. bits.test.ts checks that results do not
 * depend on them.
 */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import threads, { type Worker } from "node:worker_threads";
import { afterEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { root } from "../scripts/project.mjs";
import { type Arena, type ArenaOptions, attachArena, createArena, createArenaSync } from "../ts/arena/arena.js";
import { load, save } from "../ts/checkpoint/index.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { adamw, lamb, muon, sgd } from "../ts/rules/index.js";
import { reduceLROnPlateau } from "../ts/schedules/index.js";
import type { Tensor } from "../ts/arena/tensor.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { sam } from "../ts/wrappers/sam.js";
import { numbers } from "./harness.js";
import { smallArena } from "./small.js";

async function open(options: ArenaOptions): Promise<Arena> {
  const arena = await createArena({ maxBytes: 2 ** 29, ...options });
  onTestFinished(() => arena.free());
  return arena;
}

/** A module that imports the built package, to be run elsewhere. */
const program = (code: string) =>
  `import * as downhill from ${JSON.stringify(pathToFileURL(join(root, "dist/index.js")))};${code}`;

/** A user's own thread. */
function worker(code: string): Worker {
  const worker = new threads.Worker(new URL(`data:text/javascript,${encodeURIComponent(program(code))}`));
  onTestFinished(() => void worker.terminate());
  return worker;
}

const answer = (worker: Worker) => new Promise<any>((resolve) => worker.once("message", resolve));

describe("the number of threads", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  test("all cores by default", async () => {
    expect((await open({})).threads).toBe(availableParallelism());
    expect((await open({ threads: 3 })).threads).toBe(3);
    expect((await open({ shared: false })).threads).toBe(1);
    expect(createArenaSync({ maxBytes: 2 ** 20, threads: 2 }).threads).toBe(2);
  });

  test.each<[string, any, new (...args: never) => Error, string]>([
    ["none", { threads: 0 }, RangeError, "threads must be a whole number in [1, 256], got 0"],
    ["too many", { threads: 257 }, RangeError, "threads must be a whole number in [1, 256], got 257"],
    ["half", { threads: 1.5 }, RangeError, "threads must be a whole number in [1, 256], got 1.5"],
    ["a word", { threads: "all" }, TypeError, 'threads must be a whole number in [1, 256], got "all"'],
    ["unshared", { threads: 2, shared: false }, TypeError, "2 threads require shared memory; omit shared"],
    ["no URL", { workerUrl: 1 }, TypeError, "workerUrl must be a URL, got 1"],
  ])("refused: %s", async (_, options, type, message) => {
    expect(() => createArenaSync(options)).toThrow(type);
    await expect(createArena(options)).rejects.toThrow(`createArena: ${message}`);
  });

  test.each(["there is no SharedArrayBuffer", "the page is not isolated"])(
    "one by default, and an error for two, where %s",
    async (why) => {
      if (why.includes("isolated")) vi.stubGlobal("crossOriginIsolated", false);
      else vi.stubGlobal("SharedArrayBuffer", undefined);
      const { threads, shared } = await open({});
      expect({ threads, shared }).toEqual({ threads: 1, shared: false });
      expect((await open({ threads: 1 })).threads).toBe(1);
      await expect(createArena({ threads: 2 })).rejects.toThrow(
        "createArena: 2 threads are not allowed here; send the page with the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp, or omit threads",
      );
    },
  );

  test("one by default, and an error for three, where workers do not start", async () => {
    const missing = new URL("file:///none/worker.js");
    await expect(createArena({ threads: 3, workerUrl: missing })).rejects.toThrow(
      /^createArena: 3 threads are unavailable, the worker "file:\/\/\/none\/worker.js" does not start \(.*\); workerUrl must be .*; or leave threads out$/,
    );
    await expect(createArena({ workerUrl: missing })).rejects.toThrow("threads are unavailable");
    vi.spyOn(threads, "Worker").mockImplementation(function () {
      throw new Error("not permitted");
    });
    expect((await open({})).threads).toBe(1);
  });

  test("a worker of another version is refused before it does anything", async () => {
    const other = join(mkdtempSync(join(tmpdir(), "downhill-")), "worker.js");
    writeFileSync(other, readFileSync(join(root, "dist/worker.js"), "utf8").replaceAll("16384", "8192"));
    await expect(createArena({ threads: 2, workerUrl: pathToFileURL(other) })).rejects.toThrow(
      "it runs another version of the package",
    );
    rmSync(dirname(other), { recursive: true });
  });

  test("threads that do not start are ended, and not counted", async () => {
    const { Worker } = threads;
    const silent: Worker[] = [];
    vi.spyOn(threads, "Worker").mockImplementation(function (_source, options) {
      const code =
        silent.length === 1
          ? "throw new Error('no')"
          : "require('node:worker_threads').parentPort.on('message', () => {})";
      silent.push(new Worker(code, options));
      return silent.at(-1)!;
    });
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const opening = open({ shared: true });
    const asked = createArena({ threads: 4 });
    asked.catch(() => {});
    await vi.waitUntil(() => silent.length >= 3, 60_000);
    vi.advanceTimersByTime(20_000);
    expect((await opening).threads).toBe(1);
    await expect(asked).rejects.toThrow(/does not start \((no answer in 20 seconds|no)\)/);
    await vi.waitFor(() => expect(silent.map(({ threadId }) => threadId)).toEqual(silent.map(() => -1)), 60_000);
    vi.useRealTimers();
  });

  test("two with a worker from a file", async () => {
    const arena = await open({ threads: 2, workerUrl: pathToFileURL(join(root, "dist/worker.js")) });
    expect(arena.threads).toBe(2);
  });
});

/** A parameter of 2^21 elements with a gradient of ones, and gradient descent by whole numbers: exact in float32. */
function descent(arena: Arena, size = 2 ** 21) {
  const w = arena.tensor(`w${Object.keys(arena.tensors()).length}`, [size]);
  w.grad.fill(1);
  return { w, optimizer: sgd([w], { lr: 1 }) };
}

/** All that fake timers replace. */
const FAKES = [
  ...(["setTimeout", "clearTimeout", "setInterval", "clearInterval", "setImmediate", "clearImmediate"] as const),
  ...(["Date", "performance", "hrtime", "queueMicrotask"] as const),
];

test.each([
  ["sgd with clipNorm", (tensors: Tensor[]) => sgd(tensors, { lr: 0.1, clipNorm: 1 })],
  ["lamb", (tensors: Tensor[]) => lamb(tensors, { lr: 0.1 })],
] as const)("%s: claims of many chunks give the bits of one thread", async (_, make) => {
  const sizes = [2 ** 23, 100_003]; // 519 chunks, so that a claim takes up to 64
  const runs = await Promise.all(
    [1, 2].map(async (threads) => {
      const arena = await open({ threads });
      const tensors = sizes.map((size, i) => arena.tensor(`w${i}`, [size]));
      for (const { data, grad } of tensors)
        for (let i = 0; i < data.length; i++) grad[i] = Math.fround(((i * 7919) % 1009) / 1009);
      const optimizer = make(tensors);
      for (let step = 0; step < 3; step++) optimizer.step();
      return tensors.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    }),
  );
  runs[0]!.forEach((bytes, i) => expect(Buffer.compare(bytes, runs[1]![i]!)).toBe(0));
});

describe("stepAsync", () => {
  test.each([1, 2])("on %i threads leaves the event loop free, and makes the bits of step", async (threads) => {
    const arena = await open({ threads });
    const [a, b] = [descent(arena, 2 ** 24), descent(arena, 2 ** 24)];
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await a.optimizer.stepAsync();
    clearInterval(timer);
    expect(ticks).toBeGreaterThanOrEqual(2); // 200 MB at 64 MB a turn at most; usually there are more turns, by the clock
    b.optimizer.step();
    expect(Buffer.compare(Buffer.from(a.w.data.slice().buffer), Buffer.from(b.w.data.slice().buffer))).toBe(0);
  });

  test.each([1, 3])(
    "on %i threads steps queue in order, each with the hyper-parameters of its call",
    async (threads) => {
      const arena = await open({ threads });
      const { w, optimizer } = descent(arena);
      const other = sgd([w], { lr: 1000 });
      const order: string[] = [];
      const first = optimizer.stepAsync().then(() => order.push("first"));
      optimizer.hyper.lr = 10;
      const second = optimizer.stepAsync().then(() => order.push("second"));
      optimizer.hyper.lr = 100;
      const third = other.stepAsync().then(() => order.push("third"));
      expect(() => optimizer.step()).toThrow("sgd: a stepAsync() is under way in this arena; await it first");
      await Promise.all([first, second, third]);
      expect(order).toEqual(["first", "second", "third"]);
      expect(new Set(w.data)).toEqual(new Set([-1011]));
      expect([optimizer.steps, other.steps]).toEqual([2, 1]);
      optimizer.step();
      expect(w.data[0]).toBe(-1111);
    },
  );

  test("has the options at the time of its call, if a schedule depends on more than the step", async () => {
    const arena = await open({ threads: 2 });
    const w = arena.tensor("w", [2 ** 20]);
    w.grad.fill(1);
    const plateau = reduceLROnPlateau({ lr: 1, factor: 0.25, patience: 0 });
    let own = 8;
    const [observed, told] = [sgd([w], { lr: plateau }), sgd([w], { lr: () => own })];
    plateau.observe(1);
    const steps = [observed, observed, told, told].map((optimizer) => optimizer.stepAsync());
    for (let i = 0; i < 3; i++) plateau.observe(2);
    own = 64;
    await Promise.all(steps);
    expect(w.data[0]).toBe(-1 - 1 - 8 - 8);
    observed.step();
    expect(w.data[0]).toBe(-18 - 0.25 ** 3);
  });

  test("ends if timers and clocks are fakes", async () => {
    vi.useFakeTimers({ toFake: FAKES });
    try {
      const arena = await open({ threads: 2 });
      const { w, optimizer } = descent(arena, 2 ** 23);
      for (let i = 0; i < 5; i++) await optimizer.stepAsync();
      expect(new Set(w.data)).toEqual(new Set([-5]));
    } finally {
      vi.useRealTimers();
    }
  });

  // By the library whose fakes Jest, Vitest and sinon use.
  test.each([
    ["timers were fakes before the package was loaded", `(await import("@sinonjs/fake-timers")).install();`],
    [
      "globals were replaced before, and MessageChannel is missing as in jsdom",
      `const nothing = () => {};
      Object.assign(globalThis, { setTimeout: nothing, setInterval: () => 1, setImmediate: nothing, queueMicrotask: nothing, MessageChannel: undefined });
      Object.defineProperty(globalThis, "performance", { value: { now: () => 0 } });`,
    ],
  ])("ends where %s", (_, replace) => {
    const code = `
      ${replace}
      const downhill = await import("./dist/index.js");
      const arena = await downhill.createArena({ threads: 2 });
      const w = arena.tensor("w", [2 ** 23]);
      w.grad.fill(1);
      const optimizer = downhill.sgd([w], { lr: 1 });
      for (let i = 0; i < 5; i++) await optimizer.stepAsync();
      console.log(w.data[5]);
      arena.free();`;
    const options = { cwd: root, encoding: "utf8", timeout: 60_000 } as const;
    expect(execFileSync(process.execPath, ["--input-type=module", "-e", code], options).trim()).toBe("-5");
  });

  test("is refused in a freed arena, and free() ends a step that is under way", async () => {
    const arena = await createArena({ threads: 2, maxBytes: 2 ** 28 });
    const { optimizer } = descent(arena, 2 ** 24);
    const [running, queued] = [optimizer.stepAsync(), optimizer.stepAsync()];
    arena.free();
    const message = "sgd: the arena was freed; make a new one with createArena()";
    await expect(running).rejects.toThrow(message);
    await expect(queued).rejects.toThrow(message);
    await expect(optimizer.stepAsync()).rejects.toThrow(message);
  });

  test("a step of several tasks, interrupted by free(), is rejected", async () => {
    const arena = await createArena({ threads: 1, maxBytes: 2 ** 20 });
    const done = lamb([arena.tensor("w", [100])]).stepAsync(); // has measured
    arena.free();
    await expect(done).rejects.toThrow("lamb: the arena was freed; make a new one with createArena()");
  });
});

describe("free() between any two turns of an asynchronous step ends it with an error that says so, or after it", () => {
  type Start = (tensors: Record<string, Tensor>) => () => Promise<unknown>;
  const starts: Record<string, Start> = {
    adamw(tensors) {
      const optimizer = adamw(tensors, { clipNorm: 1, ema: 0.9 });
      return () => optimizer.stepAsync();
    },
    lookahead(tensors) {
      const optimizer = lookahead(adamw(tensors), { syncPeriod: 1 });
      return () => optimizer.stepAsync();
    },
    sam(tensors) {
      const optimizer = sam(sgd(tensors));
      return () => optimizer.stepAsync(async () => 1);
    },
    lbfgs(tensors) {
      const optimizer = lbfgs(tensors, { maxIter: 3 });
      return () => optimizer.stepAsync(async () => 1);
    },
    muon(tensors) {
      const optimizer = muon(tensors);
      return () => optimizer.stepAsync();
    },
    flush(tensors) {
      const optimizer = sgd(tensors, { accumulate: 3 });
      optimizer.step();
      return () => optimizer.flushAsync();
    },
  };
  test.each(Object.entries(starts))("%s", async (_, start) => {
    for (let turns = 0; turns < 40; turns++) {
      const arena = createArenaSync({ threads: 1 + (turns % 2), maxBytes: 2 ** 23 });
      const tensors = arena.tensors({ a: [40, 50], b: [30, 20] });
      for (const { data, grad } of Object.values(tensors)) grad.set(data.fill(0.5));
      const done = start(tensors)().catch((error: Error) => error);
      for (let i = 0; i < turns; i++) await null;
      arena.free();
      const result = await done;
      if (result instanceof Error) expect(result.message).toContain(": the arena was freed; make a new one");
    }
  });
});

describe("an arena shared with another thread", () => {
  const stepper = `
    import { parentPort } from "node:worker_threads";
    parentPort.on("message", async ({ handle, ask }) => {
      globalThis.arena ??= downhill.attachArena(handle);
      globalThis.optimizer ??= downhill.sgd([arena.tensor("w0")], { lr: 1 });
      try {
        parentPort.postMessage({ value: await eval(ask) });
      } catch (error) {
        parentPort.postMessage({ error: error.message });
      }
    });`;

  async function pair(options: ArenaOptions = { threads: 2 }) {
    const arena = await open(options);
    const own = descent(arena);
    const other = worker(stepper);
    const handle = arena.share();
    const ask = (code: string) => {
      other.postMessage({ handle, ask: code });
      return answer(other);
    };
    return { arena, ...own, ask };
  }

  test("has the same tensors over the same memory, and the same threads", async () => {
    const { arena, w, ask } = await pair({ threads: 3 });
    expect((await ask("[arena.threads, arena.shared, arena.torn]")).value).toEqual([3, true, false]);
    expect(
      (await ask("Object.values(arena.tensors()).map(({ name, shape, size }) => [name, shape, size])")).value,
    ).toEqual([["w0", [2 ** 21], 2 ** 21]]);
    w.data[7] = 5;
    expect((await ask("arena.tensor('w0').data[7]")).value).toBe(5);
    await ask("arena.tensor('w0').grad[7] = 2");
    expect(w.grad[7]).toBe(2);
    const left = arena.bytesLeft;
    await ask("arena.tensor('theirs', [16]).size");
    expect(left - arena.bytesLeft).toBe(128);
    expect(() => arena.tensor("theirs")).toThrow(
      'tensor "theirs": there is no tensor of this name (there are: w0); pass a shape to make one',
    );
  });

  test("can be stepped by either thread", async () => {
    const { w, optimizer, ask } = await pair();
    await ask("optimizer.step()");
    expect(new Set(w.data)).toEqual(new Set([-1]));
    optimizer.step();
    await ask("optimizer.stepAsync()");
    expect(new Set(w.data)).toEqual(new Set([-3]));
  });

  test("a schedule and rename cannot step or save", () => {
    const arena = smallArena();
    const w = arena.tensor("w", [4]);
    const optimizer = sgd([w], { lr: 1 });
    const bytes = save([w], optimizer);
    const message =
      "another step, save or load is running in this arena, and only one can run at a time. A schedule or rename cannot call another";
    const rename = () => `${optimizer.step()}`;
    expect(() => load(bytes, [w], optimizer, { rename })).toThrow(`sgd: ${message}`);
    optimizer.hyper.lr = () => save([w], optimizer).length;
    expect(() => optimizer.step()).toThrow(`save: ${message}`);
  });

  test("cannot be stepped by both threads at once", async () => {
    const { arena, w, ask } = await pair();
    const optimizer = sgd([w], { lr: 1 });
    const running = optimizer.stepAsync(); // needs turns of the event loop, which the loop below blocks
    const end = performance.now() + 200;
    const refused = ask("optimizer.step()");
    while (performance.now() < end);
    const message =
      "sgd: another step, save or load is running in this arena, and only one can run at a time. A schedule or rename cannot call another. If the thread that called it has ended, make a new arena";
    await running;
    const first = await refused;
    // Timing decides whether the step is refused. The message is always the same.
    expect([undefined, message]).toContain(first.error);
    const many = ask(
      "(() => { const errors = new Set(); for (let i = 0; i < 300; i++) { try { optimizer.step() } catch (e) { errors.add(e.message) } } return [...errors] })()",
    );
    const mine = new Set<string>();
    let made = 0;
    // Until both threads have stepped at the same time. The other may start late.
    for (
      const end = performance.now() + 300;
      performance.now() < end || (mine.size === 0 && performance.now() < end + 10_000);
    ) {
      try {
        optimizer.step();
        made += 1;
      } catch (error) {
        mine.add((error as Error).message);
      }
    }
    const theirs = (await many).value;
    expect([...mine, ...theirs]).toContain(message);
    expect(new Set([...mine, ...theirs])).toEqual(new Set([message]));
    const steps = (await ask("optimizer.steps")).value;
    expect(optimizer.steps).toBe(made + 1);
    expect(new Set(w.data)).toEqual(new Set([-(made + 1) - steps]));
    expect(arena.torn).toBe(false);
  });

  test("free() in the thread that made an arena ends it for all; free() in another thread ends it only there", async () => {
    const { arena, optimizer, ask } = await pair();
    await ask("arena.step");
    arena.free();
    expect((await ask("optimizer.step()")).error).toBe("sgd: the arena was freed; make a new one with createArena()");
    expect(() => optimizer.step()).toThrow("the arena was freed");

    const second = await pair();
    await second.ask(
      "optimizer.hyper.lr = 0, globalThis.queued = Promise.allSettled([optimizer.stepAsync(), optimizer.stepAsync()]), arena.free()",
    );
    const settled = (await second.ask("queued")).value;
    expect(settled.map(({ status }: { status: string }) => status)).toEqual(["fulfilled", "rejected"]);
    expect(settled[1].reason.message).toBe("sgd: the arena was freed; make a new one with createArena()");
    second.optimizer.step();
    expect(second.w.data[0]).toBe(-1);
  });

  test("is not attached from anything but a handle", async () => {
    const handle = (await open({ threads: 1 })).share();
    const module = new WebAssembly.Module(Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0));
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
    const wrong: any[] = [undefined, null, 3, {}, { memory: 1 }, { ...handle, protocol: "1" }];
    for (const part of [
      { module },
      { memory },
      { tensors: undefined },
      { tensors: [{ name: "w", shape: [1], at: [1, 2] }] },
    ]) {
      wrong.push({ ...handle, ...part });
    }
    for (const handle of wrong)
      expect(() => attachArena(handle)).toThrow(
        /^attachArena: .*(the result of arena\.share\(\)|the same version in all threads|kernels\.wasm of this version)/,
      );
  });

  test("free() in an attached arena completes the step that is under way", async () => {
    const shapes = { a: [40, 50], b: [30, 20], c: [50, 60] };
    const updated = new Set<string>();
    for (let turns = 0; turns < 40; turns++) {
      const arena = await open({ threads: 2, maxBytes: 2 ** 23 });
      const tensors = Object.values(arena.tensors(shapes));
      for (const { data, grad } of tensors) grad.set(data.fill(0.5).map((_, i) => i % 7));
      const attached = attachArena(arena.share());
      const optimizer = muon(Object.values(attached.tensors()));
      const done = optimizer.stepAsync().catch((error: Error) => error);
      const queued = optimizer.stepAsync().catch((error: Error) => error);
      for (let i = 0; i < turns; i++) await null;
      attached.free();
      expect(() => optimizer.step()).toThrow();
      updated.add(
        `${(await done) instanceof Error ? "refused" : "made"}, ${tensors.map(({ data }) => data[1] !== 0.5)}`,
      );
      await queued;
      expect(() => optimizer.state(attached.tensors().a!)).toThrow("freed");
      expect(arena.torn).toBe(false);
      arena.free();
    }
    for (const what of updated) expect(["made, true,true,true", "refused, false,false,false"]).toContain(what);
    expect(updated).toContain("made, true,true,true");
  });

  test.each([
    ["sam", (w: Tensor) => sam(sgd([w], { lr: 0.5 }), { rho: 2000 })],
    ["lbfgs", (w: Tensor) => lbfgs([w], { lr: 1e6, maxIter: 3 })],
  ])("free() of an attached arena in a closure of %s: the parameters are as before the step", async (_, make) => {
    for (const isAsync of [true, false]) {
      const arena = await open({ threads: 2, maxBytes: 2 ** 25 });
      const { data } = arena.tensor("w", [10_000]);
      data.fill(1);
      const attached = attachArena(arena.share());
      const w = attached.tensor("w");
      const optimizer = make(w);
      const { grad } = w;
      let calls = 0;
      const closure = () => {
        if (++calls === 2) attached.free();
        grad.fill(0.1 * calls);
        return 1 / calls;
      };
      const step = async () => (isAsync ? optimizer.stepAsync(closure) : optimizer.step(closure));
      await expect(step()).rejects.toThrow("the arena was freed");
      expect(new Set(data)).toEqual(new Set([1]));
      arena.free();
    }
  });

  test("is not attached from unshared memory", async () => {
    const { memory } = await open({ shared: false }).then((arena) => ({
      memory: arena.internals("test").space.memory,
    }));
    const handle = (await open({ threads: 2 })).share();
    expect(() => attachArena({ ...handle, memory } as any)).toThrow("got one with unshared memory");
    expect(() => attachArena({ ...handle, memory: 7 } as any)).toThrow("got a damaged one");
    for (const other of [undefined, null, 7, {}, { ...handle, protocol: 1 }]) {
      expect(() => attachArena(other as any)).toThrow(/^attachArena: expected the result of arena.share\(\), got /);
    }

    expect((await open({ shared: true, threads: 1 })).share().tensors).toEqual([]);
    const arena = await open({ shared: false });
    expect(() => arena.share()).toThrow("share: the arena's memory is not shared; make the arena with shared: true");
  });
});

/** Runs a program in a separate process and returns its output. */
const run = (code: string, ...command: string[]) =>
  execFileSync(command[0] ?? process.execPath, [...command.slice(1), "--input-type=module", "-e", program(code)], {
    encoding: "utf8",
    timeout: 100_000,
  }).trim();

describe("a process", () => {
  test.each(["createArena", "createArenaSync"])("ends when its work is done, with %s and without free", (create) => {
    const code = `
      const arena = await downhill.${create}({ threads: 4 });
      const w = arena.tensor("w", [2 ** 20]);
      w.grad.fill(1);
      const optimizer = downhill.sgd([w], { lr: 1 });
      optimizer.step();
      await optimizer.stepAsync();
      console.log(w.data[5]);`;
    expect(run(code)).toBe("-2");
  });

  test.runIf(process.platform === "linux")(
    "holds nothing of a hundred arenas that were freed, or that were dropped",
    () => {
      const code = `
      import { readdirSync, readFileSync } from "node:fs";
      import { setFlagsFromString } from "node:v8";
      import { runInNewContext } from "node:vm";
      setFlagsFromString("--expose-gc");
      const gc = runInNewContext("gc");
      const rest = () => new Promise((resolve) => setTimeout(resolve, 50));
      const now = () => ({ threads: readdirSync("/proc/self/task").length, memory: Number(readFileSync("/proc/self/status", "utf8").match(/VmRSS:\\s+(\\d+)/)[1]) / 1024 });
      const use = async (free) => {
        const arena = await downhill.createArena({ threads: 3 });
        const w = arena.tensor("w", [2 ** 19]);
        w.grad.fill(1);
        downhill.adamw([w]).step(); // writes 8 MB
        if (free) arena.free();
      };
      const settle = async (before) => {
        const more = () => !before || now().threads > before.threads || now().memory > before.memory + 30;
        for (let i = 0; i < (before ? 100 : 10) && more(); i++) { gc(); await rest(); }
        return now();
      };
      for (let i = 0; i < 3; i++) await use(true);
      const start = await settle();
      for (let i = 0; i < 100; i++) await use(true);
      const freed = await settle(start);
      for (let i = 0; i < 20; i++) await use(false);
      const dropped = await settle(start);
      console.log(JSON.stringify([start, freed, dropped]));`;
      const [start, freed, dropped] = JSON.parse(run(code));
      expect([freed.threads, dropped.threads]).toEqual([start.threads, start.threads]);
      expect(freed.memory - start.memory).toBeLessThan(100); // of the 1,600 MB that were written
      expect(dropped.memory - start.memory).toBeLessThan(100);
    },
  );

  const many = `
    const [threads, rounds] = JSON.parse(process.argv.at(-1));
    const arena = await downhill.createArena({ threads, maxBytes: 2 ** 26 });
    const optimizers = [1, 100, 8192, 33_000, 150_000, 360_000].map((size, i) => {
      const w = arena.tensor("w" + i, [size]);
      w.grad.fill(1);
      return [w, downhill.sgd([w], { lr: 1 })];
    });
    for (let round = 0; round < rounds; round++) {
      for (const [, optimizer] of optimizers) optimizer.step();
      if (round % 100 === 0) await Promise.all(optimizers.map(([, optimizer]) => optimizer.stepAsync()));
    }
    const steps = rounds + Math.ceil(rounds / 100);
    console.log(optimizers.every(([w]) => w.data.every((x) => x === -steps)));`;
  /** The number of steps for each size: 2,000, or `ROUNDS`. Set `ROUNDS=100000` before a release. */
  const rounds = Number(process.env.ROUNDS ?? 2000);
  const taskset = process.platform === "linux" ? ["taskset", "-c", "0", process.execPath] : undefined;

  test.each([2, 16])(`makes ${rounds} steps of every size on %i threads`, (threads) => {
    expect(run(`process.argv.push('[${threads}, ${rounds}]');${many}`)).toBe("true");
  });

  test.runIf(taskset)("does so with 16 threads on one core", () => {
    expect(run(`process.argv.push('[16, ${Math.ceil(rounds / 10)}]');${many}`, ...taskset!)).toBe("true");
  });
});

describe("a thread that dies", () => {
  /** The number of killed threads: 30, or `KILLS`. Set `KILLS=1000` before a release. */
  const KILLS = Number(process.env.KILLS ?? 30);
  const message =
    "sgd: a thread died during a step, so some parameters were updated and others were not; load a checkpoint into a new arena";

  /** Makes an arena whose threads can be killed. */
  async function killable(threads_: number) {
    const workers: Worker[] = [];
    const { Worker } = threads;
    threads.Worker = class extends Worker {
      constructor(...args: ConstructorParameters<typeof Worker>) {
        super(...args);
        workers.push(this);
      }
    };
    try {
      return { arena: await createArena({ threads: threads_, maxBytes: 2 ** 26 }), workers };
    } finally {
      threads.Worker = Worker;
    }
  }

  const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

  /** Kills the threads of an arena one after another while `keepStepping` makes steps. Returns the outcome. */
  async function killAll(
    threads: number,
    random: () => number,
    keepStepping: (arena: Arena, w: Tensor) => Promise<{ steps: number; error?: string; took: number }>,
  ) {
    const { arena, workers } = await killable(threads);
    const { w } = descent(arena, 2 ** 21);
    const stepping = keepStepping(arena, w);
    await vi.waitUntil(() => w.data[0] !== 0, { interval: 1, timeout: 60_000 });
    let kills = 0;
    for (const worker of workers) {
      await pause(1 + 4 * Math.abs(random()));
      if (arena.torn) break;
      kills += 1;
      void worker.terminate();
    }
    await pause(5);
    Atomics.store(stop, 0, 1);
    const { steps, error, took } = await stepping;
    Atomics.store(stop, 0, 0);
    const seen = new Set(w.data);
    if (error === undefined) {
      expect([...seen]).toEqual([-steps]);
      expect(arena.torn).toBe(false);
      await vi.waitFor(() => expect(arena.threads).toBe(1), 60_000);
    } else {
      expect(error).toBe(message);
      expect(took).toBeLessThan(60_000); // it ends; on a quiet machine after 0.7 s
      expect([...seen].every((x) => x === -steps || x === -steps - 1)).toBe(true);
      expect(arena.torn).toBe(true);
      expect(() => sgd([w]).step()).toThrow(message);
    }
    arena.free();
    return { kills, torn: error !== undefined };
  }

  const stop = new Int32Array(new SharedArrayBuffer(4));

  const ways = {
    "asynchronous steps of its own thread": async (_: Arena, w: Tensor) => {
      const optimizer = sgd([w], { lr: 1 });
      for (let steps = 0; ; steps++) {
        if (Atomics.load(stop, 0) !== 0) return { steps, took: 0 };
        const start = performance.now();
        try {
          await optimizer.stepAsync();
        } catch (error) {
          return { steps, error: (error as Error).message, took: performance.now() - start };
        }
      }
    },
    "steps of a thread that it is shared with": (arena: Arena) => {
      const other = worker(`
        import { parentPort, workerData } from "node:worker_threads";
        parentPort.once("message", ({ handle, stop }) => {
          const optimizer = downhill.sgd([downhill.attachArena(handle).tensor("w0")], { lr: 1 });
          let start, steps = 0;
          try {
            while (Atomics.load(stop, 0) === 0) {
              start = performance.now();
              optimizer.step();
              steps += 1;
            }
            parentPort.postMessage({ steps, took: 0 });
          } catch (error) {
            parentPort.postMessage({ steps, error: error.message, took: performance.now() - start });
          }
        });`);
      other.postMessage({ handle: arena.share(), stop });
      return answer(other);
    },
  };

  test.each(Object.entries(ways))(`during %s: ${KILLS} deaths, each survived or told of`, async (_, keepStepping) => {
    const random = numbers(5);
    let [kills, torn] = [0, 0];
    for (let round = 0; kills < KILLS; round++) {
      const result = await killAll([2, 4, 8, 16][round % 4]!, random, keepStepping);
      kills += result.kills;
      torn += Number(result.torn);
    }
    console.log(`${kills} deaths, ${torn} of them in the middle of a chunk`);
    expect(kills).toBeGreaterThanOrEqual(KILLS);
  });
});
