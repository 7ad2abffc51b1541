import { kernels } from "../kernels/dowg.js";
import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Like `dog`, but each squared gradient is weighted by the squared distance at its step. `p = p - lr * r ** 2 /
 * (sqrt(sum(r ** 2 * norm(g) ** 2)) + eps) * g`, where `r` is the largest distance from the first parameters, over all
 * tensors.
 *
 * Khaled, Mishchenko & Jin, 2023, https://arxiv.org/abs/2305.16284; as in Optax
 *
 * Use it instead of `dog`, if the problem becomes less steep: it adapts faster.
 *
 * Elsewhere: Optax's `contrib.dowg`, whose first guess is eps if none is given. PyTorch, Keras and TensorFlow.js have
 * none.
 */
export const dowg = rule("dowg", {
  kernels,
  hyper: {
    /** Multiplies the rate that the rule finds. */
    lr: nonNegative(1),
    /** Added to the root of the weighted sum of squared gradients. */
    eps: nonNegative(1e-4),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
  },
  fixed: {
    /** The first estimate of the squared distance. */
    initEstimSqDist: within("(0, ∞)", 1e-4),
  },
  state: ["initParams"],
  startsAt: { initParams: "params" },
  sums: ["distance", "grads"],
  scalars: { distSq: 0, gradsSq: 0, rate: 0 },
  advance({ before, options: { eps, initEstimSqDist }, sums: { distance, grads } }) {
    const distSq = Math.max(before.distSq === 0 ? initEstimSqDist : before.distSq, distance);
    const gradsSq = before.gradsSq + distSq * grads;
    const root = Math.sqrt(gradsSq) + eps;
    return { distSq, gradsSq, rate: root === 0 ? 0 : distSq / root };
  },
});
