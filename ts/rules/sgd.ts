import { flag, fraction, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gradient descent; stochastic when the gradient is a mini-batch's. With momentum as PyTorch has it: the buffer sums
 * gradients, and the rate is applied to the buffer. `b = momentum * b + (1 - dampening) * g; p = p - lr * b`, with
 * nesterov `p = p - lr * (g + momentum * b)`, without momentum `p = p - lr * g`.
 *
 * Robbins & Monro, 1951, https://doi.org/10.1214/aoms/1177729586; Sutskever et al., 2013,
 * https://proceedings.mlr.press/v28/sutskever13.html; `torch.optim.SGD`
 *
 * Use it for convolutional networks, with momentum, weight decay and a falling rate, where it often generalizes best; and
 * without momentum where there is no memory for state.
 *
 * Elsewhere: PyTorch's `SGD`; Optax' `sgd`, TensorFlow.js' `train.sgd` and `train.momentum`, without dampening and weight
 * decay. Keras' `SGD` with momentum is `momentum` here.
 */
export const sgd = rule("sgd", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** How much of the buffer each step keeps. Zero means no buffer, which is settled when the optimizer is made. */
    momentum: unit(0),
    /** How much of each gradient but the first is kept out of the buffer. */
    dampening: fraction(0),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Look ahead along the buffer. Needs momentum, and no dampening. */
    nesterov: flag(false),
  },
  state: [],
  addedState: { momentumBuffer: "momentum" },
  conflict: ({ nesterov, momentum, dampening }) =>
    nesterov && (momentum === 0 || dampening !== 0)
      ? `nesterov needs momentum above 0 and dampening 0, got momentum ${momentum} and dampening ${dampening}`
      : undefined,
});
