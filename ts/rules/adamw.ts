import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam with decoupled weight decay: it shrinks the parameter, and stays out of the averages.
 *
 * Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101
 */
export const adamw = rule("adamw", {
  hyper: {
    /** Step size. */
    lr: nonNegative(1e-3),
    /** Decay of the averages of the gradient and of its square. */
    betas: unit([0.9, 0.999]),
    /** Added to the denominator. */
    eps: nonNegative(1e-8),
    /** Pull of each parameter towards zero, times `lr`. */
    weightDecay: nonNegative(1e-2),
    /** Make up for averages that start at zero. */
    biasCorrection: flag(true),
  },
  fixed: {
    /** Divide by the largest mean square so far. */
    amsgrad: flag(false),
  },
  state: ["expAvg", "expAvgSq"],
  adds: { maxExpAvgSq: "amsgrad" },
});
