/** Tables of speed, made from a record of `npm run bench`. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { machineLine } from "../bench/machine.js";
import type { BenchRecord, Measured } from "../bench/record.js";
import { titleOf } from "../bench/work.js";
import { code, table } from "./markdown.js";
import { root } from "./project.mjs";

/** The run that the tables show; `npm run bench -- --json FILE` writes one. */
const RECORD = "bench/records/2026-11-23-xeon.json";

const record = JSON.parse(readFileSync(join(root, RECORD), "utf8")) as BenchRecord;
const rules = record.measured.filter((work) => work.case === "rules");

/** The measurement of a rule at a size. */
function measured(rule: string, size: number): Measured {
  const found = rules.find((work) => titleOf(work) === rule && work.size === size);
  if (found === undefined) throw new Error(`${RECORD} has no ${rule} at ${size} parameters`);
  return found;
}

const [SMALL, MIDDLE, LARGE, HUGE] = [1000, 2 ** 16, 2 ** 20, 2 ** 24];
const measuredOn = `One thread, medians, ${record.date}, ${machineLine(record.machine)}; from \`${RECORD}\`, made by \`npm run bench\`. × is the time as a multiple of downhill's.`;

/** Returns the median, in nanoseconds, of the arm with one thread whose name begins with `name`. */
const timeOf = ({ arms }: Measured, name: string) =>
  Object.entries(arms).find(([arm]) => arm.startsWith(name) && arm.endsWith(", 1 thread"))?.[1].median;

/** Nanoseconds a parameter. */
const each = (work: Measured) => (timeOf(work, "downhill")! / work.size).toFixed(2);

/** The time of a peer, divided by that of downhill. */
function times(work: Measured, peer: string): string {
  const ratio = (timeOf(work, peer) ?? NaN) / timeOf(work, "downhill")!;
  return Number.isNaN(ratio) ? "" : `${ratio.toPrecision(ratio < 10 ? 2 : 3).replace(/e.*/, "")} ×`;
}

const bandwidth = (work: Measured) => (work.bytes / timeOf(work, "downhill")!).toFixed(0);

/** The columns of peers: the beginning of the arm's name, and the title of the column. */
const columns: Readonly<Record<string, string>> = {
  "JavaScript loop": "a JavaScript loop",
  "TensorFlow.js wasm": "TensorFlow.js `wasm`",
  "TensorFlow.js cpu": "TensorFlow.js `cpu`",
  "jax-js wasm": "jax-js",
  C: "C",
  "PyTorch fused": "PyTorch `fused`",
  "PyTorch,": "PyTorch",
};

/** The columns of peers that the record has. */
const measuredPeers = Object.keys(columns).filter((peer) => rules.some((work) => timeOf(work, peer) !== undefined));

/** The README's table: some rules, compared with peers. */
export function fewSpeeds(): string {
  const peers = ["JavaScript loop", "TensorFlow.js wasm", "PyTorch fused"].filter((peer) =>
    measuredPeers.includes(peer),
  );
  const rows = ["sgd", "sgd, momentum", "adam", "adamw"].map((rule) => {
    const [large, huge] = [measured(rule, LARGE), measured(rule, HUGE)];
    return [code(rule), each(large), ...peers.map((peer) => times(large, peer)), each(huge), bandwidth(huge)];
  });
  const head = ["ns per parameter, of 1 M", ...peers.map((peer) => `${columns[peer]} takes`)];
  return `${table(["update", ...head, "ns per parameter, of 16.7 M", "GB/s"], rows)}
${measuredOn} \`adamw\` is compared with TensorFlow.js's Adam.
`;
}

const names = [...new Set(rules.map(titleOf))];

/** All updates that have peers, beside them. */
export function peers(): string {
  const rows = names
    .map((rule) => {
      const large = measured(rule, LARGE);
      return [code(rule), each(large), ...measuredPeers.map((peer) => times(large, peer))];
    })
    .filter((cells) => cells.slice(2).some((cell) => cell !== ""));
  return `${table(["update", "ns per parameter", ...measuredPeers.map((peer) => `${columns[peer]} takes`)], rows)}
${measuredOn}
`;
}

/** All updates, at every size. */
export function allSpeeds(): string {
  const rows = names.map((rule) => {
    const [small, middle, large, huge] = [SMALL, MIDDLE, LARGE, HUGE].map((size) => measured(rule, size)) as [
      Measured,
      Measured,
      Measured,
      Measured,
    ];
    const perStep = (timeOf(small, "downhill")! / 1000).toFixed(2);
    return [code(rule), perStep, ...[middle, large, huge].map(each), bandwidth(huge), times(huge, "copy")];
  });
  return `${table(["update", "1 K: µs per step", "64 K: ns per parameter", "1 M", "16.7 M", "16.7 M: GB/s", "16.7 M: a copy takes"], rows)}
${measuredOn}
`;
}
