import { kernels } from "../kernels/sm3.js";
import * as factored from "../kernels/factored.js";
import * as matrix from "../kernels/matrix.js";
import { planProgram } from "../matrix/program.js";
import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adagrad with little memory: it stores a number for each row and each column of a matrix instead of a sum for each
 * element, and uses the smaller of the two. `s = min(row, column) + g ** 2; m = momentum * m + (1 - momentum) * g /
 * sqrt(s + eps); p = p - lr * m`. Then each row and column gets the largest `s` in it. A vector has a number for each
 * element, which makes it Adagrad with momentum.
 *
 * Anil et al., 2019, https://arxiv.org/abs/1901.11150; as in Optax, for vectors and matrices
 *
 * Use it for embeddings and other large matrices with sparse gradients, when memory is short.
 *
 * Elsewhere: Optax's `sm3`, which also accepts tensors with more dimensions. PyTorch, Keras and TensorFlow.js have
 * none.
 */
export const sm3 = rule("sm3", {
  kernels: { ...kernels, ...factored, ...matrix },
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-1),
    /** Exponential decay rate of the average of the updates. */
    momentum: unit(0.9),
    /** Added to the sums, under the root. */
    eps: nonNegative(1e-8),
  },
  state: ["momentumBuffer", "rowMax", "columnMax"],
  shapes: {
    rowMax: (shape) => (shape.length === 2 ? [shape[0]!] : [1]),
    columnMax: (shape) => [shape.at(-1) ?? 1],
  },
  accepts: "vectorsAndMatrices",
  perTensor: true,
  scalars: { columns: 1, size: 1 },
  tensorScalars: ({ shape, size }) => ({ columns: shape.at(-1) ?? 1, size }),
  planProgram,
  program(matrices) {
    const [columns, rows] = [matrices.shape.at(-1) ?? 1, matrices.shape.at(-2) ?? 1];
    const grid = [1, rows, columns] as const;
    const sides = { ofRows: "rowMax", ofColumns: "columnMax" };
    // The update uses the old numbers of the rows and columns, so the new ones wait in scratch memory.
    const [newRows, newColumns] = [matrices.row(rows), matrices.row(columns)];
    return [
      matrices.reduce("cover_rows", newRows.at, grid, sides),
      matrices.reduce("cover_columns", newColumns.at, grid, sides),
      "update",
      matrices.copy({ ...newRows, at: "rowMax" }, newRows),
      matrices.copy({ ...newColumns, at: "columnMax" }, newColumns),
    ];
  },
});
