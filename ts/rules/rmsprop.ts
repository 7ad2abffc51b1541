import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * The gradient over the root of its running mean square; centered, over its running standard deviation.
 *
 * Hinton, 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf; centered: Graves, 2013,
 * https://arxiv.org/abs/1308.0850
 */
export const rmsprop = rule("rmsprop", {
  hyper: {
    /** Step size. */
    lr: nonNegative(1e-2),
    /** Decay of the averages. */
    alpha: unit(0.99),
    /** Added to the denominator. */
    eps: nonNegative(1e-8),
    /** Times the parameter, added to the gradient. */
    weightDecay: nonNegative(0),
    /** How much of the buffer each step keeps. Zero means no buffer, which is settled when the optimizer is made. */
    momentum: unit(0),
  },
  fixed: {
    /** Subtract the square of the gradient's running mean from its mean square. */
    centered: flag(false),
  },
  state: ["squareAvg"],
  adds: { gradAvg: "centered", momentumBuffer: "momentum" },
});
