import { kernels } from "../kernels/adagrad.js";
import { flag, nonNegative } from "../option.js";
import { rule } from "../rule.js";

/**
 * Divides each gradient by the root of the sum of its squares at all steps so far, so the rate of each parameter falls.
 * `s = s + g ** 2; p = p - lr * g / (sqrt(s) + eps)`.
 *
 * Duchi, Hazan & Singer, 2011, https://jmlr.org/papers/v12/duchi11a.html; `lrDecay` from PyTorch
 *
 * Use it for sparse features: parameters with rare gradients keep a large rate. The rate never rises again, so long
 * runs stall; `rmsprop` and `adam` forget old gradients.
 *
 * Elsewhere: PyTorch's `Adagrad`. It ignores a group's own `initial_accumulator_value`. Optax, Keras and TensorFlow.js
 * start the sums at 0.1. They have `epsInSqrt` and an `eps` of 1e-7.
 */
export const adagrad = rule("adagrad", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** The rate at step `t` is `lr / (1 + (t - 1) * lrDecay)`. */
    lrDecay: nonNegative(0),
    /** Added to the root of the sum. */
    eps: nonNegative(1e-10),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Add `eps` to the sum, under the root, instead of to the root (Optax, Keras, TensorFlow.js). */
    epsInSqrt: flag(false),
  },
  fixed: {
    /** The first value of the sums. */
    initialAccumulatorValue: nonNegative(0),
  },
  state: ["sum"],
  startsAt: { sum: "initialAccumulatorValue" },
});
