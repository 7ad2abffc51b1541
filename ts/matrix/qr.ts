/** The QR decomposition, as operations of a program. The kernels are in crate/src/qr.rs. */

import { type Matrices, type Matrix, type Operation, PANEL, wholePanels } from "./matrices.js";

/** `q` becomes the factor Q of the QR decomposition of `p`. Both are square; `p` is overwritten. */
export function orthonormalized<Now>(matrices: Matrices<Now>, q: Matrix, p: Matrix): Operation<Now>[] {
  const rows = wholePanels(p.rows);
  const panels = Array.from({ length: rows / PANEL }, (_, panel) => panel);
  const operation = (kernel: string, to: Matrix, panel: number, first: number, reverse: number, pieces: number) => ({
    kernel,
    amounts: [],
    places: [p.at, to.at],
    counts: [rows, panel, first, reverse],
    pieces,
    bytes: 32 * PANEL * PANEL * rows * pieces, // a multiplication counts as 16 bytes, because reflections follow one another
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
