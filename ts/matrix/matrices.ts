/** Programs of whole matrices: what a rule does with a tensor in a step, in order; twin of crate/src/matrix.rs. */

import type { Arena } from "../arena/arena.js";
import type { Shape } from "../arena/tensor.js";
import { CHUNK, type Call, writeTask, type Task, taskBytes } from "../threads/task.js";

/** Columns of a panel, and rows and columns of a piece of a product. */
export const PANEL = 8;
const TILE = 64;

/** The smallest normal number; and its root: no product of two numbers that are as large is subnormal, which would take tens of times as long. */
export const MIN_NORMAL_F32 = 1.1754943508222875e-38;
export const SQRT_MIN_NORMAL_F32 = Math.sqrt(MIN_NORMAL_F32);

/** A matrix, row by row or in panels. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly at: Place;
  readonly panels?: boolean;
}

/** Bytes from the beginning of scratch, or the name of a slot. */
type Place = number | string;

/** A number, or what gives it from the options, the rule's scalars and the step. */
export type Amount<Now> = number | ((now: Now) => number);

/** A kernel's call, as its struct in crate/src/matrix.rs has it: numbers, matrices, counts. */
export interface Operation<Now> {
  readonly kernel: string;
  readonly amounts: readonly Amount<Now>[];
  readonly places: readonly (Place | undefined)[];
  readonly counts: readonly number[];
  /** Into how many pieces it can be shared out. */
  readonly pieces: number;
  /** What takes as long as it: so many bytes read and written. */
  readonly bytes: number;
}

/** Measuring (and the scalars' advance), updating, an operation, or several that are done only at some steps. */
export type Instruction<Now> =
  | "measure"
  | "update"
  | Operation<Now>
  | { readonly when: (now: Now) => boolean; readonly then: readonly Instruction<Now>[] };

export const wholePanels = (count: number) => Math.ceil(count / PANEL) * PANEL;

/** What a program is written with: matrices in scratch, and operations on them. */
export class Matrices<Now> {
  readonly shape: Shape;
  /** How much scratch is given out. */
  bytes: number;

  constructor(shape: Shape, bytes: number) {
    this.shape = shape;
    this.bytes = bytes;
  }

  /** A matrix for products. Until something is written to it there is what was left by the tensor before. */
  matrix(rows: number, columns: number): Matrix {
    return { rows, columns, at: this.#take(wholePanels(rows) * wholePanels(columns)), panels: true };
  }

  /** One row of numbers, as they are. */
  row(columns: number): Matrix {
    return { rows: 1, columns, at: this.#take(wholePanels(columns)) };
  }

  #take(floats: number): number {
    this.bytes += 4 * floats;
    return this.bytes - 4 * floats;
  }

  /**
   * `out = alpha * transpose(left) * right + beta * plus`, and zero where that is nearer to it than `least`. `out` may be `plus`,
   * and neither side. Where what comes out is symmetric, half of it need not be computed.
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
      // It is no slower than four products of numbers a byte.
      bytes: (depth * rows * columns * pieces) / (2 * down * across),
    };
  }

  /** `out = scale * from + shift * I`, or of its transpose, and zero where that is nearer to it than `least`. */
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
   * Has `into` take in what the gradients' rows or columns come to, by a kernel of crate/src/axes.rs.
   * @param grid how many matrices there are, and how many rows and columns each has
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

/** In how many pieces each is done. */
const reductions = {
  average_rows: (matrices: number, rows: number) => Math.ceil((matrices * rows) / TILE),
  average_columns: (matrices: number, _: number, columns: number) => matrices * Math.ceil(columns / TILE),
  cover_rows: (_: number, rows: number) => Math.ceil(rows / TILE),
  cover_columns: (_: number, __: number, columns: number) => Math.ceil(columns / TILE),
  divide_rows: (matrices: number) => matrices,
};

/** How far apart panels are, columns in them, blocks of as many rows, and rows. */
const layoutOf = (matrix: Matrix): number[] =>
  matrix.panels
    ? [PANEL * wholePanels(matrix.rows), 1, PANEL * PANEL, PANEL]
    : [PANEL, 1, PANEL * matrix.columns, matrix.columns];

/** A program, once it is known what it takes. */
export interface Program<Now = any> {
  readonly instructions: readonly Instruction<Now>[];
  /** How much scratch it takes, which all programs share, and how much memory of its own. */
  readonly scratch: number;
  readonly bytes: number;
}

/** Bytes of an operation's numbers, and of its task's table. */
const NUMBERS_BYTES = 96;
const OPERATION_BYTES = NUMBERS_BYTES + Math.ceil(taskBytes(1) / 8) * 8;

/** Every operation once, however often it is done. */
const operationsIn = (instructions: readonly Instruction<any>[]): Operation<any>[] => [
  ...new Set(
    instructions.flatMap((instruction) => {
      if (typeof instruction === "string") return [];
      return "when" in instruction ? operationsIn(instruction.then) : [instruction];
    }),
  ),
];

export function programOf<Now>(matrices: Matrices<Now>, instructions: readonly Instruction<Now>[]): Program<Now> {
  return { instructions, scratch: matrices.bytes, bytes: operationsIn(instructions).length * OPERATION_BYTES };
}

/** An instruction in memory: what writes its numbers, and the task. */
export type PlacedInstruction =
  | "measure"
  | "update"
  | { readonly begin: (now: any) => void; readonly task: Task }
  | { readonly when: (now: any) => boolean; readonly then: readonly PlacedInstruction[] };

/** What writes an operation's amounts into the view at a place; by itself, so that it holds nothing else of the arena. */
const beginning = (amounts: readonly Amount<any>[], views: readonly Float64Array[], at: number) => (now: any) => {
  const numbers = views[at]!;
  for (let i = 0; i < amounts.length; i++) {
    const amount = amounts[i]!;
    numbers[i] = typeof amount === "number" ? amount : amount(now);
  }
};

/**
 * Lays a program out.
 * @param address of its own memory
 * @param block of the job whose tensor it is for
 * @param pointer the address of a place
 */
export function placeProgram(
  arena: Arena,
  { instructions }: Program,
  address: number,
  block: number,
  pointer: (place: Place) => number,
): readonly PlacedInstruction[] {
  let next = address;
  // A freed arena must not be held by those who hold its optimizers.
  const views: Float64Array[] = [];
  arena.onFree({ release: () => void (views.length = 0) });
  const layOperation = (operation: Operation<any>) => {
    const { kernel, amounts, places, counts, pieces, bytes } = operation;
    const hyper = next;
    next += OPERATION_BYTES;
    const numbers = arena.doubles(hyper, amounts.length);
    const at = views.push(numbers) - 1;
    const words = [...places.map((place) => (place === undefined ? 0 : pointer(place))), ...counts, CHUNK];
    new Uint32Array(numbers.buffer, hyper + numbers.byteLength, words.length).set(words);
    const entry: Call = { kernel: arena.kernel(kernel), hyper, block, length: pieces * CHUNK, bytes };
    return {
      begin: beginning(amounts, views, at),
      task: writeTask(arena.internals("program").space.memory, hyper + NUMBERS_BYTES, [entry]),
    };
  };
  const operations = new Map(operationsIn(instructions).map((operation) => [operation, layOperation(operation)]));
  const lay = (instruction: Instruction<any>): PlacedInstruction => {
    if (typeof instruction === "string") return instruction;
    if ("when" in instruction) return { when: instruction.when, then: instruction.then.map(lay) };
    return operations.get(instruction)!;
  };
  return instructions.map(lay);
}
