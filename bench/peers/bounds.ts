/**
 * Bounds of the machine: a copy of as many bytes as a step reads and writes, and as many multiplications and additions
 * as a step of Muon requires.
 */

import wabt from "wabt";
import { arm, type Arm } from "../stopwatch.js";
import { traffic } from "../traffic.js";
import type { Peer } from "./peer.js";

/** The number of independent sums, and the number of products that are added to each per iteration of the loop. */
const [SUMS, TURN] = [12, 8];
const items = (count: number, item: (i: number) => string) => Array.from({ length: count }, (_, i) => item(i));
const text = `(module (func (export "peak") (param $turns i32) (param $x f32) (result f32)
  ${items(SUMS, (i) => `(local $${i} v128)`).join(" ")} (local $factor v128)
  (local.set $factor (f32x4.splat (local.get $x)))
  (loop $next
    ${items(SUMS * TURN, (i) => {
      const sum = `$${i % SUMS}`;
      return `(local.set ${sum} (f32x4.add (f32x4.mul (local.get ${sum}) (local.get $factor)) (local.get $factor)))`;
    }).join(" ")}
    (br_if $next (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
  (f32x4.extract_lane 0 ${items(SUMS, (i) => `(local.get $${i})`).reduce((a, b) => `(f32x4.add ${a} ${b})`)})))`;

/** Rows and columns of a tile, as in crate/src/matrix.rs. Muon's symmetric products compute the tiles on one side of the diagonal. */
const TILE = 64;

/** Multiplications and additions of a step of Muon with five iterations: three products each, two of them symmetric. */
function muonOperations(side: number): number {
  const tiles = Math.ceil(side / TILE);
  return 5 * (1 + 2 * ((tiles + 1) / (2 * tiles))) * 2 * side ** 3;
}

export function boundsPeer(): Peer {
  let peak: (turns: number, x: number) => number;
  return {
    async start() {
      const { buffer } = (await wabt()).parseWat("peak.wat", text, { simd: true }).toBinary({});
      peak = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(buffer))).exports.peak as typeof peak;
      return "bounds of the machine";
    },
    arms(work): Arm[] {
      const half = Math.ceil(traffic(work) / 2);
      let copied: Uint8Array[] | undefined = [new Uint8Array(half).fill(1), new Uint8Array(half).fill(2)];
      const copy = arm(
        "copy of as many bytes, 1 thread",
        () => copied![1]!.set(copied![0]!),
        () => (copied = undefined),
      );
      if (work.rule !== "muon") return [copy];
      const turns = Math.ceil(muonOperations(work.shapes[0]![0]!) / (TURN * SUMS * 4 * 2));
      return [copy, arm("as many multiplications and additions, 1 thread", () => peak(turns, 0.5))];
    },
  };
}
