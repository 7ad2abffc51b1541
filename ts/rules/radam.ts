import { kernels } from "../kernels/radam.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam with a built-in warm-up: it divides by the mean square only when there are enough gradients to know it
 * ("rectified"). `N = 2 / (1 - b2) - 1; n = N - 2 * t * b2 ** t / (1 - b2 ** t); p = p - lr * m / (1 - b1 ** t)`. Once
 * `n` is above 5, the rate is multiplied by `sqrt((n - 4) * (n - 2) * N / ((N - 4) * (N - 2) * n)) * sqrt(1 - b2 ** t)
 * / (sqrt(v) + eps)`.
 *
 * Liu et al., 2020, https://arxiv.org/abs/1908.03265; eps and the bound, above 5, as in PyTorch
 *
 * Use it instead of `adam`, without a warm-up of the rate to tune.
 *
 * Elsewhere: PyTorch's `RAdam`. Optax's `radam` divides from 5 on, including 5, and adds eps after bias correction.
 * Keras and TensorFlow.js have none.
 */
export const radam = rule("radam", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment. */
    eps: nonNegative(1e-8),
    /** Weight decay: coupled (L2), or decoupled with `decoupledWeightDecay`. */
    weightDecay: nonNegative(0),
    /** Multiply the parameter by `1 - lr * weightDecay` instead of adding `weightDecay * param` to the gradient. */
    decoupledWeightDecay: flag(false),
  },
  state: ["expAvg", "expAvgSq"],
});
