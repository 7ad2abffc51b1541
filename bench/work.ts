/** The list of works that are measured, grouped in cases. */

import type { Factory, Shape } from "downhill";
import { elementsIn } from "../ts/arena/tensor.js";
import * as rules from "../ts/rules/index.js";
import { models } from "./models.js";

/** Steps of one optimizer over some tensors. */
export interface Work {
  readonly case: string;
  /** The tensors: a number of parameters, or a model's name. */
  readonly tensors: string;
  readonly shapes: readonly Shape[];
  readonly rule: string;
  /** The rule's options, as in downhill. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Whether a step also clips the gradient's norm and keeps a moving average of the parameters. */
  readonly whole: boolean;
  /** The load on the machine between steps and during them. */
  readonly between: Between;
}

/**
 * "nothing": steps follow each other. "2 ms": other work takes 2 ms before each step. "busy": other threads keep all
 * other cores busy.
 */
export type Between = "nothing" | "2 ms" | "busy";

export const sizeOf = ({ shapes }: Work): number => shapes.reduce((sum, shape) => sum + elementsIn(shape), 0);

/** The factory of a rule, in a build of downhill. */
export const factoryIn = (build: object, rule: string) => (build as Readonly<Record<string, Factory>>)[rule]!;

/** A rule with its options, as text: `sgd, momentum`. */
export function titleOf({ rule, options, whole }: Pick<Work, "rule" | "options" | "whole">): string {
  const on = Object.keys(options).filter((option) => option !== "lr");
  return [rule, ...on, ...(whole ? ["clipNorm", "ema"] : [])].join(", ");
}

/** Each rule with its defaults, and again with each set of the options that add state. */
export const variants = Object.values(rules).flatMap(({ rule: { name, addedState, fixed, program } }) => {
  const adding = [...new Set(Object.values(addedState))];
  const subsets = Array.from({ length: 2 ** adding.length }, (_, bits) => adding.filter((_, i) => (bits >> i) & 1));
  return subsets.map((on) => ({
    rule: name,
    options: { lr: 1e-3, ...Object.fromEntries(on.map((option) => [option, option in fixed ? true : 0.9])) },
    matrices: program !== undefined,
  }));
});

const LR = { lr: 1e-3 };
const sgd = { rule: "sgd", options: LR };
const momentum = { rule: "sgd", options: { ...LR, momentum: 0.9 } };
const adam = { rule: "adam", options: LR };
const adamw = { rule: "adamw", options: LR };

const plain = { whole: false, between: "nothing" } as const;
const flat = (size: number) => ({ tensors: `${size}`, shapes: [[size]] });
const model = (name: string) => ({ tensors: name, shapes: models[name]! });

const SIZES = [1000, 2 ** 16, 2 ** 20, 2 ** 24];
const MORE_SIZES = [1000, 2 ** 12, 2 ** 14, 2 ** 16, 2 ** 18, 2 ** 20, 2 ** 22, 2 ** 24];

/** Larger matrices take minutes a step. */
const MAX_SIDE = 2048;

type Steps = Omit<Work, "case">;

/** Every case by name. `sizes` are those that were asked for. */
export const cases: Readonly<Record<string, (sizes: readonly number[] | undefined) => readonly Steps[]>> = {
  /** The usual rules at many sizes. */
  sizes: (sizes = MORE_SIZES) =>
    [sgd, momentum, adam, adamw].flatMap((rule) => sizes.map((size) => ({ ...plain, ...rule, ...flat(size) }))),
  /** Every rule that does not need matrices. */
  rules: (sizes = SIZES) =>
    variants
      .filter(({ matrices }) => !matrices)
      .flatMap(({ rule, options }) => sizes.map((size) => ({ ...plain, rule, options, ...flat(size) }))),
  /** Steps that also clip and average. */
  whole: (sizes = SIZES) => sizes.map((size) => ({ ...plain, ...adamw, whole: true, ...flat(size) })),
  /** The tensors of models. */
  models: () =>
    Object.keys(models).flatMap((name) =>
      [false, true].map((whole) => ({ ...plain, ...adamw, whole, ...model(name) })),
    ),
  /** Every rule that needs matrices, over squares. */
  matrices: (sizes = [2 ** 20]) =>
    variants
      .filter(({ matrices }) => matrices)
      .flatMap(({ rule, options }) =>
        sizes
          .map((size) => Math.sqrt(size))
          .filter((side) => Number.isInteger(side) && side <= MAX_SIDE)
          .map((side) => ({ ...plain, rule, options, tensors: `${side} x ${side}`, shapes: [[side, side]] })),
      ),
  /** Steps with other work between them, and with all other cores busy: they show when it pays to wake threads. */
  pauses: (sizes = [2 ** 16, 2 ** 18, 2 ** 20]) =>
    (["nothing", "2 ms", "busy"] as const).flatMap((between) =>
      [sgd, momentum, adamw].flatMap((rule) => sizes.map((size) => ({ ...plain, ...rule, between, ...flat(size) }))),
    ),
  /** `stepAsync` beside `step`. */
  async: (sizes = [2 ** 14, 2 ** 18, 2 ** 20, 2 ** 24]) =>
    [sgd, adamw].flatMap((rule) => sizes.map((size) => ({ ...plain, ...rule, ...flat(size) }))),
  /** The slowest steps of every rule with gradients that die, are rare, or are tiny. */
  gradients: () =>
    variants.map(({ rule, options, matrices }) => ({
      ...plain,
      rule,
      options,
      ...(matrices ? { tensors: "64 x 64", shapes: [[64, 64]] } : flat(4096)),
    })),
  /** Saving and loading, beside copies. */
  checkpoints: (sizes = [2 ** 24]) => sizes.map((size) => ({ ...plain, ...adamw, ...flat(size) })),
};
