/** Tables of speed, made from a record of `npm run bench`. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { code, table } from "./markdown.js";
import { root } from "./project.mjs";

/** The run that the tables show; `npm run bench -- --out FILE` writes one. */
const RECORD = "bench/records/2026-11-23-xeon.json";

interface Measured {
  readonly name: string;
  readonly size: number;
  /** Bytes that a step reads and writes, per parameter. */
  readonly traffic: number;
  /** Nanoseconds a step takes, by who takes it. */
  readonly nanoseconds: Readonly<Record<string, number>>;
}

const { machine, record } = JSON.parse(readFileSync(join(root, RECORD), "utf8")) as {
  machine: string;
  record: readonly Measured[];
};

/** The measurement of a rule at a size. */
function measured(rule: string, size: number): Measured {
  const found = record.find((entry) => entry.name === rule && entry.size === size);
  if (found === undefined) throw new Error(`${RECORD} has no ${rule} at ${size} parameters`);
  return found;
}

const [SMALL, MIDDLE, LARGE, HUGE] = [1000, 2 ** 16, 2 ** 20, 2 ** 24];
const measuredOn = `One thread, ${machine}, medians; from \`${RECORD}\`, made by \`npm run bench\`.`;

/** Nanoseconds a parameter. */
const each = ({ nanoseconds, size }: Measured, who = "downhill") => {
  const time = nanoseconds[who];
  return time === undefined ? "" : (time / size).toFixed(2);
};

/** How many times as long a who takes. */
const times = ({ nanoseconds: { downhill, ...others } }: Measured, who: string) => {
  const time = others[who];
  return time === undefined ? "" : `${(time / downhill!).toPrecision(time < downhill! * 10 ? 2 : 3)} ×`;
};

const bandwidth = ({ traffic, size, nanoseconds }: Measured) => ((traffic * size) / nanoseconds.downhill!).toFixed(0);

/** The README's table: a few updates, beside others. */
export function fewSpeeds(): string {
  const rows = ["sgd", "sgd, momentum", "adam", "adamw"].map((rule) => {
    const [large, huge] = [measured(rule, LARGE), measured(rule, HUGE)];
    return [
      code(rule),
      each(large),
      times(large, "JavaScript loop"),
      times(large, "tfjs wasm"),
      each(huge),
      bandwidth(huge),
    ];
  });
  return `${table(
    [
      "update",
      "ns per parameter, of 1 M",
      "a JavaScript loop takes",
      "TensorFlow.js (`wasm`) takes",
      "ns per parameter, of 16.7 M",
      "GB/s",
    ],
    rows,
  )}
${measuredOn} \`adamw\` is compared with TensorFlow.js's Adam.
`;
}

const compared = (rule: string) => Object.hasOwn(measured(rule, LARGE).nanoseconds, "JavaScript loop");
const measuredRules = [...new Set(record.map(({ name }) => name))];

/** All updates that have peers, beside them. */
export function peers(): string {
  const rows = measuredRules.filter(compared).map((rule) => {
    const large = measured(rule, LARGE);
    return [code(rule), each(large), ...["JavaScript loop", "tfjs wasm", "tfjs cpu"].map((peer) => times(large, peer))];
  });
  return `${table(["update", "ns per parameter", "a JavaScript loop takes", "TensorFlow.js `wasm` takes", "TensorFlow.js `cpu` takes"], rows)}
${measuredOn}
`;
}

/** All updates, at every size. */
export function allSpeeds(): string {
  const rows = measuredRules.map((rule) => {
    const [small, middle, large, huge] = [SMALL, MIDDLE, LARGE, HUGE].map((size) => measured(rule, size));
    return [
      code(rule),
      (small!.nanoseconds.downhill! / 1000).toFixed(2),
      ...[middle!, large!, huge!].map((entry) => each(entry)),
      bandwidth(huge!),
      times(huge!, "copy"),
    ];
  });
  return `${table(["update", "1 K: µs per step", "64 K: ns per parameter", "1 M", "16.7 M", "16.7 M: GB/s", "16.7 M: a copy takes"], rows)}
${measuredOn}
`;
}
