/** What threads bring: at which sizes, beside a copy by as many threads, and what waking them and not blocking cost. */

import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import * as downhill from "downhill";
import { PENDING, REMAINING } from "../ts/threads/control.js";
import { Runner } from "../ts/threads/runner.js";
import { writeTask } from "../ts/threads/task.js";
import { decimals, machine, print } from "./print.js";
import { compare, median, rest } from "./stopwatch.js";

const { values: flags } = parseArgs({
  options: {
    threads: { type: "string", default: `${availableParallelism()}` },
    sizes: { type: "string", default: "4096,65536,262144,1048576,16777216" },
    out: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Measures every rule of three on one thread and on several.

  npm run bench:threads -- [--threads 4] [--sizes 65536,1048576] [--out FILE.json]`);
  process.exit();
}

const threads = Number(flags.threads);
const rules = { sgd: downhill.sgd, momentum: downhill.momentum, adamw: downhill.adamw };
const record: object[] = [];

/** An optimizer over `size` parameters, in an arena with so many threads. */
async function setUp(rule: keyof typeof rules, size: number, count: number) {
  const arena = await downhill.createArena({ threads: count });
  const w = arena.tensor("w", [size]);
  w.data.fill(0.5);
  w.grad.fill(0.01);
  return { arena, w, optimizer: rules[rule]([w]) };
}

/** A step as the pool makes it, whether or not it is worth sharing and waking. */
function alwaysShared({ arena, optimizer }: Awaited<ReturnType<typeof setUp>>): () => void {
  const { space, kernels } = (arena as any).internals("bench");
  const runner = new Runner(space.memory, kernels);
  optimizer.step(); // writes the hyper-parameters
  const table = arena.tensor("table", [16]).data.byteOffset;
  const task = writeTask(space.memory, table, [(optimizer.groups[0] as any).segments[0].update]);
  return () => {
    runner.publish(task);
    Atomics.notify(runner.control, REMAINING, threads - 1);
    while (runner.claim());
    for (let pending: number; (pending = Atomics.load(runner.control, PENDING)) > 0;) runner.wait(PENDING, pending, 50);
  };
}

/** A copy of as many bytes as a step reads and writes, by as many threads. */
function threadedCopy(bytes: number) {
  const half = Math.ceil(bytes / 2 / threads);
  const [from, to] = [0, 1].map(() => new SharedArrayBuffer(half * threads)) as [SharedArrayBuffer, SharedArrayBuffer];
  const words = new Int32Array(new SharedArrayBuffer(8));
  const copyPart = (i: number) => new Uint8Array(to, i * half, half).set(new Uint8Array(from, i * half, half));
  const workers = Array.from({ length: threads - 1 }, (_, i) => {
    const code = `
      const { from, to, words, at, half } = require("node:worker_threads").workerData;
      for (let round = 1; ; round++) {
        while (Atomics.load(words, 0) < round) Atomics.wait(words, 0, round - 1);
        new Uint8Array(to, at, half).set(new Uint8Array(from, at, half));
        Atomics.add(words, 1, 1);
      }`;
    return new Worker(code, { eval: true, workerData: { from, to, words, at: (i + 1) * half, half } });
  });
  new Uint8Array(from).fill(1);
  return {
    run() {
      Atomics.store(words, 1, 0);
      Atomics.add(words, 0, 1);
      Atomics.notify(words, 0);
      copyPart(0);
      while (Atomics.load(words, 1) < threads - 1);
    },
    end: () => Promise.all(workers.map((worker) => worker.terminate())),
  };
}

console.log(`${machine}; 1 thread and ${threads}`);

const rows: string[][] = [];
for (const rule of Object.keys(rules) as (keyof typeof rules)[]) {
  for (const size of flags.sizes.split(",").map(Number)) {
    const [one, all] = [await setUp(rule, size, 1), await setUp(rule, size, threads)];
    const steps = [{ run: () => one.optimizer.step() }, { run: () => all.optimizer.step() }];
    const rounds = size > 2 ** 22 ? 9 : 31;
    const bytes = 4 * size * (3 + 2 * Object.keys(one.optimizer.state(one.w)).length);
    const copy = size > 2 ** 22 ? threadedCopy(bytes) : undefined;
    const [alone, together, copied] = await compare([...steps, ...(copy ? [copy] : [])], { rounds });
    await copy?.end();
    const [aloneRested, togetherRested] = await compare(steps, { rounds, pause: 1 });
    one.arena.free();
    all.arena.free();
    rows.push([
      rule,
      `${size}`,
      (alone! / size).toFixed(3),
      (together! / size).toFixed(3),
      (together! / alone!).toFixed(2),
      (togetherRested! / aloneRested!).toFixed(2),
      copied === undefined ? "" : (copied / together!).toFixed(2),
    ]);
    record.push({ rule, size, alone, together, aloneRested, togetherRested, copied });
  }
}
console.log("\nns a parameter; ratios of several threads to one, step after step and with 1 ms between steps");
print(["rule", "parameters", "1 thread", `${threads} threads`, "ratio", "rested", "copy / step"], rows);

const curve: string[][] = [];
for (const rule of ["sgd", "adamw"] as const) {
  for (let size = 2 ** 13; size <= 2 ** 20; size *= 2) {
    const [one, all] = [await setUp(rule, size, 1), await setUp(rule, size, threads)];
    const steps = [{ run: () => one.optimizer.step() }, { run: alwaysShared(all) }];
    const [alone, awake] = await compare(steps);
    const [aloneRested, woken] = await compare(steps, { rounds: 101, pause: 1 });
    one.arena.free();
    all.arena.free();
    const bytes = 4 * size * (rule === "sgd" ? 3 : 7);
    curve.push([
      rule,
      `${size}`,
      `${(bytes / 2 ** 20).toFixed(2)}`,
      (awake! / alone!).toFixed(2),
      (woken! / aloneRested!).toFixed(2),
    ]);
    record.push({ curve: rule, size, bytes, alone, awake, aloneRested, woken });
  }
}
console.log(
  "\ntime on several threads over time on one, if every step is shared: with threads awake, and asleep for 1 ms",
);
print(["rule", "parameters", "MiB read and written", "awake", "asleep"], curve);

/** From publishing a task of one chunk to its end on another thread, less the chunk itself. */
const { arena, optimizer } = await setUp("sgd", 16, 2);
const { space, kernels } = (arena as any).internals("bench");
const runner = new Runner(space.memory, kernels);
const task = writeTask(space.memory, arena.tensor("task", [16]).data.byteOffset, [
  (optimizer.groups[0] as any).segments[0].update,
]);
const wakes = [0, 0.1, 1, 10].map((pause) => {
  const samples = Array.from({ length: 300 }, () => {
    rest(pause);
    const start = performance.now();
    runner.publish(task);
    Atomics.notify(runner.control, REMAINING, 1);
    const called = performance.now();
    while (Atomics.load(runner.control, PENDING) > 0);
    return [called - start, performance.now() - start].map((ms) => ms * 1000) as [number, number];
  });
  const [call, chunk] = [0, 1].map((i) => median(samples.map((sample) => sample[i]!))) as [number, number];
  record.push({ wake: pause, call, chunk });
  return [`${pause}`, call.toFixed(1), chunk.toFixed(1)];
});
arena.free();
console.log(
  "\nmicroseconds until a thread is called, and until it has done its first chunk, after it had nothing to do for a while",
);
print(["ms without work", "the call", "first chunk done"], wakes);

const costs: string[][] = [];
for (const size of flags.sizes.split(",").map(Number)) {
  const row = [`${size}`];
  for (const count of [1, threads]) {
    const { arena, optimizer } = await setUp("adamw", size, count);
    const [sync, async]: [number[], number[]] = [[], []];
    for (let round = 0; round < 60; round++) {
      optimizer.step();
      let start = performance.now();
      optimizer.step();
      sync.push((performance.now() - start) * 1000);
      await optimizer.stepAsync();
      start = performance.now();
      await optimizer.stepAsync();
      async.push((performance.now() - start) * 1000);
    }
    arena.free();
    row.push(decimals(median(sync)), decimals(median(async)));
    record.push({ async: size, threads: count, sync: median(sync), stepAsync: median(async) });
  }
  costs.push(row);
}
console.log("\nAdamW, microseconds of step() and of await stepAsync()");
print(["parameters", "step, 1 thread", "stepAsync", `step, ${threads} threads`, "stepAsync"], costs);

if (flags.out) writeFileSync(flags.out, `${JSON.stringify({ machine, threads, record }, null, 1)}\n`);
