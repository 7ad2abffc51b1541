/** Makes an HTML page of a record: curves over the sizes, and all results as tables. */

import * as Plot from "@observablehq/plot"; // D3's authors' own chart library; draws SVG
import { parseHTML } from "linkedom"; // the small DOM for Node that Plot can draw into
import { machineLine } from "./machine.js";
import type { BenchRecord, Measured } from "./record.js";
import { columns, rowsOf } from "./table.js";
import { titleOf } from "./work.js";

const escape = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

export function page(record: BenchRecord): string {
  const { date, machine, peers, missing, measured } = record;
  const sizes = measured.filter((work) => work.case === "sizes");
  const rules = [...new Set(sizes.map(titleOf))].map(
    (title) => [title, sizes.filter((work) => titleOf(work) === title)] as const,
  );
  const curves = rules.map(
    ([title, works]) => `<h3>${escape(title)}</h3>${curve(works)}${bandwidthCurve(works, machine.bandwidth)}`,
  );
  const tables = measured.map(
    (work) =>
      `<tr><th colspan="5">${escape(`${work.case}: ${titleOf(work)}; ${work.tensors}; ${work.between} between`)}</th></tr>` +
      rowsOf(work).map(row).join(""),
  );
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>downhill, measured ${date}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: 0.1rem 0.8rem; text-align: right } td:first-child, th { text-align: left }
</style>
<h1>Steps of optimizers, side by side</h1>
<p>${escape(machineLine(machine))} Medians of one run on ${date}, in which all took turns.</p>
<p>Measured: ${escape(peers.join("; "))}.</p>
${Object.entries(missing)
  .map(([name, reason]) => `<p>Missing: ${escape(`${name}: ${reason}`)}</p>`)
  .join("\n")}
<h2>Time by size</h2>
${curves.join("\n")}
<h2>All figures</h2>
<table>
${row(columns)}
${tables.join("\n")}
</table>
</html>
`;
}

const row = (cells: readonly string[]) => `<tr>${cells.map((cell) => `<td>${escape(cell)}</td>`).join("")}</tr>\n`;

interface Point {
  readonly arm: string;
  readonly size: number;
  readonly value: number;
}

const points = (works: readonly Measured[], value: (work: Measured, nanoseconds: number) => number): Point[] =>
  works
    .flatMap((work) =>
      Object.entries(work.arms).map(([arm, { median }]) => ({ arm, size: work.size, value: value(work, median) })),
    )
    .sort((a, b) => a.size - b.size);

/** Nanoseconds a parameter over the number of parameters, both logarithmic. */
const curve = (works: readonly Measured[]) =>
  draw(points(works, ({ size }, time) => time / size), { type: "log", label: "ns a parameter" }, []); // prettier-ignore

/**
 * The bandwidth that a step reaches, divided by the bandwidth of a copy in memory. Values above 1 mean that the data
 * was in a cache.
 */
const bandwidthCurve = (works: readonly Measured[], bandwidth: number) =>
  draw(
    points(works, ({ bytes }, time) => bytes / time / bandwidth),
    { type: "log", label: "share of the memory's bandwidth" },
    [Plot.ruleY([1], { strokeDasharray: "4" })],
  );

function draw(data: readonly Point[], y: Plot.ScaleOptions, marks: Plot.Markish[]): string {
  const { document } = parseHTML("<html></html>");
  const figure = Plot.plot({
    document: document as never,
    width: 900,
    height: 420,
    marginLeft: 64,
    grid: true,
    x: { type: "log", label: "parameters" },
    y,
    color: { legend: true, scheme: "observable10" },
    marks: [
      ...marks,
      Plot.lineY(data, { x: "size", y: "value", stroke: "arm", strokeWidth: 1.75 }),
      Plot.dot(data, { x: "size", y: "value", fill: "arm", r: 2.5, title: ({ arm, value }: Point) => `${arm}: ${value.toPrecision(3)}` }),
    ],
  } as Plot.PlotOptions); // prettier-ignore
  return figure.outerHTML;
}
