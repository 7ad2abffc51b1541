/** PyTorch's schedules, under its names and options: https://docs.pytorch.org/docs/stable/optim.html */

import { cosPi, pow } from "../math.js";
import {
  type Chosen,
  count,
  flag,
  isCallable,
  listOf,
  nonNegative,
  oneOf,
  type Option,
  refuseNames,
  unit,
  whole,
  within,
  wrongKind,
} from "../option.js";
import { plateausIn } from "./plateau.js";
import { inTurn, lerp, ordered, Schedule, schedule, scheduleOption, times, tooSmallDivisors } from "./schedule.js";

const rate = {
  /** The first rate. */
  lr: nonNegative(undefined),
};

/** Multiplies the rate by `gamma` every `stepSize` steps. */
export const stepLR = schedule(
  "stepLR",
  {
    ...rate,
    /** Number of steps between two changes. */
    stepSize: whole(undefined, 1, Infinity),
    /** Factor of each change. */
    gamma: nonNegative(0.1),
  },
  ({ lr, stepSize, gamma }) =>
    (i) =>
      times(lr, pow(gamma, Math.floor(i / stepSize))),
);

/** Multiplies the rate by `gamma` at each milestone. */
export const multiStepLR = schedule(
  "multiStepLR",
  {
    ...rate,
    /** The steps at which the rate changes. */
    milestones: listOf(whole(0, 0, Infinity), 0),
    /** Factor of each change. */
    gamma: nonNegative(0.1),
  },
  ({ lr, milestones, gamma }) =>
    (i) =>
      times(lr, pow(gamma, milestones.filter((milestone) => milestone <= i).length)),
);

/** Multiplies the rate by `factor` in the first `totalIters` steps. If there are 0 such steps, PyTorch multiplies the rate at all steps. */
export const constantLR = schedule(
  "constantLR",
  {
    ...rate,
    /** Factor of the rate in the first steps. */
    factor: nonNegative(1 / 3),
    /** Number of steps with the factor. */
    totalIters: whole(5, 0, Infinity),
  },
  ({ lr, factor, totalIters }) =>
    (i) =>
      i < totalIters ? lr * factor : lr,
);

/** Multiplies the rate by a factor that goes from `startFactor` to `endFactor` in `totalIters` steps. */
export const linearLR = schedule(
  "linearLR",
  {
    ...rate,
    /** Factor of the rate in the first step. */
    startFactor: nonNegative(1 / 3),
    /** Factor of the rate from step `totalIters` on. */
    endFactor: nonNegative(1),
    /** Number of steps from `startFactor` to `endFactor`. */
    totalIters: whole(5, 1, Infinity),
  },
  ({ lr, startFactor, endFactor, totalIters }) =>
    (i) =>
      lr * (startFactor + (endFactor - startFactor) * Math.min(i / totalIters, 1)),
);

/** Multiplies the rate by `gamma` at every step. */
export const exponentialLR = schedule(
  "exponentialLR",
  {
    ...rate,
    /** Factor of each step. */
    gamma: nonNegative(undefined),
  },
  ({ lr, gamma }) =>
    (i) =>
      times(lr, pow(gamma, i)),
);

/** Multiplies the rate by a power of the fraction of `totalIters` that remains. */
export const polynomialLR = schedule(
  "polynomialLR",
  {
    ...rate,
    /** Number of steps until the rate is zero. */
    totalIters: whole(5, 1, Infinity),
    /** Exponent of the remaining fraction. */
    power: nonNegative(1),
  },
  ({ lr, totalIters, power: exponent }) =>
    (i) =>
      lr * pow(Math.max(1 - i / totalIters, 0), exponent),
);

/** Goes from `lr` to `etaMin` and back along a cosine, each way in `TMax` steps (Loshchilov & Hutter, 2017, without restarts). */
export const cosineAnnealingLR = schedule(
  "cosineAnnealingLR",
  {
    ...rate,
    /** Number of steps from the highest rate to the lowest. */
    TMax: whole(undefined, 1, Infinity),
    /** The lowest rate. */
    etaMin: nonNegative(0),
  },
  ({ lr, TMax, etaMin }) =>
    (i) =>
      between(etaMin, lr, i / TMax),
);

/** Goes from `lr` to `etaMin` along a cosine in `T0` steps, then restarts. Each round has `TMult` times as many steps as the one before (Loshchilov & Hutter, 2017). */
export const cosineAnnealingWarmRestarts = schedule(
  "cosineAnnealingWarmRestarts",
  {
    ...rate,
    /** Number of steps until the first restart. */
    T0: whole(undefined, 1, Infinity),
    /** Factor of the number of steps from one round to the next. */
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

/** The value on a half cosine from `high`, at `turn` 0, to `low`, at `turn` 1. */
const between = (low: number, high: number, turn: number) => lerp(low, high, (1 + cosPi(turn)) / 2);

const cycle = {
  /** Number of steps up. */
  stepSizeUp: whole(2000, 1, Infinity),
  /** Number of steps down; 0 means as many as up. */
  stepSizeDown: count(0, 0),
  /** Height of the cycles. "triangular": all the same. "triangular2": each half as high as the one before. "exp_range": `gamma` to the power of the step. */
  mode: oneOf("triangular", "triangular2", "exp_range"),
  /** Factor of the height at each step, in the mode "exp_range". */
  gamma: nonNegative(1),
};

/** The height of a step in its cycle: 0 at the ends, 1 at the top of the first cycle. */
function height({ stepSizeUp, stepSizeDown, mode, gamma }: Chosen<typeof cycle>) {
  const length = stepSizeUp + (stepSizeDown || stepSizeUp);
  return (i: number) => {
    const [turn, at] = [Math.floor(i / length), i % length];
    const triangle = at <= stepSizeUp ? at / stepSizeUp : (length - at) / (length - stepSizeUp);
    if (mode === "triangular2") return triangle / pow(2, turn);
    return mode === "exp_range" ? times(triangle, pow(gamma, i)) : triangle;
  };
}

/** Goes from `baseLr` to `maxLr` and back, repeatedly (Smith, 2017). */
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
    return (i) => baseLr + times(maxLr - baseLr, high(i));
  },
);

/** The momentum, or first of `betas`, to use with `cyclicLR`: high while the rate is low. */
export const cyclicMomentum = schedule(
  "cyclicMomentum",
  {
    /** The lowest momentum, reached with the highest rate. */
    baseMomentum: unit(0.8),
    /** The highest momentum. */
    maxMomentum: unit(0.9),
    ...cycle,
  },
  ({ baseMomentum, maxMomentum, ...cycle }) => {
    const high = height(cycle);
    return (i) => maxMomentum - times(maxMomentum - baseMomentum, high(i));
  },
);

const oneCycle = {
  /** Number of steps of the whole cycle. */
  totalSteps: count(undefined, 2),
  /** Fraction of the steps that go up. */
  pctStart: unit(0.3),
  /** Shape of the curve: cosines or lines. */
  annealStrategy: oneOf("cos", "linear"),
  /** Whether there are three phases: up, down to the first value in as many steps, and further down in the remaining steps. */
  threePhase: flag(false),
};

/** Goes from a start to a peak, then down to an end, and stays there. */
function hill(
  { totalSteps, pctStart, annealStrategy, threePhase }: Chosen<typeof oneCycle>,
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
      const done = until > began ? (i - began) / (until - began) : 1; // if `pctStart` is 1 / `totalSteps`, the first phase has no steps
      if (i <= until) return annealStrategy === "cos" ? between(to, from, done) : lerp(from, to, done);
      began = until;
    }
    return end;
  };
}

/** Goes up to `maxLr` and down again, once, and stays at the last rate after `totalSteps` (Smith & Topin, 2018). */
export const oneCycleLR = schedule(
  "oneCycleLR",
  {
    /** The highest rate. */
    maxLr: nonNegative(undefined),
    ...oneCycle,
    /** The highest rate divided by the first. */
    divFactor: within("(0, ∞)", 25),
    /** The first rate divided by the last. */
    finalDivFactor: within("(0, ∞)", 1e4),
  },
  ({ maxLr, divFactor, finalDivFactor, ...rest }) => {
    const start = maxLr / divFactor;
    return hill(rest, start, maxLr, start / finalDivFactor);
  },
  ({ maxLr, divFactor, finalDivFactor }) => tooSmallDivisors("maxLr", maxLr, divFactor, finalDivFactor),
);

/** The momentum, or first of `betas`, to use with `oneCycleLR`: low while the rate is high. */
export const oneCycleMomentum = schedule(
  "oneCycleMomentum",
  {
    ...oneCycle,
    /** The lowest momentum, reached with the highest rate. */
    baseMomentum: unit(0.85),
    /** The highest momentum. */
    maxMomentum: unit(0.95),
  },
  ({ baseMomentum, maxMomentum, ...rest }) => hill(rest, maxMomentum, baseMomentum, maxMomentum),
);

/**
 * Runs several schedules one after the other. At each milestone the next one begins, and counts its steps from there.
 * Each has its own `lr`. In PyTorch, `MultiplicativeLR` goes on from the rate before the milestone, and schedules before
 * a `OneCycleLR` have its first rate as `lr`.
 */
export const sequentialLR = schedule(
  "sequentialLR",
  {
    /** The schedules, in order. */
    schedules: listOf(scheduleOption),
    /** The steps at which the second and each later schedule begins. */
    milestones: listOf(whole(0, 1, Infinity), 0),
  },
  ({ schedules, milestones }) => inTurn(schedules, milestones),
  ({ schedules, milestones }) => ordered("milestones", schedules, milestones),
);

/**
 * Combines schedules with the same `lr`: the rate is `lr`, multiplied by the factor of each schedule. PyTorch's `ChainedScheduler`
 * applies each to the rate that the one before has left. That differs for `cosineAnnealingWarmRestarts`, and for
 * `cosineAnnealingLR` after `TMax` steps or with an `etaMin` above 0.
 */
export const chained = schedule(
  "chained",
  {
    ...rate,
    /** The schedules, made with the same `lr`. */
    schedules: listOf(scheduleOption),
  },
  ({ lr, schedules }) =>
    (i) =>
      lr === 0 ? 0 : schedules.reduce((rate, schedule) => times(rate, schedule.at(i) / lr), lr),
  ({ lr, schedules }) => {
    const other = schedules.find(({ options }) => options.lr !== undefined && options.lr !== lr);
    return other && `schedules must be made with the same lr, ${lr}, got ${other.name} with ${other.options.lr}`;
  },
);

/** Goes from `lr` to `swaLr` in `annealEpochs` steps, and stays there: the rate for averaging the weights, with the option `swa`. To begin later, use it in `sequentialLR`. */
export const swaLR = schedule(
  "swaLR",
  {
    ...rate,
    /** The last rate. */
    swaLr: nonNegative(undefined),
    /** Number of steps from `lr` to `swaLr`; 0 for none. */
    annealEpochs: whole(10, 0, Infinity),
    /** Shape of the curve: cosines or lines. */
    annealStrategy: oneOf("cos", "linear"),
  },
  ({ lr, swaLr, annealEpochs, annealStrategy }) =>
    (i) => {
      if (i >= annealEpochs) return swaLr;
      const done = i / annealEpochs;
      return annealStrategy === "cos" ? between(swaLr, lr, done) : lerp(lr, swaLr, done);
    },
);

/**
 * Multiplies the rate by `lrLambda(step)` at every step from step 1 on. The product is computed step by step: each call
 * continues from the step of the call before, and starts again at step 0 if its step is earlier. A schedule as `lrLambda`
 * can be written as JSON; a function cannot.
 */
export const multiplicativeLR = schedule(
  "multiplicativeLR",
  {
    ...rate,
    /** The factor of each step: a function of the step, which must return the same number each time, or a schedule. */
    lrLambda: factors(),
  },
  ({ lr, lrLambda }) => {
    const factor = lrLambda instanceof Schedule ? (step: number) => lrLambda.at(step) : lrLambda;
    const range = within("[0, ∞]", 0);
    let last: readonly [step: number, value: number] = [0, lr];
    return (i) => {
      // The last step is written at the end, because `factor` may ask for another one.
      let [step, value] = i < last[0] ? [0, lr] : last;
      while (step < i && value !== 0) {
        const next = factor(++step);
        range.check(`multiplicativeLR: lrLambda at step ${step}`, next);
        value = times(value, next);
      }
      last = [step, value];
      return value;
    };
  },
);

/** An option whose value is a function of the step, or a schedule. */
/* @__NO_SIDE_EFFECTS__ */
function factors(): Option<Schedule | ((step: number) => number), string, undefined> {
  const range = "a function of the step or a schedule";
  return {
    default: undefined,
    range,
    check(title, value) {
      if (!isCallable(value) && !(value instanceof Schedule)) {
        throw wrongKind(`${title} must be ${range}`, value);
      }
      // Its rate follows what it observes, and the product would need the rates of all steps.
      if (plateausIn(value).length > 0) {
        throw new TypeError(`${title} must return the same number each time, got a schedule with reduceLROnPlateau`);
      }
    },
  };
}

refuseNames(Schedule.prototype, ({ name }) => `${name}: there is no`, {
  step: "(); give the schedule to an optimizer, whose steps it follows: { lr: schedule }",
  getLastLr: "(); read optimizer.groups[0].hyperAt(optimizer.steps).lr",
});
