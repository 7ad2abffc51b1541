/** Orthonormal bases, and what is computed in one: operations of programs; twin of crate/src/basis.rs. */

import { type Amount, type Matrices, type Matrix, type Operation, PANEL, wholePanels } from "./matrices.js";
import { CHUNK } from "../threads/task.js";

/** Leaves in `q` an orthonormal basis of what is spanned by the columns of `p`, which is lost: the Q of its QR decomposition. Both are square. */
export function orthonormalized<Now>(matrices: Matrices<Now>, q: Matrix, p: Matrix): Operation<Now>[] {
  const rows = wholePanels(p.rows);
  const panels = Array.from({ length: rows / PANEL }, (_, panel) => panel);
  const operation = (kernel: string, to: Matrix, panel: number, first: number, reverse: number, pieces: number) => ({
    ...{ kernel, amounts: [], places: [p.at, to.at], counts: [rows, panel, first, reverse], pieces },
    bytes: 32 * PANEL * PANEL * rows * pieces, // as products: four operations a byte
  });
  const applied = (to: Matrix, panel: number, first: number, reverse: number) =>
    first < panels.length ? [operation("reflect", to, panel, first, reverse, panels.length - first)] : [];
  return [
    ...panels.flatMap((panel) => [
      operation("find_reflections", p, panel, 0, 0, 1),
      ...applied(p, panel, panel + 1, 0),
    ]),
    matrices.copy(q, p, { scale: 0, shift: 1 }),
    ...panels.reverse().flatMap((panel) => applied(q, panel, panel, 1)),
  ];
}

/** An order of columns: for as many as there are, room for their sums and for the order itself. */
interface Order {
  readonly sums: Matrix;
  readonly order: Matrix;
}

const ordering = (kernel: string, left: Matrix, right: Matrix, { sums, order }: Order, pieces: number) => ({
  ...{
    kernel,
    amounts: [],
    places: [left.at, right.at, sums.at, order.at],
    counts: [wholePanels(left.rows), left.columns],
  },
  ...{ pieces, bytes: 8 * left.rows * left.columns },
});

/** Finds in which order columns stand by the sums of the products of `left`'s and `right`'s, the largest first. */
export const ranked = (order: Order, left: Matrix, right: Matrix): Operation<unknown> =>
  ordering("rank", left, right, order, 1);

/** `out` is `from` with its columns in that order. */
export const reordered = (out: Matrix, from: Matrix, order: Order): Operation<unknown> =>
  ordering("reorder", from, out, order, from.columns);

/** Has the second moment take gradients in, and leaves Adam's direction, without correction, in the averages' place; row by row all. */
export const adapted = <Now>(
  { beta, eps }: { beta: Amount<Now>; eps: Amount<Now> },
  [grads, squares, averages]: readonly [Matrix["at"], Matrix["at"], Matrix["at"]],
  size: number,
): Operation<Now> => ({
  ...{ kernel: "adapt", amounts: [beta, eps], places: [grads, squares, averages], counts: [size] },
  ...{ pieces: Math.ceil(size / CHUNK), bytes: 20 * size },
});
