import { kernels } from "../kernels/asgd.js";
import { pow } from "../math.js";
import { nonNegative } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gradient descent with a falling rate, and an average of the parameters. `e = lr / (1 + lambd * lr * (t - 1)) **
 * alpha; p = (1 - lambd * e) * p - e * g`. `state(tensor).ax` is the average of the parameters of the
 * steps after `t0`. Until then it equals the parameters.
 *
 * Polyak & Juditsky, 1992, https://doi.org/10.1137/0330046; as in PyTorch
 *
 * Use it for convex problems, such as linear models with many samples, where the average is nearer to the minimum than
 * the last step. For networks, the option `swa` averages with every optimizer.
 *
 * Elsewhere: PyTorch's `ASGD`. A new `lr`, `lambd`, `alpha` or `t0` takes effect one step later in PyTorch. Optax, Keras
 * and TensorFlow.js have none.
 */
export const asgd = rule("asgd", {
  kernels,
  hyper: {
    /** The first learning rate. */
    lr: nonNegative(1e-2),
    /** Decay of the parameters, and speed with which the rate falls. */
    lambd: nonNegative(1e-4),
    /** Exponent with which the rate falls. */
    alpha: nonNegative(0.75),
    /** Number of steps before averaging begins. */
    t0: nonNegative(1e6),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
  },
  state: ["ax"],
  scalars: { eta: 0, mu: 1 },
  advance: ({ options: { lr, lambd, alpha, t0 }, step }) => ({
    eta: lr / pow(1 + lambd * lr * (step - 1), alpha),
    mu: 1 / Math.max(1, step - 1 - t0),
  }),
});
