import { kernels } from "../kernels/nadam.js";
import { pow } from "../math.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam with Nesterov momentum that warms up. With `u = b1 * (1 - 0.96 ** (t * momentumDecay) / 2)` and `P` the product
 * of all `u` so far: `p = p - lr * ((1 - u) / (1 - P) * g + next u / (1 - P * next u) * m) / (sqrt(v / (1 - b2 ** t)) +
 * eps)`.
 *
 * Dozat, 2016, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ; as in PyTorch
 *
 * Use it instead of `adam`: Nesterov momentum often saves some steps.
 *
 * Elsewhere: PyTorch's `NAdam`; Keras's `Nadam`, rate 1e-3, eps 1e-7 and momentum decay 1. Optax's `nadam` does not
 * warm up the momentum. TensorFlow.js has none.
 */
export const nadam = rule("nadam", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(2e-3),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Weight decay: coupled (L2), or decoupled with `decoupledWeightDecay`. */
    weightDecay: nonNegative(0),
    /** Speed with which the momentum warms up. */
    momentumDecay: nonNegative(4e-3),
    /** Multiply the parameter by `1 - lr * weightDecay` instead of adding `weightDecay * param` to the gradient. */
    decoupledWeightDecay: flag(false),
  },
  state: ["expAvg", "expAvgSq"],
  scalars: { mu: 0, muNext: 0, muProduct: 1 },
  advance({ before: { muProduct }, options: { betas, momentumDecay }, step }) {
    const at = (step: number) => betas[0] * (1 - 0.5 * pow(0.96, step * momentumDecay));
    return { mu: at(step), muNext: at(step + 1), muProduct: muProduct * at(step) };
  },
});
