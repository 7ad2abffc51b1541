/** The report: one HTML file with charts, figures and options. It loads nothing else, and works in light and dark mode. */

import * as Plot from "@observablehq/plot"; // the chart library of D3's authors; draws SVG, so the report needs no script
import { parseHTML } from "linkedom"; // a small DOM for Node, for Plot to draw into
import type { Speed } from "./speed.js";
import { figures } from "./terminal.js";
import type { Point, Result } from "./train.js";

/** Colours that have enough contrast on white and on black. */
const light = ["#6b7280", "#2563eb", "#0d9488", "#d97706", "#db2777", "#dc2626", "#7c3aed"];
const dark = ["#9ca3af", "#60a5fa", "#2dd4bf", "#fbbf24", "#f472b6", "#f87171", "#a78bfa"];
/** Dash patterns, for more optimizers than colours. */
const dashes = [
  [1, 0],
  [6, 3],
  [2, 2],
  [10, 2],
  [1, 4],
  [4, 1],
  [3, 6],
] as const;
const dashOf = (i: number) => Math.floor(i / light.length) % dashes.length;

export function report(results: readonly Result[], setting: readonly string[], speeds: readonly Speed[]): string {
  const titles = results.map(({ entry }) => entry.title);
  const color = { domain: titles, range: titles.map((_, i) => `var(--line-${i % light.length})`) };
  const lines = results.flatMap(({ entry, losses }) =>
    smooth(losses).map((point) => ({ ...point, title: entry.title })),
  );
  const accuracies = results.flatMap(({ entry, accuracies }) =>
    accuracies.map(({ epoch, accuracy }) => ({ epoch, missing: 100 - 100 * accuracy, title: entry.title })),
  );
  const common = { width: 520, height: 320, marginLeft: 56, marginTop: 32, color, style: { fontSize: "12px" } };
  const loss = { type: "log", grid: true, label: "training loss", tickFormat: "~g" } as const;
  const { document } = parseHTML("<html></html>");
  const chart = (options: Plot.PlotOptions) =>
    Plot.plot({ document, ...common, ...options } as Plot.PlotOptions).outerHTML;
  const line = (x: string, y: string, data: { title: string }[]) =>
    dashes.map((dash, kind) =>
      Plot.lineY(
        data.filter(({ title }) => dashOf(titles.indexOf(title)) === kind),
        { x, y, z: "title", stroke: "title", strokeWidth: 1.75, strokeDasharray: dash.join(" ") },
      ),
    );

  const byStep = chart({
    x: { type: "log", label: "step", tickFormat: "~s" },
    y: loss,
    marks: [
      line("step", "loss", lines),
      Plot.dot(
        lines.filter(({ title }) => lines.filter((l) => l.title === title).length < 20),
        { x: "step", y: "loss", fill: "title", r: 2.5 },
      ),
    ],
  });
  const byTime = chart({ x: { label: "seconds of training" }, y: loss, marks: [line("seconds", "loss", lines)] });
  const epochs = Math.max(...accuracies.map(({ epoch }) => epoch));
  const missing = accuracies.map(({ missing }) => missing);
  // Accuracies near 100 % differ in what is missing, so the axis is a logarithm of that.
  const byEpoch = chart({
    x: {
      label: "epoch",
      ticks: Array.from({ length: epochs }, (_, i) => i + 1).filter((epoch) => epoch % Math.ceil(epochs / 10) === 0),
      tickFormat: "d",
    },
    y: {
      type: "log",
      reverse: true,
      grid: true,
      ticks: [90, 50, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1].filter(
        (tick) => tick > Math.min(...missing) && tick < Math.max(...missing),
      ),
      tickFormat: (missing: number) => `${100 - missing}`,
      label: "↑ test accuracy, %",
    },
    marks: [
      line("epoch", "missing", accuracies),
      Plot.dot(accuracies, { x: "epoch", y: "missing", fill: "title", r: 3 }),
    ],
  });

  const bySize =
    speeds.length > 0 &&
    chart({
      x: { type: "log", label: "parameters", tickFormat: "~s" },
      y: {
        domain: [0.8, Math.max(1.2, ...speeds.map(({ one, all }) => one / all))],
        grid: true,
        label: "times as fast",
      },
      marks: [
        Plot.ruleY([1], { strokeDasharray: "4 4" }),
        line(
          "params",
          "ratio",
          speeds.map((speed) => ({ ...speed, ratio: speed.one / speed.all })),
        ),
        Plot.dot(speeds, { x: "params", y: ({ one, all }) => one / all, fill: "title", r: 3 }),
      ],
    });

  const rows = results.map(figures);
  const key = titles.map((title, i) => `<span style="${look(i)}">${plain(title)}</span>`).join("");
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>downhill: optimizers compared</title>
<style>
  :root { color-scheme: light dark; --ink: #1f2937; --faint: #6b7280; --rule: #e5e7eb; --paper: #ffffff; ${hues(light)} }
  @media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --faint: #9ca3af; --rule: #374151; --paper: #111827; ${hues(dark)} } }
  body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2.5rem auto; max-width: 1500px; padding: 0 1.5rem; }
  h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
  p { color: var(--faint); margin: .3rem 0 0; }
  .key { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; margin: 1.5rem 0; position: sticky; top: 0; background: var(--paper); padding: .5rem 0; }
  .key span::before, td.hue::before { background: repeating-linear-gradient(90deg, var(--hue) 0 var(--on), transparent var(--on) var(--period)); border-radius: 2px; content: ""; display: inline-block; height: .7em; margin-right: .5em; width: .7em; }
  .charts { display: grid; gap: 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); }
  section { margin-bottom: 2rem; overflow-x: auto; }
  svg { height: auto; max-width: 100%; }
  table { border-collapse: collapse; width: 100%; }
  th, td { border-bottom: 1px solid var(--rule); padding: .45rem .8rem; text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
  th { color: var(--faint); font-weight: 500; } th:first-child, td:first-child, .options td { text-align: left; }
  .options td + td { white-space: normal; } code { font: 13px ui-monospace, monospace; }
</style>
<h1>Optimizers compared</h1>
${setting.map((line) => `<p>${plain(line)}</p>`).join("\n")}
<div class="key">${key}</div>
<div class="charts">
<section><h2>Loss against step</h2>${byStep}</section>
<section><h2>Loss against time</h2>${byTime}</section>
<section><h2>Accuracy on images not seen in training</h2>${byEpoch}</section>
${bySize ? `<section><h2>Updates on all threads against one</h2>${bySize}</section>` : ""}
</div>
<section><h2>Figures</h2>
<table><tr>${Object.keys(rows[0]!)
    .map((name) => `<th>${name}</th>`)
    .join("")}</tr>
${rows
  .map(
    (row, i) =>
      `<tr>${Object.values(row)
        .map((cell, j) => (j === 0 ? hued(cell, i) : `<td>${cell}</td>`))
        .join("")}</tr>`,
  )
  .join("\n")}
</table></section>
<section class="options"><h2>Rules and options</h2>
<table>${results.map(({ entry, hypers }, i) => `<tr>${hued(entry.title, i)}<td>${plain(entry.formula ?? "")}</td><td><code>${plain(hypers.map(options).join("; "))}</code></td></tr>`).join("\n")}</table></section>
<p>Losses are means over neighbouring steps: of one at the start, of one in forty of all steps so far later.</p>
</html>
`;
}

const hues = (colors: readonly string[]) => colors.map((color, i) => `--line-${i}: ${color};`).join(" ");
const look = (i: number) => {
  const [on, off] = dashes[dashOf(i)]!;
  return `--hue: var(--line-${i % light.length}); --on: ${on}px; --period: ${on + off}px`;
};
const hued = (text: string, i: number) => `<td class="hue" style="${look(i)}">${plain(text)}</td>`;
const plain = (text: string) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
const options = (hyper: object) =>
  Object.entries(hyper)
    .map(([name, value]) => `${name}: ${JSON.stringify(value)}`)
    .join(", ");

/** Means over neighbouring steps. Their number grows with the step, as on a logarithmic axis. */
function smooth(points: readonly Point[]): Point[] {
  const means: Point[] = [];
  for (let start = 0; start < points.length;) {
    const run = points.slice(start, start + Math.ceil((start + 1) / 40));
    const mean = (name: keyof Point) => run.reduce((sum, point) => sum + point[name], 0) / run.length;
    means.push({ step: mean("step"), seconds: mean("seconds"), loss: mean("loss") });
    start += run.length;
  }
  return means;
}
