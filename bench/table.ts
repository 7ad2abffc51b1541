/** Tables for the terminal. */

import Table from "cli-table3"; // the maintained successor of cli-table
import type { Measured } from "./record.js";
import { titleOf } from "./work.js";

/** Nanoseconds per parameter, or microseconds per step of few parameters: median and minimum of each arm. */
export function printCase(name: string, measured: readonly Measured[]): void {
  for (const work of measured) {
    const own = Object.values(work.arms)[0]?.median;
    console.log(`\n${name}: ${titleOf(work)}; ${work.tensors}${work.between === "nothing" ? "" : `; ${work.between}`}`);
    const table = new Table({
      head: ["", "µs a step", "ns a parameter", "least", "GB/s", "times the first"],
      colAligns: ["left", "right", "right", "right", "right", "right"],
      style: { head: [], border: [], compact: true },
    });
    for (const [arm, { median, min }] of Object.entries(work.arms)) {
      table.push([
        arm,
        (median / 1000).toPrecision(4),
        (median / work.size).toFixed(3),
        (min / work.size).toFixed(3),
        (work.bytes / median).toFixed(1),
        (median / own!).toFixed(2),
      ]);
    }
    console.log(table.toString());
  }
}
