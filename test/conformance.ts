/**
 * Compares results on the current engine with test/bits.json ("published bits"): of kernels, and of steps with several
 * numbers of threads.
 */

import { type Arena, type ArenaHandle, attachArena, createArena } from "../ts/arena/arena.js";
import { load, type Loaded, loadFile, save, saveFile } from "../ts/checkpoint/index.js";
import { variantOf } from "../ts/optimizer/hyper.js";
import { nodeModule } from "../ts/platform.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { adamw, sgd } from "../ts/rules/index.js";
import { sam } from "../ts/wrappers/sam.js";
import type { Shape, Tensor } from "../ts/arena/tensor.js";
import { flat, inputs, kernelRun, type Result } from "./harness.js";
import { type Case, cases, examples } from "./registry.js";

export const LENGTH = 1027;
/** The number of steps of a run. It is more than the 16 between two guards. */
export const STEPS = 20;

export const hashOf = (results: readonly Result[]) => digest(results.map((result) => flat(result)));

/** The hash of a thousand values of every schedule. */
export const rateHash = (): Promise<string> =>
  digest(examples.map((schedule) => Float64Array.from({ length: 1000 }, (_, step) => schedule.at(step))));

async function digest(parts: readonly (Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>)[]): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await new Blob([...parts]).arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Runs a kernel with the inputs whose results are published. The gradients of every fifth element shrink to zero, so
 * that guards set its state to zero.
 */
export function publishedRun({ rule, values }: Case, gradScale: number) {
  const { params, grads } = inputs(LENGTH, STEPS);
  const shrinking = grads.map((grad, step) => grad.map((g, i) => (i % 5 === 4 ? g / 2 ** (8 * step) : g)));
  return kernelRun(rule, values, { params, grads: shrinking }, { gradScale });
}

/** The tensors of the step hashes. They are large enough to wake threads, also for the rule with the fewest bytes per parameter. */
const shapes: Readonly<Record<string, Shape>>[] = [{ a: [250_001], b: [1, 3] }, { c: [375, 400] }, { d: [130, 150] }];
const starts = [250_001, 3, 150_000, 19_500].map((length, i) => inputs(length, 3, i + 1));

/** Returns the hash of three steps on all threads of the arena. The last two are started together with `stepAsync`. */
export async function stepHash({ factory, rule, options, values }: Case, arena: Arena): Promise<string> {
  if (Object.keys(arena.tensors()).length === 0) for (const shape of shapes) arena.tensors(shape);
  // Rules with several slots, and rules of matrices, read and write more bytes, so smaller tensors also wake the
  // threads. Products of matrices take long.
  const { slots } = variantOf(rule, values);
  const first = rule.accepts?.startsWith("matrices") ? 3 : Object.keys(slots).length > 1 || rule.program ? 1 : 0;
  const tensors = Object.values(arena.tensors()).slice(first, Math.max(3, first + 1));
  const optimizer = factory(tensors, options);
  tensors.forEach(({ data, grad }, i) => {
    data.set(starts[first + i]!.params);
    grad.set(starts[first + i]!.grads[0]!);
  });
  optimizer.step();
  tensors.forEach(({ grad }, i) => {
    grad.set(starts[first + i]!.grads[1]!);
  });
  await Promise.all([optimizer.stepAsync(), optimizer.stepAsync()]);
  return hashOf(tensors.map((tensor) => ({ params: tensor.data, state: optimizer.state(tensor) })));
}

/** Other published runs. Each returns a hash. */
const others: Readonly<Record<string, (tensors: readonly Tensor[]) => Promise<string>>> = {
  async "adamw with clipping and an average, in micro-batches, and its reports"(tensors) {
    const clipped = { clipNorm: 0.5, clipTensorNorm: 0.4, clipValue: 0.01, agc: 0.02 };
    const averaged = { ema: 0.9, emaWarmup: true };
    const optimizer = adamw(tensors, { ...clipped, ...averaged, accumulate: 2, nonFinite: "throw", zeroGrad: true });
    const norms: number[] = [];
    for (let step = 0; step < 6; step++) {
      tensors.forEach(({ grad }, i) => {
        grad.set(starts[i]!.grads[step % 3]!);
      });
      const { gradNorm } = step === 3 ? await optimizer.stepAsync() : optimizer.step();
      if (gradNorm !== undefined) norms.push(gradNorm);
    }
    const parts = tensors.flatMap((tensor) =>
      [tensor.data, tensor.grad, optimizer.average(tensor)].map((x) => x.slice()),
    );
    return digest([Float64Array.from(norms), ...(parts as Float32Array<ArrayBuffer>[])]);
  },
  async "adamw in sam in lookahead"(tensors) {
    const optimizer = lookahead(sam(adamw(tensors)), { syncPeriod: 2 });
    for (const turns of [false, true, false]) {
      await (turns ? optimizer.stepAsync(bowl(tensors)) : optimizer.step(bowl(tensors)));
    }
    return hashOf(tensors.map((tensor) => ({ params: tensor.data, state: { ...optimizer.state(tensor) } })));
  },
  async lbfgs(tensors) {
    const optimizer = lbfgs(tensors, { historySize: 2, maxIter: 3, lineSearchFn: "strong_wolfe" });
    optimizer.step(bowl(tensors));
    const { loss } = await optimizer.stepAsync(bowl(tensors));
    return digest([Float64Array.of(loss), ...tensors.map(({ data }) => data.slice() as Float32Array<ArrayBuffer>)]);
  },
};

/** A closure for a function whose minimum is at `goals` and whose slope grows with the distance. */
const bowl = (tensors: readonly Tensor[]) => () => {
  let loss = 0;
  tensors.forEach(({ data, grad }, tensor) => {
    const goals = starts[tensor]!.grads[0]!;
    for (let i = 0; i < data.length; i++) {
      const off = data[i]! - goals[i]!;
      grad[i] = off + 4 * off * off * off;
      loss += (off * off) / 2 + off * off * off * off;
    }
  });
  return loss;
};

/** Returns the hashes of the other published runs, on all threads of the arena. */
export async function otherHashes(arena: Arena): Promise<Record<string, string>> {
  const tensors = Object.values(arena.tensors()).slice(0, 3);
  const hashes: Record<string, string> = {};
  for (const name in others) {
    tensors.forEach(({ data }, i) => {
      data.set(starts[i]!.params);
    });
    hashes[name] = await others[name]!(tensors);
  }
  return hashes;
}

/**
 * Returns whether other threads work on a step. The step reads and writes 96 MiB. The calling thread claims at most 64
 * MiB of them in its first turn, and gets no second turn until the last chunk is done or `patience` milliseconds are
 * over.
 */
export async function othersWork(arena: Arena, patience = 5000): Promise<boolean> {
  const w = arena.tensor("watched", [2 ** 23]);
  w.grad.fill(1);
  const optimizer = sgd([w], { lr: 1 });
  const last = new Int32Array(w.data.buffer, w.data.byteOffset, w.size).subarray(-1);
  const done = optimizer.stepAsync();
  const end = performance.now() + patience;
  while (Atomics.load(last, 0) === 0 && performance.now() < end);
  const worked = w.data.at(-1) === -1;
  await done;
  return worked;
}

/** Returns whether a handle that was posted through a MessageChannel attaches to the same memory. */
async function attaches(arena: Arena): Promise<boolean> {
  const { port1, port2 } = new MessageChannel();
  const posted = new Promise<ArenaHandle>((resolve) => {
    port1.onmessage = ({ data }) => resolve(data);
  });
  port2.postMessage(arena.share());
  const { c } = attachArena(await posted).tensors();
  port1.close();
  const own = arena.tensor("c");
  const before = own.data[0]!;
  own.grad.fill(0.5);
  sgd([c!], { lr: 2 }).step();
  return own.data[0] === Math.fround(before - 1);
}

/** Returns the names of the checks of checkpoints that failed. In browsers it also checks files. */
async function restores(): Promise<string[]> {
  const make = async () => {
    const arena = await createArena({ maxBytes: 2 ** 20, threads: 1 });
    const model = arena.tensors({ w: [100, 7], b: [3] });
    return { arena, model, optimizer: adamw(model, { ema: 0.9 }) };
  };
  const [one, other, third] = [await make(), await make(), await make()];
  one.model.w.grad.set(starts[0]!.grads[0]!.subarray(0, 700));
  one.optimizer.step();
  const file = save(one.model, one.optimizer, "é");
  const failures: string[] = [];
  const same = (what: string, { model, optimizer }: typeof one, { extra }: Loaded) => {
    const again = save(model, optimizer, extra);
    if (again.length !== file.length || !again.every((byte, i) => byte === file[i])) failures.push(what);
  };
  same("a checkpoint", other, load(file, other.model, other.optimizer));
  file[file.length - 1]! ^= 1;
  try {
    load(file, other.model, other.optimizer);
    failures.push("a damaged checkpoint");
  } catch {}
  file[file.length - 1]! ^= 1;
  if (!nodeModule("fs")) {
    try {
      for (let i = 0; i < 2; i++) await saveFile("runs/a.safetensors", one.model, one.optimizer, "é");
      same("a file", third, await loadFile("runs/a.safetensors", third.model, third.optimizer));
    } catch (error) {
      // Older WebKits have the file system, but no way to write a file whole.
      if (!`${error}`.includes("saveFile: runs/a.safetensors cannot be written")) failures.push(`${error}`);
      else if (globalThis.FileSystemFileHandle?.prototype.createWritable !== undefined) failures.push(`${error}`);
    }
  }
  for (const { arena } of [one, other, third]) arena.free();
  return failures;
}

export interface Report {
  /** The names of the checks that failed. Expected: none. */
  readonly failures: readonly string[];
  /** The number of hashes that were compared. */
  readonly compared: number;
  /** The arena that `createArena` makes without options: whether its memory is shared, and its number of threads. */
  readonly shared: boolean;
  readonly threads: number;
}

/** The content of test/bits.json. */
export interface Published {
  readonly rates: string;
  readonly others: Readonly<Record<string, string>>;
  readonly cases: readonly {
    readonly name: string;
    readonly gradScale: number;
    readonly hash: string;
    readonly stepHash: string;
  }[];
}

/** The numbers of threads for which every engine must compute the same bits. */
export const THREAD_COUNTS = [1, 2, 3, 4, 8, 16];

/** Returns the number of hashes that `conform` compares. */
export const hashesOf = ({ cases, others }: Published, counts: number): number =>
  1 + cases.length + counts * (cases.length + Object.keys(others).length);

/**
 * Compares all published results, for each number of threads in `counts`. Without shared memory there is one thread.
 */
export async function conform(published: Published, counts: readonly number[], workerUrl?: string): Promise<Report> {
  const failures: string[] = [];
  let compared = 0;
  const compare = (what: string, actual: string | undefined, expected: string) => {
    compared += 1;
    if (actual !== expected) failures.push(what);
  };
  const caseOf = new Map(cases.map((one) => [one.name, one]));
  const plain = await createArena({ maxBytes: 2 ** 20, workerUrl });
  const { shared, threads } = plain;
  plain.free();

  failures.push(...(await restores()));
  compare("rates", await rateHash(), published.rates);
  for (const { name, gradScale, hash } of published.cases) {
    compare(`${name}, kernel`, await hashOf([publishedRun(caseOf.get(name)!, gradScale)]), hash);
  }
  for (const count of shared ? counts : [1]) {
    const arena = await createArena({ threads: count, maxBytes: 2 ** 29, workerUrl });
    if (arena.threads !== count) failures.push(`${count} threads asked for, ${arena.threads} there`);
    for (const { name, stepHash: expected } of published.cases) {
      compare(`${name}, ${count} threads`, await stepHash(caseOf.get(name)!, arena), expected);
    }
    const hashes = await otherHashes(arena);
    for (const name in published.others) {
      compare(`${name}, ${count} threads`, hashes[name], published.others[name]!);
    }
    if (count > 1 && !(await othersWork(arena))) failures.push(`${count} threads: the others do nothing`);
    if (shared && !(await attaches(arena))) failures.push("an attached arena is not the same");
    arena.free();
  }
  if (!shared) {
    const refused = createArena({ threads: 2 }).then(String, ({ message }: Error) => message);
    if (!(await refused).includes("Cross-Origin-Embedder-Policy"))
      failures.push(`2 threads asked for: ${await refused}`);
  }
  return { failures, compared, shared, threads };
}
