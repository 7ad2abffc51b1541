import { kernels } from "../kernels/momentum.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gradient descent with momentum as textbooks write it: the rate is inside the buffer. `v = momentum * v - lr * g; p =
 * p + v`. It differs from `sgd` with momentum when the rate changes.
 *
 * Rumelhart, Hinton & Williams, 1986, https://doi.org/10.1038/323533a0
 *
 * Use it for formulas and code that write momentum this way. When the rate falls, the buffer keeps the larger updates
 * of before.
 *
 * Elsewhere: Keras's `SGD` with momentum. PyTorch, Optax and TensorFlow.js apply the rate to the buffer, like `sgd`.
 */
export const momentum = rule("momentum", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** The fraction of the last update that each step repeats. */
    momentum: unit(0.9),
  },
  state: ["momentumBuffer"],
});
