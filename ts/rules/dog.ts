import { kernels } from "../kernels/dog.js";
import { nonNegative, oneOf, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gradient descent that finds its learning rate: the distance from the start, divided by the root of the sum of squared
 * gradients. `p = p - lr * r / sqrt(G + eps) * g`, where `r` is the largest distance from the first parameters, and `G`
 * the sum of all squared gradients, both over all tensors. Average the parameters with `ema` or `swa`, as the authors
 * do.
 *
 * Ivgi, Hinder & Carmon, 2023, https://arxiv.org/abs/2302.12022; as in Optax
 *
 * Use it for fine-tuning and other runs without a search for the rate, together with an average of the parameters.
 *
 * Elsewhere: Optax's `contrib.dog`. Its option `init_step` is a pair; here it is two options, `initStepBy` and
 * `initStep`. PyTorch, Keras and TensorFlow.js have none.
 */
export const dog = rule("dog", {
  kernels,
  hyper: {
    /** Multiplies the rate that the rule finds. */
    lr: nonNegative(1),
    /** Added to the sum of squared gradients. */
    eps: nonNegative(1e-8),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
  },
  fixed: {
    /** Size of the first step. With batch normalization, 1e-4 is better. */
    initStep: within("(0, ∞)", 1e-6),
    /** The unit of `initStep`: one plus the norm of the parameters, a distance, or the rate of the first step whose gradients are not all zero. */
    initStepBy: oneOf("heuristic", "distance", "learningRate"),
  },
  state: ["initParams"],
  startsAt: { initParams: "params" },
  sums: ["distance", "grads", "params"],
  scalars: { maxDist: 0, gradsSq: 0, rate: 0 },
  advance({ before, options: { eps, initStep, initStepBy }, sums: { distance, grads, params } }) {
    const isFirst = before.maxDist === 0 && before.gradsSq === 0;
    const start = { heuristic: initStep * (1 + Math.sqrt(params)), distance: initStep, learningRate: 0 }[initStepBy];
    const maxDist = Math.max(isFirst ? start : before.maxDist, Math.sqrt(distance));
    const gradsSq = before.gradsSq + grads;
    const root = Math.sqrt(gradsSq + eps);
    const given = isFirst && initStepBy === "learningRate";
    return { maxDist, gradsSq, rate: given ? initStep : root === 0 ? 0 : maxDist / root };
  },
});
