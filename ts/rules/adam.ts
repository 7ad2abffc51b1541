import { kernels } from "../kernels/adam.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Steps along the running mean of the gradient, divided by the root of its running mean square. `m = b1 * m + (1 - b1)
 * * g; v = b2 * v + (1 - b2) * g ** 2; p = p - lr * (m / (1 - b1 ** t)) / (sqrt(v / (1 - b2 ** t)) + eps)`. Weight
 * decay is added to the gradient; in `adamw` it is separate.
 *
 * Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980; AMSGrad: Reddi, Kale & Kumar, 2018,
 * https://openreview.net/forum?id=ryQu7f-RZ
 *
 * Use it for a first attempt at nearly anything: it works with little tuning. With weight decay, use `adamw`.
 *
 * Elsewhere: PyTorch's `Adam`, whose `decoupled_weight_decay=True` is `adamw`; Optax's `adam`, whose `amsgrad` is
 * `amsgradCorrected` here; TensorFlow.js's `train.adam`, eps 1e-7; Keras's `Adam`, eps 1e-7, with `epsHat`.
 */
export const adam = rule("adam", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of the first and the second moment: running means of the gradient and of its square. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** Divide the moments, which start at zero, by `1 - beta ** step`. */
    biasCorrection: flag(true),
    /** Added to the second moment under the root, after bias correction (Optax). */
    epsRoot: nonNegative(0),
    /** Add `eps` to the root before bias correction instead of after it (Keras, TensorFlow; "epsilon hat" in the paper). */
    epsHat: flag(false),
    /** Nesterov momentum: use the mean that the next step would have for the same gradient (Optax). */
    nesterov: flag(false),
    /** With `amsgrad`, use the largest of the bias-corrected second moments (Optax) instead of the raw ones. */
    amsgradCorrected: flag(false),
  },
  fixed: {
    /** Divide by the largest second moment so far (AMSGrad). */
    amsgrad: flag(false),
  },
  state: ["expAvg", "expAvgSq"],
  addedState: { maxExpAvgSq: "amsgrad" },
});
