/** What a whole step costs beside the plain update, and checkpoints beside a copy of the file. */

import {
  copyFileSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  closeSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { adamw, createArena, load, loadFile, save, saveFile } from "downhill";
import { machine, print } from "./print.js";
import { compare, median } from "./stopwatch.js";

const { values: flags } = parseArgs({
  options: {
    threads: { type: "string", default: `${availableParallelism()}` },
    out: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Measures AdamW with clipping, a moving average and zeroing beside AdamW alone, and save and load.

  npm run bench:step -- [--threads 4] [--out FILE.json]`);
  process.exit();
}

const record: object[] = [];
console.log(machine);

const whole = { clipNorm: 1, ema: 0.999, zeroGrad: true } as const;
/** So many tensors of so many parameters. */
const models = {
  "16,777,216": [1, 2 ** 24],
  "1,048,576": [1, 2 ** 20],
  "409,600": [1, 100 * 64 * 64],
  "100 of 64 x 64": [100, 64 * 64],
} as const;

async function setUp([count, size]: readonly [number, number], threads: number, options: object) {
  const arena = await createArena({ threads });
  const model = arena.tensors(Object.fromEntries(Array.from({ length: count }, (_, i) => [`w${i}`, [size]])));
  for (const { data, grad } of Object.values(model)) {
    data.fill(0.5);
    grad.fill(0.01);
  }
  return { arena, model, optimizer: adamw(model, options) };
}

const rows: string[][] = [];
for (const threads of [1, Number(flags.threads)]) {
  for (const [name, model] of Object.entries(models)) {
    const steps = await Promise.all([{}, whole].map((options) => setUp(model, threads, options)));
    const size = model[0] * model[1];
    const rounds = size > 2 ** 22 ? 15 : 61;
    const [plain, all] = await compare(
      steps.map(({ optimizer }) => ({ run: () => optimizer.step() })),
      { rounds },
    );
    for (const { arena } of steps) arena.free();
    rows.push([`${threads}`, name, (plain! / size).toFixed(3), (all! / size).toFixed(3), (all! / plain!).toFixed(2)]);
    record.push({ threads, name, size, plain, all });
  }
}
console.log("\nAdamW, ns a parameter: alone; with clipNorm, ema and zeroGrad; the ratio");
print(["threads", "parameters", "alone", "whole step", "ratio"], rows);

const folder = mkdtempSync(join(tmpdir(), "downhill-"));
const [path, copied] = [join(folder, "run.safetensors"), join(folder, "copied")];
const { arena, model, optimizer } = await setUp([1, 2 ** 24], 1, {});
optimizer.step();
const bytes = save(model, optimizer);
await saveFile(path, model, optimizer);

/** A copy that is made as `saveFile` makes files: beside the target, on disk when it is done, in its place then. */
function copyFile() {
  copyFileSync(path, `${copied}.partial`);
  const file = openSync(`${copied}.partial`, "r+");
  fsyncSync(file);
  closeSync(file);
  renameSync(`${copied}.partial`, copied);
}
/** What is compared takes turns; the groups do not, as memory that one has let go of slows the next one's files. */
const groups: Record<string, () => unknown>[] = [
  { "copy of the file": copyFile, saveFile: () => saveFile(path, model, optimizer) },
  { "read of the file": () => readFileSync(path), loadFile: () => loadFile(path, model, optimizer) },
  {
    "copy of the bytes": () => bytes.slice(),
    save: () => save(model, optimizer),
    load: () => load(bytes, model, optimizer),
  },
];
const samples = new Map<string, number[]>();
for (const group of groups) {
  for (let round = 0; round < 11; round++) {
    for (const [name, act] of Object.entries(group)) {
      const start = performance.now();
      await act();
      samples.set(name, [...(samples.get(name) ?? []), performance.now() - start]);
    }
  }
}
arena.free();
rmSync(folder, { recursive: true });
console.log(`\ncheckpoint of AdamW over 16,777,216 parameters, ${(bytes.length / 1e6).toFixed(0)} MB`);
const speeds = [...samples].map(([name, times]) => {
  const speed = bytes.length / 1e6 / (median(times) / 1000);
  record.push({ checkpoint: name, milliseconds: median(times), megabytesPerSecond: speed });
  return [name, median(times).toFixed(0), speed.toFixed(0)];
});
print(["", "ms", "MB/s"], speeds);

if (flags.out) writeFileSync(flags.out, `${JSON.stringify({ machine, record }, null, 1)}\n`);
