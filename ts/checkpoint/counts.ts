/** The counters of an optimizer in a file: they must agree with each other and with its options. */

import { count, type Option, show, whole, within, wrongValue } from "../option.js";
import { GOOD_STEPS } from "../optimizer/lossScale.js";
import type { Counts } from "../optimizer/step.js";
import type { Json } from "./json.js";

/**
 * Reads counters.
 * @param title the beginning of messages
 * @param names those that the optimizer has
 * @param options the options with which they were counted
 * @throws a TypeError or RangeError for those that contradict each other.
 */
export function countsIn(
  title: string,
  numbers: Readonly<Record<string, Json>>,
  names: readonly string[],
  options: Readonly<Record<string, Json>>,
): Counts {
  const { lossScale, accumulate, maxConsecutiveErrors, ema, swa, nonFinite } = options;
  count(0, 0).check(`${title}steps`, numbers.steps);
  const isDynamic = lossScale === "dynamic";
  const maxSkipped = typeof maxConsecutiveErrors === "number" ? maxConsecutiveErrors : Infinity;
  const range: Readonly<Record<string, Option>> = {
    steps: count(0, 0),
    lossScale: within("(0, ∞)", 1),
    goodSteps: whole(0, 0, isDynamic ? GOOD_STEPS - 1 : 0),
    microBatches: whole(0, 0, typeof accumulate === "number" ? Math.max(0, accumulate - 1) : 0),
    averaged: whole(0, 0, ema || swa ? (numbers.steps as number) : 0),
    skipped: whole(0, 0, isDynamic || nonFinite === "skip" ? maxSkipped : 0),
  };
  const counts = Object.fromEntries(
    names.map((name) => {
      const value = name === "skipped" ? (numbers[name] ?? 0) : numbers[name]; // earlier versions did not count them
      range[name]!.check(`${title}${name}`, value);
      return [name, value];
    }),
  ) as unknown as Counts;
  if ("lossScale" in counts && !isDynamic && counts.lossScale !== lossScale) {
    throw wrongValue(`${title}lossScale must be the option's ${show(lossScale)}`, counts.lossScale);
  }
  return counts;
}
