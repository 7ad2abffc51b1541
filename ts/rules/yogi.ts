import { kernels } from "../kernels/yogi.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam whose second moment changes by at most the squared gradient in each step, so the rate does not jump. `v = v - (1
 * - b2) * sign(v - g ** 2) * g ** 2`, then as `adam`.
 *
 * Zaheer et al., 2018, https://papers.nips.cc/paper/8186; as in Optax
 *
 * Use it when gradients are sparse or rare, because the second moment of `adam` forgets them too soon; and as the
 * optimizer of the server in federated learning.
 *
 * Elsewhere: Optax's `yogi`, whose first moments cannot be chosen. PyTorch, Keras and TensorFlow.js have none.
 */
export const yogi = rule("yogi", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-3),
  },
  fixed: {
    /** The first value of both moments. */
    initialAccumulatorValue: nonNegative(1e-6),
  },
  state: ["expAvg", "expAvgSq"],
  startsAt: { expAvg: "initialAccumulatorValue", expAvgSq: "initialAccumulatorValue" },
});
