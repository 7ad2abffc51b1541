/**
 * Compares with trajectories of PyTorch, Optax, Keras and an article. Each option of the other library is translated to
 * an option here. An option that a rule does not have is an error.
 */

import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { camel } from "../ts/option.js";
import type { Tensor } from "../ts/arena/tensor.js";
import { error, relativeDistance } from "./harness.js";
import { type AnyFactory, factories, type RuleName } from "./registry.js";
import { small } from "./small.js";

const read = (name: string) => JSON.parse(readFileSync(new URL(`golden/${name}`, import.meta.url), "utf8"));
const inputs = read("inputs.json");

interface Golden {
  readonly from: "torch" | "optax" | "keras";
  readonly file: string;
  readonly case: string;
  readonly factory: AnyFactory;
  readonly options: object;
  /** Whether it ran over vectors or matrices. */
  readonly inputs?: "vectors" | "matrices";
  /** By step, then tensor. */
  readonly params: Record<string, Record<string, number[]>>;
  /** By tensor, then slot, under PyTorch's names. */
  readonly state?: Record<string, Record<string, number[]>>;
}

const named = (name: string) => factories.find(({ rule }) => rule.name === name)!;
const renamed = (record: object, rename: (name: string) => string) =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [rename(name), value]));

/** Files that are named after an option: `rule.FILE.json` holds runs of the rule here. */
const namedAfterAnOption: Record<string, string> = {
  momentum: "sgd",
  amsgrad: "adam",
  amsgrad_optax: "adam",
  nadam_optax: "adam",
};
const ruleOf = (file: string) => named(namedAfterAnOption[file] ?? camel(file)) ?? named(file.split("_")[0]!);

/** The rules and options that compute Optax's formulas, where the default here is PyTorch's. */
const optax: Record<string, object> = {
  amsgrad_optax: { amsgrad: true, amsgradCorrected: true },
  nadam_optax: { nesterov: true },
  rmsprop_optax: { alpha: 0.9, epsInSqrt: true },
  muon_optax: { biasCorrection: true, epsAdded: true, inputsFirst: true, eps: 1e-8, weightDecay: 0 },
  adagrad_optax: { initialAccumulatorValue: 0.1, eps: 1e-7, epsInSqrt: true },
};

/** Translates names of Optax's options. All others only change to camelCase. */
function fromOptax(file: string, { learning_rate: lr, b1, b2, b3, decay: alpha, ...rest }: Record<string, any>) {
  const betas = [b1, b2, b3].filter((beta) => beta !== undefined);
  return {
    lr,
    ...(betas.length > 0 && { betas }),
    ...(alpha && { alpha }),
    ...renamed(rest, (name) => (file === "muon_optax" && name === "beta" ? "momentum" : camel(name))),
  };
}

/** The rules and options that compute Keras's formulas, with its defaults and its position of epsilon. */
const adam = { eps: 1e-7, epsHat: true };
const keras: Record<string, { readonly rule: string; readonly options?: object }> = {
  SGD: { rule: "sgd" },
  RMSprop: { rule: "rmsprop", options: { alpha: 0.9, eps: 1e-7, epsInSqrt: true } },
  Adam: { rule: "adam", options: adam },
  AdamW: { rule: "adamw", options: { ...adam, weightDecay: 4e-3 } },
  Adamax: { rule: "adamax", options: { eps: 1e-7, epsOutside: true } },
  Nadam: { rule: "nadam", options: { eps: 1e-7, momentumDecay: 1 } },
  Adagrad: { rule: "adagrad", options: { initialAccumulatorValue: 0.1, eps: 1e-7, epsInSqrt: true } },
  Adadelta: { rule: "adadelta", options: { rho: 0.95, eps: 1e-7 } },
  Lion: { rule: "lion", options: { weightDecay: 0 } },
  Lamb: { rule: "lamb", options: { eps: 1e-7 } },
  Ftrl: { rule: "ftrl" },
};

/** Translates names of Keras's options. */
function fromKeras(optimizer: string, given: Record<string, any>) {
  const { learning_rate: lr, learning_rate_power: lrPower, epsilon: eps, ...others } = given;
  const { beta_1 = 0.9, beta_2 = 0.999, rho, ...rest } = others;
  const own = {
    lr,
    ...(lrPower && { lrPower }),
    ...(eps && { eps }),
    ...(("beta_1" in given || "beta_2" in given) && { betas: [beta_1, beta_2] }),
    ...(rho && { [optimizer === "RMSprop" ? "alpha" : "rho"]: rho }),
  };
  return { ...keras[optimizer]!.options, ...own, ...renamed(rest, camel) };
}

/** Translates names of PyTorch's options to camelCase, except for this one. */
const fromTorch = ({ adjust_lr_fn: adjustLr, ...rest }: Record<string, any>) => ({
  ...(adjustLr && { adjustLr }),
  ...renamed(rest, camel),
});

const libraries: Golden[] = readdirSync(new URL("golden", import.meta.url))
  .flatMap((name) => name.match(/^rule\.(\w+)\.json$/)?.[1] ?? [])
  .flatMap((file) =>
    read(`rule.${file}.json`).cases.map((golden: Golden) => ({
      ...golden,
      file,
      factory: ruleOf(file),
      options:
        golden.from === "optax" ? { ...optax[file], ...fromOptax(file, golden.options) } : fromTorch(golden.options),
    })),
  );

const fromKerasRuns: Golden[] = read("keras.json").cases.flatMap(({ optimizer, options, params }: any) =>
  keras[optimizer] === undefined
    ? []
    : {
        from: "keras",
        file: "keras",
        case: `${optimizer} ${JSON.stringify(options)}`,
        params,
        factory: named(keras[optimizer].rule),
        options: fromKeras(optimizer, options),
      },
);

const [descent, momentum, uncorrected] = read("article.json").cases;
const article: Golden[] = [
  { ...descent, factory: named("sgd"), options: { lr: descent.options.alpha } },
  { ...momentum, factory: named("momentum"), options: { lr: momentum.options.alpha, momentum: momentum.options.beta } },
  {
    ...uncorrected,
    factory: named("adam"),
    options: {
      lr: uncorrected.options.alpha,
      betas: [uncorrected.options.beta1, uncorrected.options.beta2],
      eps: uncorrected.options.epsilon,
      biasCorrection: false,
    },
  },
].map((golden) => ({ ...golden, file: "article" }));

/** Rules without numbers from another library, and why. */
const withoutGolden: Partial<Record<RuleName, string>> = {
  adan: "Optax computes another formula (test/golden/README.md)",
  noisySgd: "Optax draws other noise",
  shampoo: "neither PyTorch nor Optax has it",
  soap: "neither PyTorch nor Optax has it",
};

test("every rule has a golden file", () => {
  const covered = new Set([...libraries, ...fromKerasRuns, ...article].map(({ factory }) => factory.rule.name));
  const missing = factories.map(({ rule }) => rule.name).filter((name) => !covered.has(name));
  const remedy = "add a line to scripts/golden.py and run it, or say in `withoutGolden` why there are no numbers";
  expect(missing, remedy).toEqual(Object.keys(withoutGolden).sort());
});

describe.each([...libraries, ...fromKerasRuns, ...article])(
  "$file: $case",
  ({ file, factory, options, params, state, inputs: over = "vectors" }) => {
    const { shapes, params: initial, grads } = inputs[over];

    test("parameters at every kept step, and the final state", () => {
      const arena = small();
      const model: Record<string, Tensor> = arena.tensors(shapes);
      for (const name in model) model[name]!.data.set(initial[name]);
      const optimizer = factory(model, options);
      for (let step = 1; step <= inputs.steps; step++) {
        for (const name in model) model[name]!.grad.set(grads[name][step - 1]);
        optimizer.step();
        if (factory.rule.hessian && step % 10 === 1) {
          for (const { grad } of Object.values(model)) grad.set(grad.map((g) => g * g));
          optimizer.hessian();
        }
        for (const [name, expected] of Object.entries(params[step] ?? {})) {
          const { data } = model[name]!;
          const far = file === "muon" ? relativeDistance(data, expected, initial[name]) / 0.03 : error(data, expected);
          expect(far, `${name} after step ${step}`).toBeLessThan(1);
        }
      }
      for (const [name, slots] of Object.entries(state ?? {})) {
        // In PyTorch, the scalars of ASGD are those of the next step.
        const { step, eta, mu, muProduct, ...expected } = renamed(slots, camel) as Record<string, number[]>;
        if (muProduct) expect(error([optimizer.groups[0].scalars[0].muProduct], muProduct)).toBeLessThan(1);
        if (step !== undefined) expect(optimizer.steps).toEqual(step[0]);
        const actual = optimizer.state(model[name]);
        expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
        for (const [slot, values] of Object.entries(expected)) {
          expect(error(actual[slot], values), `${slot} of ${name}`).toBeLessThan(1);
        }
      }
      arena.free();
    });
  },
);
