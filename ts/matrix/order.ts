/** Ordering the columns of a matrix, as operations of a program. */

import { type Matrix, type Operation, TILE, wholePanels } from "./matrices.js";

/** Memory for the dot product of each column, and for the order. */
interface Order {
  readonly dots: Matrix;
  readonly order: Matrix;
}

const ordering = (kernel: string, left: Matrix, right: Matrix, { dots, order }: Order, pieces: number) => ({
  kernel,
  amounts: [],
  places: [left.at, right.at, dots.at, order.at],
  counts: [wholePanels(left.rows), left.columns],
  pieces,
  bytes: 8 * left.rows * left.columns,
});

/** Orders the columns by the dot products of those of `left` and `right`, the largest first. */
export const ranked = (order: Order, left: Matrix, right: Matrix): Operation<unknown>[] => [
  ordering("column_dots", left, right, order, left.columns),
  ordering("rank", left, right, order, Math.ceil(left.columns / TILE)),
];

/** `out` becomes `from` with its columns in that order. */
export const reordered = (out: Matrix, from: Matrix, order: Order): Operation<unknown> =>
  ordering("reorder", from, out, order, from.columns);
