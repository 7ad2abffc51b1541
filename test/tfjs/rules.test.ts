/** Every rule on every backend: the same bits as on an arena of this package. */

import * as tf from "@tensorflow/tfjs-core";
import { afterAll, describe, expect, test } from "vitest";
import { createArenaSync } from "../../ts/arena/arena.js";
import * as adapted from "../../ts/tfjs/index.js";
import type { TfjsOptimizer } from "../../ts/tfjs/index.js";
import type { Shape } from "../../ts/arena/tensor.js";
import { variantOf } from "../../ts/optimizer/hyper.js";
import * as rules from "../../ts/rules/index.js";
import { bitsOfEach as bits } from "../harness.js";
import { type Case, cases, factories, fitting } from "../registry.js";
import { backends, counted, numbers, use } from "./backends.js";

/** Sizes that are and are not whole cache lines. */
const shapes: Readonly<Record<string, Shape>> = { kernel: [3, 3, 2, 8], bias: [7], table: [16, 24], one: [1, 5] };

const make = ({ rule }: { rule: { name: string } }, options: object): TfjsOptimizer =>
  (adapted as any)[rule.name](options);

/** One case for each kernel. */
const kernels = new Map(cases.map((each) => [variantOf(each.rule, each.values).kernel, each] as const));

/** The bits of all parameters and of all state after some steps here, and by this package alone. */
function both({ factory, rule, options }: Pick<Case, "factory" | "rule" | "options">, shared: object = {}) {
  const list = Object.entries(shapes).map(([name, shape]) => [name, fitting(rule, shape)] as const);
  const arena = createArenaSync({ threads: 1, maxBytes: 2 ** 23 });
  const tensors = list.map(([name, shape]) => arena.tensor(name, shape)); // one by one, so that each is a segment
  tensors.forEach((tensor, i) => tensor.data.set(numbers(tensor.size, i)));
  const variables: tf.Variable[] = [];
  tf.tidy(() => {
    for (const { data, shape, name } of tensors) {
      variables.push(tf.variable(tf.tensor(data.slice(), [...shape]), true, name));
    }
  });
  const given = { ...options, ...shared };
  const theirs = factory(tensors, given);
  const ours = make({ rule }, given);
  for (let step = 0; step < 4; step++) {
    const grads = tensors.map((tensor, i) => numbers(tensor.size, 100 * step + i));
    tensors.forEach((tensor, i) => tensor.grad.set(grads[i]!));
    const report = theirs.step();
    tf.tidy(() =>
      ours.applyGradients(list.map(([name, shape], i) => ({ name, tensor: tf.tensor(grads[i]!, [...shape]) }))),
    );
    expect(ours.report).toEqual(report);
  }
  expect(ours.iterations).toBe(theirs.steps);
  return { theirs, ours, tensors, variables };
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
