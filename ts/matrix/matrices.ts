/** The operations in programs of rules of matrices. The kernels are in crate/src/matrix.rs and crate/src/factored.rs. */

import type { Shape } from "../arena/tensor.js";
import { roundUp } from "../math.js";

/** The number of columns of a panel, and of rows and columns of a piece of a product. */
export const PANEL = 8;
export const TILE = 64;

/** The number of rows of a piece of a copy, as in crate/src/matrix.rs. */
const ARRANGED_ROWS = 4096;

/**
 * The largest number of multiplications in a piece of a product, and of elements in a piece of a reduction. Such a
 * piece takes 1 to 3 milliseconds.
 */
const MAX_MULTIPLICATIONS = 2 ** 24;
const MAX_ELEMENTS = 2 ** 20;

/** The most terms of a sum in single precision. Longer products have several slices, and the sums of slices are added. */
const MAX_SUMMED = 2 ** 14;

/** The length of a slice: a multiple of what kernels load at once, for which `breadth * length` is at most `most`. */
const sliceLength = (most: number, breadth: number) => Math.floor(most / Math.max(breadth, 1) / PANEL) * PANEL;

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

/**
 * A kernel call. Its struct in Rust has the amounts, then the addresses of the places, then the counts, the length of a
 * piece, and the index of the slice.
 */
export interface Operation<Now> {
  readonly kernel: string;
  readonly amounts: readonly Amount<Now>[];
  readonly places: readonly (Place | undefined)[];
  readonly counts: readonly number[];
  /** The number of pieces into which threads can divide it. */
  readonly pieces: number;
  /**
   * The number of slices, which run one after another: more than 1 if a dimension is so long that a piece would take
   * long. Default: 1.
   */
  readonly slices?: number;
  /** The cost of a slice: the number of bytes that could be read and written in the same time. */
  readonly bytes: number;
}

/** One instruction of a program. `measure` also computes the rule's scalars; `then` runs only at the steps that `when` selects. */
export type Instruction<Now> =
  | "measure"
  | "update"
  | Operation<Now>
  | { readonly when: (now: Now) => boolean; readonly then: readonly Instruction<Now>[] };

export const wholePanels = (count: number) => roundUp(count, PANEL);

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
   * `out = alpha * transpose(left) * right + beta * addend`, where magnitudes below `least` become zero. `out` may be `addend`, but
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
      addend,
      symmetric = false,
    }: { alpha?: Amount<Now>; beta?: Amount<Now>; least?: number; addend?: Matrix; symmetric?: boolean } = {},
  ): Operation<Now> {
    const [depth, rows, columns] = [left.rows, out.rows, out.columns].map(wholePanels) as [number, number, number];
    const [down, across] = [Math.ceil(rows / TILE), Math.ceil(columns / TILE)];
    const pieces = symmetric ? (down * (down + 1)) / 2 : down * across;
    const tile = Math.min(rows, TILE) * Math.min(columns, TILE);
    const slice = Math.min(MAX_SUMMED, sliceLength(MAX_MULTIPLICATIONS, tile));
    const slices = Math.ceil(depth / slice);
    const partial = slices > 1 && addend?.at === out.at ? this.matrix(out.rows, out.columns).at : out.at;
    return {
      kernel: "multiply",
      amounts: [alpha, beta, least],
      places: [left.at, right.at, addend?.at, out.at, partial],
      counts: [depth, rows, columns, Number(symmetric), slice],
      pieces,
      slices,
      // Two multiplications take as long as one byte.
      bytes: (Math.min(depth, slice) * rows * columns * pieces) / (2 * down * across),
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
      pieces: Math.ceil(out.columns / PANEL) * Math.ceil(filled[0]! / ARRANGED_ROWS),
      bytes: 16 * out.rows * out.columns, // element by element
    };
  }

  /**
   * Reduces the rows or columns of the gradients to one statistic each, in `into`.
   * @param grid the number of matrices, and the rows and columns of each
   * @param weight the weight of a new mean in its average, from 0 to 1
   * @param ofRows the statistics of the rows so far, for `cover_…`
   * @param ofColumns those of the columns
   */
  reduce(
    kernel: `${"average" | "cover"}_${"rows" | "columns"}`,
    into: Place,
    grid: Grid,
    { weight = 0, ofRows, ofColumns }: { weight?: Amount<Now>; ofRows?: Place; ofColumns?: Place } = {},
  ): Operation<Now> {
    const [matrices, rows, columns] = grid;
    const isOfRows = kernel.endsWith("_rows");
    const [numbers, length] = isOfRows ? [matrices * rows, columns] : [matrices * columns, rows];
    const slice = sliceLength(MAX_ELEMENTS, Math.min(numbers, TILE));
    const slices = Math.ceil(length / slice);
    return {
      kernel,
      amounts: [weight, 0],
      places: [ofRows, ofColumns, into, slices > 1 ? this.#doubles(4 * numbers) : undefined],
      counts: [...grid, slice],
      pieces: isOfRows ? Math.ceil(numbers / TILE) : matrices * Math.ceil(columns / TILE),
      slices,
      bytes: 4 * numbers * Math.min(length, slice),
    };
  }

  /**
   * Writes to `into`: each row's statistic divided by `max(mean, least)`, where `mean` is the mean of the row
   * statistics of its matrix.
   */
  divideRows(into: Place, ofRows: Place, grid: Grid, least: Amount<Now>): Operation<Now>[] {
    const [matrices, rows] = grid;
    const inverses = this.#doubles(matrices);
    const operation = { amounts: [0, least], places: [ofRows, undefined, into, inverses] };
    const slice = Math.min(rows, MAX_ELEMENTS);
    return [
      {
        ...operation,
        kernel: "invert_means",
        counts: [...grid, slice],
        pieces: matrices,
        slices: Math.ceil(rows / slice),
        bytes: 4 * matrices * slice,
      },
      {
        ...operation,
        kernel: "divide_rows",
        counts: [...grid, rows],
        pieces: Math.ceil((matrices * rows) / TILE),
        bytes: 8 * matrices * rows,
      },
    ];
  }

  #doubles(count: number): Place {
    return this.#take(wholePanels(2 * count));
  }
}

type Grid = readonly [matrices: number, rows: number, columns: number];

/** The `Layout` struct in Rust: the distances between panels, between columns of a panel, between blocks of rows, and between rows. */
const layoutOf = (matrix: Matrix): number[] =>
  matrix.panels
    ? [PANEL * wholePanels(matrix.rows), 1, PANEL * PANEL, PANEL]
    : [PANEL, 1, PANEL * matrix.columns, matrix.columns];
