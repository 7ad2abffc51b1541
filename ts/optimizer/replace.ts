/**
 * Computations that replace the parameters in place: by those for evaluation, by those of training, by their averages.
 * Asynchronous calls give the event loop turns at the pauses.
 */

import type { Tensor } from "../arena/tensor.js";
import { PAUSE } from "../threads/pool.js";
import type { Rule } from "./definition.js";
import { boundsOf, type Values } from "./hyper.js";
import type { TensorViews } from "./segment.js";
import type { Computation } from "./vectors.js";
import type { Perturbation } from "./wrapper.js";

/** The number of elements between two pauses. They fit the cache. */
const ELEMENTS = 4096;

/** Calls `act` for each `ELEMENTS` elements of an array, and pauses after each call. */
function* withPauses(length: number, act: (begin: number, end: number) => void): Computation<void> {
  for (let begin = 0; begin < length; begin += ELEMENTS) {
    act(begin, Math.min(begin + ELEMENTS, length));
    yield PAUSE;
  }
}

export interface Replacement {
  /** The name of the method that was called. */
  readonly method: string;
  readonly computation: Computation<void>;
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
    yield* withPauses(data.length, (begin, end) => {
      const params = data.subarray(begin, end);
      copy.set(params, begin);
      if (state === undefined) return;
      const slots = Object.entries(state).map(([slot, view]) => [slot, view.subarray(begin, end)]);
      evalParams(params, Object.fromEntries(slots), options);
      limit(params, boundsOf(options));
    });
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
    yield* withPauses(data.length, (begin, end) => data.set(values.subarray(begin, end), begin));
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
  const values = new Float32Array(ELEMENTS);
  for (const { data, average, hasBegun } of averaged()) {
    yield* withPauses(data.length, (begin, end) => {
      const [a, b] = [data.subarray(begin, end), average.subarray(begin, end)];
      values.set(a);
      if (hasBegun) a.set(b);
      b.set(values.subarray(0, b.length));
    });
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
