import { kernels } from "../kernels/simplified_ademamix.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * `ademamix` with one buffer for momentum: a fading sum of gradients, to which the newest gradient is added once more. `m = b1 * m +
 * g; p = p - lr * ((m + alpha * g) / (sqrt(v / (1 - b2 ** t) + epsRoot) + eps) + weightDecay * p)`. The sum is about
 * `1 / (1 - b1)` times as large as a mean, so take a rate that is smaller than that of `adamw` by this factor.
 *
 * Morwani, Vyas, Zhang & Kakade, 2025, https://arxiv.org/abs/2502.02431; as in Optax
 *
 * Use it for what `ademamix` is for, with two thirds of its state and without a schedule for `alpha`. Its authors show a
 * language model, with small and with large batches.
 *
 * Elsewhere: Optax's `contrib.simplified_ademamix`. PyTorch, Keras and TensorFlow.js have none.
 */
export const simplifiedAdemamix = rule("simplifiedAdemamix", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of the sum of gradients, and of the second moment. */
    betas: unit([0.99, 0.95]),
    /** The weight of the newest gradient beside the sum. */
    alpha: nonNegative(0),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Added to the second moment under the root, after bias correction. */
    epsRoot: nonNegative(0),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(0),
  },
  state: ["momentumBuffer", "expAvgSq"],
});
