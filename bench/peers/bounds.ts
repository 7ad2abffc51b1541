/**
 * Bounds of the machine: a copy of as many bytes as a step reads and writes; as many divisions and roots as a step of Adam
 * requires; as many multiplications and additions as a step of Muon requires.
 */

import wabt from "wabt";
import { TILE } from "../../ts/matrix/matrices.js";
import { arm, type Arm } from "../stopwatch.js";
import { traffic } from "../traffic.js";
import { sizeOf } from "../work.js";
import type { Peer } from "./peer.js";

/** The number of independent sums, and the number of products that are added to each per iteration of the loop. */
const [SUMS, TURN] = [12, 8];
const items = (count: number, item: (i: number) => string) => Array.from({ length: count }, (_, i) => item(i));
const peak = `(module (func (export "peak") (param $turns i32) (param $x f32) (result f32)
  ${items(SUMS, (i) => `(local $${i} v128)`).join(" ")} (local $factor v128)
  (local.set $factor (f32x4.splat (local.get $x)))
  (loop $next
    ${items(SUMS * TURN, (i) => {
      const sum = `$${i % SUMS}`;
      return `(local.set ${sum} (f32x4.add (f32x4.mul (local.get ${sum}) (local.get $factor)) (local.get $factor)))`;
    }).join(" ")}
    (br_if $next (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
  (f32x4.extract_lane 0 ${items(SUMS, (i) => `(local.get $${i})`).reduce((a, b) => `(f32x4.add ${a} ${b})`)})))`;

/** A division and a root for each of four elements, per iteration. The next iteration does not depend on their results. */
const divide = `(module (func (export "divide") (param $turns i32) (param $x f32) (result f32)
  (local $operand v128) (local $sum v128)
  (local.set $operand (f32x4.splat (local.get $x)))
  (loop $next
    (local.set $sum (v128.xor (local.get $sum)
      (f32x4.div (local.get $operand) (f32x4.sqrt (local.tee $operand (i32x4.add (local.get $operand) (i32x4.splat (i32.const 1))))))))
    (br_if $next (local.tee $turns (i32.sub (local.get $turns) (i32.const 1)))))
  (f32x4.extract_lane 0 (local.get $sum))))`;

/**
 * Multiplications and additions of a step of Muon with five iterations: three products each, two of them symmetric, which
 * compute the tiles on one side of the diagonal.
 */
function muonOperations(side: number): number {
  const tiles = Math.ceil(side / TILE);
  return 5 * (1 + 2 * ((tiles + 1) / (2 * tiles))) * 2 * side ** 3;
}

export function boundsPeer(): Peer {
  type Loop = (turns: number, x: number) => number;
  let loops: { readonly peak: Loop; readonly divide: Loop };
  return {
    async start() {
      const { parseWat } = await wabt();
      const loopOf = (name: string, text: string) => {
        const { buffer } = parseWat(`${name}.wat`, text, { simd: true }).toBinary({});
        return new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(buffer))).exports[name] as Loop;
      };
      loops = { peak: loopOf("peak", peak), divide: loopOf("divide", divide) };
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
      if (work.rule === "adam" || work.rule === "adamw") {
        const vectors = Math.ceil(sizeOf(work) / 4);
        return [copy, arm("as many divisions and roots, 1 thread", () => loops.divide(vectors, 0.5))];
      }
      if (work.rule !== "muon") return [copy];
      const turns = Math.ceil(muonOperations(work.shapes[0]![0]!) / (TURN * SUMS * 4 * 2));
      return [copy, arm("as many multiplications and additions, 1 thread", () => loops.peak(turns, 0.5))];
    },
  };
}
