import { nonNegative, threshold, within } from "../option.js";
import { rule } from "../rule.js";

/**
 * Each parameter's own step grows while its gradient keeps its sign and shrinks when that changes, which it sits out. For
 * gradients over all samples: `s = clamp(s * (grow or shrink), least, most); p = p - s * sign(g)`.
 *
 * Riedmiller & Braun, 1993, https://doi.org/10.1109/ICNN.1993.298623; as in PyTorch
 *
 * Use it for small problems whose gradient is the whole data set's. In mini-batches signs change by chance, and the steps
 * shrink.
 *
 * Elsewhere: PyTorch's `Rprop`. Optax 0.2.8's `rprop` gives updates a step late, and leaves out the one before a change of sign. Keras and TensorFlow.js have none.
 */
export const rprop = rule("rprop", {
  hyper: {
    /** What a step is multiplied by when the sign has changed, below 1; and when it has not, above 1. */
    etas: within("(0, ∞)", [0.5, 1.2]),
    /** The smallest and the largest step; they must not fall. */
    stepSizes: threshold([1e-6, 50]),
  },
  fixed: {
    /** The first step. */
    lr: nonNegative(1e-2),
  },
  state: ["prev", "stepSize"],
  startsAt: { stepSize: "lr" },
  conflict: ({ etas: [shrink, grow], stepSizes: [least, most] }) =>
    shrink < 1 && grow > 1 && least <= most
      ? undefined
      : `etas must lie below and above 1 and stepSizes rise, got etas [${shrink}, ${grow}] and stepSizes [${least}, ${most}]`,
});
