import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Dual averaging: parameters are where they began, less the weighted sum of gradients over the cube root of that of their squares.
 * `k = (lr + eps) * sqrt(t); v = v + k * g ** 2; s = s + k * g; p = p + (1 - momentum) * (x0 - s / (cbrt(v) + eps) - p)`.
 *
 * Defazio & Jelassi, 2021, https://arxiv.org/abs/2101.11075; as in Optax, and at a rate of zero as the authors have it
 *
 * Use it for large models with sparse gradients, as embeddings have, where Adam generalizes worse; rates and decay are to be found
 * anew.
 *
 * Elsewhere: Optax' `contrib.madgrad`. PyTorch, Keras and TensorFlow.js have none; the authors' own is the same.
 */
export const madgrad = rule("madgrad", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** How much of its place each step keeps. */
    momentum: unit(0.9),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Added to the cube root, and to the learning rate. */
    eps: nonNegative(1e-6),
  },
  state: ["gradSumSq", "s", "x0"],
  startsAt: { x0: "params" },
});
