import { kernels } from "../kernels/ftrl.js";
import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Chooses each parameter as the best one for all gradients so far, with penalties ("follow the regularized leader");
 * with an L1 penalty most parameters are exactly zero. With `r(n) = n ** -lrPower / lr`: `z = z + g + 2 * l2Shrinkage *
 * p - (r(n + g ** 2) - r(n)) * p; n = n + g ** 2; p = (clip(z, l1) - z) / (r(n) + 2 * l2 + beta / lr)`. The numbers `l1`,
 * `l2` and `l2Shrinkage` are the options that begin with these names. The first step nearly forgets the first values of
 * the parameters, unless its gradient is large compared with the root of `initialAccumulatorValue`.
 *
 * McMahan et al., 2013, https://research.google/pubs/ad-click-prediction-a-view-from-the-trenches/; as in Keras
 *
 * Use it for linear models with very many sparse features, such as click-through prediction, where most weights should
 * be exactly zero. Gradients above 1e19 have an infinite square, and turn parameters into NaN: limit them with
 * `clipValue`.
 *
 * Elsewhere: Keras's `Ftrl`. PyTorch, Optax and TensorFlow.js have none.
 */
export const ftrl = rule("ftrl", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: within("(0, ∞)", 1e-3),
    /** Exponent with which the rate falls as the sum of squares rises; 0 keeps the rate. */
    lrPower: within("(-1, 0]", -0.5),
    /** L1 regularization: a parameter is exactly zero while `abs(z)` in the formula is at most this. */
    l1RegularizationStrength: nonNegative(0),
    /** L2 regularization of the chosen parameters. */
    l2RegularizationStrength: nonNegative(0),
    /** L2 regularization that is added to the gradient. */
    l2ShrinkageRegularizationStrength: nonNegative(0),
    /** Added to the root of the sum of squares, before division by the rate. */
    beta: nonNegative(0),
  },
  fixed: {
    /** The first value of the sums of squares. */
    initialAccumulatorValue: nonNegative(0.1),
  },
  state: ["accumulator", "linear"],
  startsAt: { accumulator: "initialAccumulatorValue" },
});
