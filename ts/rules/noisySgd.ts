import { kernels } from "../kernels/noisy_sgd.js";
import { pow } from "../math.js";
import { nonNegative, whole } from "../option.js";
import { rule } from "../rule.js";

/**
 * Gradient descent with Gaussian noise that fades. `p = p - lr * (g + noise)`, where the noise has the variance `eta /
 * t ** gamma`. The noise follows from the seed, the tensor's name, the element and the step. So it is the same on every
 * engine, for any number of threads, and in a resumed run.
 *
 * Neelakantan et al., 2015, https://arxiv.org/abs/1511.06807
 *
 * Use it for very deep networks that are hard to start, and to leave poor minima.
 *
 * Elsewhere: Optax's `noisy_sgd`, with other random numbers. PyTorch, Keras and TensorFlow.js have none.
 */
export const noisySgd = rule("noisySgd", {
  kernels,
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Variance of the noise in the first step. */
    eta: nonNegative(0.01),
    /** Exponent with which the variance falls. */
    gamma: nonNegative(0.55),
  },
  fixed: {
    /** Seed of the random numbers. */
    seed: whole(0, 0, 4294967295),
  },
  state: [],
  perTensor: true,
  scalars: { key: 0, size: 0, deviation: 0 },
  advance({ options: { eta, gamma, seed }, step, tensor: { name, size } }) {
    return { key: hash(`${seed} ${name}`), size, deviation: Math.sqrt(eta / pow(step, gamma)) };
  },
});

/** A whole number below 2 ** 32 from a text (FNV-1a). */
function hash(text: string): number {
  let key = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) key = Math.imul(key ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return key;
}
