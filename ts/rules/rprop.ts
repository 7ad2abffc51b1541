import { kernels } from "../kernels/rprop.js";
import { nonNegative, threshold, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gives each parameter its own step size, which grows while the gradient keeps its sign and shrinks when the sign
 * changes. After a change of sign, the parameter does not move for one step. `s = clamp(s * (grow or shrink), least,
 * most); p = p - s * sign(g)`.
 *
 * Riedmiller & Braun, 1993, https://doi.org/10.1109/ICNN.1993.298623; as in PyTorch
 *
 * Use it for small problems with the gradient of the whole data set. In mini-batches, signs change by chance and the
 * steps shrink.
 *
 * Elsewhere: PyTorch's `Rprop`, which ignores a gradient that is NaN; here the parameter becomes NaN. Optax 0.2.8's `rprop`
 * applies each update one step later, and drops the update before a change of sign. Keras and TensorFlow.js have none.
 */
export const rprop = rule("rprop", {
  kernels,
  hyper: {
    /** Factors of the step size: below 1 if the sign has changed, and above 1 if it has not. */
    etas: within("(0, ∞)", [0.5, 1.2]),
    /** The smallest and the largest step size, in this order. */
    stepSizes: threshold([1e-6, 50]),
  },
  fixed: {
    /** The first step size. */
    lr: nonNegative(1e-2),
  },
  state: ["prev", "stepSize"],
  startsAt: { stepSize: "lr" },
  conflict: ({ etas: [shrink, grow], stepSizes: [least, most] }) =>
    shrink < 1 && grow > 1 && least <= most
      ? undefined
      : `etas[0] must be below 1, etas[1] above 1, and stepSizes[0] at most stepSizes[1], got etas [${shrink}, ${grow}] and stepSizes [${least}, ${most}]`,
});
