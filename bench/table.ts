/** Tables for the terminal. */

import Table from "cli-table3"; // the maintained successor of cli-table
import type { Measured } from "./record.js";
import { titleOf } from "./work.js";

/** Prints the results of a work: median and minimum of each arm, and its median as a multiple of the first arm's. */
export function printWork(work: Measured): void {
  const own = Object.values(work.arms)[0]?.median;
  const between = work.between === "nothing" ? "" : `; ${work.between}`;
  console.log(`\n${work.case}: ${titleOf(work)}; ${work.tensors}${between}`);
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
      min === undefined ? "" : (min / work.size).toFixed(3),
      (work.bytes / median).toFixed(1),
      (median / own!).toFixed(2),
    ]);
  }
  console.log(table.toString());
}
