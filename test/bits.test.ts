/**
 * The published bits: what every kernel makes of fixed inputs. crate/tests/bits.rs meets the same file with scalars,
 * compiled for the machine. `npm test -- -u` writes a new rule's.
 */

import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { fields, variant } from "../ts/hyper.js";
import { bits, inputs, kernelRun } from "./harness.js";
import { cases } from "./registry.js";

const LENGTH = 1027;
const STEPS = 7;

test("every kernel, to the bit", async () => {
  const published = cases.map(({ name, rule, values }) => {
    const { kernel, slots } = variant(rule, values);
    const hash = createHash("sha256")
      .update(bits(kernelRun(rule, values, inputs(LENGTH, STEPS))))
      .digest("hex");
    return { name, kernel, hyper: fields(rule, values), slots: Object.values(slots), hash };
  });
  const lines = published.map((entry) => `    ${JSON.stringify(entry)}`).join(",\n");
  await expect(`{\n  "length": ${LENGTH},\n  "steps": ${STEPS},\n  "cases": [\n${lines}\n  ]\n}\n`).toMatchFileSnapshot(
    "bits.json",
  );
});
