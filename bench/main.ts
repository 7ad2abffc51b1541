/** `npm run bench`: steps of downhill and of its peers, side by side. */

import { writeFileSync } from "node:fs";
import { availableParallelism, freemem } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { checkpoints } from "./checkpoints.js";
import { slowestSteps } from "./gradients.js";
import { machine, machineLine } from "./machine.js";
import type { Peer } from "./peers/peer.js";
import { peers } from "./peers/index.js";
import type { Measured, BenchRecord } from "./record.js";
import { page } from "./page.js";
import { printWork } from "./table.js";
import { type Arm, compare } from "./stopwatch.js";
import { cases, sizeOf, titleOf, type Work } from "./work.js";
import { traffic } from "./traffic.js";

const help = `Measures steps of downhill and of its peers in one run, in turns: medians and minima.

  npm run bench -- [flags]

  --case LIST      of ${Object.keys(cases).join(", ")} (default: all)
  --rule LIST      only these rules, such as sgd,adamw
  --peer LIST      of ${Object.keys(peers).join(", ")} (default: all)
  --size LIST      numbers of parameters (default: those of each case)
  --threads LIST   numbers of threads (default: 1,${availableParallelism()})
  --against DIR    the folder of another clone of the repository, whose build is also measured
  --python PATH    a Python with PyTorch, or JAX and Optax. To make one:
                     python3 -m venv ~/peers && ~/peers/bin/pip install torch jax optax
                   and give --python ~/peers/bin/python
  --seconds NUMBER seconds for each comparison; with more, medians vary less on a busy machine (default: 2, with --quick 0.5)
  --quick          a minute: the usual rules, two sizes
  --json FILE      write the results to FILE, and charts to a file of the same name that ends with .html
  --help           prints these flags
`;

const QUICK = { case: ["sizes", "whole"], size: [2 ** 16, 2 ** 20] };

async function main(): Promise<void> {
  const { values: flags } = parseArgs({
    options: {
      case: { type: "string" },
      rule: { type: "string" },
      peer: { type: "string" },
      size: { type: "string" },
      threads: { type: "string", default: [...new Set([1, availableParallelism()])].join() },
      against: { type: "string" },
      python: { type: "string" },
      seconds: { type: "string" },
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (flags.help) {
    console.log(help);
    return;
  }
  const wanted = {
    cases: list("case", flags.case, Object.keys(cases)) ?? (flags.quick ? QUICK.case : Object.keys(cases)),
    peers: list("peer", flags.peer, Object.keys(peers)) ?? Object.keys(peers),
    rules: list("rule", flags.rule),
    sizes: numbers("size", flags.size) ?? (flags.quick ? QUICK.size : undefined),
  };
  const seconds = Number(flags.seconds ?? (flags.quick ? 0.5 : 2));
  if (!(seconds > 0)) throw new Error(`--seconds must be a number above 0, got "${flags.seconds}"`);
  const settings = { threads: numbers("threads", flags.threads)!, python: flags.python, against: flags.against };

  const here = machine();
  console.log(machineLine(here));
  const started = new Map<string, Peer>();
  const versions: string[] = [];
  const missing: Record<string, string> = {};
  for (const name of wanted.peers) {
    const peer = peers[name]!();
    try {
      versions.push(await peer.start(settings));
      started.set(name, peer);
    } catch (cause) {
      missing[name] = (cause as Error).message;
    }
  }
  console.log(`measured: ${versions.join(", ")}`);
  for (const [name, reason] of Object.entries(missing)) console.log(`missing: ${name}: ${reason}`);

  try {
    const date = new Date().toISOString().slice(0, 10);
    const measured: Measured[] = [];
    for (const name of wanted.cases) {
      const works = cases[name]!(wanted.sizes)
        .map((steps): Work => ({ case: name, ...steps }))
        .filter(({ rule }) => wanted.rules?.includes(rule) ?? true);
      for (const work of works) {
        const result = await measure(work, started, seconds, flags.quick);
        printWork(result);
        measured.push(result);
      }
      // After each case, so that a run that is stopped leaves what it measured.
      if (flags.json !== undefined) write(flags.json, { date, machine: here, peers: versions, missing, measured });
    }
  } finally {
    for (const peer of started.values()) await peer.stop?.();
  }
}

function write(file: string, record: BenchRecord): void {
  writeFileSync(file, `${JSON.stringify(record)}\n`.replaceAll('{"case"', '\n{"case"'));
  writeFileSync(`${file.replace(/\.json$/, "")}.html`, page(record));
}

/** Measures a work with each peer that has the rule, in turns. */
async function measure(
  work: Work,
  peers: ReadonlyMap<string, Peer>,
  seconds: number,
  quick: boolean,
): Promise<Measured> {
  const { shapes, ...rest } = work;
  const [size, bytes] = [sizeOf(work), traffic(work)];
  const base = { ...rest, size, bytes };
  if (work.case === "checkpoints") return { ...base, ...(await checkpoints(work)) };
  if (work.case === "gradients") {
    const times = Object.entries(slowestSteps(work, quick));
    return { ...base, arms: Object.fromEntries(times.map(([kind, time]) => [kind, { median: time, min: time }])) };
  }
  const arms: Arm[] = [];
  for (const [name, peer] of peers) {
    try {
      // Peers also hold temporary tensors, so twice the bytes should be free.
      if (2 * bytes > freemem())
        throw new Error(`it needs more than the ${Math.round(freemem() / 1e6)} MB that are free`);
      arms.push(...(await peer.arms(work)));
    } catch (cause) {
      console.log(`${titleOf(work)}, ${work.tensors}: ${name} is missing: ${(cause as Error).message}`);
    }
  }
  const pause = work.between === "2 ms" ? 2 : 0;
  const others = work.between === "busy" ? Array.from({ length: availableParallelism() - 1 }, busyThread) : [];
  try {
    const timings = await compare(arms, { milliseconds: 1000 * seconds, pause });
    const byName = Object.fromEntries(arms.map(({ name }, i) => [name, timings[i]!]));
    return { ...base, arms: byName };
  } finally {
    for (const other of others) await other.terminate();
    for (const { end } of arms) await end?.();
  }
}

/** A thread that keeps a core busy. */
const busyThread = () => new Worker("for (;;);", { eval: true });

function list(flag: string, text: string | undefined, known?: readonly string[]): string[] | undefined {
  const items = text?.split(",").map((item) => item.trim());
  const wrong = items?.find((item) => known !== undefined && !known.includes(item));
  if (wrong !== undefined) throw new Error(`--${flag} must be of ${known!.join(", ")}, got "${wrong}"`);
  return items;
}

function numbers(flag: string, text: string | undefined): number[] | undefined {
  return text?.split(",").map((item) => {
    const value = Number(item);
    if (Number.isInteger(value) && value > 0) return value;
    throw new Error(`--${flag} must be whole numbers above 0, separated by commas, got "${text}"`);
  });
}

try {
  await main();
} catch (error) {
  console.error(`error: ${(error as Error).message}`);
  process.exitCode = 1;
}
