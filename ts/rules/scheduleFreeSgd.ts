import { kernels } from "../kernels/schedule_free_sgd.js";
import { pow } from "../math.js";
import { nonNegative, within } from "../option.js";
import type { Advance } from "../optimizer/definition.js";
import { byEvaluated } from "../optimizer/replace.js";
import { rule } from "../rule.js";

/** Scalars of the schedule-free rules: the sum of weights, the largest rate so far, the weight of the step in the average. */
export const averagingScalars = { weightSum: 0, maxLr: 0, ck: 0 };

/**
 * SGD that needs no schedule for its rate, because it averages the parameters. Descent runs at `z`, the result is `x`,
 * a weighted mean of all `z`, and gradients are computed between them, at the parameters `y = (1 - b1) * z + b1 * x`.
 * The step is `z = z - lr * g; x = (1 - c) * x + c * z`. A step has the weight `w = maxLr ** weightLrPower`, where
 * `maxLr` is the largest rate so far, and `c` is `w` divided by the sum of the weights of all steps so far. `opt.eval()`
 * sets the parameters to `x`, and `opt.train()` back to `y`.
 *
 * Defazio et al., 2024, https://arxiv.org/abs/2405.15682; weights as in Optax, except that each follows from its own
 * step's rate, not from the next one
 *
 * Use it for runs of unknown length: in the authors' experiments, the mean is at any time about as good as a run whose schedule ends there. Call `opt.eval()`
 * before you use the model, and `opt.train()` before the next step.
 *
 * Elsewhere: Optax's `contrib.schedule_free_sgd`, whose `schedule_free_eval_params` is `opt.eval()`; the authors'
 * `SGDScheduleFree`. PyTorch, Keras and TensorFlow.js have none.
 */
export const scheduleFreeSgd = rule("scheduleFreeSgd", {
  kernels,
  hyper: {
    /** Learning rate. It may warm up, but should not decay. */
    lr: nonNegative(1),
    /** Weight of the average `x` in the point where gradients are computed. */
    betas: within("(0, 1)", [0.9]),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
    /** The weight of a step in the average is the largest rate so far to this power. */
    weightLrPower: nonNegative(2),
  },
  state: ["z"],
  startsAt: { z: "params" },
  scalars: averagingScalars,
  advance: averaging,
  evalParams,
  byEvaluated,
});

/** Computes the average `x` from the parameters `y`. */
export function evalParams(
  y: Float32Array,
  { z }: { readonly z: Float32Array },
  { betas }: { readonly betas: readonly [number, ...number[]] },
): void {
  const weight = 1 - 1 / betas[0];
  const { length } = y; // reading it at each turn of the loop takes as long as the rest
  for (let i = 0; i < length; i++) {
    const p = y[i]!;
    y[i] = p + weight * (z[i]! - p);
  }
}

/** The scalars at a step, from those at the step before. */
export function averaging({
  before,
  options: { lr, weightLrPower },
}: Pick<Advance<typeof averagingScalars, { lr: number; weightLrPower: number }, unknown>, "before" | "options">) {
  const maxLr = Math.max(before.maxLr, lr);
  const weight = pow(maxLr, weightLrPower);
  const weightSum = before.weightSum + weight;
  return { weightSum, maxLr, ck: weightSum > 0 ? weight / weightSum : 0 };
}
