import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Momentum for large batches: in each tensor what joins the buffer is as long as the tensor, times the rates. `u = g + weightDecay * p;
 * v = momentum * v + lr * trustCoefficient * norm(p) / (norm(u) + eps) * u; p = p - v`; where either norm is zero, `lr * u`.
 *
 * You, Gitman & Ginsburg, 2017, https://arxiv.org/abs/1708.03888; as in Optax
 *
 * Use it for convolutional networks in batches of thousands, where momentum's rate does not carry over; leave biases and norms out by
 * a group of `sgd`.
 *
 * Elsewhere: Optax' `lars`. In the paper the norms of gradient and decay are added one by one; some libraries have the rate outside
 * the buffer. PyTorch, Keras and TensorFlow.js have none.
 */
export const lars = rule("lars", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-1),
    /** How much of the buffer each step keeps. */
    momentum: unit(0.9),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** What the ratio of the norms is multiplied by. */
    trustCoefficient: nonNegative(1e-3),
    /** Added to the gradient's norm. */
    eps: nonNegative(0),
    /** Look ahead: step along the gradient plus the momentum's next move. */
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
