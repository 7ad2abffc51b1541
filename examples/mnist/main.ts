/** Trains a network on MNIST with one optimizer after the other, and shows how they compare. */

import { accessSync, constants, existsSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Checkpoints } from "./checkpoints.js";
import { loadData } from "./data.js";
import { UserError } from "./errors.js";
import { Network, startJax } from "./network.js";
import { report } from "./report.js";
import { type Entry, entries, known, ranked } from "./runs.js";
import { compareThreads } from "./speed.js";
import { showProgress, showSpeeds, showTable } from "./terminal.js";
import { Interrupted, pointsOf, type Result, stepsOf, train } from "./train.js";

const namesOf = (list: readonly Entry[]) => list.map(({ name }) => name).join(", ");
const names = `${namesOf(known)}, all`;

/** Numbers of parameters at which threads are compared, in addition to the network's own. */
const LARGER = [2 ** 18, 2 ** 20, 2 ** 22];

const help = `Trains a network on MNIST with one optimizer after the other, and shows how they compare.

  npm start -- [flags]

  --optimizers LIST  some of ${namesOf(entries)} (default: these),
                     ${namesOf(known.filter((entry) => !entries.includes(entry)))};
                     all trains every rule of the package, and ranks them
  --epochs N         passes over the training set (default: 5, or 2 with --optimizers all)
  --batch N          samples in a mini-batch (default: 128)
  --lr LIST          step sizes, such as adam=1e-3,sgd=0.1 (defaults: ${entries.map(({ name, options }) => `${name}=${options.lr}`).join(",")})
  --hidden LIST      sizes of the hidden layers, such as 128,64 (default: 128)
  --seed N           decides the first weights and the order of the samples (default: 1)
  --threads N        threads that update the parameters (default: all cores)
  --data DIR         a folder with other IDX files, such as Fashion-MNIST's (default: MNIST)
  --save FILE        saves the runs to this file after every epoch and on Ctrl-C
  --resume FILE      continues the runs in a file that --save wrote, and saves to it
  --out FILE         where the report goes (default: report.html)
  --help             prints these flags
`;

function flags() {
  try {
    return parseArgs({
      options: {
        optimizers: { type: "string" },
        epochs: { type: "string" },
        batch: { type: "string", default: "128" },
        lr: { type: "string", default: "" },
        hidden: { type: "string", default: "128" },
        seed: { type: "string", default: "1" },
        threads: { type: "string", default: `${Math.min(availableParallelism(), 256)}` },
        data: { type: "string" },
        save: { type: "string" },
        resume: { type: "string" },
        out: { type: "string", default: "report.html" },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (cause) {
    throw new UserError(`${(cause as Error).message.split(". ")[0]}; npm start -- --help lists the flags`);
  }
}

/** The items of a list such as `128,64`. */
const items = (list: string) =>
  list
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");

function whole(flag: string, text: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least || value > most || text.trim() === "") {
    throw new UserError(`${flag} must be a whole number from ${least} to ${most}, got "${text}"`);
  }
  return value;
}

/** The path of a file, after a check that it can be written: before the work, not after it. */
function writable(flag: string, text: string): string {
  const path = resolve(text);
  try {
    accessSync(dirname(path), constants.W_OK);
    if (existsSync(path)) accessSync(path, constants.W_OK);
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new Error("it is a folder");
  } catch (cause) {
    throw new UserError(`${flag}: ${path} cannot be written: ${(cause as Error).message}; name another file`);
  }
  return path;
}

function entryNamed(flag: string, name: string): Entry {
  const entry = known.find((entry) => entry.name === name);
  if (entry === undefined) throw new UserError(`${flag}: no optimizer "${name}"; there are ${names}`);
  return entry;
}

/** The chosen optimizers, with their rates from the command line. */
function chosen(list: string | undefined, rates: string): Entry[] {
  const lr = new Map(
    items(rates).map((item) => {
      const [name = "", rate = ""] = item.split("=");
      const value = Number(rate);
      if (rate.trim() === "" || !Number.isFinite(value) || value < 0) {
        throw new UserError(`--lr: "${item}" gives no rate of 0 or more; write it as in ${name || "adam"}=0.001`);
      }
      return [entryNamed("--lr", name), value];
    }),
  );
  const named = (name: string) => (name === "all" ? ranked : [entryNamed("--optimizers", name)]);
  const wanted = list === undefined ? entries : items(list).flatMap(named);
  if (wanted.length === 0) throw new UserError(`--optimizers: none named; there are ${names}`);
  return [...new Set(wanted)].map((entry) => ({
    ...entry,
    options: { ...entry.options, lr: lr.get(entry) ?? entry.options.lr },
  }));
}

/** Tells whether Ctrl-C was pressed. A second one, at least two seconds later, ends the process. */
function untilAsked() {
  let first = 0;
  const hear = () => {
    if (first > 0 && performance.now() - first > 2000) process.exit(130);
    first ||= performance.now();
  };
  process.on("SIGINT", hear);
  return { isAsked: () => first > 0, stop: () => void process.off("SIGINT", hear) };
}

async function main() {
  const given = flags();
  if (given.help) {
    process.stdout.write(help);
    return;
  }
  const runs = chosen(given.optimizers, given.lr);
  const ranks = items(given.optimizers ?? "").includes("all");
  const settings = {
    epochs: whole("--epochs", given.epochs ?? (ranks ? "2" : "5"), 1),
    batch: whole("--batch", given.batch, 1),
    seed: whole("--seed", given.seed, 0, 2 ** 32 - 1),
    threads: whole("--threads", given.threads, 1, 256),
  };
  const hidden = items(given.hidden).map((size) => whole("--hidden", size, 1));
  const out = writable("--out", given.out);
  const file = given.save ?? given.resume;
  if (file !== undefined) {
    writable("--save", file);
    const several = runs.find(({ several }) => several);
    if (several)
      throw new UserError(`--save: a file holds one optimizer, ${several.name} here is two; name the others`);
  }
  const data = loadData(given.data);
  if (settings.batch > data.train.count) {
    throw new UserError(`--batch must be at most the ${data.train.count} samples there are, got ${settings.batch}`);
  }

  await startJax();
  const sizes = [data.train.pixels, ...hidden, data.classes];
  const network = new Network(sizes);
  const setting = [
    `${data.train.count} images for training, ${data.test.count} for testing`,
    `network ${sizes.join("-")}, batches of ${settings.batch}, ${settings.epochs} epochs, seed ${settings.seed}, ${settings.threads} threads`,
    `${cpus()[0]?.model.trim() ?? process.arch}, ${availableParallelism()} cores, Node ${process.versions.node}`,
  ];
  console.log(setting.join("\n"));

  const { batch, epochs, seed } = settings;
  const rates = Object.fromEntries(runs.map(({ name, options }) => [name, options]));
  const steps = Object.fromEntries(runs.map((entry) => [entry.name, stepsOf(entry, data.train.count, settings)]));
  const checkpoints = new Checkpoints(file, steps, { optimizers: rates, sizes, batch, epochs, seed });
  if (given.resume !== undefined) await checkpoints.resume(given.resume);
  const interruption = file === undefined ? { isAsked: () => false, stop: () => {} } : untilAsked();

  const progress = showProgress(runs);
  const results: Result[] = [];
  try {
    for (const entry of runs) {
      const finished = checkpoints.finished(entry);
      const keep = checkpoints.of(entry);
      const result = finished
        ? { ...finished, entry, losses: pointsOf(keep.log) }
        : await train(entry, network, data, settings, (now) => progress.update(entry, now), keep, interruption.isAsked);
      const { entry: _, losses, ...rest } = result;
      checkpoints.finish(entry, rest);
      results.push(result);
    }
  } catch (cause) {
    if (!(cause instanceof Interrupted)) throw cause;
    progress.stop();
    const others = process.argv.slice(2).filter((flag, i, all) => {
      const isKept = (flag = "") => !/^--(save|resume)$/.test(flag);
      return isKept(flag) && isKept(all[i - 1]) && !/^--(save|resume)=/.test(flag);
    });
    console.log(
      `saved ${file} at step ${cause.step} of ${runs[results.length]!.title}; to go on: npm start -- ${[...others, "--resume", file].join(" ")}`,
    );
    process.exitCode = 130;
    return;
  } finally {
    progress.stop();
  }
  interruption.stop();
  if (ranks) results.sort((a, b) => b.accuracy - a.accuracy || a.loss - b.loss);
  console.log(showTable(results));
  const compared =
    settings.threads > 1 && !ranks ? await compareThreads(runs, [results[0]!.params, ...LARGER], settings.threads) : [];
  if (compared.length > 0) console.log(showSpeeds(compared, settings.threads));
  writeFileSync(out, report(results, setting, compared));
  console.log(`report: ${out}`);
}

main().catch((error) => {
  // downhill's RangeErrors name a value and its remedy, for example if the network needs more memory than there is.
  console.error(error instanceof UserError || error instanceof RangeError ? `error: ${error.message}` : error);
  process.exitCode = 1;
});
