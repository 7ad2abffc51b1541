/** Optax's schedules, under its names and options: https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html */

import { cosPi, pow } from "../math.js";
import { finite, flag, listOf, nonNegative, oneOf, type Option, show, whole } from "../option.js";
import { inTurn, ordered, type Schedule, schedule, scheduleOption } from "./schedule.js";

/** The same value at every step. */
export const constant = schedule(
  "constant",
  {
    /** The value. */
    value: finite(undefined),
  },
  ({ value }) =>
    () =>
      value,
);

const transition = {
  /** Number of steps of the transition. */
  transitionSteps: whole(undefined, 1, Infinity),
  /** The step at which the transition begins. */
  transitionBegin: whole(0, 0, Infinity),
};
const initial = {
  /** The first value. */
  initValue: finite(undefined),
};
const ends = {
  ...initial,
  /** The last value. */
  endValue: finite(undefined),
};

/** Goes from `initValue` to `endValue` in `transitionSteps` steps. The distance to `endValue` is a power of the fraction of steps that remains. */
export const polynomial = schedule(
  "polynomial",
  {
    ...ends,
    /** Exponent of the remaining fraction. */
    power: nonNegative(1),
    ...transition,
  },
  ({ initValue, endValue, power: exponent, transitionSteps, transitionBegin }) =>
    (i) => {
      const done = Math.min(Math.max(i - transitionBegin, 0), transitionSteps);
      return (initValue - endValue) * pow(1 - done / transitionSteps, exponent) + endValue;
    },
);

/** Goes from `initValue` to `endValue` along a line. */
export const linear = schedule("linear", { ...ends, ...transition }, (options) => {
  const line = polynomial(options);
  return (i) => line.at(i);
});

const decay = {
  /** Factor of a whole transition. */
  decayRate: nonNegative(undefined),
  /** Whether the value changes once per transition instead of at every step. */
  staircase: flag(false),
  /** The value at which the decay ends; NaN for none. */
  endValue: bound(),
};

/** Multiplies the value by `decayRate` every `transitionSteps` steps, until it reaches `endValue`. */
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
  /** Exponent of the cosine. */
  exponent: nonNegative(1),
};

/** Goes from `initValue` to `alpha * initValue` along a cosine, raised to the power `exponent` (Loshchilov & Hutter, 2017). */
export const cosineDecay = schedule(
  "cosineDecay",
  {
    ...initial,
    /** Number of steps until the lowest value. */
    decaySteps: whole(undefined, 1, Infinity),
    /** The lowest value, as a fraction of the first. */
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
  /** The first value. */
  initValue: finite(0),
  /** The highest value. */
  peakValue: finite(undefined),
  /** Number of steps up to the highest value. */
  warmupSteps: whole(undefined, 0, Infinity),
};

/** Goes up along a line in `warmupSteps` steps, then down along a cosine. `decaySteps` is the number of steps of both. */
export const warmupCosineDecay = schedule(
  "warmupCosineDecay",
  {
    ...warmup,
    /** Number of steps up and down together. */
    decaySteps: whole(undefined, 1, Infinity),
    /** The last value. */
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

/** Goes up along a line in `warmupSteps` steps, then stays. */
export const warmupConstant = schedule("warmupConstant", warmup, ({ initValue, peakValue, warmupSteps }) =>
  afterWarmup(initValue, peakValue, warmupSteps, constant({ value: peakValue })),
);

/** Goes up along a line, then decays like `exponentialDecay`. */
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

/** Runs several schedules one after the other. At each boundary the next one begins, and counts its steps from there. */
export const join = schedule(
  "join",
  {
    /** The schedules, in order. */
    schedules: listOf(scheduleOption),
    /** The steps at which the second and each later schedule begins. */
    boundaries: listOf(whole(0, 1, Infinity)),
  },
  ({ schedules, boundaries }) => inTurn(schedules, boundaries),
  ({ schedules, boundaries }) => ordered("boundaries", schedules, boundaries),
);

const cycles = {
  /** The options of each round. */
  cosineKwargs: listOf(cosineOptions()),
};

/** Repeats `warmupCosineDecay`, each time with other options (Loshchilov & Hutter, 2017). */
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
  /** Factors by the step at which each takes effect. */
  boundariesAndScales: boundaries(),
};

/** Multiplies the value by a factor at each boundary. */
export const piecewiseConstant = schedule(
  "piecewiseConstant",
  scales,
  ({ initValue, boundariesAndScales }) =>
    (i) =>
      steps(initValue, boundariesAndScales).reduce((value, step) => (i >= step.bound ? step.value : value), initValue),
);

/** Like `piecewiseConstant`, but goes from one value to the next along lines or cosines. */
export const piecewiseInterpolate = schedule(
  "piecewiseInterpolate",
  {
    /** Shape of the curve: lines or cosines. */
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

/** The values that follow from a table of factors, in the order of the boundaries. */
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

/** An option whose value is a table of factors, by the step at which each takes effect. */
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

/** An option whose value is a bound, or NaN for none. */
/* @__NO_SIDE_EFFECTS__ */
function bound(): Option<number, "(-∞, ∞) or NaN", number> {
  const { check } = finite(0);
  return {
    default: Number.NaN,
    range: "(-∞, ∞) or NaN",
    check: (title, x) => Number.isNaN(x) || check(title, x),
  };
}

/** An option whose value is options of `warmupCosineDecay`, which checks them. */
/* @__NO_SIDE_EFFECTS__ */
function cosineOptions(): Option<Parameters<typeof warmupCosineDecay>[0], string, undefined> {
  return {
    default: undefined,
    range: "options of warmupCosineDecay",
    check: (_, value) => void warmupCosineDecay(value as Parameters<typeof warmupCosineDecay>[0]),
  };
}
