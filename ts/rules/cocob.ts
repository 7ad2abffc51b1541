import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * No learning rate: each parameter bets part of what it has won on the sign of its gradient. With `L` the largest gradient, `G` the sum of
 * their sizes, `C` of their opposites and `R` the reward: `p = p0 + C / (L * max(G + L, alpha * L)) * (L + R)`.
 *
 * Orabona & Tommasi, 2017, algorithm 2, https://arxiv.org/abs/1705.07795; as in Optax
 *
 * Use it for a first run without any rate to choose; tuned rates end better.
 *
 * Elsewhere: Optax' `contrib.cocob`. PyTorch, Keras and TensorFlow.js have none.
 */
export const cocob = rule("cocob", {
  hyper: {
    /** What gradients are multiplied by; the rule needs no other rate than one. */
    lr: nonNegative(1),
    /** How cautious the first bets are. */
    alpha: nonNegative(100),
    /** What the largest gradient starts at. */
    eps: within("(0, ∞)", 1e-8),
    /** Coupled weight decay (L2): `weightDecay * param` is added to the gradient. */
    weightDecay: nonNegative(0),
  },
  state: ["cumulativeGrads", "scale", "subgradients", "reward", "initParams"],
  startsAt: { scale: "eps", initParams: "params" },
});
