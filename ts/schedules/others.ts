/** Schedules of papers that neither PyTorch nor Optax has. */

import { cosPi } from "../math.js";
import { finite, nonNegative, oneOf, whole } from "../option.js";
import { schedule } from "./schedule.js";

/** Warm-up, stable, decay (Hu et al., MiniCPM, 2024): up, as it is, and down at the end; `endValue` stays. */
export const wsd = schedule(
  "wsd",
  {
    /** The value at first. */
    initValue: finite(0),
    /** The highest value. */
    peakValue: finite(undefined),
    /** The value in the end. */
    endValue: finite(0),
    /** Steps up. */
    warmupSteps: whole(undefined, 0, Infinity),
    /** Steps on the top. */
    stableSteps: whole(undefined, 0, Infinity),
    /** Steps down. */
    decaySteps: whole(undefined, 1, Infinity),
    /** The way down: by the share that is left, half a cosine, or one less the root of the share that is done. */
    decay: oneOf("linear", "cosine", "sqrt"),
  },
  ({ initValue, peakValue, endValue, warmupSteps, stableSteps, decaySteps, decay }) =>
    (i) => {
      if (i < warmupSteps) return initValue + ((peakValue - initValue) * i) / warmupSteps;
      const done = Math.min(Math.max(i - warmupSteps - stableSteps, 0) / decaySteps, 1);
      const left = decay === "cosine" ? (1 + cosPi(done)) / 2 : 1 - (decay === "sqrt" ? Math.sqrt(done) : done);
      return endValue + (peakValue - endValue) * left;
    },
);

/** The Transformer's (Vaswani et al., 2017): up along a line, then with the inverse root of the step, counted from 1. */
export const noam = schedule(
  "noam",
  {
    /** The model's width: the value falls with its root. */
    modelSize: whole(undefined, 1, Infinity),
    /** Steps up. */
    warmupSteps: whole(4000, 1, Infinity),
    /** What multiplies all of it. */
    factor: nonNegative(1),
  },
  ({ modelSize, warmupSteps, factor }) =>
    (i) => {
      const step = i + 1;
      const rise = step / (warmupSteps * Math.sqrt(warmupSteps));
      return (factor / Math.sqrt(modelSize)) * Math.min(1 / Math.sqrt(step), rise);
    },
);
