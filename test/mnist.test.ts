/** The example that `npm start` runs, on a small data set made here. */

import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { adamw, momentum } from "downhill";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Data, loadData } from "../examples/mnist/data.js";
import { Network, startJax } from "../examples/mnist/network.js";
import { type Entry, entries, known, ranked } from "../examples/mnist/runs.js";
import { type Result, train } from "../examples/mnist/train.js";
import { root } from "../scripts/project.mjs";
import { numbers } from "./harness.js";
import { factories } from "./registry.js";

const [SIDE, CLASSES] = [6, 3];
const folder = mkdtempSync(join(tmpdir(), "idx-"));
afterAll(() => rmSync(folder, { recursive: true }));

function idx(dimensions: number[], bytes: Uint8Array): Buffer {
  const header = Buffer.alloc(4 + 4 * dimensions.length);
  header.writeUInt32BE(0x0800 + dimensions.length);
  dimensions.forEach((dimension, i) => {
    header.writeUInt32BE(dimension, 4 + 4 * i);
  });
  return Buffer.concat([header, bytes]);
}

/** Writes images in which one third is bright. The class is the number of this third. */
function write(into: string) {
  const random = numbers(3);
  for (const [name, count] of [
    ["train", 300],
    ["t10k", 60],
  ] as const) {
    const labels = Uint8Array.from({ length: count }, (_, i) => i % CLASSES);
    const pixel = (i: number) => {
      const bright = Math.floor((3 * (i % SIDE ** 2)) / SIDE ** 2) === labels[Math.floor(i / SIDE ** 2)];
      return (bright ? 150 : 50) + 50 * random();
    };
    const images = Uint8Array.from({ length: count * SIDE ** 2 }, (_, i) => pixel(i));
    writeFileSync(join(into, `${name}-images-idx3-ubyte`), idx([count, SIDE, SIDE], images));
    writeFileSync(join(into, `${name}-labels-idx1-ubyte.gz`), gzipSync(idx([count], labels)));
  }
}

let data: Data;
let network: Network;
const run = (entry: Entry, seed = 1) =>
  train(entry, network, data, { epochs: 5, batch: 32, seed, threads: 1 }, () => {});

beforeAll(async () => {
  write(folder);
  data = loadData(folder);
  await startJax();
  network = new Network([data.train.pixels, 8, data.classes]);
});

test("files are read, plain or gzipped", () => {
  expect([data.train.count, data.test.count, data.train.pixels, data.classes]).toEqual([300, 60, 36, 3]);
  expect(data.train.images.length).toBe(300 * 36);
  expect(Math.max(...data.train.images)).toBeLessThanOrEqual(200 / 255);
});

describe.each(entries)("$name", (entry) => {
  const bits = ({ losses, loss, accuracies }: Result) => [losses.map(({ loss }) => loss), loss, accuracies];

  test("a seed gives the same losses to the last bit each time, another seed gives others", async () => {
    const [first, second, other] = [await run(entry), await run(entry), await run(entry, 2)];
    expect(bits(second)).toEqual(bits(first));
    expect(bits(other)).not.toEqual(bits(first));
    expect(first.steps).toBe(entry.wholeSet ? 5 : 50);
    expect(first.loss).toBeLessThan(first.losses[0]!.loss);
  });
});

describe("every rule", () => {
  test("has a run", () => {
    const rules = factories.map(({ rule }) => rule.name);
    expect(ranked.map(({ name }) => name)).toEqual([...rules, "lbfgs", "lookahead", "sam"].sort());
  });

  test.each(ranked)("$name trains", async (entry) => {
    const { loss, losses } = await run(entry);
    expect(loss).toBeLessThan(losses[0]!.loss);
  });
});

test("the network trains with downhill/jax", () => {
  const flags = ["--data", folder, "--hidden", "8", "--batch", "32", "--epochs", "5"];
  const output = execFileSync(process.execPath, ["--import", "tsx", "examples/mnist/jax.ts", ...flags], {
    cwd: root,
    encoding: "utf8",
  });
  const losses = [...output.matchAll(/^epoch \d: loss (\S+), test accuracy \S+ %, norm of the last gradients \d/gm)];
  expect(losses).toHaveLength(5);
  expect(Number(losses[4]![1])).toBeLessThan(Number(losses[0]![1]));
});

test("a run may have several optimizers, each with some of the tensors", async () => {
  const both: Entry = {
    name: "both",
    title: "both",
    factory: momentum,
    options: { lr: 0.05 },
    make: ({ w1, w2, ...biases }, options) => [momentum([w1!, w2!], options), adamw(biases, { lr: 0.1 })],
  };
  const { hypers, traffic, loss, losses } = await run(both);
  expect(hypers.map(({ lr }) => lr)).toEqual([0.05, 0.1]);
  const [weights, biases] = [36 * 8 + 8 * 3, 8 + 3];
  expect(traffic).toBeCloseTo((4 * (5 * weights + 7 * biases)) / (weights + biases), 9);
  expect(loss).toBeLessThan(losses[0]!.loss);
});

test("any number of workers that share the arena trains the network to the same loss", () => {
  const tsx = join(root, "node_modules/tsx/dist/cli.mjs");
  const flags = ["--data", folder, "--workers", "1,2,3", "--batch", "60", "--epochs", "4"];
  const output = execFileSync(process.execPath, [tsx, "examples/workers/main.ts", ...flags], {
    cwd: root,
    encoding: "utf8",
  });
  const rows = [...output.matchAll(/│ +(\d) │ +20 │ +[\d.]+ │ +([\d.]+) │ +([\d.]+) % │/g)];
  expect(rows.map(([, workers]) => workers)).toEqual(["1", "2", "3"]);
  const losses = rows.map(([, , loss]) => Number(loss));
  for (const loss of losses) expect(Math.abs(loss - losses[0]!)).toBeLessThan(1e-3);
  expect(losses[0]).toBeLessThan(0.5);
});

describe("the command", () => {
  /** Runs the command, and presses Ctrl-C once it has printed the text that it is given last. */
  const command = (...given: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const [said, ...others] = given.filter((flag) => flag.startsWith("interrupt when: "));
      expect(others).toEqual([]);
      const flags = given.filter((flag) => flag !== said);
      const child = execFile(
        process.execPath,
        ["--import", "tsx", "examples/mnist/main.ts", "--data", folder, ...flags],
        { cwd: root },
        (error, stdout, stderr) => {
          resolve({ code: Number(error?.code ?? 0), stdout, stderr });
        },
      );
      let heard = "";
      child.stdout!.on("data", (text) => {
        heard += text;
        if (said && heard.includes(said.slice("interrupt when: ".length)) && !child.killed) child.kill("SIGINT");
      });
    });

  test("prints a table and writes a report that loads nothing", async () => {
    const out = join(folder, "report.html");
    const { code, stdout, stderr } = await command(
      "--epochs",
      "2",
      "--batch",
      "64",
      "--hidden",
      "8,4",
      "--threads",
      "2",
      "--out",
      out,
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const { title } of entries) expect(stdout).toContain(`│ ${title}`);
    expect(stdout).toContain("network 36-8-4-3, batches of 64, 2 epochs, seed 1, 2 threads");
    expect(stdout).toMatch(/on 2 threads, times as fast .*\d parameters .*4,194,304 parameters/);
    expect(stdout).toContain(`report: ${out}`);
    const html = readFileSync(out, "utf8");
    expect(html.match(/<svg/g)).toHaveLength(4);
    expect(html).toContain("prefers-color-scheme: dark");
    expect(html).not.toMatch(/<script|<link|src=|url\(|NaN/);
  });

  test("all trains every rule, the best first", async () => {
    const flags = ["--optimizers", "all", "--batch", "32", "--hidden", "8", "--threads", "2", "--lr", "lion=0.002"];
    const out = join(folder, "all.html");
    const { code, stdout, stderr } = await command(...flags, "--out", out);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("batches of 32, 2 epochs");
    expect(stdout).not.toContain("times as fast");
    const rows = [...stdout.matchAll(/^│ (\S.*?) +│ +20? │ +([\d.]+) │ +([\d.]+) % │/gm)];
    expect(rows.map(([, title]) => title).sort()).toEqual(ranked.map(({ title }) => title).sort());
    const accuracies = rows.map(([, , , accuracy]) => Number(accuracy));
    expect(accuracies).toEqual([...accuracies].sort((a, b) => b - a));
    const html = readFileSync(out, "utf8");
    expect(html).toContain("lr: 0.002");
    expect(html).not.toMatch(/NaN|undefined/);
    // Each curve has its own colour and dashes.
    const looks = [...html.matchAll(/<span style="(.*?)">/g)].map(([, look]) => look);
    expect(new Set(looks).size).toBe(ranked.length);
  });

  test("Ctrl-C saves the run and prints how to resume it, and the resumed run gives the same numbers", async () => {
    const kept = join(folder, "runs.safetensors");
    const flags = ["--optimizers", "gd,adam,sgd", "--epochs", "100", "--batch", "10", "--threads", "1"];
    flags.push("--out", join(folder, "kept.html"));
    /** The table without times. */
    const numbers = (stdout: string) =>
      stdout
        .split("\n")
        .filter((line) => line.startsWith("│"))
        .map((line) => line.split("│").slice(1, 5));
    const whole = await command(...flags);
    expect(whole.code).toBe(0);
    expect(numbers(whole.stdout)).toHaveLength(4);

    const broken = await command(...flags, "--save", kept, "interrupt when: Adam: epoch 3 of");
    expect(broken.stdout).toMatch(
      /saved (\S+) at step \d+ of Adam; to go on: npm start -- --data \S+ --optimizers gd,adam,sgd .* --resume \1\n$/,
    );
    expect(broken.code).toBe(130);
    const again = await command(...flags, "--resume", kept, "interrupt when: SGD: epoch 1 of");
    expect(again.code).toBe(130);
    const resumed = await command(...flags, "--resume", kept);
    expect([resumed.code, resumed.stderr]).toEqual([0, ""]);
    expect(resumed.stdout).not.toContain("Adam: epoch");
    expect(numbers(resumed.stdout)).toEqual(numbers(whole.stdout));

    const other = await command(...flags, "--seed", "2", "--resume", kept);
    expect(other.stderr).toMatch(/^error: --resume: .* is of a run with seed 1, this is one with 2\n$/);
    const none = await command(...flags, "--resume", join(folder, "none"));
    expect(none.stderr).toMatch(/^error: loadFile: .*none cannot be read: ENOENT.*\n$/);
  });

  test("--help lists the flags", async () => {
    const { code, stdout } = await command("--help");
    expect(code).toBe(0);
    for (const flag of [
      "optimizers",
      "epochs",
      "batch",
      "lr",
      "hidden",
      "seed",
      "threads",
      "data",
      "save",
      "resume",
      "out",
    ])
      expect(stdout).toContain(`--${flag} `);
  });

  const names = [...known.map(({ name }) => name), "all"].join(", ");
  test.each([
    [["--optimizers", "adm"], `error: --optimizers: no optimizer "adm"; there are ${names}`],
    [["--lr", "adam=NaN"], `error: --lr: "adam=NaN" gives no rate of 0 or more; write it as in adam=0.001`],
    [["--lr", "adam=-1"], `error: --lr: "adam=-1" gives no rate of 0 or more; write it as in adam=0.001`],
    [["--epochs", "0"], `error: --epochs must be a whole number from 1 to 9007199254740991, got "0"`],
    [["--batch", "301"], "error: --batch must be at most the 300 samples there are, got 301"],
    [["--threads", "0"], 'error: --threads must be a whole number from 1 to 256, got "0"'],
    [["--bogus"], "error: Unknown option '--bogus'; npm start -- --help lists the flags"],
    [["--out", join(folder, "none/report.html")], "cannot be written"],
    [["--data", "/none"], "error: /none/train-images-idx3-ubyte is missing; --data must name a folder with"],
    [
      ["--optimizers", "sgd", "--lr", "sgd=1e30"],
      /^error: sgd: the loss became NaN at step \d+; try a smaller rate, such as --lr sgd=0.1\n$/,
    ],
    [["--hidden", "20000000"], "error: out of memory:"],
  ])("%s", async (flags, message) => {
    const { code, stderr } = await command(...flags);
    expect(code).toBe(1);
    expect(stderr).toMatch(message);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  });

  test("a damaged file", async () => {
    const damaged = mkdtempSync(join(tmpdir(), "idx-"));
    write(damaged);
    truncateSync(join(damaged, "train-images-idx3-ubyte"), 5000);
    const { code, stderr } = await command("--data", damaged);
    rmSync(damaged, { recursive: true });
    expect(code).toBe(1);
    expect(stderr).toContain("is damaged: 300 x 6 x 6 bytes and a header take 10816, it has 5000; --data must name");
  });
});
