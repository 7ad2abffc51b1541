import { kernels } from "../kernels/optimistic_adam.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam that adds the change of its update since the last step, which keeps it from going in circles in games. With `u`
 * Adam's update: `p = p - lr * ((alpha + beta) * u - beta * last u)`. In the first step, the last update is `u` itself.
 *
 * Daskalakis et al., 2018, https://arxiv.org/abs/1711.00141; Mokhtari, Ozdaglar & Pattathil, 2020,
 * https://arxiv.org/abs/1901.08511; as `optimistic_adam_v2` in Optax
 *
 * Use it for games and other saddle-point problems, such as generative adversarial networks, where `adam` goes in
 * circles. Gradients above 1e38 turn parameters into NaN: limit them with `clipValue`.
 *
 * Elsewhere: Optax's `optimistic_adam_v2`; its older `optimistic_adam` has one number instead of two. PyTorch, Keras
 * and TensorFlow.js have none.
 */
export const optimisticAdam = rule("optimisticAdam", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Weight of the update. */
    alpha: nonNegative(1),
    /** Weight of the change of the update. */
    beta: nonNegative(1),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Added to the second moment under the root, after bias correction. */
    epsRoot: nonNegative(0),
    /** Nesterov momentum: use the mean that the next step would have for the same gradient. */
    nesterov: flag(true),
  },
  state: ["expAvg", "expAvgSq", "prevUpdate"],
});
