import { flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adam that does not divide by the mean square until there is enough of it to go by, and then by how much there is: rectified.
 *
 * Liu et al., 2020, https://arxiv.org/abs/1908.03265; eps and the bound, above 5, as in PyTorch
 */
export const radam = rule("radam", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rates of the first and the second moment. */
    betas: unit([0.9, 0.999]),
    /** Added to the root of the second moment. */
    eps: nonNegative(1e-8),
    /** Weight decay: coupled (L2), or decoupled. */
    weightDecay: nonNegative(0),
    /** Multiply the parameter by `1 - lr * weightDecay` in place of adding `weightDecay * param` to the gradient. */
    decoupledWeightDecay: flag(false),
  },
  state: ["expAvg", "expAvgSq"],
});
