/** Optax's schedules, under its names and options: https://optax.readthedocs.io/en/latest/api/optimizer_schedules.html */

import { cosPi, pow } from "../math.js";
import {
  type Chosen,
  count,
  finite,
  flag,
  fraction,
  listOf,
  nonNegative,
  oneOf,
  type Option,
  whole,
  within,
  wrongKind,
  wrongValue,
} from "../option.js";
import { inTurn, lerp, ordered, type Schedule, schedule, scheduleOption, times, tooSmallDivisors } from "./schedule.js";

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

/** Goes from `initValue` to `endValue` in `transitionSteps` steps. The distance to `endValue` falls with a power of the fraction of steps that remains. */
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
      return lerp(endValue, initValue, pow(1 - done / transitionSteps, exponent));
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

/** Multiplies the value by `decayRate` every `transitionSteps` steps, until it reaches `endValue`. With a `decayRate` of 0, Optax stays at `initValue`. */
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
      const value = times(initValue, pow(decayRate, staircase ? Math.floor(done) : done));
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
    (i) =>
      initValue * ((1 - alpha) * cosine(i, decaySteps, exponent) + alpha),
);

/** Goes from 1 to 0 along a cosine, raised to the power `exponent`, and stays there. */
const cosine = (i: number, steps: number, exponent: number) =>
  pow((1 + cosPi(Math.min(i, steps) / steps)) / 2, exponent);

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
  ({ initValue, peakValue, warmupSteps, decaySteps, endValue, exponent }) => {
    const last = peakValue === 0 ? 0 : endValue; // as in Optax
    const at = (i: number) => lerp(last, peakValue, cosine(i, decaySteps - warmupSteps, exponent));
    return afterWarmup(initValue, peakValue, warmupSteps, { at });
  },
  ({ warmupSteps, decaySteps }) =>
    decaySteps > warmupSteps
      ? undefined
      : `decaySteps must be above the ${warmupSteps} warmupSteps that it includes, got ${decaySteps}`,
);

/** Goes up along a line in `warmupSteps` steps, then stays. With 0 `warmupSteps`, Optax stays at `initValue`. */
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

function afterWarmup(from: number, to: number, steps: number, rest: Pick<Schedule, "at">) {
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
    boundaries: listOf(whole(0, 1, Infinity), 0),
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
  ({ initValue, boundariesAndScales }) => {
    const points = pointsOf(initValue, boundariesAndScales);
    return (i) => points.filter(({ bound }) => bound <= i).at(-1)!.value;
  },
  allFinite,
);

/** Like `piecewiseConstant`, but goes from one value to the next along lines or cosines. */
export const piecewiseInterpolate = schedule(
  "piecewiseInterpolate",
  {
    /** Shape of the curve: lines or cosines. */
    interpolateType: oneOf("linear", "cosine"),
    ...scales,
  },
  ({ interpolateType, initValue, boundariesAndScales }) =>
    through(interpolateType, pointsOf(initValue, boundariesAndScales)),
  allFinite,
);

/** A step, and the value there. */
interface At {
  readonly bound: number;
  readonly value: number;
}

/** The first value, and those that follow from a table of factors, in the order of the boundaries. */
function pointsOf(initValue: number, scales: Readonly<Record<string, number>>): readonly At[] {
  let value = initValue;
  const later = Object.entries(scales)
    .map(([bound, scale]) => ({ bound: Number(bound), scale }))
    .sort((a, b) => a.bound - b.bound)
    .map(({ bound, scale }) => ({ bound, value: (value *= scale) }));
  return [{ bound: 0, value: initValue }, ...later];
}

/** The message for factors whose product is too large. */
function allFinite({
  initValue,
  boundariesAndScales,
}: {
  readonly initValue: number;
  readonly boundariesAndScales: Readonly<Record<number, number>>;
}): string | undefined {
  const infinite = pointsOf(initValue, boundariesAndScales).find(({ value }) => !Number.isFinite(value));
  return infinite && `initValue times the scales must be finite, got ${infinite.value} at boundary ${infinite.bound}`;
}

/** Goes through points, along lines or cosines, and stays at the last one. */
function through(type: "linear" | "cosine", points: readonly At[]): (step: number) => number {
  return (i) => {
    const next = points.findIndex(({ bound }) => bound > i);
    if (next < 0) return points.at(-1)!.value;
    const [from, to] = [points[next - 1]!, points[next]!];
    const done = (i - from.bound) / (to.bound - from.bound);
    return lerp(from.value, to.value, type === "linear" ? done : (1 - cosPi(done)) / 2);
  };
}

const oneCycle = {
  /** Number of steps of the whole cycle. */
  transitionSteps: count(undefined, 1),
  /** The highest value. */
  peakValue: finite(undefined),
  /** Fraction of the steps at which the value is highest. */
  pctStart: fraction(0.3),
  /** The highest value divided by the first. */
  divFactor: within("(0, ∞)", 25),
  /** The first value divided by the last. */
  finalDivFactor: within("(0, ∞)", 1e4),
};

const endsFinite = ({ peakValue, divFactor, finalDivFactor }: Chosen<typeof oneCycle>) =>
  tooSmallDivisors("peakValue", peakValue, divFactor, finalDivFactor);

/** Goes up to `peakValue` and down again along cosines, once (Smith & Topin, 2018). `oneCycleLR` is PyTorch's, whose phases end one step earlier. If both phases end at the same step, Optax leaves out the peak. */
export const cosineOnecycle = schedule(
  "cosineOnecycle",
  oneCycle,
  ({ transitionSteps, peakValue, pctStart, divFactor, finalDivFactor }) => {
    const first = peakValue / divFactor;
    return through("cosine", [
      { bound: 0, value: first },
      { bound: Math.floor(pctStart * transitionSteps), value: peakValue },
      { bound: transitionSteps, value: first / finalDivFactor },
    ]);
  },
  endsFinite,
);

/** Goes up to `peakValue`, down to the first value and further down to the last one, along lines, once (Smith & Topin, 2018). If two phases end at the same step, Optax leaves out the change of the first. */
export const linearOnecycle = schedule(
  "linearOnecycle",
  {
    ...oneCycle,
    /** Fraction of the steps at which the value is the first one again. */
    pctFinal: fraction(0.85),
  },
  ({ transitionSteps, peakValue, pctStart, pctFinal, divFactor, finalDivFactor }) => {
    const first = peakValue / divFactor;
    return through("linear", [
      { bound: 0, value: first },
      { bound: Math.floor(pctStart * transitionSteps), value: peakValue },
      { bound: Math.floor(pctFinal * transitionSteps), value: first },
      { bound: transitionSteps, value: first / finalDivFactor },
    ]);
  },
  (options) =>
    options.pctFinal >= options.pctStart
      ? endsFinite(options)
      : `pctFinal must be at least pctStart, ${options.pctStart}, got ${options.pctFinal}`,
);

/** An option whose value is a table of factors, by the step at which each takes effect. */
/* @__NO_SIDE_EFFECTS__ */
function boundaries(): Option<Readonly<Record<number, number>>, string, undefined> {
  const range = "scales by step, such as { 1000: 0.1 }";
  return {
    default: undefined,
    range,
    check(title, table) {
      if (typeof table !== "object" || table === null || Array.isArray(table)) {
        throw wrongKind(`${title} must be ${range}`, table);
      }
      for (const [bound, scale] of Object.entries(table)) {
        if (!(Number.isInteger(Number(bound)) && Number(bound) >= 1)) {
          throw wrongValue(`${title}: a boundary must be a whole number in [1, ∞)`, bound);
        }
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
    range: "a record of options of warmupCosineDecay",
    check: (_, value) => void warmupCosineDecay(value as Parameters<typeof warmupCosineDecay>[0]),
  };
}
