/** The optimizers that are compared: seven by default, and all others of the package on request. */

import * as downhill from "downhill";
import { adam, adamw, lbfgs, lookahead, momentum, rmsprop, sam, sgd } from "downhill";
import type { Factory, LBFGS, Optimizer, Tensor } from "downhill";

export type AnyOptimizer = Optimizer | LBFGS;
type Options = Readonly<Record<string, unknown>>;

export interface Entry {
  /** The name on the command line. */
  readonly name: string;
  readonly title: string;
  readonly formula?: string;
  /** Makes the optimizers of a run. A rule of matrices needs a second optimizer for the vectors. */
  readonly factory?: Factory;
  readonly make?: (model: Record<string, Tensor>, options: Options) => readonly AnyOptimizer[];
  readonly options: Options;
  /** Whether there are several optimizers. */
  readonly several?: boolean;
  /** Whether each step sees the whole training set. */
  readonly wholeSet?: boolean;
}

const moments = "m = β₁m + (1 − β₁)g; s = β₂s + (1 − β₂)g²";

export const entries: readonly Entry[] = [
  {
    name: "gd",
    title: "gradient descent",
    formula: "θ = θ − αg, g over the whole training set",
    factory: sgd,
    options: { lr: 0.2 },
    wholeSet: true,
  },
  { name: "sgd", title: "SGD", formula: "θ = θ − αg, g over a mini-batch", factory: sgd, options: { lr: 0.1 } },
  {
    name: "momentum",
    title: "momentum",
    formula: "v = βv − αg; θ = θ + v",
    factory: momentum,
    options: { lr: 0.05, momentum: 0.9 },
  },
  {
    name: "rmsprop",
    title: "RMSProp",
    formula: "s = βs + (1 − β)g²; θ = θ − αg / (√s + ε)",
    factory: rmsprop,
    options: { lr: 1e-3, alpha: 0.9 },
  },
  {
    name: "adam-article",
    title: "Adam, uncorrected",
    formula: `${moments}; θ = θ − αm / (√s + ε)`,
    factory: adam,
    options: { lr: 1e-3, biasCorrection: false },
  },
  {
    name: "adam",
    title: "Adam",
    formula: `${moments}; θ = θ − αm̂ / (√ŝ + ε), m̂ = m / (1 − β₁ᵗ), ŝ = s / (1 − β₂ᵗ)`,
    factory: adam,
    options: { lr: 1e-3 },
  },
  {
    name: "adamw",
    title: "AdamW",
    formula: "as Adam, after θ = (1 − αλ)θ",
    factory: adamw,
    options: { lr: 1e-3, weightDecay: 0.01 },
  },
];

/** Rules that need other options than their defaults here, or another way to be made. */
const suited: Readonly<Record<string, Partial<Entry>>> = {
  adagrad: { options: { lr: 0.03 } },
  adan: { options: { lr: 3e-3 } },
  asgd: { options: { lr: 0.1 } },
  fromage: { options: { lr: 0.01 } },
  lars: { options: { lr: 10 } },
  lamb: { options: { lr: 0.01 } },
  lion: { options: { lr: 1e-3 } },
  muon: { options: { lr: 0.02, weightDecay: 0.01 } },
  noisySgd: { options: { lr: 0.1, eta: 1e-4 } },
  novograd: { options: { lr: 0.01 } },
  radam: { options: { lr: 3e-3 } },
  // With mini-batches, signs of successive gradients also agree by chance. Without an upper bound the step sizes would
  // grow without limit.
  rprop: { options: { lr: 1e-3, stepSizes: [1e-6, 3e-3] } },
  scheduleFreeSgd: { options: { lr: 0.5 } },
  // With 784 inputs a decomposition takes seconds.
  shampoo: { options: { lr: 0.05, eps: 0.1, preconditionFrequency: 100 } },
  soap: { options: { lr: 3e-3, preconditionFrequency: 50 } },
  sophia: { options: { lr: 1e-3 } },
};

/** A rule of matrices for the hidden layers, and AdamW for vectors and the last matrix. */
const ofMatrices =
  (factory: Factory): Entry["make"] =>
  (model, options) => {
    const tensors = Object.values(model);
    const last = tensors.findLast(({ shape }) => shape.length === 2);
    const hidden = tensors.filter((tensor) => tensor.shape.length === 2 && tensor !== last);
    return [factory(hidden, options), adamw(tensors.filter((tensor) => !hidden.includes(tensor)))];
  };

/** Wrappers, and optimizers that call a closure. */
const others: readonly Entry[] = [
  {
    name: "lookahead",
    title: "Lookahead, AdamW",
    options: { lr: 1e-3 },
    make: (model, options) => [lookahead(adamw(model, options))],
  },
  { name: "sam", title: "SAM, AdamW", options: { lr: 1e-3 }, make: (model, options) => [sam(adamw(model, options))] },
  {
    name: "lbfgs",
    title: "L-BFGS",
    options: { lr: 1 },
    make: (model, options) => [lbfgs(model, { ...options, maxIter: 8, lineSearchFn: "strong_wolfe" })],
    wholeSet: true,
  },
];

/** Every rule of the package, with the options above if there are any. */
const rules = Object.values<unknown>(downhill)
  .filter((value): value is Factory => typeof value === "function" && "rule" in value)
  .map((factory): Entry => {
    const { name, hyper, fixed, accepts } = factory.rule;
    const options = { lr: { ...hyper, ...fixed }.lr?.default };
    const matrices = accepts?.startsWith("matrices") && { make: ofMatrices(factory), several: true };
    return (
      entries.find((entry) => entry.name === name) ?? {
        name,
        title: name,
        factory,
        options,
        ...matrices,
        ...suited[name],
      }
    );
  });

/** The optimizers that `all` ranks. */
export const ranked: readonly Entry[] = [...rules, ...others].sort((a, b) => (a.name < b.name ? -1 : 1));

/** All optimizers that can be named. */
export const known: readonly Entry[] = [...new Set([...entries, ...ranked])];

export const optimizersOf = ({ make, factory, options }: Entry, model: Record<string, Tensor>) =>
  make?.(model, options) ?? [factory!(model, options)];
