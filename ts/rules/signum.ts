import { kernels } from "../kernels/signum.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Sign descent with momentum: each parameter moves by the rate, against the sign of the gradient's running mean. `m =
 * beta * m + (1 - beta) * g; p = p - lr * sign(m)`.
 *
 * Bernstein, Wang, Azizzadenesheli & Anandkumar, 2018, https://arxiv.org/abs/1802.04434; as in Optax
 *
 * Use it instead of `signSgd` where gradients are noisy, with half of AdamW's state. Its steps never get smaller by
 * themselves: let the rate fall.
 *
 * Elsewhere: Optax's `signum`. PyTorch, Keras and TensorFlow.js have none.
 */
export const signum = rule("signum", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rate of the gradient's running mean. */
    beta: unit(0.9),
  },
  state: ["expAvg"],
});
