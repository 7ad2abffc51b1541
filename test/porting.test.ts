/**
 * Tests of docs/porting.md: each call runs. The calls for TensorFlow.js give the same trajectories as TensorFlow.js.
 */

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { beforeAll, describe, expect, test } from "vitest";
import { around, libraries, type Port, pytorch, ruleIn, tfjs } from "../scripts/porting.js";
import * as downhill from "../ts/index.js";
import * as torch from "../ts/torch/index.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { groupOptions } from "../ts/optimizer/definition.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { sam } from "../ts/wrappers/sam.js";
import type { Tensor } from "../ts/arena/tensor.js";
import { numbers } from "./harness.js";
import { factories, fitting } from "./registry.js";
import { small } from "./small.js";

const byName = Object.fromEntries(factories.map((factory) => [factory.rule.name, factory]));
const SIZE = 5;

function make({ here }: Port) {
  const model: Record<string, Tensor> = small().tensors({
    w: fitting(byName[ruleIn({ here } as Port)]?.rule ?? {}, [SIZE]),
  });
  const symbols = { α: 0.1, β: 0.9, β1: 0.9, β2: 0.99, ε: 1e-8, λ: 0.1 };
  const all: Record<string, unknown> = { ...byName, lbfgs, lookahead, sam, model, ...symbols };
  const call = new Function(...Object.keys(all), `"use strict"; return ${here};`);
  return { w: model.w!, optimizer: call(...Object.values(all)) };
}

test("every rule has a call of another library", () => {
  const ported = libraries.flatMap(({ ports }) => ports.map(ruleIn));
  const own = ["shampoo", "soap"]; // only in the authors' code
  const all = [...Object.keys(byName), "lbfgs", "lookahead", "sam"];
  const remedy = "add the other library's call to scripts/porting.ts, or the rule to `own` if no library has it";
  expect([...new Set(ported), ...own].sort(), remedy).toEqual(all.sort());
});

describe.each(libraries)("$name", ({ ports }) => {
  test.each(ports)("$there", (port) => {
    const { w, optimizer } = make(port);
    w.grad.fill(1);
    optimizer.step(() => 0);
    expect(w.data.every(Number.isFinite)).toBe(true);
  });
});

describe("around the optimizer", () => {
  test.each(around)("$there", ({ here }) => {
    const arena = small();
    const model = arena.tensors({ w: [2, 3], b: [3] });
    const opt = downhill.adamw(model);
    const all: Record<string, unknown> = {
      ...downhill,
      ...torch,
      model,
      opt,
      readFileSync: (name: string) => (name === "model.pt" ? torch.saveModel(model) : torch.saveOptimizer(opt)),
      head: [arena.tensor("head", [2])],
    };
    expect(new Function(...Object.keys(all), `"use strict"; return ${here};`)(...Object.values(all))).not.toBeNull();
  });
});

test.each(pytorch.ports.filter((port) => ruleIn(port) in byName))("$there: with our defaults", (port) => {
  const factory = byName[ruleIn(port)]!;
  const { hyper, fixed } = factory.rule;
  const given = /{(.*)}/.exec(port.here)![1]!;
  const options = new Function(`return {${given}}`)() as Record<string, unknown>;
  for (const [name, value] of Object.entries(options)) {
    expect({ [name]: value }).toEqual({ [name]: { ...hyper, ...fixed }[name]!.default });
  }
  // Options for formulas of other libraries. PyTorch lacks them, so they are off by default.
  const all = Object.entries({ ...hyper, ...fixed }).filter(
    ([name, { default: value }]) => typeof value !== "boolean" && !Object.hasOwn(groupOptions, name),
  );
  const off = all.filter(([name, { default: value }]) => value === 0 && name === "epsRoot");
  const expected = all.filter((entry) => !off.includes(entry)).map(([name]) => name);
  expect(Object.keys(options)).toEqual(expect.arrayContaining(expected));
});

describe("TensorFlow.js", () => {
  beforeAll(async () => {
    tf.env().set("IS_TEST", true); // no advertisement for the native package
    await tf.setBackend("cpu");
  });

  test.each(tfjs.ports)("$there", (port) => {
    const { w, optimizer } = make(port);
    const theirs = new Function("tf", `return ${port.there};`)(tf) as tf.Optimizer;
    const variable = tf.variable(tf.zeros([SIZE]));
    const random = numbers(7);
    for (let step = 0; step < 20; step++) {
      const grad = Float32Array.from({ length: SIZE }, () => random() - 0.3);
      w.grad.set(grad);
      optimizer.step();
      theirs.applyGradients({ [variable.name]: tf.tensor(grad) });
    }
    const distance = Math.max(...variable.dataSync().map((x, i) => Math.abs(x / w.data[i]! - 1)));
    // Gradients are large compared with eps, so that only other differences matter.
    if (ruleIn(port) === "adadelta") expect(distance).toBeGreaterThan(0.1);
    else expect(distance).toBeLessThan(1e-3);
  });
});
