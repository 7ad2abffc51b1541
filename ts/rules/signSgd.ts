import { kernels } from "../kernels/sign_sgd.js";
import { nonNegative } from "../option.js";
import { rule } from "../rule.js";

/**
 * Moves each parameter by the rate, against the sign of its gradient. `p = p - lr * sign(g)`.
 *
 * Bernstein, Wang, Azizzadenesheli & Anandkumar, 2018, https://arxiv.org/abs/1802.04434
 *
 * Use it when the size of gradients means nothing, and there is no memory for state. It never comes to rest, so let the
 * rate fall.
 *
 * Elsewhere: Optax's `sign_sgd`; `signum` adds momentum. PyTorch, Keras and TensorFlow.js have none.
 */
export const signSgd = rule("signSgd", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
  },
  state: [],
});
