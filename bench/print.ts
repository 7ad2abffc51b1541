/** How benches say where they ran and what they measured. */

import { availableParallelism, cpus } from "node:os";
import Table from "cli-table3"; // the maintained successor of cli-table

export const machine = `${cpus()[0]?.model.trim() ?? process.arch}, ${availableParallelism()} cores, Node ${process.versions.node}`;
export const decimals = (x: number) => x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0);
export const print = (head: string[], rows: string[][]) => {
  const table = new Table({
    head,
    colAligns: head.map((_, i) => (i ? "right" : "left")),
    style: { head: [], border: [] },
  });
  table.push(...rows);
  console.log(table.toString());
};
