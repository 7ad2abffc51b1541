import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * A step along the gradient's running mean, over the root of its running mean square. Weight decay joins the gradient;
 * `adamw` decouples it.
 *
 * Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980; AMSGrad: Reddi, Kale & Kumar, 2018,
 * https://openreview.net/forum?id=ryQu7f-RZ
 */
export const adam = rule("adam", {
  hyper: {
    /** Step size. */
    lr: nonNegative(1e-3),
    /** Decay of the averages of the gradient and of its square. */
    betas: unit([0.9, 0.999]),
    /** Added to the denominator. */
    eps: nonNegative(1e-8),
    /** Times the parameter, added to the gradient. */
    weightDecay: nonNegative(0),
    /** Make up for averages that start at zero. */
    biasCorrection: flag(true),
  },
  fixed: {
    /** Divide by the largest mean square so far. */
    amsgrad: flag(false),
  },
  state: ["expAvg", "expAvgSq"],
  adds: { maxExpAvgSq: "amsgrad" },
});
