/** The optimizers that are compared: the article's, and as libraries have them. */

import { adam, adamw, type Factory, momentum, rmsprop, sgd } from "downhill";

export interface Entry {
  /** How it is called on the command line. */
  readonly name: string;
  readonly title: string;
  readonly formula: string;
  readonly factory: Factory<any, any, any, any>;
  readonly options: Readonly<Record<string, unknown>>;
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
