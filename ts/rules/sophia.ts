import { nonNegative, threshold, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Momentum over an estimate of the Hessian's diagonal, each step at most `lr * clipThreshold`: `p = p - lr * (clip(m / (1 - b1 ** t) /
 * max(gamma * h, eps)) + weightDecay * p)`. Every ten steps or so write an estimate of the Hessian's diagonal into the gradients and
 * call `opt.hessian()`: `h = b2 * h + (1 - b2) * estimate`. Until the first call every step has the bound's size.
 *
 * Liu et al., 2023, https://arxiv.org/abs/2305.14342; as in Optax
 *
 * Use it for language models, where an estimate of the curvature every ten steps is worth its cost.
 *
 * Elsewhere: Optax' `contrib.sophia`, which estimates by Hutchinson's method every ten steps by itself, from a function; here the
 * estimate is the caller's. PyTorch, Keras and TensorFlow.js have none.
 */
export const sophia = rule("sophia", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-4),
    /** Exponential decay rates of the running means of the gradient, and of the estimates of the Hessian's diagonal. */
    betas: unit([0.965, 0.99]),
    /** What the scaled curvature is at least. */
    eps: nonNegative(1e-8),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(1e-4),
    /** How much the curvature counts. */
    gamma: nonNegative(1e-2),
    /** The size of quotient above which it is cut to that. */
    clipThreshold: threshold(1),
  },
  state: ["expAvg", "hessian"],
  hessian: { slot: "hessian", beta: ({ betas }) => betas[1] },
});
