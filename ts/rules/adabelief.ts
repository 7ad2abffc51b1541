import { kernels } from "../kernels/adabelief.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam that divides by how far gradients are from their running mean, so steps are large while gradients are as
 * expected. `s = b2 * s + (1 - b2) * (g - m) ** 2 + epsRoot`, then as `adam`.
 *
 * Zhuang et al., 2020, https://arxiv.org/abs/2010.07468; as in Optax
 *
 * Use it for tasks where `adam` generalizes worse than `sgd`. Its authors tested it on image classification, language models
 * and GANs. Its default eps, 1e-16, is meant to be that small.
 *
 * Elsewhere: Optax's `adabelief`. PyTorch, Keras and TensorFlow.js have none.
 */
export const adabelief = rule("adabelief", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates: of the gradient's running mean, and of the squared distance of gradients from it. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-16),
    /** Added to the second moment at each step. */
    epsRoot: nonNegative(1e-16),
  },
  state: ["expAvg", "expAvgVar"],
});
