import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam whose second moment moves by no more than the gradient's square at a time, so the rate does not jump: `v = v - (1 - b2) *
 * sign(v - g ** 2) * g ** 2`, then as `adam`.
 *
 * Zaheer et al., 2018, https://papers.nips.cc/paper/8186; as in Optax
 *
 * Use it for what `adam` is for where gradients are sparse or far apart, which Adam's second moment forgets too soon, and
 * as a server's rule in federated learning.
 *
 * Elsewhere: Optax' `yogi`, which does not let the start be chosen. PyTorch, Keras and TensorFlow.js have none.
 */
export const yogi = rule("yogi", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-3),
  },
  fixed: {
    /** What both moments start at. */
    initialAccumulatorValue: nonNegative(1e-6),
  },
  state: ["expAvg", "expAvgSq"],
  startsAt: { expAvg: "initialAccumulatorValue", expAvgSq: "initialAccumulatorValue" },
});
