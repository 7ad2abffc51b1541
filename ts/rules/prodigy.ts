import { flag, nonNegative, unit, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * AdamW that finds its rate, as `dadaptAdamw` and faster: the estimated distance to the solution rises as gradients point from the
 * parameters to where they began; over all tensors. With `k = d * lr * sqrt(1 - b2 ** t) / (1 - b1 ** t)`: `m = b1 * m + (1 - b1) * d
 * * g; v = b2 * v + (1 - b2) * (d * g) ** 2; p = (1 - k * weightDecay) * p - k * m / (sqrt(v) + d * eps)`. Leave `lr` at 1, or make it a
 * schedule that ends there.
 *
 * Mishchenko & Defazio, 2023, https://arxiv.org/abs/2306.06101; as in Optax
 *
 * Use it for what AdamW is used for, without a rate to search for: fine-tuning most of all.
 *
 * Elsewhere: Optax' `contrib.prodigy`. The authors' `Prodigy` corrects biases only if asked to, and has a limit on growth. PyTorch,
 * Keras and TensorFlow.js have none.
 */
export const prodigy = rule("prodigy", {
  hyper: {
    /** What the estimated rate is multiplied by. */
    lr: nonNegative(1),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** That of the sums the estimate is made of; 0 for the root of the second moment's. */
    beta3: unit(0),
    /** Added to the root of the second moment, times the estimate. */
    eps: nonNegative(1e-8),
    /** The first estimate; too small a one costs steps, too large a one the run. */
    estimLr0: within("(0, ∞)", 1e-6),
    /** What new estimates are multiplied by. */
    estimLrCoef: nonNegative(1),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - rate * weightDecay`. */
    weightDecay: nonNegative(0),
    /** Leave `lr` out of the sum of gradients, for a warm-up. */
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
