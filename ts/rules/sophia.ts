import { kernels } from "../kernels/sophia.js";
import { nonNegative, threshold, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Divides momentum by an estimate of the curvature (the Hessian's diagonal), and limits each step to `lr *
 * clipThreshold`. `p = p - lr * (clip(m / (1 - b1 ** t) / max(gamma * h, eps)) + weightDecay * p)`. About every ten
 * steps, write an estimate of the Hessian's diagonal to the gradients and call `opt.hessian()`, which averages it: `h =
 * b2 * h + (1 - b2) * estimate`. The estimate is taken as it is: `gradScale`, `lossScale` and `maximize` do not change
 * it. Before the first call, every step has the largest size.
 *
 * Liu et al., 2023, https://arxiv.org/abs/2305.14342; as in Optax
 *
 * Use it for language models, when an estimate of the curvature every ten steps is worth its cost.
 *
 * Elsewhere: Optax's `contrib.sophia`, which estimates every ten steps by itself, by Hutchinson's method from a
 * function; here you compute the estimate. PyTorch, Keras and TensorFlow.js have none.
 */
export const sophia = rule("sophia", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-4),
    /** Exponential decay rates of two running means: of the gradient, and of the estimates of the Hessian's diagonal. */
    betas: unit([0.965, 0.99]),
    /** Lower bound of the scaled curvature. */
    eps: nonNegative(1e-8),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(1e-4),
    /** Multiplies the curvature. */
    gamma: nonNegative(1e-2),
    /** The largest absolute value of the quotient; larger ones are clipped to it. */
    clipThreshold: threshold(1),
  },
  state: ["expAvg", "hessian"],
  hessian: { slot: "hessian", beta: ({ betas }) => betas[1] },
});
