import { kernels } from "../kernels/adamw.js";
import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam with decoupled weight decay: the decay shrinks the parameter directly and stays out of the running means. `p =
 * (1 - lr * weightDecay) * p`, then as `adam`.
 *
 * Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101; AMSGrad: Reddi, Kale & Kumar, 2018
 *
 * Use it for transformers, and as the first choice for most models.
 *
 * Elsewhere: PyTorch's `AdamW`; Optax's `adamw`, weight decay 1e-4; Keras's `AdamW`, weight decay 4e-3, eps 1e-7, with
 * `epsHat`. TensorFlow.js has none.
 */
export const adamw = rule("adamw", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of the first and the second moment: running means of the gradient and of its square. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(1e-2),
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
