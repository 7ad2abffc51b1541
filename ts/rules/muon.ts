import { SQRT_MIN_NORMAL_F32 } from "../matrix/matrices.js";
import { count, finite, flag, nonNegative, oneOf, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Momentum made orthogonal: the buffer's singular values are brought near one, so that no direction in a matrix is neglected.
 * `m = momentum * m + (1 - momentum) * g; d = m`, or for Nesterov `momentum * m + (1 - momentum) * g`; `X = d / max(norm(d), eps)`, and
 * `nsSteps` times `A = X * X'; X = a * X + (b * A + c * A * A) * X`; `p = p * (1 - lr * weightDecay) - lr * ratio * X`.
 *
 * Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/; as in PyTorch
 *
 * Use it for the matrices of hidden layers, where it takes fewer steps than AdamW; vectors, embeddings and the last layer go to AdamW.
 *
 * Elsewhere: PyTorch's `Muon`, which iterates in bfloat16, here in single precision; its `adjust_lr_fn` is `adjustLr`. Optax'
 * `contrib.muon` has `biasCorrection`, `epsAdded` and `inputsFirst`, and gives other tensors to AdamW by itself; its `consistent_rms=0.2` is
 * `adjustLr: "match_rms_adamw"`, as is what Keras' `Muon` does, which adds eps to the norm, too. TensorFlow.js has none.
 */
export const muon = rule("muon", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rate of the buffer. */
    momentum: unit(0.95),
    /** Decoupled weight decay: each step takes away `lr * weightDecay` of the parameter. */
    weightDecay: nonNegative(0.1),
    /** The factors of the first, third and fifth power in a Newton-Schulz iteration. */
    nsCoefficients: finite([3.4445, -4.775, 2.0315]),
    /** What the direction's norm is at least, before it is divided by. */
    eps: nonNegative(1e-7),
    /** Look ahead: step along the gradient and the buffer's next move. */
    nesterov: flag(true),
    /** Divide by how far the average has come from zero (Optax). */
    biasCorrection: flag(false),
  },
  fixed: {
    /** How many Newton-Schulz iterations. */
    nsSteps: count(5, 1),
    /** What the rate is multiplied by: the root of rows over columns, if that is more than one; or 0.2 times the root of the larger, which makes steps as long as AdamW's. */
    adjustLr: oneOf("original", "match_rms_adamw"),
    /** Whether rows are inputs and columns outputs, as in Optax and Keras: then the other way round. */
    inputsFirst: flag(false),
    /** Add `eps` to the norm instead (Optax). */
    epsAdded: flag(false),
  },
  state: ["momentumBuffer"],
  scratch: ["direction"],
  accepts: "matrices",
  perTensor: true,
  sums: ["squares"],
  scalars: { lrRatio: 1, norm: 1 },
  advance: ({ options: { adjustLr, inputsFirst, epsAdded, eps }, sums: { squares }, tensor: { shape } }) => {
    const [outputs, inputs] = (inputsFirst ? [...shape].reverse() : shape) as [number, number];
    const norm = Math.sqrt(squares);
    return {
      lrRatio:
        adjustLr === "original" ? Math.sqrt(Math.max(1, outputs / inputs)) : 0.2 * Math.sqrt(Math.max(outputs, inputs)),
      norm: epsAdded ? norm + eps : Math.max(norm, eps),
    };
  },
  program(matrices, { nsSteps }) {
    const [rows, columns] = matrices.shape as [number, number];
    // The fewer rows, the less work; and what is made of the transpose is the transpose.
    const transposed = rows > columns;
    const [m, n] = transposed ? [columns, rows] : [rows, columns];
    const direction = { rows, columns, at: "direction" };
    const [square, polynomial] = [matrices.matrix(m, m), matrices.matrix(m, m)];
    let [x, other] = [matrices.matrix(m, n), matrices.matrix(m, n)];
    const iterations = Array.from({ length: nsSteps }, () => {
      const turned = { ...other, rows: n, columns: m };
      const operations = [
        matrices.copy(turned, x, { transposed: true }),
        matrices.product(square, turned, turned, { symmetric: true }),
        matrices.product(polynomial, square, square, {
          alpha: ({ nsCoefficients }) => nsCoefficients[2],
          beta: ({ nsCoefficients }) => nsCoefficients[1],
          plus: square,
          symmetric: true,
        }),
        matrices.product(other, polynomial, x, { beta: ({ nsCoefficients }) => nsCoefficients[0], plus: x }),
      ];
      [x, other] = [other, x];
      return operations;
    });
    const first = nsSteps % 2 ? other : x;
    return [
      "measure",
      matrices.copy(first, direction, { scale: ({ norm }) => 1 / norm, least: SQRT_MIN_NORMAL_F32, transposed }),
      ...iterations.flat(),
      matrices.copy(direction, x, { transposed }),
      "update",
    ];
  },
});
