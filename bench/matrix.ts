/** Muon's products beside what the machine's four lanes can multiply and add at most; and what the data does to rules of matrices. */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { createArena, muon, shampoo, soap } from "downhill";
import wabt from "wabt";
import { machine, print } from "./print.js";
import { compare, median } from "./stopwatch.js";

const { values: flags } = parseArgs({
  options: {
    sizes: { type: "string", default: "256,512,1024" },
    out: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Measures a step of Muon on one thread beside a kernel that does nothing but multiply and add, and steps over gradients that fade.

  npm run bench:matrix -- [--sizes 512,1024] [--out FILE.json]`);
  process.exit();
}

/** Sums that do not wait for one another, and how often each takes a product in before the loop turns. */
const SUMS = 12;
const TURN = 8;
const list = (count: number, item: (i: number) => string) => Array.from({ length: count }, (_, i) => item(i)).join(" ");
const text = `(module (func (export "peak") (param $turns i32) (param $x f32) (result f32)
  ${list(SUMS, (i) => `(local $${i} v128)`)} (local $factor v128)
  (local.set $factor (f32x4.splat (local.get $x)))
  (loop $next
    ${list(SUMS * TURN, (i) => {
      const sum = `$${i % SUMS}`;
      return `(local.set ${sum} (f32x4.add (f32x4.mul (local.get ${sum}) (local.get $factor)) (local.get $factor)))`;
    })}
    (br_if $next (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
  (f32x4.extract_lane 0 ${Array.from({ length: SUMS }, (_, i) => `(local.get $${i})`).reduce((a, b) => `(f32x4.add ${a} ${b})`)})))`;
const { buffer } = (await wabt()).parseWat("peak.wat", text, { simd: true }).toBinary({});
const { peak } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(buffer))).exports as {
  peak: (turns: number, x: number) => number;
};
/** Rows and columns of a tile, as in crate/src/matrix.rs. */
const TILE = 64;
const TURNS = 500_000;
const most = TURNS * TURN * SUMS * 4 * 2;

console.log(`${machine}; 1 thread`);
const record: object[] = [];
const rows: string[][] = [];
for (const size of flags.sizes.split(",").map(Number)) {
  const arena = await createArena({ threads: 1 });
  const w = arena.tensor("w", [size, size]);
  w.grad.set(Float32Array.from(w.grad, (_, i) => Math.sin(i * i)));
  const steps = 5;
  const optimizer = muon([w], { nsSteps: steps });
  const [step, alone] = await compare([{ run: () => optimizer.step() }, { run: () => peak(TURNS, 0.5) }], {
    rounds: 7,
  });
  arena.free();
  // Three products an iteration, of two of them the tiles on one side of the diagonal; all else that a step does is in its time too.
  const tiles = Math.ceil(size / TILE);
  const reached = (steps * (1 + 2 * ((tiles + 1) / (2 * tiles))) * 2 * size ** 3) / step!;
  const possible = most / alone!;
  rows.push([
    `${size} x ${size}`,
    (step! / 1e6).toFixed(1),
    reached.toFixed(1),
    possible.toFixed(1),
    (reached / possible).toFixed(2),
  ]);
  record.push({ size, step, reached, possible });
}
console.log("\na step of Muon: its products beside what multiplying and adding alone reaches, and the share");
print(["matrix", "ms", "GFLOP/s", "possible", "share"], rows);

/** Gradients of several kinds, of an element at a row and a step, out of ordinary ones. */
const kinds: Record<string, (ordinary: number, row: number, step: number) => number> = {
  "ordinary gradients": (x) => x,
  "of half the rows died": (x, row, step) => (step > 10 && row < SIDE / 2 ? 0 : x),
  "dying at different rates": (x, row, step) => x * 0.9 ** (step * (row % 3)),
  "gradients of 1e-17": (x) => x * 1e-17,
};
const SIDE = 64;
/** As many steps as it takes for averages to fade; and the time of a few, of which there may be none that take longer. */
const [STEPS, FEW] = [1500, 100];

const slowest: string[][] = [];
for (const factory of [muon, shampoo, soap]) {
  const times: number[] = [];
  for (const kind of Object.values(kinds)) {
    const arena = await createArena({ threads: 1 });
    const w = arena.tensor("w", [SIDE, SIDE]);
    const optimizer = factory([w], {});
    const few: number[] = [];
    for (let step = 0; step < STEPS; step += FEW) {
      const samples = Array.from({ length: FEW }, (_, i) => {
        const at = (j: number) => Math.sin((j + 1) * (j + 1) * (step + i + 1));
        w.grad.set(Float32Array.from(w.grad, (_, j) => kind(at(j), Math.floor(j / SIDE), step + i)));
        const start = performance.now();
        optimizer.step();
        return performance.now() - start;
      });
      few.push(median(samples));
    }
    // Of ordinary ones the ordinary time.
    times.push(times.length === 0 ? median(few) : Math.max(...few));
    arena.free();
  }
  const [own, ...others] = times as [number, ...number[]];
  slowest.push([factory.rule.name, ...others.map((time) => (time / own).toFixed(2))]);
}
console.log(`\n${SIDE} x ${SIDE}; the slowest ${FEW} of ${STEPS} steps as a multiple of those with ordinary gradients`);
print(["rule", ...Object.keys(kinds).slice(1)], slowest);

if (flags.out) writeFileSync(flags.out, `${JSON.stringify({ machine, record }, null, 1)}\n`);
