import { kernels } from "../kernels/adamax.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam that divides by the largest recent gradient instead of the root of the mean square. `u = max(b2 * u, abs(g) +
 * eps); p = p - lr * (m / (1 - b1 ** t)) / u`.
 *
 * Kingma & Ba, 2015, section 7.1, https://arxiv.org/abs/1412.6980; eps as in PyTorch
 *
 * Use it for models that suit `adam` but have rare large gradients, such as embeddings: no step moves a parameter much
 * further than `lr`.
 *
 * Elsewhere: PyTorch's `Adamax`, Optax's `adamax`. Keras's `Adamax`, rate 1e-3, and TensorFlow.js's `train.adamax` have
 * `epsOutside` and eps 1e-7; the rate of the latter can decay.
 */
export const adamax = rule("adamax", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(2e-3),
    /** Exponential decay rates: of the gradient's running mean, and of its largest absolute value. */
    betas: unit([0.9, 0.999]),
    /** Added to the absolute value of the gradient. */
    eps: nonNegative(1e-8),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Add `eps` to the denominator (Keras) instead of to each gradient's absolute value. */
    epsOutside: flag(false),
  },
  state: ["expAvg", "expInf"],
});
