/**
 * Computations that replace the parameters in place: by those for evaluation, by those of training, by their averages. Each
 * works on a piece of an array at a time. Pieces are few enough numbers for the cache. The event loop gets turns between
 * them.
 */

import type { Tensor } from "../arena/tensor.js";
import { PAUSE } from "../threads/pool.js";
import type { Rule } from "./definition.js";
import { boundsOf, type Values } from "./hyper.js";
import type { TensorViews } from "./segment.js";
import type { Computation } from "./vectors.js";
import type { Perturbation } from "./wrapper.js";

/** The number of elements of a piece. */
const PIECE = 4096;

export interface Replacement {
  readonly title: string;
  readonly pieces: Computation<void>;
  /** Marks the parameters as replaced. */
  readonly mark: () => void;
  readonly unmark: () => void;
}

/** A tensor whose parameters are replaced by those for evaluation. */
interface Evaluated {
  readonly tensor: Tensor;
  /** Undefined before its first step: its parameters stay. */
  readonly state: TensorViews["state"] | undefined;
  readonly options: Values;
}

/** Copies the parameters to `kept`, then sets them to those for evaluation. */
export function* byEvaluated(
  evalParams: NonNullable<Rule["evalParams"]>,
  evaluated: () => readonly Evaluated[],
  kept: Map<Tensor, Float32Array>,
): Computation<void> {
  const list = evaluated();
  // All memory is allocated before anything changes.
  for (const { tensor } of list) kept.set(tensor, new Float32Array(tensor.size));
  for (const { tensor, state, options } of list) {
    const { data } = tensor;
    const slots = Object.entries(state ?? {});
    for (let begin = 0; begin < data.length; begin += PIECE) {
      const piece = data.subarray(begin, begin + PIECE);
      kept.get(tensor)!.set(piece, begin);
      const stateOfPiece = slots.map(([slot, values]) => [slot, values.subarray(begin, begin + PIECE)]);
      if (state) {
        evalParams(piece, Object.fromEntries(stateOfPiece), options);
        limit(piece, boundsOf(options));
      }
      yield PAUSE;
    }
  }
}

/** Sets the parameters to those of training: those before a perturbation, and those that were kept. */
export function* byKept(
  perturbations: readonly Perturbation[],
  kept: ReadonlyMap<Tensor, Float32Array>,
): Computation<void> {
  for (const perturbation of perturbations) perturbation.undo();
  for (const [{ data }, values] of kept) {
    for (let begin = 0; begin < data.length; begin += PIECE) {
      data.set(values.subarray(begin, begin + PIECE), begin);
      yield PAUSE;
    }
  }
}

/** Exchanges the arrays of each pair. */
export function* byEachOther(pairs: () => readonly (readonly [Float32Array, Float32Array])[]): Computation<void> {
  const values = new Float32Array(PIECE);
  for (const pair of pairs()) {
    for (let begin = 0; begin < pair[0].length; begin += PIECE) {
      const [a, b] = [pair[0].subarray(begin, begin + PIECE), pair[1].subarray(begin, begin + PIECE)];
      values.set(a);
      a.set(b);
      b.set(values.subarray(0, b.length));
      yield PAUSE;
    }
  }
}

/** Limits numbers to their bounds. A NaN stays. */
function limit(numbers: Float32Array, [low, high]: readonly [number, number]): void {
  if (low === -Infinity && high === Infinity) return;
  for (let i = 0; i < numbers.length; i++) {
    if (numbers[i]! < low) numbers[i] = low;
    else if (numbers[i]! > high) numbers[i] = high;
  }
}
