/**
 * Computations that replace the parameters in place: by those for evaluation, by those of training, by their averages. Each
 * works on a piece of an array at a time. A piece fits the cache. Asynchronous calls give turns between pieces.
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
  /** The name of the method that was called. */
  readonly call: string;
  readonly pieces: Computation<void>;
  /** Notes that the parameters are replaced. */
  readonly done: () => void;
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
  // All memory is allocated before anything changes. Views outlive `free()` of an attached arena, as the step does.
  const list = evaluated().map(({ tensor, ...others }) => {
    const copy = new Float32Array(tensor.size);
    kept.set(tensor, copy);
    return { data: tensor.data, copy, ...others };
  });
  for (const { data, copy, state, options } of list) {
    for (let begin = 0; begin < data.length; begin += PIECE) {
      const pieceOf = (view: Float32Array) => view.subarray(begin, begin + PIECE);
      const piece = pieceOf(data);
      copy.set(piece, begin);
      if (state) {
        const stateOfPiece = Object.entries(state).map(([slot, view]) => [slot, pieceOf(view)]);
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
  const list = [...kept].map(([{ data }, values]) => ({ data, values }));
  for (const { data, values } of list) {
    for (let begin = 0; begin < data.length; begin += PIECE) {
      data.set(values.subarray(begin, begin + PIECE), begin);
      yield PAUSE;
    }
  }
}

/** Parameters and their average. An average that has not begun equals the parameters. */
interface Averaged {
  readonly data: Float32Array;
  readonly average: Float32Array;
  readonly hasBegun: boolean;
}

/** Exchanges parameters with their averages. */
export function* byAverages(averaged: () => readonly Averaged[]): Computation<void> {
  const values = new Float32Array(PIECE);
  for (const { data, average, hasBegun } of averaged()) {
    for (let begin = 0; begin < data.length; begin += PIECE) {
      const [a, b] = [data.subarray(begin, begin + PIECE), average.subarray(begin, begin + PIECE)];
      values.set(a);
      if (hasBegun) a.set(b);
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
