import { kernels } from "../kernels/prodigy.js";
import { flag, nonNegative, unit, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * AdamW that finds its learning rate, faster than `dadaptAdamw`. `d` is the estimated distance to the solution over all
 * tensors. It increases while a gradient step would move the parameters away from their initial values. With
 * `k = d * lr * sqrt(1 - b2 ** t) / (1 - b1 ** t)`: `m = b1 * m + (1 - b1) * d * g; v = b2 * v + (1 - b2) * (d * g) **
 * 2; p = (1 - k * weightDecay) * p - k * m / (sqrt(v) + d * eps)`. Leave `lr` at 1, or use a schedule around it.
 *
 * Mishchenko & Defazio, 2023, https://arxiv.org/abs/2306.06101; as in Optax
 *
 * Use it instead of `adamw`, without a search for the rate; above all for fine-tuning.
 *
 * Elsewhere: Optax's `contrib.prodigy`. The authors' `Prodigy` corrects the bias only on request, and limits the growth
 * of the estimate. PyTorch, Keras and TensorFlow.js have none.
 */
export const prodigy = rule("prodigy", {
  kernels,
  hyper: {
    /** Multiplies the estimated rate. */
    lr: nonNegative(1),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Exponential decay rate of the sums from which the estimate is computed; 0 means the root of `betas[1]`. */
    beta3: unit(0),
    /** Added to the root of the second moment, after multiplication by the estimate. */
    eps: nonNegative(1e-8),
    /** The first estimate of the distance. If it is too small, steps are lost; if it is too large, the run can diverge. */
    estimLr0: within("(0, ∞)", 1e-6),
    /** Multiplies new estimates. */
    estimLrCoef: nonNegative(1),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - rate * weightDecay`. */
    weightDecay: nonNegative(0),
    /** Leave `lr` out of the sum of gradients. Use it when the rate warms up. */
    safeguardWarmup: flag(false),
  },
  state: ["expAvg", "expAvgSq", "s", "initParams"],
  startsAt: { initParams: "params" },
  sums: ["numerator", "sizes"],
  scalars: { estimLr: 0, nextEstimLr: 0, numerator: 0 },
  advance({ before, options: { betas, beta3, estimLr0, estimLrCoef }, sums: { numerator: sum, sizes } }) {
    const estimLr = before.nextEstimLr === 0 ? estimLr0 : before.nextEstimLr;
    const numerator = (beta3 || Math.sqrt(betas[1])) * before.numerator + sum;
    const estimate = sizes === 0 ? 0 : (estimLrCoef * numerator) / sizes;
    return { estimLr, nextEstimLr: Math.max(estimLr, estimate), numerator };
  },
});
