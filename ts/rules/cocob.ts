import { kernels } from "../kernels/cocob.js";
import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Needs no learning rate: it treats each step as a bet on the sign of the gradient, and stakes a part of its winnings.
 * `L` is the largest magnitude of a gradient, `G` the sum of the magnitudes, `C` the sum of the negated gradients, and `R` the
 * reward so far: `p = p0 + C / (L * max(G + L, alpha * L)) * (L + R)`.
 *
 * Orabona & Tommasi, 2017, algorithm 2, https://arxiv.org/abs/1705.07795; as in Optax
 *
 * Use it for a first run without choosing a rate. An optimizer with a tuned rate ends better.
 *
 * Elsewhere: Optax's `contrib.cocob`. PyTorch, Keras and TensorFlow.js have none.
 */
export const cocob = rule("cocob", {
  kernels,
  hyper: {
    /** Multiplies the gradients. The rule needs no other value than 1. */
    lr: nonNegative(1),
    /** Caution of the first steps: larger means smaller steps. */
    alpha: nonNegative(100),
    /** The first value of the largest gradient. */
    eps: within("(0, ∞)", 1e-8),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
  },
  state: ["cumulativeGrads", "scale", "subgradients", "reward", "initParams"],
  startsAt: { scale: "eps", initParams: "params" },
});
