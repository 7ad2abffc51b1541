import { kernels } from "../kernels/adopt.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam that divides each gradient by the second moment of the earlier steps, before it takes the mean. So it converges
 * for any `betas[1]`. `m = b1 * m + (1 - b1) * clamp(g / max(sqrt(v), eps), (t - 1) ** 0.25); p = p - lr * m; v = b2 *
 * v + (1 - b2) * g ** 2`. The first step only sets the second moment.
 *
 * Taniguchi et al., 2024, https://arxiv.org/abs/2411.02853; as in Optax
 *
 * Use it for tasks where `adam` does not settle, as with rare, noisy gradients, without tuning `betas[1]`.
 *
 * Elsewhere: Optax's `contrib.adopt`, which can also leave out the clamp, or use Nesterov momentum. PyTorch, Keras and
 * TensorFlow.js have none.
 */
export const adopt = rule("adopt", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates: of the mean, and of the second moment. */
    betas: unit([0.9, 0.9999]),
    /** Lower bound of the root of the second moment. */
    eps: nonNegative(1e-6),
  },
  state: ["expAvg", "expAvgSq"],
});
