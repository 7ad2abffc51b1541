/** Optax' schedules, under its names and options: https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html */

import { cosPi, power } from "../math.js";
import { finite, flag, listOf, nonNegative, oneOf, type Option, show, whole } from "../option.js";
import { inTurn, ordered, type Schedule, schedule, scheduleOption } from "../schedule.js";

/** Always the same. */
export const constant = schedule(
  "constant",
  { value: finite(undefined) },
  ({ value }) =>
    () =>
      value,
);

const transition = { transitionSteps: whole(undefined, 1, Infinity), transitionBegin: whole(0, 0, Infinity) };
const ends = { initValue: finite(undefined), endValue: finite(undefined) };

/** From `initValue` to `endValue` by a power of the share that is left, in `transitionSteps` steps from `transitionBegin` on. */
export const polynomial = schedule(
  "polynomial",
  { ...ends, power: nonNegative(1), ...transition },
  ({ initValue, endValue, power: exponent, transitionSteps, transitionBegin }) =>
    (i) => {
      const done = Math.min(Math.max(i - transitionBegin, 0), transitionSteps);
      return (initValue - endValue) * power(1 - done / transitionSteps, exponent) + endValue;
    },
);

/** From `initValue` to `endValue` along a line. */
export const linear = schedule("linear", { ...ends, ...transition }, (options) => {
  const line = polynomial(options);
  return (i) => line.at(i);
});

/** Times `decayRate` every `transitionSteps` steps from `transitionBegin` on, until `endValue`. */
export const exponentialDecay = schedule(
  "exponentialDecay",
  {
    initValue: finite(undefined),
    ...transition,
    decayRate: nonNegative(undefined),
    /** Whether in stairs, or a little each step. */
    staircase: flag(false),
    /** NaN for none. */
    endValue: bound(),
  },
  ({ initValue, transitionSteps, transitionBegin, decayRate, staircase, endValue }) =>
    (i) => {
      const done = Math.max(i - transitionBegin, 0) / transitionSteps;
      const value = initValue * power(decayRate, staircase ? Math.floor(done) : done);
      if (Number.isNaN(endValue)) return value;
      return decayRate < 1 ? Math.max(value, endValue) : Math.min(value, endValue);
    },
);

/** From `initValue` to `alpha` times it along a cosine (Loshchilov & Hutter, 2017), raised to `exponent`. */
export const cosineDecay = schedule(
  "cosineDecay",
  {
    initValue: finite(undefined),
    decaySteps: whole(undefined, 1, Infinity),
    alpha: nonNegative(0),
    exponent: nonNegative(1),
  },
  ({ initValue, decaySteps, alpha, exponent }) =>
    (i) => {
      const cosine = (1 + cosPi(Math.min(i, decaySteps) / decaySteps)) / 2;
      return initValue * ((1 - alpha) * power(cosine, exponent) + alpha);
    },
);

const warmup = {
  initValue: finite(0),
  peakValue: finite(undefined),
  warmupSteps: whole(undefined, 0, Infinity),
};

/** Up along a line in `warmupSteps`, then down along a cosine; `decaySteps` counts both. */
export const warmupCosineDecay = schedule(
  "warmupCosineDecay",
  { ...warmup, decaySteps: whole(undefined, 1, Infinity), endValue: finite(0), exponent: nonNegative(1) },
  ({ initValue, peakValue, warmupSteps, decaySteps, endValue, exponent }) =>
    afterWarmup(
      initValue,
      peakValue,
      warmupSteps,
      cosineDecay({
        initValue: peakValue,
        decaySteps: decaySteps - warmupSteps,
        alpha: peakValue === 0 ? 0 : endValue / peakValue,
        exponent,
      }),
    ),
  ({ warmupSteps, decaySteps }) =>
    decaySteps > warmupSteps ? undefined : `decaySteps must be above the ${warmupSteps} warmupSteps that it counts too`,
);

/** Up along a line in `warmupSteps`, then as it is. */
export const warmupConstant = schedule("warmupConstant", warmup, ({ initValue, peakValue, warmupSteps }) =>
  afterWarmup(initValue, peakValue, warmupSteps, constant({ value: peakValue })),
);

/** Up along a line, then `exponentialDecay`. */
export const warmupExponentialDecay = schedule(
  "warmupExponentialDecay",
  {
    ...warmup,
    ...transition,
    decayRate: nonNegative(undefined),
    staircase: flag(false),
    endValue: bound(),
  },
  ({ initValue, peakValue, warmupSteps, ...decay }) =>
    afterWarmup(initValue, peakValue, warmupSteps, exponentialDecay({ initValue: peakValue, ...decay })),
);

function afterWarmup(from: number, to: number, steps: number, rest: Schedule) {
  if (steps === 0) return (i: number) => rest.at(i);
  return inTurn([linear({ initValue: from, endValue: to, transitionSteps: steps }), rest], [steps]);
}

/** One schedule after the other: from each boundary on the next, which counts from there. */
export const join = schedule(
  "join",
  { schedules: listOf(scheduleOption), boundaries: listOf(whole(0, 1, Infinity)) },
  ({ schedules, boundaries }) => inTurn(schedules, boundaries),
  ({ schedules, boundaries }) => ordered("boundaries", schedules, boundaries),
);

/** `warmupCosineDecay` again and again, each with options of its own (Loshchilov & Hutter, 2017). */
export const sgdr = schedule("sgdr", { cosineKwargs: listOf(cosineOptions()) }, ({ cosineKwargs }) => {
  let end = 0;
  const bounds = cosineKwargs.map(({ decaySteps }) => {
    end += decaySteps;
    return end;
  });
  return inTurn(cosineKwargs.map(warmupCosineDecay), bounds.slice(0, -1));
});

const scales = { initValue: finite(undefined), boundariesAndScales: boundaries() };

/** Times each scale from its boundary on. */
export const piecewiseConstant = schedule(
  "piecewiseConstant",
  scales,
  ({ initValue, boundariesAndScales }) =>
    (i) =>
      steps(initValue, boundariesAndScales).reduce((value, step) => (i >= step.bound ? step.value : value), initValue),
);

/** From each boundary's value to the next one's, along lines or cosines. */
export const piecewiseInterpolate = schedule(
  "piecewiseInterpolate",
  { interpolateType: oneOf("linear", "cosine"), ...scales },
  ({ interpolateType, initValue, boundariesAndScales }) => {
    const points = [{ bound: 0, value: initValue }, ...steps(initValue, boundariesAndScales)];
    return (i) => {
      const next = points.findIndex(({ bound }) => bound > i);
      if (next < 0) return points.at(-1)!.value;
      const [from, to] = [points[next - 1]!, points[next]!];
      const done = (i - from.bound) / (to.bound - from.bound);
      const way = interpolateType === "linear" ? done : (1 - cosPi(done)) / 2;
      return from.value + (to.value - from.value) * way;
    };
  },
);

/** The values that a table of scales leads to, in the order of their boundaries. */
function steps(initValue: number, scales: Readonly<Record<string, number>>) {
  let value = initValue;
  return Object.entries(scales)
    .map(([bound, scale]) => ({ bound: Number(bound), scale }))
    .sort((a, b) => a.bound - b.bound)
    .map(({ bound, scale }) => {
      value *= scale;
      return { bound, value };
    });
}

/** A table of scales, by the step from which each holds. */
/* @__NO_SIDE_EFFECTS__ */
function boundaries(): Option<Readonly<Record<number, number>>, string, undefined> {
  const range = "scales by step, such as { 1000: 0.1 }";
  return {
    default: undefined,
    range,
    check(title, table) {
      if (typeof table !== "object" || table === null || Array.isArray(table)) {
        throw new TypeError(`${title} must be ${range}, got ${show(table)}`);
      }
      if (Object.keys(table).length === 0) throw new RangeError(`${title} must not be empty`);
      for (const [bound, scale] of Object.entries(table)) {
        whole(0, 1, Infinity).check(`${title}: a boundary`, Number(bound));
        nonNegative(0).check(`${title}[${bound}]`, scale);
      }
    },
  };
}

/** A bound that there may be. */
/* @__NO_SIDE_EFFECTS__ */
function bound(): Option<number, "(-∞, ∞) or NaN", number> {
  const { check } = finite(0);
  return {
    default: Number.NaN,
    range: "(-∞, ∞) or NaN",
    check: (title, x) => Number.isNaN(x) || check(title, x),
  };
}

/** Options of `warmupCosineDecay`, which checks them. */
/* @__NO_SIDE_EFFECTS__ */
function cosineOptions(): Option<Parameters<typeof warmupCosineDecay>[0], string, undefined> {
  return {
    default: undefined,
    range: "options of warmupCosineDecay",
    check: (_, value) => void warmupCosineDecay(value as Parameters<typeof warmupCosineDecay>[0]),
  };
}
