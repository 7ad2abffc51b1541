import { pow } from "../math.js";
import { nonNegative, within } from "../option.js";
import type { Advance } from "../optimizer/definition.js";
import { rule } from "../rule.js";

/** What the schedule-free rules count: the sum of weights, the largest rate so far, the share of a step in the mean. */
export const averagingScalars = { weightSum: 0, maxLr: 0, ck: 0 };

/**
 * SGD without a schedule for its rate: descent goes on at `z`, the result is `x`, a weighted mean of where `z` was, and gradients are
 * taken between them, at the parameters `y = (1 - b1) * z + b1 * x`. `z = z - lr * g; x = (1 - c) * x + c * z`, `c` the share of
 * `weight = maxLr ** weightLrPower` in the sum of all weights. `opt.eval()` puts `x` in the parameters' place, `opt.train()` `y` again.
 *
 * Defazio et al., 2024, https://arxiv.org/abs/2405.15682; weights as in Optax, but
 * each is of its own step's rate, there of the next one's
 *
 * Use it for training without knowing how long: the mean is at any time what a schedule would have ended with.
 *
 * Elsewhere: Optax' `contrib.schedule_free_sgd`, whose `schedule_free_eval_params` is `opt.eval()`; the authors' `SGDScheduleFree`.
 * PyTorch, Keras and TensorFlow.js have none.
 */
export const scheduleFreeSgd = rule("scheduleFreeSgd", {
  hyper: {
    /** Learning rate: with warm-up, if any, and no decay. */
    lr: nonNegative(1),
    /** How far from `z` towards `x` gradients are taken. */
    betas: within("(0, 1)", [0.9]),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** The power of the largest rate so far by which a step counts in the mean. */
    weightLrPower: nonNegative(2),
  },
  state: ["z"],
  startsAt: { z: "params" },
  scalars: averagingScalars,
  advance: averaging,
  evalParam,
});

/** The mean `x`, from the parameters `y`. */
export function evalParam(
  y: number,
  { z }: { z: number },
  { betas }: { betas: readonly [number, ...number[]] },
): number {
  return y + (1 - 1 / betas[0]) * (z - y);
}

/** The same at a step. */
export function averaging({
  before,
  options: { lr, weightLrPower },
}: Pick<Advance<typeof averagingScalars, { lr: number; weightLrPower: number }, unknown>, "before" | "options">) {
  const maxLr = Math.max(before.maxLr, lr);
  const weight = pow(maxLr, weightLrPower);
  const weightSum = before.weightSum + weight;
  return { weightSum, maxLr, ck: weightSum > 0 ? weight / weightSum : 0 };
}
