/** Tables for the terminal. */

import Table from "cli-table3"; // the maintained successor of cli-table
import type { Measured } from "./record.js";
import { titleOf } from "./work.js";

/** The columns of results. */
export const columns = ["", "µs a step", "ns a parameter", "least", "GB/s"];

/** The results of a work: median and minimum of each arm. */
export const rowsOf = ({ arms, size, bytes }: Measured): string[][] =>
  Object.entries(arms).map(([arm, { median, min }]) => [
    arm,
    (median / 1000).toPrecision(4),
    (median / size).toFixed(3),
    (min / size).toFixed(3),
    (bytes / median).toFixed(1),
  ]);

/** Prints the results of a work: median and minimum of each arm, and its median as a multiple of the first arm's. */
export function printWork(work: Measured): void {
  const medians = Object.values(work.arms).map(({ median }) => median);
  const between = work.between === "nothing" ? "" : `; ${work.between}`;
  console.log(`\n${work.case}: ${titleOf(work)}; ${work.tensors}${between}`);
  const table = new Table({
    head: [...columns, "times the first"],
    colAligns: ["left", ...columns.map(() => "right" as const)],
    style: { head: [], border: [], compact: true },
  });
  table.push(...rowsOf(work).map((row, i) => [...row, (medians[i]! / medians[0]!).toFixed(2)]));
  console.log(table.toString());
}
