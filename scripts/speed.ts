/** Tables of speed, made from a record of `npm run bench`. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { machineLine } from "../bench/machine.js";
import type { BenchRecord, Measured } from "../bench/record.js";
import { titleOf } from "../bench/work.js";
import { code, table } from "./markdown.js";
import { root } from "./project.mjs";

/** The runs that the tables show: of all rules, of peers, and of adapters. `npm run bench -- --json FILE` writes one. */
const [RULES, PEERS, ADAPTERS] = [
  "bench/records/2026-11-28-xeon-rules.json",
  "bench/records/2026-11-28-xeon-peers.json",
  "bench/records/2026-11-28-xeon-adapters.json",
];

const recordIn = (path: string) => JSON.parse(readFileSync(join(root, path), "utf8")) as BenchRecord;
const [withRules, withPeers, withAdapters] = [recordIn(RULES), recordIn(PEERS), recordIn(ADAPTERS)];
const rules = withRules.measured.filter((work) => work.case === "rules");
const sizes = withPeers.measured.filter((work) => work.case === "sizes");

/** The measurement of a rule at a size. */
function measured(works: readonly Measured[], rule: string, size: number): Measured {
  const found = works.find((work) => titleOf(work) === rule && work.size === size);
  if (found === undefined) throw new Error(`the records have no ${rule} at ${size} parameters`);
  return found;
}

const [SMALL, MIDDLE, LARGE, HUGE] = [1000, 2 ** 16, 2 ** 20, 2 ** 24];
const source = ({ date, machine }: BenchRecord, path: string) =>
  `${date}, ${machineLine(machine)} The record is \`${path}\`, made by \`npm run bench\``;
const TIMES = "× is the time as a multiple of downhill's.";

/** Returns the median, in nanoseconds, of the arm with one thread whose name begins with `name`. */
const timeOf = ({ arms }: Measured, name: string) =>
  Object.entries(arms).find(([arm]) => arm.startsWith(name) && arm.endsWith(", 1 thread"))?.[1].median;

/** Nanoseconds a parameter. */
const each = (work: Measured) => (timeOf(work, "downhill")! / work.size).toFixed(2);

/** The time of a peer, divided by that of downhill. */
function times(work: Measured, peer: string): string {
  const ratio = (timeOf(work, peer) ?? NaN) / timeOf(work, "downhill")!;
  return Number.isNaN(ratio) ? "" : multiple(ratio);
}

const multiple = (ratio: number) => `${ratio.toPrecision(ratio < 10 ? 2 : 3).replace(/e.*/, "")} ×`;

const bandwidth = (work: Measured) => (work.bytes / timeOf(work, "downhill")!).toFixed(0);

/** The columns of peers: the beginning of the arm's name, and the title of the column. */
const columns: Readonly<Record<string, string>> = {
  "JavaScript loop": "a JavaScript loop",
  "TensorFlow.js wasm": "TensorFlow.js `wasm`",
  "TensorFlow.js cpu": "TensorFlow.js `cpu`",
  "jax-js wasm": "jax-js",
  "C,": "C",
  "C with": "C with vectors of 128 bits",
  "PyTorch fused": "PyTorch `fused`",
  "PyTorch,": "PyTorch",
};

/** The columns of peers that the record has. */
const measuredPeers = Object.keys(columns).filter((peer) => sizes.some((work) => timeOf(work, peer) !== undefined));

/** The README's table: some rules, compared with peers. */
export function fewSpeeds(): string {
  const peers = ["JavaScript loop", "TensorFlow.js wasm", "PyTorch fused"].filter((peer) =>
    measuredPeers.includes(peer),
  );
  const rows = ["sgd", "sgd, momentum", "adam", "adamw"].map((rule) => {
    const [large, huge] = [measured(sizes, rule, LARGE), measured(sizes, rule, HUGE)];
    return [code(rule), each(large), ...peers.map((peer) => times(large, peer)), each(huge), bandwidth(huge)];
  });
  const head = ["ns per parameter (1 M parameters)", ...peers.map((peer) => `${columns[peer]} takes`)];
  return `${table(["update", ...head, "ns per parameter (16.7 M parameters)", "GB/s, 16.7 M"], rows)}
One thread, medians, ${source(withPeers, PEERS)}. ${TIMES} \`adamw\` is compared with TensorFlow.js's Adam.
`;
}

/** All updates that have peers, beside them. */
export function peers(): string {
  const rows = [...new Set(sizes.map(titleOf))]
    .map((rule) => {
      const large = measured(sizes, rule, LARGE);
      return [code(rule), each(large), ...measuredPeers.map((peer) => times(large, peer))];
    })
    .filter((cells) => cells.slice(2).some((cell) => cell !== ""));
  return `${table(["update", "ns per parameter", ...measuredPeers.map((peer) => `${columns[peer]} takes`)], rows)}
One thread, medians, ${source(withPeers, PEERS)}. ${TIMES}
`;
}

/** The sizes at which the adapters are compared. */
const ADAPTED = [400_000, 1_600_000];

/** Steps of `downhill/tfjs`, beside those of TensorFlow.js's optimizers on the same backend. */
export function besideTfjs(): string {
  const rows = ["wasm", "cpu"].flatMap((backend) =>
    ["sgd", "sgd, momentum", "adam", "adamw"].flatMap((rule) =>
      ADAPTED.map((size) => {
        const work = measured(withAdapters.measured, rule, size);
        const [own, adapted] = [
          timeOf(work, `TensorFlow.js ${backend}`)!,
          timeOf(work, `downhill/tfjs on ${backend}`)!,
        ];
        return [code(backend), code(rule), `${size}`, (adapted / size).toFixed(2), multiple(own / adapted)];
      }),
    ),
  );
  return `${table(["backend", "update", "parameters", "`downhill/tfjs`: ns per parameter", "TensorFlow.js takes"], rows)}
One thread, medians, ${source(withAdapters, ADAPTERS)}. \`adamw\` is compared with TensorFlow.js's Adam.
`;
}

/** Steps of `downhill/jax`, beside two AdamW that jax-js compiles. */
export function besideJax(): string {
  const rows = ADAPTED.map((size) => {
    const work = measured(withAdapters.measured, "adamw", size);
    const adapted = timeOf(work, "downhill/jax")!;
    const peers = ["jax-js wasm, jitted,", "jax-js wasm, jitted and tuned"].map(
      (peer) => timeOf(work, peer)! / adapted,
    );
    return [code("adamw"), `${size}`, (adapted / size).toFixed(2), ...peers.map(multiple)];
  });
  return `${table(["update", "parameters", "`downhill/jax`: ns per parameter", "jax-js takes", "jax-js, tuned, takes"], rows)}
The device \`wasm\`, one thread, medians, ${source(withAdapters, ADAPTERS)}. The first AdamW of jax-js has Optax's formula. The tuned one has
fewer operations, because it gets the bias corrections as numbers. Both are compiled by \`jit\`.
`;
}

/** The works that PyTorch's optimizers with `fused=True` are compared in: the cases of `npm run bench` and their sizes. */
const besides: readonly (readonly [kind: string, tensors: readonly string[]])[] = [
  ["sizes", [SMALL, 2 ** 18, LARGE, HUGE].map(String)],
  ["whole", [SMALL, LARGE, HUGE].map(String)],
  ["models", ["100 of 64 x 64"]],
];

/** Steps beside PyTorch's, on one thread and on two. */
export function besidePyTorch(): string {
  const works = besides.flatMap(([kind, tensors]) =>
    withPeers.measured.filter((work) => work.case === kind && tensors.includes(work.tensors)),
  );
  const rows = works.flatMap((work) => {
    const cells = ["1 thread", "2 threads"].flatMap((threads) => {
      const [ours, theirs] = [`downhill, ${threads}`, `PyTorch fused, ${threads}`].map((arm) => work.arms[arm]?.median);
      if (ours === undefined || theirs === undefined) return [];
      return [(ours / work.size).toFixed(2), (theirs / work.size).toFixed(2), multiple(theirs / ours)];
    });
    return cells.length === 6 ? [[code(titleOf(work)), work.tensors, ...cells]] : [];
  });
  const head = ["1 thread", "2 threads"].flatMap((threads) => [
    `downhill, ${threads}`,
    `PyTorch, ${threads}`,
    "PyTorch takes",
  ]);
  return `${table(["update", "parameters", ...head], rows)}
Nanoseconds per parameter, medians: ${withPeers.peers.find((peer) => peer.startsWith("PyTorch"))!} with \`fused=True\`, ${source(withPeers, PEERS)}.
`;
}

/** All updates, at every size. */
export function allSpeeds(): string {
  const rows = [...new Set(rules.map(titleOf))].map((rule) => {
    const [small, middle, large, huge] = [SMALL, MIDDLE, LARGE, HUGE].map((size) => measured(rules, rule, size)) as [
      Measured,
      Measured,
      Measured,
      Measured,
    ];
    const perStep = (timeOf(small, "downhill")! / 1000).toFixed(2);
    return [code(rule), perStep, ...[middle, large, huge].map(each), bandwidth(huge), times(huge, "copy")];
  });
  return `${table(["update", "1 K: µs per step", "64 K: ns per parameter", "1 M", "16.7 M", "16.7 M: GB/s", "16.7 M: a copy takes"], rows)}
One thread, medians, ${source(withRules, RULES)}. ${TIMES}
`;
}
