import { kernels } from "../kernels/ademamix.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam with two running means of the gradient, a fast and a slow one. `p = p - lr * ((m / (1 - b1 ** t) + alpha * slow)
 * / (sqrt(v / (1 - b2 ** t)) + eps) + weightDecay * p)`. `alpha` and `betas[2]` can be schedules; the paper warms both
 * up.
 *
 * Pagliardini, Ablin & Grangier, 2024, https://arxiv.org/abs/2409.03137; as in Optax
 *
 * Use it for long runs, above all of language models, where gradients from tens of thousands of steps ago still help.
 *
 * Elsewhere: Optax's `contrib.ademamix`. PyTorch, Keras and TensorFlow.js have none.
 */
export const ademamix = rule("ademamix", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates: of the fast mean, of the second moment, and of the slow mean. */
    betas: unit([0.9, 0.999, 0.9999]),
    /** The weight of the slow mean; the fast mean has weight 1. */
    alpha: nonNegative(5),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(0),
  },
  state: ["expAvgFast", "expAvgSlow", "expAvgSq"],
});
