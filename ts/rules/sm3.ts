import { nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/**
 * Adagrad that keeps a number for each row and column rather than a sum for each element, which is at most the smaller of its two.
 * `s = min(row, column) + g ** 2; m = momentum * m + (1 - momentum) * g / sqrt(s + eps); p = p - lr * m`; then `row` and `column` become the largest
 * `s` in them. A vector has a number for each element: then it is Adagrad with momentum.
 *
 * Anil et al., 2019, https://arxiv.org/abs/1901.11150; as in Optax, for vectors and matrices
 *
 * Use it for embeddings and other large matrices whose gradients are sparse, where memory is short.
 *
 * Elsewhere: Optax' `sm3`, which takes tensors of more dimensions, too. PyTorch, Keras and TensorFlow.js have none.
 */
export const sm3 = rule("sm3", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-1),
    /** Exponential decay rate of the average of what the parameters move by. */
    momentum: unit(0.9),
    /** Added to the sums under the root. */
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
  program(matrices) {
    const [columns, rows] = [matrices.shape.at(-1) ?? 1, matrices.shape.at(-2) ?? 1];
    const grid = [1, rows, columns] as const;
    const sides = { ofRows: "rowMax", ofColumns: "columnMax" };
    // The update is by what rows and columns have before it.
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
