import { kernels } from "../kernels/dadapt_adamw.js";
import { nonNegative, unit, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * AdamW that finds its learning rate. The rate is `lr` times `d`, a lower bound on the distance to the solution over
 * all tensors. `d` rises when gradients agree with the sum of the earlier ones. With `k = d * lr * sqrt(1 - b2 ** t) /
 * (1 - b1 ** t)`: `m = b1 * m + (1 - b1) * k * g; p = (1 - k * weightDecay) * p - m / (sqrt(v) + eps)`. Leave `lr` at
 * 1, or use a schedule around it.
 *
 * Defazio & Mishchenko, 2023, https://arxiv.org/abs/2301.07733; as in Optax
 *
 * Use it instead of `adamw`, without a search for the rate.
 *
 * Elsewhere: Optax's `contrib.dadapt_adamw`. The authors' `DAdaptAdam` corrects the bias only on request. PyTorch,
 * Keras and TensorFlow.js have none.
 */
export const dadaptAdamw = rule("dadaptAdamw", {
  kernels,
  hyper: {
    /** Multiplies the estimated rate. */
    lr: nonNegative(1),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment. */
    eps: nonNegative(1e-8),
    /** The first estimate of the distance. If it is too small, steps are lost; if it is too large, the run can diverge. */
    estimLr0: within("(0, ∞)", 1e-6),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - rate * weightDecay`. */
    weightDecay: nonNegative(0),
  },
  state: ["expAvg", "expAvgSq", "s"],
  sums: ["numerator", "sizes"],
  scalars: { estimLr: 0, nextEstimLr: 0, numerator: 0 },
  advance({ before, options: { betas, estimLr0 }, sums: { numerator: sum, sizes } }) {
    const root = Math.sqrt(betas[1]);
    const estimLr = before.nextEstimLr === 0 ? estimLr0 : before.nextEstimLr;
    const numerator = root * before.numerator + (1 - root) * sum;
    const estimate = sizes === 0 ? 0 : numerator / ((1 - root) * sizes);
    return { estimLr, nextEstimLr: Math.max(estimLr, estimate), numerator };
  },
});
