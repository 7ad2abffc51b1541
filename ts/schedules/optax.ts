/** Optax' schedules, under its names and options: https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html */

import { cosPi, pow } from "../math.js";
import { finite, flag, listOf, nonNegative, oneOf, type Option, show, whole } from "../option.js";
import { inTurn, ordered, type Schedule, schedule, scheduleOption } from "./schedule.js";

/** Always the same. */
export const constant = schedule(
  "constant",
  {
    /** What it always is. */
    value: finite(undefined),
  },
  ({ value }) =>
    () =>
      value,
);

const transition = {
  /** Steps of the transition. */
  transitionSteps: whole(undefined, 1, Infinity),
  /** The step at which it begins. */
  transitionBegin: whole(0, 0, Infinity),
};
const initial = {
  /** The value at first. */
  initValue: finite(undefined),
};
const ends = {
  ...initial,
  /** The value in the end. */
  endValue: finite(undefined),
};

/** From `initValue` to `endValue` by a power of the share that is left, in `transitionSteps` steps from `transitionBegin` on. */
export const polynomial = schedule(
  "polynomial",
  {
    ...ends,
    /** The power of the share that is left. */
    power: nonNegative(1),
    ...transition,
  },
  ({ initValue, endValue, power: exponent, transitionSteps, transitionBegin }) =>
    (i) => {
      const done = Math.min(Math.max(i - transitionBegin, 0), transitionSteps);
      return (initValue - endValue) * pow(1 - done / transitionSteps, exponent) + endValue;
    },
);

/** From `initValue` to `endValue` along a line. */
export const linear = schedule("linear", { ...ends, ...transition }, (options) => {
  const line = polynomial(options);
  return (i) => line.at(i);
});

const decay = {
  /** What a transition multiplies the value by. */
  decayRate: nonNegative(undefined),
  /** Whether in stairs, or a little each step. */
  staircase: flag(false),
  /** The value at which it stays; NaN for none. */
  endValue: bound(),
};

/** Times `decayRate` every `transitionSteps` steps from `transitionBegin` on, until `endValue`. */
export const exponentialDecay = schedule(
  "exponentialDecay",
  {
    ...initial,
    ...transition,
    ...decay,
  },
  ({ initValue, transitionSteps, transitionBegin, decayRate, staircase, endValue }) =>
    (i) => {
      const done = Math.max(i - transitionBegin, 0) / transitionSteps;
      const value = initValue * pow(decayRate, staircase ? Math.floor(done) : done);
      if (Number.isNaN(endValue)) return value;
      return decayRate < 1 ? Math.max(value, endValue) : Math.min(value, endValue);
    },
);

const curve = {
  /** The power that the cosine is raised to. */
  exponent: nonNegative(1),
};

/** From `initValue` to `alpha` times it along a cosine (Loshchilov & Hutter, 2017), raised to `exponent`. */
export const cosineDecay = schedule(
  "cosineDecay",
  {
    ...initial,
    /** Steps until the lowest value. */
    decaySteps: whole(undefined, 1, Infinity),
    /** The lowest value, as a share of the first. */
    alpha: nonNegative(0),
    ...curve,
  },
  ({ initValue, decaySteps, alpha, exponent }) =>
    (i) => {
      const cosine = (1 + cosPi(Math.min(i, decaySteps) / decaySteps)) / 2;
      return initValue * ((1 - alpha) * pow(cosine, exponent) + alpha);
    },
);

const warmup = {
  /** The value at first. */
  initValue: finite(0),
  /** The highest value. */
  peakValue: finite(undefined),
  /** Steps up to it. */
  warmupSteps: whole(undefined, 0, Infinity),
};

/** Up along a line in `warmupSteps`, then down along a cosine; `decaySteps` counts both. */
export const warmupCosineDecay = schedule(
  "warmupCosineDecay",
  {
    ...warmup,
    /** Steps up and down together. */
    decaySteps: whole(undefined, 1, Infinity),
    /** The value in the end. */
    endValue: finite(0),
    ...curve,
  },
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
    ...decay,
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
  {
    /** In their order. */
    schedules: listOf(scheduleOption),
    /** The steps at which the second and each further one begins. */
    boundaries: listOf(whole(0, 1, Infinity)),
  },
  ({ schedules, boundaries }) => inTurn(schedules, boundaries),
  ({ schedules, boundaries }) => ordered("boundaries", schedules, boundaries),
);

const cycles = {
  /** The options of each. */
  cosineKwargs: listOf(cosineOptions()),
};

/** `warmupCosineDecay` again and again, each with options of its own (Loshchilov & Hutter, 2017). */
export const sgdr = schedule("sgdr", cycles, ({ cosineKwargs }) => {
  let end = 0;
  const bounds = cosineKwargs.map(({ decaySteps }) => {
    end += decaySteps;
    return end;
  });
  return inTurn(cosineKwargs.map(warmupCosineDecay), bounds.slice(0, -1));
});

const scales = {
  ...initial,
  /** What the value is multiplied by, and from which steps on. */
  boundariesAndScales: boundaries(),
};

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
  {
    /** Along lines or cosines. */
    interpolateType: oneOf("linear", "cosine"),
    ...scales,
  },
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
