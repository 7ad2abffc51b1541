import { kernels } from "../kernels/lamb.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam for large batches: scales the step of each tensor to the tensor's norm times the rate. `p = p - lr * norm(p) /
 * norm(u) * u`, where `u` is Adam's direction plus `weightDecay * p`. If either norm is zero, `p = p - lr * u`.
 *
 * You et al., 2020, https://arxiv.org/abs/1904.00962; without bounds on the ratio, as in Optax and Keras
 *
 * Use it for batches of thousands of samples, where `adam` would need another rate.
 *
 * Elsewhere: Optax's `lamb`; Keras's `Lamb`, eps 1e-7, whose `weight_decay` is not part of the ratio. The first version
 * of the paper limits the ratio to 10, and some libraries limit the norm. PyTorch and TensorFlow.js have none.
 */
export const lamb = rule("lamb", {
  kernels,
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
