/** Every rule on every backend: the same bits as on an arena of this package. */

import * as tf from "@tensorflow/tfjs-core";
import { afterAll, describe, expect, test } from "vitest";
import * as adapted from "../../ts/tfjs/index.js";
import * as rules from "../../ts/rules/index.js";
import { bitsOfEach as bits } from "../harness.js";
import { factories } from "../registry.js";
import { backends, counted, use } from "./backends.js";
import { type Beside, beside, kernels } from "./beside.js";

/** The same as `beside`, whose reports must be equal. */
function both(...given: Parameters<typeof beside>): Beside {
  const made = beside(...given);
  for (const [ours, theirs] of made.reports) expect(ours).toEqual(theirs);
  expect(made.ours.iterations).toBe(made.theirs.steps);
  return made;
}

describe.each(backends)("on %s", (backend) => {
  afterAll(() => tf.disposeVariables());

  test.each([...kernels])("kernel %s", async (_, each) => {
    await use(backend);
    const before = counted();
    const { theirs, ours, tensors, variables } = both(each);
    const weights = new Map((await ours.getWeights()).map(({ name, tensor }) => [name, tensor]));
    for (const [i, tensor] of tensors.entries()) {
      expect(bits(variables[i]!.dataSync()), tensor.name).toEqual(bits(tensor.data));
      const found = [...weights].filter(([name]) => name.startsWith(`${tensor.name}/`));
      const state = Object.values(theirs.state(tensor)) as Float32Array[];
      const isScaled = (["momentum", "rmsprop"] as string[]).includes(each.rule.name);
      if (isScaled) continue; // test/tfjs/weights.test.ts
      const sorted = (list: number[][]) => list.map((bits) => JSON.stringify(bits)).sort();
      expect(sorted(found.map(([, tensor]) => bits(tensor.dataSync())))).toEqual(sorted(state.map(bits)));
    }
    ours.dispose();
    tf.dispose(variables);
    expect(counted()).toEqual(before);
  });

  const shared = {
    clipNorm: { clipNorm: 0.5 },
    clipTensorNorm: { clipTensorNorm: 0.3 },
    clipValue: { clipValue: 0.2 },
    agc: { agc: 0.1 },
    accumulate: { accumulate: 2 },
    "accumulate, agc": { accumulate: 2, agc: 0.1, accumulateBy: "sum" },
    ema: { ema: 0.9, emaWarmup: true },
    swa: { swa: 1, averageStart: 1 },
    gradScale: { gradScale: 0.5, nonFinite: "skip" },
    lossScale: { lossScale: "dynamic" },
    "a schedule and a function": { lr: (step: number) => 0.1 / (1 + step) },
    maximize: { maximize: true },
  };
  test.each(Object.entries(shared))("option %s", async (_, options) => {
    await use(backend);
    const { theirs, ours, tensors, variables } = both({ factory: rules.adamw as any, rule: rules.adamw.rule, options });
    for (const [i, tensor] of tensors.entries()) {
      expect(bits(variables[i]!.dataSync())).toEqual(bits(tensor.data));
      if ("ema" in options || "swa" in options) {
        expect(bits(ours.average(variables[i]!).dataSync())).toEqual(bits(theirs.average(tensor)));
      }
    }
    ours.dispose();
    tf.dispose(variables);
  });
});

test("there is a factory for each rule, and no other", () => {
  const made = Object.values(adapted).map(({ rule }) => rule.name);
  expect(made.sort()).toEqual(factories.map(({ rule }) => rule.name).sort());
});
