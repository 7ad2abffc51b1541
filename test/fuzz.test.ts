/**
 * Loads files that are damaged at random or made by a grammar. Some are sealed: their checksums are right. Loading must
 * succeed, or throw a RangeError of this package and change nothing. FUZZ_SECONDS is the time for each test,
 * 1 by default.
 */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { createArenaSync } from "../ts/arena/arena.js";
import { load, save } from "../ts/checkpoint/index.js";
import { adamw } from "../ts/rules/index.js";
import { loadModel, loadOptimizer, readTorch } from "../ts/torch/index.js";
import { unzip, zip } from "../ts/torch/zip.js";
import { file, parts, sealed } from "./checkpoint/files.js";
import { memoryOf } from "./harness.js";
import { grammarPickle, pickled } from "./torch/pickles.js";

const seconds = Number(process.env.FUZZ_SECONDS ?? 1);
const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
const model = arena.tensors({ w: [3, 4], b: [4] });
const optimizer = adamw([{ params: [model.w] }, { params: [model.b], lr: 0.02 }]);
optimizer.step();
/** The tensors and the optimizer of the runs in test/torch/fixtures. */
const theirs = arena.tensors({ "0.weight": [7, 9], "0.bias": [7], scale: [] });
const twin = adamw([{ params: [theirs["0.weight"], theirs.scale] }, { params: [theirs["0.bias"]] }]);

/** Kinds of damage: change bytes, remove some, insert some, repeat a part. */
const damage = fc.array(
  fc.record({
    kind: fc.constantFrom("set", "cut", "put", "again" as const),
    at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    length: fc.integer({ min: 1, max: 20 }),
    bytes: fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc
        .constantFrom(
          '"',
          "{",
          "}",
          "[",
          "]",
          ",",
          ":",
          "0",
          "-1",
          "1e9",
          "9007199254740993",
          "null",
          '"__proto__"',
          "\\u0000",
          "(",
          ".",
          "R",
          "t",
          "Q",
          "}",
          "cos\nsystem\n",
        )
        .map((text) => new TextEncoder().encode(text)),
    ),
  }),
  { minLength: 1, maxLength: 4 },
);
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never;

function damaged(bytes: Uint8Array, list: Damage): Uint8Array {
  let now = Buffer.from(bytes);
  for (const { kind, at, length, bytes } of list) {
    const start = Math.floor(at * now.length);
    const [before, part, after] = [
      now.subarray(0, start),
      now.subarray(start, start + length),
      now.subarray(start + length),
    ];
    if (kind === "set") now = Buffer.concat([before, bytes, now.subarray(start + bytes.length)]);
    else if (kind === "cut") now = Buffer.concat([before, after]);
    else if (kind === "put") now = Buffer.concat([before, bytes, part, after]);
    else now = Buffer.concat([before, part, part, after]);
  }
  return now;
}

/** Messages of JavaScript engines, which must never reach a user. */
const native =
  /Cannot |is not (a func|iter|def|an obj|ext)|Invalid |outside the bounds|call stack|out of range|properties of/;

/** Runs until the time is up, and prints the number of files and how many of them were loaded. */
function fuzz<Input>(
  title: string,
  inputs: fc.Arbitrary<Input>,
  make: (input: Input) => Uint8Array,
  act: (bytes: Uint8Array) => void,
  changesNothing = true,
) {
  test(`${title}, for ${seconds} seconds`, { timeout: 1000 * (seconds + 60) }, () => {
    let [runs, loaded] = [0, 0];
    const end = performance.now() + 1000 * seconds;
    while (performance.now() < end) {
      fc.assert(
        fc.property(inputs, (input) => {
          const bytes = make(input);
          const before = changesNothing ? memoryOf(arena) : undefined;
          runs += 1;
          try {
            act(bytes);
            loaded += 1;
          } catch (error) {
            if (!(error instanceof RangeError) || !/^(load|loadModel|loadOptimizer|readTorch): /.test(error.message))
              throw error;
            expect(error.message).not.toMatch(native);
            expect(error.message.length).toBeLessThan(1500);
            if (before) expect(memoryOf(arena).equals(before)).toBe(true);
          }
        }),
        { numRuns: 200 },
      );
    }
    console.log(`${title}: ${runs} files, ${loaded} of them loaded`);
  });
}

const valid = save(model, optimizer, { note: "fuzz" });
const { text, data } = parts(valid);
fuzz(
  "a checkpoint with damaged text, sealed",
  damage,
  (list) => {
    const bytes = file(damaged(new TextEncoder().encode(text), list), data);
    try {
      return sealed(bytes);
    } catch {
      return bytes;
    }
  },
  (bytes) => load(bytes, model, optimizer, { strict: false }),
);
fuzz(
  "a checkpoint",
  damage,
  (list) => damaged(valid, list),
  (bytes) => load(bytes, model, optimizer),
);
fuzz(
  "another's safetensors",
  damage,
  (list) => damaged(readFileSync(new URL("golden/resume/model.safetensors", import.meta.url)), list),
  (bytes) => loadModel(bytes, model, { strict: false }),
);

/** Values of counters: some are valid, some contradict others, some are not numbers. */
const counter = fc.oneof(
  { weight: 5, arbitrary: fc.nat(3) },
  { weight: 1, arbitrary: fc.constantFrom(-1, 0.5, 1e300, 2 ** 53, "NaN", "-0", null, [], {}, [0, 1], [[0]], true) },
);
const counts = fc.record(
  {
    steps: counter,
    lossScale: fc.constantFrom(1, 1, 1, 2, 0, "1"),
    goodSteps: counter,
    microBatches: counter,
    averaged: counter,
    since: fc.oneof(fc.array(counter, { maxLength: 3 }), counter),
    scalars: fc.oneof(fc.constant([{}, {}]), fc.array(counter, { maxLength: 3 })),
    observed: fc.oneof(fc.constant([]), fc.array(counter, { maxLength: 2 })),
  },
  { requiredKeys: ["steps"] },
);
const { header } = parts(valid);
fuzz(
  "a checkpoint with other counts, sealed: the step after it is finite",
  counts,
  (counts) => {
    const { __metadata__: metadata, ...entries } = header;
    const saved = JSON.parse(metadata.counts);
    const changed = { __metadata__: { ...metadata, counts: JSON.stringify({ ...saved, ...counts }) }, ...entries };
    return sealed(file(JSON.stringify(changed), data));
  },
  (bytes) => {
    load(bytes, model, optimizer);
    for (const { grad } of Object.values(model)) grad.fill(1);
    optimizer.step();
    for (const { data } of Object.values(model)) expect(data.every(Number.isFinite)).toBe(true);
  },
);

fuzz(
  "a pickle by the grammar",
  grammarPickle,
  (text) => pickled(text),
  (bytes) => {
    readTorch(bytes);
    loadOptimizer(bytes, twin, { strict: false });
  },
);

const torch = readFileSync(new URL("torch/fixtures/adamw.pt", import.meta.url));
const files = unzip(Uint8Array.from(torch));
fuzz("a file of PyTorch's", damage, (list) => damaged(torch, list), readTorch, false);
fuzz(
  "a file of PyTorch's with a damaged pickle, sealed",
  damage,
  (list) =>
    zip(new Map([...files].map(([name, bytes]) => [name, name.endsWith("/data.pkl") ? damaged(bytes, list) : bytes]))),
  (bytes) => loadOptimizer(bytes, twin, { strict: false }),
);
