import { kernels } from "../kernels/madgrad.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Starts from the first parameters at every step, and subtracts the weighted sum of all gradients, divided by the cube
 * root of the sum of their squares (dual averaging). `k = (lr + eps) * sqrt(t); v = v + k * g ** 2; s = s + k * g; p =
 * p + (1 - momentum) * (x0 - s / (cbrt(v) + eps) - p)`.
 *
 * Defazio & Jelassi, 2021, https://arxiv.org/abs/2101.11075; as in Optax, and at a rate of zero as in the authors' code
 *
 * Use it for large models with sparse gradients, such as embeddings, where `adam` generalizes worse. Rate and decay
 * must be tuned again.
 *
 * Elsewhere: Optax's `contrib.madgrad`; the authors' own is the same. PyTorch, Keras and TensorFlow.js have none.
 */
export const madgrad = rule("madgrad", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** The fraction of the parameter that each step keeps. */
    momentum: unit(0.9),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Added to the cube root, and to the learning rate. */
    eps: nonNegative(1e-6),
  },
  state: ["gradSumSq", "s", "x0"],
  startsAt: { x0: "params" },
});
