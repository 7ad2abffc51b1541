import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";
import { averaging, averagingScalars, evalParam } from "./scheduleFreeSgd.js";

/**
 * AdamW without a schedule for its rate: as `scheduleFreeSgd`, with `u = g / (sqrt(v / (1 - b2 ** t)) + eps) + weightDecay * p` in
 * the gradient's place.
 *
 * Defazio et al., 2024, https://arxiv.org/abs/2405.15682; as in Optax, but that
 * a weight is of its own step's rate, there of the next one's
 *
 * Use it for what AdamW is used for, without knowing how long training goes on.
 *
 * Elsewhere: Optax' `contrib.schedule_free_adamw`. The authors' `AdamWScheduleFree` has `lr * sqrt(1 - b2 ** t)` for the rate, in the
 * weights too, and counts steps by another power. Keras' `ScheduleFreeAdamW` gives all steps the same weight, `weightLrPower: 0`.
 * PyTorch and TensorFlow.js have none.
 */
export const scheduleFreeAdamw = rule("scheduleFreeAdamw", {
  hyper: {
    /** Learning rate: with warm-up, if any, and no decay. */
    lr: nonNegative(2.5e-3),
    /** How far from `z` towards `x` gradients are taken, and the exponential decay rate of the second moment. */
    betas: within("(0, 1)", [0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Weight decay: `weightDecay * param` joins the update. */
    weightDecay: nonNegative(0),
    /** The power of the largest rate so far by which a step counts in the mean. */
    weightLrPower: nonNegative(2),
  },
  state: ["z", "expAvgSq"],
  startsAt: { z: "params" },
  scalars: averagingScalars,
  advance: averaging,
  evalParam,
});
