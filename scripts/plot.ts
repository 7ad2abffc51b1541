/** Draws a schedule in the terminal and as SVG: `npm run plot -- 'oneCycleLR({ maxLr: 0.1, totalSteps: 1000 })'`. */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as Plot from "@observablehq/plot"; // the chart library of D3's authors; draws SVG
import asciichart from "asciichart"; // charts of characters; small, finished, without dependencies
import { parseHTML } from "linkedom"; // a small DOM for Node, for Plot to draw into
import { Schedule } from "../ts/schedules/schedule.js";
import * as schedules from "../ts/schedules/index.js";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { steps: { type: "string", default: "1000" }, out: { type: "string", default: "schedule.svg" } },
});

const usage = `write one schedule, such as npm run plot -- 'stepLR({ lr: 0.1, stepSize: 300 })' [--steps 1000] [--out schedule.svg]; there are ${Object.keys(schedules).join(", ")}`;

/** Evaluates a JavaScript expression in which all schedules are defined. */
function parse(code: string | undefined): Schedule {
  if (code === undefined) throw new Error(usage);
  let value: unknown;
  try {
    value = new Function(...Object.keys(schedules), `return ${code}`)(...Object.values(schedules));
  } catch (cause) {
    throw new Error(`${(cause as Error).message}; ${usage}`);
  }
  if (!(value instanceof Schedule)) throw new Error(`${code} is no schedule; ${usage}`);
  return value;
}

function main() {
  const schedule = parse(positionals[0]);
  const steps = Number(flags.steps);
  if (!(Number.isInteger(steps) && steps >= 2))
    throw new Error(`--steps must be a whole number of 2 or more, got "${flags.steps}"`);
  const points = Array.from({ length: steps }, (_, step) => ({ step, value: schedule.at(step) }));
  const width = Math.min(steps, 100);
  const shown = Array.from({ length: width }, (_, i) => points[Math.floor((i * (steps - 1)) / (width - 1))]!.value);
  console.log(`${schedule}, steps 0 to ${steps - 1}`);
  console.log(asciichart.plot(shown, { height: 15, format: (x) => x.toPrecision(3).padStart(12) }));
  const { document } = parseHTML("<html></html>");
  const svg = Plot.plot({
    document: document as never,
    width: 720,
    height: 360,
    marginLeft: 64,
    grid: true,
    title: `${schedule}`,
    x: { label: "step" },
    y: { label: schedule.name },
    marks: [Plot.lineY(points, { x: "step", y: "value", strokeWidth: 1.75 })],
    figure: false,
  } as Plot.PlotOptions);
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  writeFileSync(flags.out, svg.outerHTML);
  console.log(flags.out);
}

try {
  main();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
