/** The output: a table, and progress bars, or plain lines if the output is not a terminal. */

import { MultiBar, type SingleBar } from "cli-progress"; // progress bars with terminal detection; 25 million installs a month
import Table from "cli-table3"; // the maintained successor of cli-table
import type { Entry } from "./runs.js";
import type { Speed } from "./speed.js";
import type { Progress, Result } from "./train.js";

export function showProgress(runs: readonly Entry[]) {
  return process.stdout.isTTY ? bars(runs) : lines();
}

function bars(runs: readonly Entry[]) {
  const width = Math.max(...runs.map(({ title }) => title.length));
  const multi = new MultiBar({
    format: "{title} {bar} epoch {epoch} of {epochs}  loss {loss}  {eta_formatted} left",
    barsize: 20,
    hideCursor: true,
    etaBuffer: 200,
    barCompleteChar: "█",
    barIncompleteChar: "░",
  });
  let current: { entry: Entry; bar: SingleBar } | undefined;
  return {
    update(entry: Entry, { epoch, epochs, step, steps, loss }: Progress) {
      if (current?.entry !== entry) {
        current = { entry, bar: multi.create(steps, 0, { title: entry.title.padEnd(width), epoch, epochs, loss: "" }) };
      }
      current.bar.update(step, { epoch, loss: loss.toFixed(4) });
    },
    stop: () => multi.stop(),
  };
}

function lines() {
  let started = performance.now();
  return {
    update({ title }: Entry, { epoch, epochs, step, steps, loss }: Progress) {
      if (step === 1) started = performance.now();
      if (step * epochs !== epoch * steps) return;
      const seconds = ((performance.now() - started) / 1000 / (step - 1)) * (steps - step); // since the first step
      const left = step > 1 ? `, ${seconds.toFixed(0)} s left` : "";
      console.log(`${title}: epoch ${epoch} of ${epochs}, loss ${loss.toFixed(4)}${left}`);
    },
    stop() {},
  };
}

/** The figures of a run, for the table and the report. */
export function figures({ entry, steps, loss, accuracy, gradientTime, updateTime, params, traffic }: Result) {
  const perParameter = updateTime / steps / params;
  return {
    optimizer: entry.title,
    steps: `${steps}`,
    "training loss": loss.toFixed(4),
    "test accuracy": `${(100 * accuracy).toFixed(2)} %`,
    "gradients, s": gradientTime.toFixed(2),
    "updates, s": updateTime.toFixed(3),
    "ns a parameter": (1e9 * perParameter).toFixed(2),
    "GB/s": traffic === undefined ? "" : (traffic / perParameter / 1e9).toFixed(1),
  };
}

export function showTable(results: readonly Result[]): string {
  return tableOf(results.map(figures));
}

/** Table of speed-ups on several threads, by size. */
export function showSpeeds(speeds: readonly Speed[], threads: number): string {
  const titles = [...new Set(speeds.map(({ title }) => title))];
  const rows = titles.map((title) => ({
    [`on ${threads} threads, times as fast`]: title,
    ...Object.fromEntries(
      speeds
        .filter((speed) => speed.title === title)
        .map(({ params, one, all }) => [`${params.toLocaleString("en")} parameters`, (one / all).toFixed(2)]),
    ),
  }));
  return tableOf(rows);
}

function tableOf(rows: readonly Readonly<Record<string, string>>[]): string {
  const head = Object.keys(rows[0]!);
  const table = new Table({
    head,
    colAligns: head.map((_, i) => (i === 0 ? "left" : "right")),
    style: { head: [], border: [] },
  });
  table.push(...rows.map((row) => Object.values(row)));
  return table.toString();
}
