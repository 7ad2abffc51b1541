import { kernels } from "../kernels/sgd.js";
import { flag, fraction, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gradient descent, with momentum if you set it. The gradient can be that of a mini-batch (stochastic) or of all
 * samples. As in PyTorch, the momentum buffer sums gradients, and the rate is applied to the buffer. `b = momentum * b
 * + (1 - dampening) * g; p = p - lr * b`. With nesterov `p = p - lr * (g + momentum * b)`. Without momentum `p = p - lr
 * * g`.
 *
 * Robbins & Monro, 1951, https://doi.org/10.1214/aoms/1177729586; Sutskever et al., 2013,
 * https://proceedings.mlr.press/v28/sutskever13.html; `torch.optim.SGD`
 *
 * Use it for convolutional networks with momentum, weight decay and a falling rate, where it often generalizes best;
 * without momentum when there is no memory for state.
 *
 * Elsewhere: PyTorch's `SGD`; Optax's `sgd`, TensorFlow.js's `train.sgd` and `train.momentum`, without dampening and
 * weight decay. Keras's `SGD` with momentum is `momentum` here. In a step whose momentum is 0, such as by a schedule,
 * PyTorch does not change the buffer; here it becomes the gradient.
 */
export const sgd = rule("sgd", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** The fraction of the buffer that each step keeps. 0 means no buffer; this is fixed when the optimizer is made. */
    momentum: unit(0),
    /** The fraction of each gradient, except the first, that is left out of the buffer. */
    dampening: fraction(0),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Nesterov momentum: step along the gradient plus the next update of the buffer. Requires momentum, and no dampening. */
    nesterov: flag(false),
  },
  state: [],
  addedState: { momentumBuffer: "momentum" },
  conflict: ({ nesterov, momentum, dampening }) =>
    nesterov && (momentum === 0 || dampening !== 0)
      ? `nesterov needs momentum above 0 and dampening 0, got momentum ${momentum} and dampening ${dampening}`
      : undefined,
});
