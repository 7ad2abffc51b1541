/** Schedules of papers that neither PyTorch nor Optax has. */

import { cosPi } from "../math.js";
import { count, finite, nonNegative, oneOf, whole } from "../option.js";
import { lerp, schedule } from "./schedule.js";

/** Warm-up, stable, decay: goes up along a line, stays, goes down, and stays at `endValue` (Hu et al., MiniCPM, 2024). */
export const wsd = schedule(
  "wsd",
  {
    /** The first value. */
    initValue: finite(0),
    /** The highest value. */
    peakValue: finite(undefined),
    /** The last value. */
    endValue: finite(0),
    /** Number of steps up. */
    warmupSteps: whole(undefined, 0, Infinity),
    /** Number of steps at the highest value. */
    stableSteps: whole(undefined, 0, Infinity),
    /** Number of steps down. */
    decaySteps: whole(undefined, 1, Infinity),
    /** Shape of the way down: a line, half a cosine, or one minus the root of the completed fraction. */
    decay: oneOf("linear", "cosine", "sqrt"),
  },
  ({ initValue, peakValue, endValue, warmupSteps, stableSteps, decaySteps, decay }) =>
    (i) => {
      if (i < warmupSteps) return lerp(initValue, peakValue, i / warmupSteps);
      const done = Math.min(Math.max(i - warmupSteps - stableSteps, 0) / decaySteps, 1);
      const left = decay === "cosine" ? (1 + cosPi(done)) / 2 : 1 - (decay === "sqrt" ? Math.sqrt(done) : done);
      return lerp(endValue, peakValue, left);
    },
);

/** Goes up along a line, then falls with the inverse root of the step (fairseq's `inverse_sqrt`, Hugging Face's `get_inverse_sqrt_schedule`; after Vaswani et al., 2017). */
export const inverseSqrt = schedule(
  "inverseSqrt",
  {
    /** The first value. */
    initValue: finite(0),
    /** The highest value. */
    peakValue: finite(undefined),
    /** Number of steps up. */
    warmupSteps: whole(4000, 0, Infinity),
    /** Number of steps after the highest value at which the value is `1 / sqrt(2)` of it; 0 means `warmupSteps`, or 10000 if that is 0. */
    timescale: count(0, 0),
  },
  ({ initValue, peakValue, warmupSteps, timescale }) => {
    const scale = timescale || warmupSteps || 10_000;
    return (i) =>
      i < warmupSteps
        ? lerp(initValue, peakValue, i / warmupSteps)
        : peakValue * Math.sqrt(scale / (i - warmupSteps + scale));
  },
);

/** The schedule of the Transformer: goes up along a line, then falls with the inverse root of the step, counted from 1 (Vaswani et al., 2017). */
export const noam = schedule(
  "noam",
  {
    /** Width of the model: the value is divided by its root. */
    modelSize: whole(undefined, 1, Infinity),
    /** Number of steps up. */
    warmupSteps: whole(4000, 1, Infinity),
    /** Multiplies all values. */
    factor: nonNegative(1),
  },
  ({ modelSize, warmupSteps, factor }) =>
    (i) => {
      const step = i + 1;
      const rise = step / (warmupSteps * Math.sqrt(warmupSteps));
      return (factor / Math.sqrt(modelSize)) * Math.min(1 / Math.sqrt(step), rise);
    },
);
