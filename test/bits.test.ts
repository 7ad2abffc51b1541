/**
 * Compares the results of every kernel and every step for fixed inputs with the hashes in test/bits.json ("published
 * bits"). crate/tests/bits.rs compares the kernels compiled for the host CPU, and test/engines compares other engines.
 * `npm test -- bits -u` adds the hashes of a new rule.
 */

import { expect, test } from "vitest";
import { createArena } from "../ts/arena/arena.js";
import { fields, variantOf } from "../ts/optimizer/hyper.js";
import {
  conform,
  hashesOf,
  hashOf,
  LENGTH,
  otherHashes,
  othersWork,
  type Published,
  publishedRun,
  rateHash,
  STEPS,
  stepHash,
} from "./conformance.js";
import { cases } from "./registry.js";

let published: Published;

test("every kernel, step and schedule gives the published bits", async () => {
  const arena = await createArena({ threads: 1, maxBytes: 2 ** 29 });
  const entries: Published["cases"][number][] = [];
  for (const one of cases) {
    const { gradScale } = one;
    const { kernel, slots } = variantOf(one.rule, one.values);
    const result = publishedRun(one, gradScale);
    const { scalars, sums } = result;
    entries.push({
      name: one.name,
      kernel,
      ...(one.rule.program && { program: true }),
      hyper: fields(one.rule, one.values),
      ...(scalars[0]!.length > 0 && { scalars: [Object.values(one.rule.scalars), ...scalars] }),
      ...(sums[0]!.length > 0 && { sums }),
      slots: Object.values(slots).map((start) => (start === "params" ? null : start)),
      gradScale,
      hash: await hashOf([result]),
      stepHash: await stepHash(one, arena),
    } as Published["cases"][number]);
  }
  published = { rates: await rateHash(), others: await otherHashes(arena), cases: entries };
  arena.free();
  const head = `  "length": ${LENGTH},\n  "steps": ${STEPS},\n  "rates": "${published.rates}",\n  "others": ${JSON.stringify(published.others)},\n`;
  const lines = entries.map((entry) => `    ${JSON.stringify(entry)}`);
  const text = `{\n${head}  "cases": [\n${lines.join(",\n")}\n  ]\n}\n`;
  const remedy = "for a new rule, run `npm test -- bits -u`; no other line of test/bits.json may change";
  await expect(text, remedy).toMatchFileSnapshot("bits.json");
});

test("3 threads give the published bits; test/engines tries other numbers of threads", async () => {
  const { failures, compared } = await conform(published, [3]);
  expect(failures).toEqual([]);
  expect(compared).toBe(hashesOf(published, 1));
});

test("the check that other threads work fails with one thread", async () => {
  const arena = await createArena({ threads: 1, maxBytes: 2 ** 27 });
  expect(await othersWork(arena, 100)).toBe(false);
  arena.free();
});
