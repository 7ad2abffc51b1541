/** Programs of whole matrices, written to memory as tasks. */

import type { Arena } from "../arena/arena.js";
import type { Shape } from "../arena/tensor.js";
import { roundUp } from "../math.js";
import type { Phase } from "../threads/pool.js";
import { type Call, CHUNK, type Task, taskBytes, writeTask } from "../threads/task.js";
import type { Kernel } from "../wasm/kernels.js";
import { type Amount, type Instruction, Matrices, type Operation, type Place } from "./matrices.js";

/** The bytes of the numbers of an operation, and of the operation with its task. */
const NUMBERS_BYTES = 96;
const OPERATION_BYTES = NUMBERS_BYTES + roundUp(taskBytes(1), 8);

/**
 * The number of elements of a task that a piece takes: a chunk. If there are many pieces it is less, because the
 * length of a task must fit 32 bits. Then a chunk has several pieces.
 */
export function pieceLength(pieces: number): number {
  let length = CHUNK;
  while (pieces * length >= 2 ** 32) length /= 2;
  return length;
}

/** Every operation once, even if it runs several times. */
const operationsIn = <Now>(instructions: readonly Instruction<Now>[]): Operation<Now>[] => [
  ...new Set(
    instructions.flatMap((instruction) => {
      if (typeof instruction === "string") return [];
      return "when" in instruction ? operationsIn(instruction.then) : [instruction];
    }),
  ),
];

/** An operation in memory. `begin` writes its amounts, and the index of the next slice. */
interface PlacedOperation {
  readonly begin: (now: any, slice: number) => void;
  readonly slices: number;
  readonly task: Task;
}

/**
 * Returns the phases of a program in memory.
 * @param now has the options, the rule's scalars and the step at the time of each phase
 * @param rule the phases of the rule's own kernels
 * @param jump skips the next phases, or repeats the last ones if the number is negative
 */
export type PlacedProgram = (
  now: object,
  rule: Readonly<Record<"measure" | "update", readonly Phase[]>>,
  jump: (phases: number) => void,
) => Phase[];

/** Returns a program in memory. It is a separate function, so that its closure does not hold the arena. */
const placedProgram =
  (
    instructions: readonly Instruction<any>[],
    operations: ReadonlyMap<Instruction<any>, PlacedOperation>,
  ): PlacedProgram =>
  (now, rule, jump) => {
    const phasesOf = (instruction: Instruction<any>): readonly Phase[] => {
      if (typeof instruction === "string") return rule[instruction];
      if ("when" in instruction) {
        const then = instruction.then.flatMap(phasesOf);
        return [() => void (instruction.when(now) || jump(then.length)), ...then];
      }
      const { begin, slices, task } = operations.get(instruction)!;
      let slice = 0;
      const beginSlice = () => {
        begin(now, slice);
        slice = (slice + 1) % slices;
      };
      return [beginSlice, task, () => void (slice > 0 && jump(-3))];
    };
    return instructions.flatMap(phasesOf);
  };

/** The amounts of an operation in memory, and the index of its slice. */
interface OperationViews {
  readonly numbers: Float64Array;
  readonly slice: Uint32Array;
}

/** Returns an operation's `begin`. It is a separate function, so that its closure does not hold the arena. */
const beginOperation =
  (amounts: readonly Amount<any>[], views: readonly OperationViews[], at: number) => (now: any, index: number) => {
    const { numbers, slice } = views[at]!;
    for (let i = 0; i < amounts.length; i++) {
      const amount = amounts[i]!;
      numbers[i] = typeof amount === "number" ? amount : amount(now);
    }
    slice[0] = index;
  };

/** A program of a tensor. */
export class Program<Now = any> {
  /** The kernels, by name. */
  readonly kernels: Readonly<Record<string, Kernel>>;
  readonly instructions: readonly Instruction<Now>[];
  /** The number of bytes of scratch memory, which all programs share. */
  readonly scratch: number;
  /** The number of bytes of memory of its own. */
  readonly bytes: number;
  readonly #operations: readonly Operation<Now>[];

  constructor(kernels: Program["kernels"], matrices: Matrices<Now>, instructions: readonly Instruction<Now>[]) {
    this.kernels = kernels;
    this.instructions = instructions;
    this.scratch = matrices.bytes;
    this.#operations = operationsIn(instructions);
    this.bytes = this.#operations.length * OPERATION_BYTES;
  }

  /**
   * Writes the program to memory.
   * @param address the address of its own memory
   * @param segment the address of the segment that it updates
   * @param addressOf gives the address of a place
   */
  place(arena: Arena, address: number, segment: number, addressOf: (place: Place) => number): PlacedProgram {
    let next = address;
    // An optimizer that outlives its arena must not hold the memory.
    const views: OperationViews[] = [];
    arena.onFree({ release: () => void (views.length = 0) });
    const placeOperation = (operation: Operation<Now>): PlacedOperation => {
      const { kernel, amounts, places, counts, pieces, slices = 1, bytes } = operation;
      const piece = pieceLength(pieces);
      const hyper = next;
      next += OPERATION_BYTES;
      const numbers = arena.doubles(hyper, amounts.length);
      const words = [...places.map((place) => (place === undefined ? 0 : addressOf(place))), ...counts, piece, 0];
      const view = new Uint32Array(numbers.buffer, hyper + numbers.byteLength, words.length);
      view.set(words);
      const at = views.push({ numbers, slice: view.subarray(-1) }) - 1;
      const call: Call = { kernel: arena.kernel(this.kernels[kernel]!), hyper, segment, length: pieces * piece, bytes };
      return {
        begin: beginOperation(amounts, views, at),
        slices,
        task: writeTask(arena.internals("program").space.memory, hyper + NUMBERS_BYTES, [call], { maxChunks: 1 }),
      };
    };
    const operations = new Map(this.#operations.map((operation) => [operation, placeOperation(operation)]));
    return placedProgram(this.instructions, operations);
  }
}

/** The parts of a rule that make its program. */
interface Programmed {
  readonly kernels: Program["kernels"];
  readonly program?: (
    matrices: Matrices<any>,
    options: Readonly<Record<string, unknown>>,
  ) => readonly Instruction<any>[];
}

/**
 * Makes the program of a rule for a tensor of this shape. The literals of such rules name this function, so that pages
 * without them do not load it.
 * @param slots the number of bytes of scratch memory that the rule's slots take
 */
export function planProgram(
  { kernels, program }: Programmed,
  shape: Shape,
  slots: number,
  options: Readonly<Record<string, unknown>>,
): Program {
  const matrices = new Matrices(shape, slots);
  return new Program(kernels, matrices, program!(matrices, options));
}
