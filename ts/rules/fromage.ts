import { kernels } from "../kernels/fromage.js";
import { nonNegative } from "../option.js";
import { rule } from "../rule.js";

/**
 * Makes each tensor's step a fixed fraction of the tensor's norm, then scales the tensor back. `p = (p - lr * norm(p) /
 * norm(g) * g) / sqrt(1 + lr ** 2)`. Both norms are at least `minNorm`.
 *
 * Bernstein et al., 2020, https://arxiv.org/abs/2002.03432; as in Optax
 *
 * Use it for generative networks, and others without tuning the rate: 0.01 works for most.
 *
 * Elsewhere: Optax's `fromage`. PyTorch, Keras and TensorFlow.js have none.
 */
export const fromage = rule("fromage", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** Lower bound of both norms. */
    minNorm: nonNegative(1e-6),
  },
  state: [],
  perTensor: true,
  sums: ["params", "grads"],
  scalars: { trustRatio: 1 },
  advance({ options: { minNorm }, sums: { params, grads } }) {
    const [own, slope] = [Math.max(Math.sqrt(params), minNorm), Math.max(Math.sqrt(grads), minNorm)];
    return { trustRatio: own === 0 || slope === 0 ? 1 : own / slope };
  },
});
