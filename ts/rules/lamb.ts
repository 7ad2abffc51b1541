import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam for large batches: in each tensor the step is as long as the tensor, times the rate. `p = p - lr * norm(p) / norm(u) * u`, `u`
 * Adam's direction plus `weightDecay * p`; where either norm is zero, `p = p - lr * u`.
 *
 * You et al., 2020, https://arxiv.org/abs/1904.00962; without bounds on the ratio, as in Optax and Keras
 *
 * Use it for batches of thousands, where Adam's rate does not carry over.
 *
 * Elsewhere: Optax' `lamb`; Keras' `Lamb`, eps 1e-7. The first version of the paper bounds the ratio by 10, and some libraries
 * the norm; Keras' `weight_decay` does not count in the ratio.
 * PyTorch and TensorFlow.js have none.
 */
export const lamb = rule("lamb", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-6),
    /** Added to the second moment under the root, after bias correction. */
    epsRoot: nonNegative(0),
    /** Weight decay: `weightDecay * param` is added to the direction. */
    weightDecay: nonNegative(0),
  },
  state: ["expAvg", "expAvgSq"],
  perTensor: true,
  sums: ["params", "updates"],
  scalars: { trustRatio: 1 },
  advance: ({ sums: { params, updates } }) => ({
    trustRatio: params === 0 || updates === 0 ? 1 : Math.sqrt(params) / Math.sqrt(updates),
  }),
});
