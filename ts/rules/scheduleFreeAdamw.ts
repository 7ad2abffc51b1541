import { kernels } from "../kernels/schedule_free_adamw.js";
import { nonNegative, within } from "../option.js";
import { byEvaluated } from "../optimizer/replace.js";
import { rule } from "../rule.js";
import { averaging, averagingScalars, evalParams } from "./scheduleFreeSgd.js";

/**
 * AdamW that needs no schedule for its rate, because it averages the parameters. It is `scheduleFreeSgd` with the
 * update `u = g / (sqrt(v / (1 - b2 ** t)) + eps) + weightDecay * p` instead of the gradient.
 *
 * Defazio et al., 2024, https://arxiv.org/abs/2405.15682; as in Optax, except that the weight of a step follows from
 * its own rate, not from the next one
 *
 * Use it instead of `adamw` when the length of the run is unknown. Call `opt.eval()` before you use the model, and
 * `opt.train()` before the next step.
 *
 * Elsewhere: Optax's `contrib.schedule_free_adamw`. The authors' `AdamWScheduleFree` (schedulefree 1.4) computes the
 * same with `r = 0`. Keras's `ScheduleFreeAdamW` gives all steps the same
 * weight: `weightLrPower: 0`. PyTorch and TensorFlow.js have none.
 */
export const scheduleFreeAdamw = rule("scheduleFreeAdamw", {
  kernels,
  hyper: {
    /** Learning rate. It may warm up, but should not decay. */
    lr: nonNegative(2.5e-3),
    /** Weight of the average `x` in the point where gradients are computed, and the exponential decay rate of the second moment. */
    betas: within("(0, 1)", [0.9, 0.999]),
    /** Added to the root of the second moment, after bias correction. */
    eps: nonNegative(1e-8),
    /** Weight decay: `weightDecay * param` is added to the update. */
    weightDecay: nonNegative(0),
    /** The weight of a step in the average is the largest rate so far to this power. */
    weightLrPower: nonNegative(2),
  },
  state: ["z", "expAvgSq"],
  startsAt: { z: "params" },
  scalars: averagingScalars,
  advance: averaging,
  evalParams,
  byEvaluated,
});
