import { kernels } from "../kernels/muon.js";
import * as matrix from "../kernels/matrix.js";
import { planProgram } from "../matrix/program.js";
import { SQRT_MIN_NORMAL_F32 } from "../matrix/matrices.js";
import { finite, flag, nonNegative, oneOf, unit, whole } from "../option.js";
import { elementsIn, type Shape } from "../arena/tensor.js";
import { rule } from "../rule.js";

/**
 * The rows and columns of a tensor: its first dimension and the others. If inputs are first, so that outputs are last, its columns
 * are the last dimension.
 */
function matrixOf(shape: Shape, inputsFirst: boolean): readonly [rows: number, columns: number] {
  const last = inputsFirst ? shape.length - 1 : 1;
  return [elementsIn(shape.slice(0, last)), elementsIn(shape.slice(last))];
}

/**
 * Momentum for matrices whose update is made orthogonal: its singular values are brought near one, so all directions of
 * the matrix learn at the same speed. `m = momentum * m + (1 - momentum) * g; d = m`. With Nesterov momentum,
 * `d = momentum * m + (1 - momentum) * g`. Then `X = d / max(norm(d), eps)`, and `nsSteps` times
 * `A = X * X'; X = a * X + (b * A + c * A * A) * X`. Finally `p = p * (1 - lr * weightDecay) - lr * ratio * X`.
 *
 * Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/; as in PyTorch
 *
 * Use it for the weight matrices of hidden layers, where it takes fewer steps than `adamw`, and for filters of
 * convolutions, which are flattened to one row for each output. Give vectors, embeddings and the last layer to `adamw`.
 *
 * Elsewhere: PyTorch's `Muon`, which iterates in bfloat16 (here in float32); its `adjust_lr_fn` is `adjustLr`. Optax's
 * `contrib.muon` has `biasCorrection`, `epsAdded` and `inputsFirst`, and gives other tensors to AdamW by itself; its
 * `consistent_rms=0.2` is `adjustLr: "match_rms_adamw"`. Keras's `Muon` has the same `adjustLr`, and `epsAdded`.
 * TensorFlow.js has none.
 */
export const muon = rule("muon", {
  kernels: { ...kernels, ...matrix },
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-3),
    /** Exponential decay rate of the buffer. */
    momentum: unit(0.95),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(0.1),
    /** Coefficients `a`, `b`, `c` of a Newton-Schulz iteration: of the first, third and fifth power. */
    nsCoefficients: finite([3.4445, -4.775, 2.0315]),
    /** Lower bound of the norm by which the direction is divided. */
    eps: nonNegative(1e-7),
    /** Nesterov momentum: use the buffer that the next step would have for the same gradient. */
    nesterov: flag(true),
    /** Divide the average, which starts at zero, by `1 - momentum ** step` (Optax). */
    biasCorrection: flag(false),
  },
  fixed: {
    /** Number of Newton-Schulz iterations. */
    nsSteps: whole(5, 1, 99),
    /** The factor of the learning rate, `ratio`. "original": the root of rows over columns, at least 1. "match_rms_adamw": 0.2 times the root of the larger of both, which makes steps as long as AdamW's. */
    adjustLr: oneOf("original", "match_rms_adamw"),
    /** Whether rows are inputs and columns are outputs, as in Optax and Keras. It changes the factor of the learning rate. A tensor of more than two dimensions then has its outputs in the last dimension instead of the first. */
    inputsFirst: flag(false),
    /** Add `eps` to the norm instead of using it as a lower bound (Optax). */
    epsAdded: flag(false),
  },
  state: ["momentumBuffer"],
  scratch: ["direction"],
  accepts: "matricesAndFilters",
  perTensor: true,
  sums: ["squares"],
  scalars: { lrRatio: 1, norm: 1 },
  advance: ({ options: { adjustLr, inputsFirst, epsAdded, eps }, sums: { squares }, tensor: { shape } }) => {
    const sides = matrixOf(shape, inputsFirst);
    const [outputs, inputs] = (inputsFirst ? [...sides].reverse() : sides) as [number, number];
    const norm = Math.sqrt(squares);
    return {
      lrRatio:
        adjustLr === "original" ? Math.sqrt(Math.max(1, outputs / inputs)) : 0.2 * Math.sqrt(Math.max(outputs, inputs)),
      // Without a direction, and with an eps of zero, there is nothing to divide.
      norm: (epsAdded ? norm + eps : Math.max(norm, eps)) || 1,
    };
  },
  planProgram,
  program(matrices, { nsSteps, inputsFirst }) {
    const [rows, columns] = matrixOf(matrices.shape, inputsFirst);
    // The iteration is cheaper with fewer rows than columns. The result for the transpose is the transpose of the
    // result.
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
          addend: square,
          symmetric: true,
        }),
        matrices.product(other, polynomial, x, { beta: ({ nsCoefficients }) => nsCoefficients[0], addend: x }),
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
