import { nonNegative } from "../option.js";
import { rule } from "../rule.js";

/**
 * Steps as long as the tensor, times the rate, and the tensor back to its size: `p = (p - lr * norm(p) / norm(g) * g) / sqrt(1 + lr **
 * 2)`, the norms at least `minNorm`.
 *
 * Bernstein et al., 2020, https://arxiv.org/abs/2002.03432; as in Optax
 *
 * Use it for generative networks and others whose rate one does not want to tune: 0.01 does for most.
 *
 * Elsewhere: Optax' `fromage`. PyTorch, Keras and TensorFlow.js have none.
 */
export const fromage = rule("fromage", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-2),
    /** What either norm is at least. */
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
