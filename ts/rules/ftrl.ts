import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Follow the regularized leader: each parameter is what would have been best for all gradients so far, near zero under L1. With `r(n)
 * = n ** -lrPower / lr`: `z = z + g + 2 * l2Shrinkage * p - (r(n + g ** 2) - r(n)) * p; n = n + g ** 2; p = (clip(z, l1) - z) / (r(n)
 * + 2 * l2 + beta / lr)`. The parameters' first values are all but forgotten at the first step, unless its gradient is
 * large beside the root of `initialAccumulatorValue`.
 *
 * McMahan et al., 2013, https://research.google/pubs/ad-click-prediction-a-view-from-the-trenches/; as in Keras
 *
 * Use it for linear models with very many sparse features, for click-through rates say, where most weights are to be exactly zero.
 *
 * Elsewhere: Keras' `Ftrl`. PyTorch, Optax and TensorFlow.js have none.
 */
export const ftrl = rule("ftrl", {
  hyper: {
    /** Learning rate. */
    lr: within("(0, ∞)", 1e-3),
    /** The power by which the rate falls with the sum of squares; 0 keeps it. */
    lrPower: within("(-1, 0]", -0.5),
    /** L1 regularization: parameters whose gradients add up to less are zero. */
    l1RegularizationStrength: nonNegative(0),
    /** L2 regularization, in the leader. */
    l2RegularizationStrength: nonNegative(0),
    /** L2 regularization, in the gradient. */
    l2ShrinkageRegularizationStrength: nonNegative(0),
    /** Added to the root of the sum of squares, over the rate. */
    beta: nonNegative(0),
  },
  fixed: {
    /** What the sums of squares start at. */
    initialAccumulatorValue: nonNegative(0.1),
  },
  state: ["accumulator", "linear"],
  startsAt: { accumulator: "initialAccumulatorValue" },
});
