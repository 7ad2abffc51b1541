/**
 * The published bits: what every kernel makes of fixed inputs. crate/tests/bits.rs meets the same file with scalars,
 * compiled for the machine. `npm test -- -u` writes a new rule's.
 */

import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { fields, variantOf } from "../ts/hyper.js";
import { bits, inputs, kernelRun } from "./harness.js";
import { cases } from "./registry.js";

const LENGTH = 1027;
const STEPS = 7;

test("every kernel, to the bit", async () => {
  const published = cases.map(({ name, rule, values }, index) => {
    const gradScale = index % 2 ? 0.37 : 1;
    const { kernel, slots } = variantOf(rule, values);
    const hash = createHash("sha256")
      .update(bits(kernelRun(rule, values, inputs(LENGTH, STEPS), { gradScale })))
      .digest("hex");
    return { name, kernel, hyper: fields(rule, values), slots: Object.values(slots), gradScale, hash };
  });
  const lines = published.map((entry) => `    ${JSON.stringify(entry)}`).join(",\n");
  await expect(`{\n  "length": ${LENGTH},\n  "steps": ${STEPS},\n  "cases": [\n${lines}\n  ]\n}\n`).toMatchFileSnapshot(
    "bits.json",
  );
});
