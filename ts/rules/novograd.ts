import { kernels } from "../kernels/novograd.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Momentum with gradients that are divided by the running norm of their whole tensor. `v = b2 * v + (1 - b2) * norm(g)
 * ** 2`, in the first step `v = norm(g) ** 2`. Then `m = b1 * m + g / (sqrt(v + epsRoot) + eps) + weightDecay * p; p =
 * p - lr * m`.
 *
 * Ginsburg et al., 2019, https://arxiv.org/abs/1905.11286; as in Optax
 *
 * Use it for speech and vision models instead of `adam`, with half of its state.
 *
 * Elsewhere: Optax's `novograd`. The default betas of the paper are 0.95 and 0.98. PyTorch, Keras and TensorFlow.js
 * have none.
 */
export const novograd = rule("novograd", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.25]),
    /** Added to the root of the second moment. */
    eps: nonNegative(1e-6),
    /** Added to the second moment under the root. */
    epsRoot: nonNegative(0),
    /** Weight decay: `weightDecay * param` is added to the momentum. */
    weightDecay: nonNegative(0),
  },
  state: ["expAvg"],
  perTensor: true,
  sums: ["grads"],
  scalars: { gradNormSq: 0 },
  advance: ({ before: { gradNormSq }, options: { betas }, step, sums: { grads } }) => ({
    gradNormSq: step === 1 ? grads : betas[1] * gradNormSq + (1 - betas[1]) * grads,
  }),
});
