import { nonNegative, oneOf, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gradient descent without a rate to be tuned: `p = p - lr * r / sqrt(G + eps) * g`, `r` the largest distance from where the parameters
 * began, `G` the sum of all squared gradients, both over all tensors. Average the parameters, with `ema` or `swa`, as the authors do.
 *
 * Ivgi, Hinder & Carmon, 2023, https://arxiv.org/abs/2302.12022; as in Optax
 *
 * Use it for fine-tuning and other runs without a rate to search for; with an average of the parameters.
 *
 * Elsewhere: Optax' `contrib.dog`, whose `init_step` is a pair, here `initStepBy` and `initStep`. PyTorch, Keras and TensorFlow.js
 * have none.
 */
export const dog = rule("dog", {
  hyper: {
    /** What the rule's own rate is multiplied by. */
    lr: nonNegative(1),
    /** Added to the sum of squared gradients. */
    eps: nonNegative(1e-8),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
  },
  fixed: {
    /** What begins: with batch normalization rather 1e-4. */
    initStep: within("(0, ∞)", 1e-6),
    /** Whether that is a distance in units of one plus the parameters' norm, a distance, or the first step's rate. */
    initStepBy: oneOf("heuristic", "distance", "learningRate"),
  },
  state: ["initParams"],
  startsAt: { initParams: "params" },
  sums: ["distance", "grads", "params"],
  scalars: { maxDist: 0, gradsSq: 0, rate: 0 },
  advance({ before, options: { eps, initStep, initStepBy }, step, sums: { distance, grads, params } }) {
    const start = { heuristic: initStep * (1 + Math.sqrt(params)), distance: initStep, learningRate: 0 }[initStepBy];
    const maxDist = Math.max(step === 1 ? start : before.maxDist, Math.sqrt(distance));
    const gradsSq = before.gradsSq + grads;
    const root = Math.sqrt(gradsSq + eps);
    const given = step === 1 && initStepBy === "learningRate";
    return { maxDist, gradsSq, rate: given ? initStep : root === 0 ? 0 : maxDist / root };
  },
});
