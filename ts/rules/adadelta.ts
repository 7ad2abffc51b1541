import { kernels } from "../kernels/adadelta.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Scales each gradient by its recent root mean square and by that of the recent updates, so updates have the unit of
 * the parameters. `s = rho * s + (1 - rho) * g ** 2; d = g * sqrt(u + eps) / sqrt(s + eps); u = rho * u + (1 - rho) * d
 * ** 2; p = p - lr * d`.
 *
 * Zeiler, 2012, https://arxiv.org/abs/1212.5701
 *
 * Use it for runs without a search for the rate: a rate of 1 suits most tasks. It starts slowly, because the first
 * updates have the size of the root of eps.
 *
 * Elsewhere: PyTorch's `Adadelta`, Optax's `adadelta`. Keras and TensorFlow.js have a rate of 1e-3, rho 0.95 and eps
 * 1e-7; TensorFlow.js divides by the mean square of the earlier steps.
 */
export const adadelta = rule("adadelta", {
  kernels,
  hyper: {
    /** Learning rate: multiplies the updates. */
    lr: nonNegative(1),
    /** Exponential decay rate of both running means. */
    rho: unit(0.9),
    /** Added to both mean squares, under the roots. */
    eps: nonNegative(1e-6),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
  },
  state: ["squareAvg", "accDelta"],
});
