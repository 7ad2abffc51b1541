import { kernels } from "../kernels/rmsprop.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Divides the gradient by the root of its running mean square, or with `centered` by its running standard deviation. `s
 * = alpha * s + (1 - alpha) * g ** 2; p = p - lr * g / (sqrt(s) + eps)`. With momentum, the quotients are summed in a
 * buffer, as `sgd` sums gradients.
 *
 * Hinton, 2012, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf; centered: Graves, 2013,
 * https://arxiv.org/abs/1308.0850
 *
 * Use it for recurrent networks and reinforcement learning, and when gradients change in size during training. A rate
 * of 1e-3 is usual.
 *
 * Elsewhere: PyTorch's `RMSprop`. Optax (eps 1e-8), Keras and TensorFlow.js (eps 1e-7) decay by 0.9, have `epsInSqrt`,
 * and apply the rate inside the momentum buffer. In a step whose momentum is 0, such as by a
 * schedule, PyTorch does not change the buffer; here it becomes the last quotient.
 */
export const rmsprop = rule("rmsprop", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** Exponential decay rate of the running means. */
    alpha: unit(0.99),
    /** Added to the root of the mean square. */
    eps: nonNegative(1e-8),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** The fraction of the buffer that each step keeps. 0 means no buffer; this is fixed when the optimizer is made. */
    momentum: unit(0),
    /** Add `eps` to the mean square, under the root, instead of to the root (Optax, Keras, TensorFlow.js). */
    epsInSqrt: flag(false),
  },
  fixed: {
    /** Subtract the square of the gradient's running mean from its mean square. */
    centered: flag(false),
  },
  state: ["squareAvg"],
  addedState: { gradAvg: "centered", momentumBuffer: "momentum" },
});
