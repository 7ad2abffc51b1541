/** Muon's products beside what the machine's four lanes can multiply and add at most. */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { createArena, muon } from "downhill";
import wabt from "wabt";
import { compare } from "./measure.js";
import { machine, print } from "./print.js";

const { values: flags } = parseArgs({
  options: {
    sizes: { type: "string", default: "256,512,1024" },
    out: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Measures a step of Muon on one thread beside a kernel that does nothing but multiply and add.

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
  const [step, alone] = compare([() => void optimizer.step(), () => void peak(TURNS, 0.5)], { rounds: 7 });
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

if (flags.out) writeFileSync(flags.out, `${JSON.stringify({ machine, record }, null, 1)}\n`);
