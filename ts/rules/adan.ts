import { kernels } from "../kernels/adan.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam with Nesterov momentum, computed from `d`, the change of the gradient since the last step. `m`, `c` and `n` are
 * running means of `g`, `d` and `(g + b2 * d) ** 2`, each with bias correction: `p = (p - lr * (m + b2 * c) / (sqrt(n)
 * + eps)) / (1 + lr * weightDecay)`.
 *
 * Xie et al., 2022, https://arxiv.org/abs/2208.06677; betas as in the authors' code
 *
 * Use it for vision and language models instead of `adamw`, at rates several times as large, if there is memory for
 * twice its state.
 *
 * Elsewhere: Optax 0.2.8's `adan` has `1 - b2` where these formulas have `b2`, adds 1e-8 under the root, and decays like
 * `noProx`. PyTorch, Keras and TensorFlow.js have none.
 */
export const adan = rule("adan", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of three running means: the gradient, its change, and the square. */
    betas: unit([0.98, 0.92, 0.99]),
    /** Added to the root of the mean square, after bias correction. */
    eps: nonNegative(1e-8),
    /** Weight decay: each step ends by dividing the parameter by `1 + lr * weightDecay`. */
    weightDecay: nonNegative(0),
    /** Begin by multiplying the parameter by `1 - lr * weightDecay` instead of dividing at the end. */
    noProx: flag(false),
  },
  state: ["expAvg", "expAvgDiff", "expAvgSq", "prevGrad"],
});
