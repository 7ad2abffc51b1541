/**
 * Lists every rule with sets of options, and an example of every schedule. Together the sets of a rule reach all of its
 * kernels and branches.
 */

import { groupOptions, type Rule } from "../ts/optimizer/definition.js";
import { resolveAll, resolveGroup, type Values, variantOf } from "../ts/optimizer/hyper.js";
import type { Option } from "../ts/option.js";
import * as registered from "../ts/rules/index.js";
import { elementsIn, type Shape } from "../ts/arena/tensor.js";
import type { Schedule } from "../ts/schedules/schedule.js";
import * as schedules from "../ts/schedules/index.js";

export type AnyFactory = ((params: any, options?: any) => any) & { readonly rule: Rule };

/** The names of the rules. A table whose type is `Record<RuleName, …>` does not compile without an entry for a new rule. */
export type RuleName = keyof typeof registered;

export const factories: readonly AnyFactory[] = Object.values(registered);

export interface Case {
  readonly name: string;
  readonly factory: AnyFactory;
  readonly rule: Rule;
  readonly options: Values;
  /** The options with the defaults of those not given. */
  readonly values: Values;
  /** The factor of the gradients in the run whose bits are published. */
  readonly gradScale: number;
}

/** A value in an option's range that is not its default. */
export function another({ default: value, range }: Option): unknown {
  if (typeof value === "boolean") return !value;
  if (typeof value === "string") return JSON.parse(range.split(" or ")[1]!);
  const next = (x: number, i: number) => {
    if (range.startsWith("[1, ")) return x === 1 ? 2 : Math.ceil(x / 4);
    if (range === "[0, ∞)") return [0.02, 0.03][i];
    if (/^\[0, \d{2,}/.test(range)) return x + 1;
    return range.endsWith("1)") || range.endsWith("1]") ? [0.8, 0.95, 0.9][i] : x * 0.9;
  };
  return Array.isArray(value) ? value.map(next) : next(value as number, 0);
}

/**
 * Returns the cases of a rule: every subset of the options that add state, combined with no other flag, each other flag
 * and all of them; every number has its default, and another value.
 */
function casesOf(factory: AnyFactory): Case[] {
  const { rule } = factory;
  const all = { ...rule.hyper, ...rule.fixed };
  const adders = Object.keys(all).filter((name) => Object.values(rule.addedState).includes(name));
  const others = Object.keys(all).filter((name) => !(name in groupOptions) && !adders.includes(name));
  const flags = others.filter((name) => typeof all[name]!.default === "boolean");
  const numbers = others.filter((name) => !flags.includes(name));
  const turned = [[], ...flags.map((flag) => [flag]), ...(flags.length > 1 ? [flags] : [])];
  const subsets = Array.from({ length: 2 ** adders.length }, (_, bits) => adders.filter((_, i) => (bits >> i) & 1));
  const switched = turned.flatMap((flags) => subsets.map((adders) => [...adders, ...flags]));
  const sets = [[], numbers].flatMap((others) =>
    switched.flatMap((on) => {
      const options = Object.fromEntries([...on, ...others].map((name) => [name, another(all[name]!)]));
      try {
        return [{ options, values: resolveGroup(rule, resolveAll(rule, options)) }];
      } catch {
        return []; // options that contradict each other
      }
    }),
  );
  return sets.map(({ options, values }, index) => ({
    name: `${rule.name} ${JSON.stringify(options)}`,
    factory,
    rule,
    options,
    values,
    gradScale: index % 2 ? 0.37 : 1,
  }));
}

export const cases: readonly Case[] = factories.flatMap(casesOf);

/** Returns a shape that the rule accepts, with as many elements as `shape`. */
export const fitting = ({ accepts }: { readonly accepts?: string }, shape: Shape): Shape => {
  if (accepts?.startsWith("matrices") && shape.length !== 2) return [1, elementsIn(shape)];
  return accepts === "vectorsAndMatrices" && shape.length > 2 ? [shape[0]!, elementsIn(shape.slice(1))] : shape;
};

/** The names of the kernels that the cases reach. */
export const kernelNames = [...new Set(cases.map(({ rule, values }) => variantOf(rule, values).kernel))];

/** One of each schedule. */
export const examples: Schedule[] = [
  schedules.stepLR({ lr: 0.1, stepSize: 10 }),
  schedules.multiStepLR({ lr: 0.1, milestones: [10, 30] }),
  schedules.constantLR({ lr: 0.1 }),
  schedules.linearLR({ lr: 0.1 }),
  schedules.exponentialLR({ lr: 0.1, gamma: 0.9 }),
  schedules.polynomialLR({ lr: 0.1, power: 0.7, totalIters: 50 }),
  schedules.cosineAnnealingLR({ lr: 0.1, TMax: 40 }),
  schedules.cosineAnnealingWarmRestarts({ lr: 0.1, T0: 10, TMult: 2 }),
  schedules.cyclicLR({ baseLr: 0.01, maxLr: 0.1, stepSizeUp: 10, mode: "exp_range", gamma: 0.99 }),
  schedules.cyclicMomentum({ stepSizeUp: 10, stepSizeDown: 5 }),
  schedules.oneCycleLR({ maxLr: 0.1, totalSteps: 100 }),
  schedules.oneCycleMomentum({ totalSteps: 100, annealStrategy: "linear" }),
  schedules.reduceLROnPlateau({ lr: 0.1 }),
  schedules.sequentialLR({
    schedules: [schedules.linearLR({ lr: 0.1 }), schedules.exponentialLR({ lr: 0.1, gamma: 0.9 })],
    milestones: [20],
  }),
  schedules.chained({
    lr: 0.1,
    schedules: [schedules.constantLR({ lr: 0.1 }), schedules.exponentialLR({ lr: 0.1, gamma: 0.9 })],
  }),
  schedules.constant({ value: 0.1 }),
  schedules.polynomial({ initValue: 0.1, endValue: 0.01, power: 2, transitionSteps: 50 }),
  schedules.linear({ initValue: 0, endValue: 0.1, transitionSteps: 50, transitionBegin: 10 }),
  schedules.exponentialDecay({ initValue: 0.1, transitionSteps: 10, decayRate: 0.5 }),
  schedules.cosineDecay({ initValue: 0.1, decaySteps: 60 }),
  schedules.warmupCosineDecay({ peakValue: 3e-4, warmupSteps: 50, decaySteps: 200 }),
  schedules.warmupConstant({ peakValue: 0.1, warmupSteps: 10 }),
  schedules.warmupExponentialDecay({
    peakValue: 0.1,
    warmupSteps: 10,
    transitionSteps: 10,
    decayRate: 0.9,
    endValue: 0.05,
  }),
  schedules.join({ schedules: [schedules.constant({ value: 1 }), schedules.constant({ value: 2 })], boundaries: [7] }),
  schedules.sgdr({
    cosineKwargs: [
      { peakValue: 1, warmupSteps: 5, decaySteps: 30 },
      { peakValue: 0.5, warmupSteps: 0, decaySteps: 60 },
    ],
  }),
  schedules.piecewiseConstant({ initValue: 1, boundariesAndScales: { 10: 0.5, 5: 0.1 } }),
  schedules.piecewiseInterpolate({
    interpolateType: "cosine",
    initValue: 1,
    boundariesAndScales: { 20: 0.5, 60: 0.1 },
  }),
  schedules.swaLR({ lr: 0.1, swaLr: 0.05, annealEpochs: 30 }),
  schedules.multiplicativeLR({ lr: 0.1, lrLambda: schedules.exponentialLR({ lr: 1, gamma: 0.99 }) }),
  schedules.cosineOnecycle({ transitionSteps: 100, peakValue: 0.1 }),
  schedules.linearOnecycle({ transitionSteps: 100, peakValue: 0.1, pctFinal: 0.7 }),
  schedules.inverseSqrt({ peakValue: 0.1, warmupSteps: 40 }),
  schedules.wsd({ peakValue: 0.1, warmupSteps: 10, stableSteps: 50, decaySteps: 20, decay: "sqrt" }),
  schedules.noam({ modelSize: 512, warmupSteps: 40 }),
];
