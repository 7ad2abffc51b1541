import { kernels } from "../kernels/lars.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Momentum for large batches: scales each tensor's gradient to the tensor's norm before it joins the buffer. `u = g +
 * weightDecay * p; v = momentum * v + lr * trustCoefficient * norm(p) / (norm(u) + eps) * u; p = p - v`. If either norm
 * is zero, `lr * u` joins the buffer.
 *
 * You, Gitman & Ginsburg, 2017, https://arxiv.org/abs/1708.03888; as in Optax
 *
 * Use it for convolutional networks in batches of thousands of samples. Use `sgd` for biases and normalization layers.
 *
 * Elsewhere: Optax's `lars`. In the paper, the norms of gradient and decay are added; some libraries apply the rate
 * outside the buffer. PyTorch, Keras and TensorFlow.js have none.
 */
export const lars = rule("lars", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-1),
    /** The fraction of the buffer that each step keeps. */
    momentum: unit(0.9),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Multiplies the ratio of the norms. */
    trustCoefficient: nonNegative(1e-3),
    /** Added to the gradient's norm. */
    eps: nonNegative(0),
    /** Nesterov momentum: step along the gradient plus the next update of the buffer. */
    nesterov: flag(false),
  },
  state: ["momentumBuffer"],
  perTensor: true,
  sums: ["params", "grads"],
  scalars: { trustRatio: 1 },
  advance: ({ options: { trustCoefficient, eps }, sums: { params, grads } }) => ({
    trustRatio: params === 0 || grads === 0 ? 1 : (trustCoefficient * Math.sqrt(params)) / (Math.sqrt(grads) + eps),
  }),
});
