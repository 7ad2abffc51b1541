/** PyTorch's schedules, under its names and options: https://docs.pytorch.org/docs/stable/optim.html */

import { cosPi, pow } from "../math.js";
import { count, flag, listOf, nonNegative, oneOf, unit, whole } from "../option.js";
import { inTurn, ordered, schedule, scheduleOption } from "./schedule.js";

const rate = {
  /** The rate that it starts from. */
  lr: nonNegative(undefined),
};

/** The rate times `gamma` every `stepSize` steps. */
export const stepLR = schedule(
  "stepLR",
  {
    ...rate,
    /** Steps from one change to the next. */
    stepSize: whole(undefined, 1, Infinity),
    /** What each change multiplies the rate by. */
    gamma: nonNegative(0.1),
  },
  ({ lr, stepSize, gamma }) =>
    (i) =>
      lr * pow(gamma, Math.floor(i / stepSize)),
);

/** The rate times `gamma` at each milestone. */
export const multiStepLR = schedule(
  "multiStepLR",
  {
    ...rate,
    /** The steps at which the rate changes. */
    milestones: listOf(whole(0, 0, Infinity)),
    /** What each change multiplies the rate by. */
    gamma: nonNegative(0.1),
  },
  ({ lr, milestones, gamma }) =>
    (i) =>
      lr * pow(gamma, milestones.filter((milestone) => milestone <= i).length),
);

/** The rate times `factor` for `totalIters` steps, then the rate. */
export const constantLR = schedule(
  "constantLR",
  {
    ...rate,
    /** What multiplies the rate at first. */
    factor: nonNegative(1 / 3),
    /** For how many steps. */
    totalIters: whole(5, 0, Infinity),
  },
  ({ lr, factor, totalIters }) =>
    (i) =>
      i < totalIters ? lr * factor : lr,
);

/** The rate times what goes from `startFactor` to `endFactor` in `totalIters` steps. */
export const linearLR = schedule(
  "linearLR",
  {
    ...rate,
    /** What multiplies the rate at first. */
    startFactor: nonNegative(1 / 3),
    /** What multiplies it in the end. */
    endFactor: nonNegative(1),
    /** Steps from the one to the other. */
    totalIters: whole(5, 1, Infinity),
  },
  ({ lr, startFactor, endFactor, totalIters }) =>
    (i) =>
      lr * (startFactor + (endFactor - startFactor) * Math.min(i / totalIters, 1)),
);

/** The rate times `gamma` every step. */
export const exponentialLR = schedule(
  "exponentialLR",
  {
    ...rate,
    /** What each step multiplies the rate by. */
    gamma: nonNegative(undefined),
  },
  ({ lr, gamma }) =>
    (i) =>
      lr * pow(gamma, i),
);

/** The rate times a power of the share of `totalIters` that is left. */
export const polynomialLR = schedule(
  "polynomialLR",
  {
    ...rate,
    /** Steps until the rate is zero. */
    totalIters: whole(5, 1, Infinity),
    /** The power of the share that is left. */
    power: nonNegative(1),
  },
  ({ lr, totalIters, power: exponent }) =>
    (i) =>
      lr * pow(Math.max(1 - i / totalIters, 0), exponent),
);

/** From `lr` to `etaMin` and back along a cosine, each way in `TMax` steps (Loshchilov & Hutter, 2017, without restarts). */
export const cosineAnnealingLR = schedule(
  "cosineAnnealingLR",
  {
    ...rate,
    /** Steps from the highest rate to the lowest. */
    TMax: whole(undefined, 1, Infinity),
    /** The lowest rate. */
    etaMin: nonNegative(0),
  },
  ({ lr, TMax, etaMin }) =>
    (i) =>
      between(etaMin, lr, i / TMax),
);

/** From `lr` to `etaMin` along a cosine in `T0` steps, and again, each time in `TMult` times as many (Loshchilov & Hutter, 2017). */
export const cosineAnnealingWarmRestarts = schedule(
  "cosineAnnealingWarmRestarts",
  {
    ...rate,
    /** Steps until the first restart. */
    T0: whole(undefined, 1, Infinity),
    /** How many times as many it takes until the next. */
    TMult: whole(1, 1, Infinity),
    /** The lowest rate. */
    etaMin: nonNegative(0),
  },
  ({ lr, T0, TMult, etaMin }) =>
    (i) => {
      let [start, length] = [TMult === 1 ? i - (i % T0) : 0, T0];
      for (; i >= start + length; length *= TMult) start += length;
      return between(etaMin, lr, (i - start) / length);
    },
);

/** What stands `turn` of half a turn along the cosine that starts at `high`. */
const between = (low: number, high: number, turn: number) => low + ((high - low) * (1 + cosPi(turn))) / 2;

const cycle = {
  /** Steps up. */
  stepSizeUp: whole(2000, 1, Infinity),
  /** Steps down; 0 for as many as up. */
  stepSizeDown: count(0, 0),
  /** How high each cycle is: as the first; half as high as the one before; or `gamma` to the power of the step. */
  mode: oneOf("triangular", "triangular2", "exp_range"),
  /** What each step multiplies the height by, in the mode "exp_range". */
  gamma: nonNegative(1),
};

/** How high in a cycle a step is: 0 at its ends, 1 at the first one's top. */
function height(options: { stepSizeUp: number; stepSizeDown: number; mode: string; gamma: number }) {
  const { stepSizeUp, stepSizeDown, mode, gamma } = options;
  const length = stepSizeUp + (stepSizeDown || stepSizeUp);
  return (i: number) => {
    const [turn, at] = [Math.floor(i / length), i % length];
    const triangle = at <= stepSizeUp ? at / stepSizeUp : (length - at) / (length - stepSizeUp);
    if (mode === "triangular2") return triangle / pow(2, turn);
    return mode === "exp_range" ? triangle * pow(gamma, i) : triangle;
  };
}

/** From `baseLr` to `maxLr` and back, again and again (Smith, 2017). */
export const cyclicLR = schedule(
  "cyclicLR",
  {
    /** The lowest rate. */
    baseLr: nonNegative(undefined),
    /** The highest rate. */
    maxLr: nonNegative(undefined),
    ...cycle,
  },
  ({ baseLr, maxLr, ...cycle }) => {
    const high = height(cycle);
    return (i) => baseLr + (maxLr - baseLr) * high(i);
  },
);

/** The momentum, or first of `betas`, that goes with `cyclicLR`: high where the rate is low. */
export const cyclicMomentum = schedule(
  "cyclicMomentum",
  {
    /** The lowest momentum, where the rate is highest. */
    baseMomentum: unit(0.8),
    /** The highest momentum. */
    maxMomentum: unit(0.9),
    ...cycle,
  },
  ({ baseMomentum, maxMomentum, ...cycle }) => {
    const high = height(cycle);
    return (i) => maxMomentum - (maxMomentum - baseMomentum) * high(i);
  },
);

const oneCycle = {
  /** Steps in all. */
  totalSteps: whole(undefined, 2, Infinity),
  /** The share of the steps that go up. */
  pctStart: unit(0.3),
  /** Along cosines or lines. */
  annealStrategy: oneOf("cos", "linear"),
  /** Whether the way down to the start takes as long as the way up, and what follows goes further down. */
  threePhase: flag(false),
};

type OneCycle = { totalSteps: number; pctStart: number; annealStrategy: string; threePhase: boolean };

/** From a start to a peak, and down to an end, which stays. */
function hill(
  { totalSteps, pctStart, annealStrategy, threePhase }: OneCycle,
  start: number,
  peak: number,
  end: number,
) {
  const up = pctStart * totalSteps - 1;
  const phases = threePhase
    ? [
        { until: up, from: start, to: peak },
        { until: 2 * up, from: peak, to: start },
        { until: totalSteps - 1, from: start, to: end },
      ]
    : [
        { until: up, from: start, to: peak },
        { until: totalSteps - 1, from: peak, to: end },
      ];
  return (i: number) => {
    let began = 0;
    for (const { until, from, to } of phases) {
      const done = (i - began) / (until - began);
      if (i <= until) return annealStrategy === "cos" ? between(to, from, done) : from + (to - from) * done;
      began = until;
    }
    return end;
  };
}

/** Up to `maxLr` and down again, once (Smith & Topin, 2018); after `totalSteps` the end stays. */
export const oneCycleLR = schedule(
  "oneCycleLR",
  {
    /** The highest rate. */
    maxLr: nonNegative(undefined),
    ...oneCycle,
    /** How many times as high it is as the first. */
    divFactor: nonNegative(25),
    /** How many times as high the first is as the last. */
    finalDivFactor: nonNegative(1e4),
  },
  ({ maxLr, divFactor, finalDivFactor, ...rest }) => {
    const start = maxLr / divFactor;
    return hill(rest, start, maxLr, start / finalDivFactor);
  },
  ({ divFactor, finalDivFactor }) =>
    divFactor > 0 && finalDivFactor > 0 ? undefined : "divFactor and finalDivFactor must be above 0",
);

/** The momentum, or first of `betas`, that goes with `oneCycleLR`: low where the rate is high. */
export const oneCycleMomentum = schedule(
  "oneCycleMomentum",
  {
    ...oneCycle,
    /** The lowest momentum, where the rate is highest. */
    baseMomentum: unit(0.85),
    /** The highest momentum. */
    maxMomentum: unit(0.95),
  },
  ({ baseMomentum, maxMomentum, ...rest }) => hill(rest, maxMomentum, baseMomentum, maxMomentum),
);

/** One schedule after the other: from each milestone on the next, which counts from there. */
export const sequentialLR = schedule(
  "sequentialLR",
  {
    /** In their order. */
    schedules: listOf(scheduleOption),
    /** The steps at which the second and each further one begins. */
    milestones: listOf(whole(0, 1, Infinity)),
  },
  ({ schedules, milestones }) => inTurn(schedules, milestones),
  ({ schedules, milestones }) => ordered("milestones", schedules, milestones),
);

/** Schedules with the same `lr` at once: each as a factor of it. */
export const chained = schedule(
  "chained",
  {
    ...rate,
    /** Made with the same `lr`. */
    schedules: listOf(scheduleOption),
  },
  ({ lr, schedules }) =>
    (i) =>
      lr === 0 ? 0 : schedules.reduce((rate, schedule) => rate * (schedule.at(i) / lr), lr),
);
