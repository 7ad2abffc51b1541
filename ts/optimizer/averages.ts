/** The weights with which the parameters join their average, by the options `ema` and `swa`. */

export interface AverageOptions {
  readonly ema: number;
  readonly emaWarmup: boolean;
  readonly swa: number;
  readonly averageStart: number;
}

export class AverageWeights {
  readonly #options: AverageOptions;
  /** The number of steps whose parameters the average includes. */
  count = 0;

  constructor(options: AverageOptions) {
    this.#options = options;
  }

  /**
   * The weight of the parameters at a step, counted from 1: the average becomes `average + weight * (p - average)`. It is 1
   * until the average begins, and 0 without one and between the steps of `swa`.
   */
  weight(step: number): number {
    const { ema, emaWarmup, swa, averageStart } = this.#options;
    if (ema === 0 && swa === 0) return 0;
    const after = step - averageStart;
    const isDue = ema > 0 ? after > 0 : after >= swa && after % swa === 0;
    if (!isDue) return this.count === 0 ? 1 : 0;
    this.count += 1;
    if (this.count === 1) return 1;
    if (swa > 0) return 1 / this.count;
    return 1 - (emaWarmup ? Math.min(ema, this.count / (9 + this.count)) : ema);
  }
}
