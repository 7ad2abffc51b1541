import { kernels } from "../kernels/lion.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Steps by the sign of an average of the gradient, with decoupled weight decay. `p = (1 - lr * weightDecay) * p - lr *
 * sign(b1 * m + (1 - b1) * g); m = b2 * m + (1 - b2) * g`. Use a third to a tenth of AdamW's rate, and a decay that is
 * larger by the same factor.
 *
 * Chen et al., 2023, https://arxiv.org/abs/2302.06675; weight decay as in Optax
 *
 * Use it for large transformers and vision models in large batches, with half of AdamW's state.
 *
 * Elsewhere: Optax's `lion`; Keras's `Lion`, rate 1e-3 and no weight decay. PyTorch and TensorFlow.js have none.
 */
export const lion = rule("lion", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-4),
    /** The weight of the average in the sign, and the exponential decay rate of the average. */
    betas: unit([0.9, 0.99]),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(1e-3),
  },
  state: ["expAvg"],
});
