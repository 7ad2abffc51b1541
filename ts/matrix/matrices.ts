/** The operations of which a rule of whole matrices writes its program. The kernels are in crate/src/matrix.rs. */

import type { Shape } from "../arena/tensor.js";

/** The number of columns of a panel, and of rows and columns of a piece of a product. */
export const PANEL = 8;
const TILE = 64;

/** The smallest normal float32, and its square root: a product of two numbers of that size or larger is not subnormal. */
export const MIN_NORMAL_F32 = 1.1754943508222875e-38;
export const SQRT_MIN_NORMAL_F32 = Math.sqrt(MIN_NORMAL_F32);

/** A matrix in memory, row by row or in panels. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly at: Place;
  readonly panels?: boolean;
}

/** The offset in scratch memory, in bytes, or the name of a slot. */
export type Place = number | string;

/** A number, or a function of the options, the rule's scalars and the step. */
export type Amount<Now> = number | ((now: Now) => number);

/** A kernel call. Its struct in Rust has the amounts, then the addresses of the places, then the counts. */
export interface Operation<Now> {
  readonly kernel: string;
  readonly amounts: readonly Amount<Now>[];
  readonly places: readonly (Place | undefined)[];
  readonly counts: readonly number[];
  /** The number of pieces into which threads can divide it. */
  readonly pieces: number;
  /** Its cost: the number of bytes that could be read and written in the same time. */
  readonly bytes: number;
}

/** One instruction of a program. `measure` also computes the rule's scalars; `then` runs only at the steps that `when` selects. */
export type Instruction<Now> =
  | "measure"
  | "update"
  | Operation<Now>
  | { readonly when: (now: Now) => boolean; readonly then: readonly Instruction<Now>[] };

export const wholePanels = (count: number) => Math.ceil(count / PANEL) * PANEL;

/** Allocates matrices in scratch memory, and makes operations on them. */
export class Matrices<Now> {
  readonly shape: Shape;
  /** The number of bytes of scratch memory that are allocated. */
  bytes: number;

  constructor(shape: Shape, bytes: number) {
    this.shape = shape;
    this.bytes = bytes;
  }

  /** A matrix in panels, for products. Its contents are undefined until something is written to it. */
  matrix(rows: number, columns: number): Matrix {
    return { rows, columns, at: this.#take(wholePanels(rows) * wholePanels(columns)), panels: true };
  }

  /** One row of numbers. */
  row(columns: number): Matrix {
    return { rows: 1, columns, at: this.#take(wholePanels(columns)) };
  }

  #take(floats: number): number {
    this.bytes += 4 * floats;
    return this.bytes - 4 * floats;
  }

  /**
   * `out = alpha * transpose(left) * right + beta * plus`, where magnitudes below `least` become zero. `out` may be `plus`, but
   * neither `left` nor `right`.
   * @param symmetric whether the result is symmetric, so that half of it need not be computed
   */
  product(
    out: Matrix,
    left: Matrix,
    right: Matrix,
    {
      alpha = 1,
      beta = 1,
      least = SQRT_MIN_NORMAL_F32,
      plus,
      symmetric = false,
    }: { alpha?: Amount<Now>; beta?: Amount<Now>; least?: number; plus?: Matrix; symmetric?: boolean } = {},
  ): Operation<Now> {
    const [depth, rows, columns] = [left.rows, out.rows, out.columns].map(wholePanels) as [number, number, number];
    const [down, across] = [Math.ceil(rows / TILE), Math.ceil(columns / TILE)];
    const pieces = symmetric ? (down * (down + 1)) / 2 : down * across;
    return {
      kernel: "multiply",
      amounts: [alpha, beta, least],
      places: [left.at, right.at, plus?.at, out.at],
      counts: [depth, rows, columns, Number(symmetric)],
      pieces,
      // Four multiplications take as long as one byte.
      bytes: (depth * rows * columns * pieces) / (2 * down * across),
    };
  }

  /** `out = scale * from + shift * I`, or of the transpose of `from`. Magnitudes below `least` become zero. */
  copy(
    out: Matrix,
    from: Matrix,
    {
      scale = 1,
      shift = 0,
      least = 0,
      transposed = false,
    }: { scale?: Amount<Now>; shift?: Amount<Now>; least?: number; transposed?: boolean } = {},
  ): Operation<Now> {
    const source = transposed ? [from.columns, from.rows] : [from.rows, from.columns];
    const filled = out.panels ? [wholePanels(out.rows), wholePanels(out.columns)] : [out.rows, out.columns];
    const layout = layoutOf(from);
    return {
      kernel: "arrange",
      amounts: [scale, shift, least],
      places: [from.at, out.at],
      counts: [
        ...(transposed ? [...layout.slice(2), ...layout.slice(0, 2)] : layout),
        ...layoutOf(out),
        ...source,
        ...filled,
      ],
      pieces: Math.ceil(out.columns / PANEL),
      bytes: 16 * out.rows * out.columns, // element by element
    };
  }

  /**
   * Reduces the rows or columns of the gradients to one number each, in `into`.
   * @param grid the number of matrices, and the rows and columns of each
   */
  reduce(
    kernel: keyof typeof reductions,
    into: Place,
    grid: readonly [matrices: number, rows: number, columns: number],
    { share = 0, ofRows, ofColumns }: { share?: Amount<Now>; ofRows?: Place; ofColumns?: Place } = {},
  ): Operation<Now> {
    return {
      kernel,
      amounts: [share],
      places: [ofRows, ofColumns, into],
      counts: grid,
      pieces: reductions[kernel](...grid),
      bytes: 4 * grid[0] * grid[1] * grid[2],
    };
  }
}

/** The number of pieces of each reduction. */
const reductions = {
  average_rows: (matrices: number, rows: number) => Math.ceil((matrices * rows) / TILE),
  average_columns: (matrices: number, _: number, columns: number) => matrices * Math.ceil(columns / TILE),
  cover_rows: (_: number, rows: number) => Math.ceil(rows / TILE),
  cover_columns: (_: number, __: number, columns: number) => Math.ceil(columns / TILE),
  divide_rows: (matrices: number) => matrices,
};

/** The `Layout` struct in Rust: the distances between panels, between columns of a panel, between blocks of rows, and between rows. */
const layoutOf = (matrix: Matrix): number[] =>
  matrix.panels
    ? [PANEL * wholePanels(matrix.rows), 1, PANEL * PANEL, PANEL]
    : [PANEL, 1, PANEL * matrix.columns, matrix.columns];
