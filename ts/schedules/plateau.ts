/** `reduceLROnPlateau`: a schedule that follows an observed number, such as the loss. */

import { type Chosen, isRecord, nonNegative, oneOf, refuseNames, unit, whole, wrongKind } from "../option.js";
import { complete, frozen, type Given, plain, Schedule, type ScheduleFactory } from "./schedule.js";

const options = {
  /** The first rate. */
  lr: nonNegative(undefined),
  /** Whether the observed number should fall ("min") or rise ("max"). */
  mode: oneOf("min", "max"),
  /** Factor of each change. */
  factor: unit(0.1),
  /** Number of observations without improvement before the rate changes. */
  patience: whole(10, 0, Infinity),
  /** Smallest change that counts as an improvement. */
  threshold: nonNegative(1e-4),
  /** Whether `threshold` is relative to the magnitude of the best observation or absolute. */
  thresholdMode: oneOf("rel", "abs"),
  /** Number of observations after a change during which none counts as bad. */
  cooldown: whole(0, 0, Infinity),
  /** The lowest rate. */
  minLr: nonNegative(0),
  /** Smallest change of the rate; a smaller one is not made. */
  eps: nonNegative(1e-8),
};

/** The progress of a `reduceLROnPlateau`. */
export interface Observed {
  readonly rate: number;
  readonly best: number;
  /** The number of observations since the best one, and the number of those to come that do not count. */
  readonly bad: number;
  readonly cooling: number;
}

/**
 * Checks the progress of a `reduceLROnPlateau`.
 * @throws a TypeError or RangeError if it is not valid.
 */
export function checkObserved(given: Observed): Observed {
  const title = "reduceLROnPlateau: observed";
  if (!isRecord(given)) throw wrongKind(`${title} must be that of another schedule`, given);
  const { rate, best, bad, cooling } = given;
  nonNegative(0).check(`${title}.rate`, rate);
  for (const [name, value] of Object.entries({ bad, cooling })) whole(0, 0, Infinity).check(`${title}.${name}`, value);
  if (typeof best !== "number" || Number.isNaN(best)) throw wrongKind(`${title}.best must be a number`, best);
  return Object.freeze({ rate, best, bad, cooling });
}

/** Multiplies the rate by `factor` when the observed number has not improved for more than `patience` observations. */
export class Plateau extends Schedule {
  #observed: Observed;

  /** @internal */
  constructor(values: ReturnType<typeof complete<typeof options>>) {
    super("reduceLROnPlateau", values, () => this.#observed.rate);
    this.#observed = { rate: values.lr, best: values.mode === "min" ? Infinity : -Infinity, bad: 0, cooling: 0 };
  }

  /** The progress: assign it to another schedule to continue there. */
  get observed(): Observed {
    return this.#observed;
  }

  set observed(given: Observed) {
    this.#observed = checkObserved(given);
  }

  /** The schedule as data, with its progress. */
  override toJSON(): Readonly<Record<string, unknown>> {
    return { ...super.toJSON(), observed: plain(this.#observed) };
  }

  /**
   * Tells the schedule a new value of the observed number, such as a loss. NaN and the worst infinity are never
   * improvements.
   * @throws a TypeError unless it is a number.
   */
  observe(metric: number): void {
    if (typeof metric !== "number") {
      throw wrongKind("reduceLROnPlateau: what is observed must be a number", metric);
    }
    const { mode, factor, patience, threshold, thresholdMode, cooldown, minLr, eps } = this.options as Chosen<
      typeof options
    >;
    let { rate, best, bad, cooling } = this.#observed;
    const sign = mode === "min" ? 1 : -1;
    // PyTorch has `best * (1 - sign * threshold)`. For a negative loss that bound is worse than the best one.
    const least = thresholdMode === "rel" ? Math.abs(best) * threshold : threshold;
    const bound = Number.isFinite(best) ? best - sign * least : best;
    if (sign * metric < sign * bound) [best, bad] = [metric, 0];
    else bad += 1;
    if (cooling > 0) [cooling, bad] = [cooling - 1, 0];
    if (bad > patience) {
      const next = Math.max(rate * factor, minLr);
      if (rate - next > eps) rate = next;
      [cooling, bad] = [cooldown, 0];
    }
    this.#observed = Object.freeze({ rate, best, bad, cooling });
  }
}

refuseNames(Plateau.prototype, ({ name }) => `${name}: there is no`, { step: "(); call observe(metric)" });

/** All `reduceLROnPlateau` schedules in a value: itself, or those in its options. */
export function plateausIn(value: unknown): Plateau[] {
  if (value instanceof Plateau) return [value];
  if (value instanceof Schedule) return Object.values(value.options).flatMap(plateausIn);
  return Array.isArray(value) ? value.flatMap(plateausIn) : [];
}

/** Multiplies the rate by `factor` when a number stops improving. Tell it the number with `schedule.observe(loss)`, for example after each epoch. Its JSON contains what it observed. Negative numbers are allowed; PyTorch's `ReduceLROnPlateau` takes a negative number that stays the same for an improvement. */
export const reduceLROnPlateau: ScheduleFactory<Given<typeof options>, Plateau> = Object.assign(
  (given: Given<typeof options>) => new Plateau(complete("reduceLROnPlateau", options, given)),
  { options: frozen(options) },
);

/** All `reduceLROnPlateau` schedules of hyper-parameters, in the order of the groups and their options. */
export const plateausOf = (groups: readonly { readonly hyper: unknown }[]): Plateau[] =>
  groups.flatMap(({ hyper }) => Object.values(hyper as object).flatMap(plateausIn));
