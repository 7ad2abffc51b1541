import { finite, nonNegative, oneOf, show, whole } from "../option.js";
import { complete, type Given, Schedule } from "./schedule.js";

const options = {
  /** The rate that it starts from. */
  lr: nonNegative(undefined),
  /** Whether what is observed should fall or rise. */
  mode: oneOf("min", "max"),
  /** What each change multiplies the rate by. */
  factor: nonNegative(0.1),
  /** How many observations without improvement are let pass. */
  patience: whole(10, 0, Infinity),
  /** By how much it must have: relative to the best, or absolute. */
  threshold: nonNegative(1e-4),
  /** Which of the two. */
  thresholdMode: oneOf("rel", "abs"),
  /** How many observations after a change do not count. */
  cooldown: whole(0, 0, Infinity),
  /** The lowest rate. */
  minLr: nonNegative(0),
  /** A change of the rate smaller than this is not made. */
  eps: nonNegative(1e-8),
};

/** What a plateau's schedule has seen. */
export interface Observed {
  readonly rate: number;
  readonly best: number;
  /** Observations since the best, and how many are still to be passed over. */
  readonly bad: number;
  readonly cooling: number;
}

/** What was given, if it can be what a plateau's schedule has seen; a TypeError or RangeError if not. */
export function checkObserved({ rate, best, bad, cooling }: Observed): Observed {
  const title = "reduceLROnPlateau: observed";
  nonNegative(0).check(`${title}.rate`, rate);
  for (const [name, value] of Object.entries({ bad, cooling })) whole(0, 0, Infinity).check(`${title}.${name}`, value);
  if (typeof best !== "number" || Number.isNaN(best))
    throw new TypeError(`${title}.best must be a number, got ${show(best)}`);
  return Object.freeze({ rate, best, bad, cooling });
}

/** The rate, times `factor` whenever what is observed has not improved for more than `patience` observations. */
export class Plateau extends Schedule {
  #observed: Observed;

  /** @internal */
  constructor(values: ReturnType<typeof complete<typeof options>>) {
    super("reduceLROnPlateau", values, () => this.#observed.rate);
    this.#observed = { rate: values.lr, best: values.mode === "min" ? Infinity : -Infinity, bad: 0, cooling: 0 };
  }

  /** What it has seen: to be kept, and given back. */
  get observed(): Observed {
    return this.#observed;
  }

  set observed(given: Observed) {
    this.#observed = checkObserved(given);
  }

  /** Takes a loss, or whatever `mode` says should fall or rise. A TypeError or RangeError for what is no finite number. */
  observe(metric: number): void {
    finite(0).check("reduceLROnPlateau: what is observed", metric);
    const { mode, factor, patience, threshold, thresholdMode, cooldown, minLr, eps } = this.options as {
      [N in keyof typeof options]: any;
    };
    let { rate, best, bad, cooling } = this.#observed;
    const sign = mode === "min" ? 1 : -1;
    const bound = thresholdMode === "rel" ? best * (1 - sign * threshold) : best - sign * threshold;
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

/** PyTorch's: the rate follows what `observe(loss)` is told, so it is no pure function of the step. */
export const reduceLROnPlateau = Object.assign(
  (given: Given<typeof options>): Plateau => new Plateau(complete("reduceLROnPlateau", options, given)),
  { options },
);
