/** The weights of the parameters in their average, for the options `ema` and `swa`. */

interface AverageOptions {
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

  /** Whether parameters are averaged. */
  get exist(): boolean {
    return this.#options.ema > 0 || this.#options.swa > 0;
  }

  /** Counts a step. `step` is its number, counted from 1. */
  begin(step: number): void {
    if (this.exist && this.#due(step) > this.#due(step - 1)) this.count += 1;
  }

  /**
   * The weight of a group's parameters at a step: the average becomes `average + weight * (p - average)`. The weight is
   * 1 until the average begins. It is 0 without an average, and at steps between those of `swa`.
   * @param joined the number of steps before the group joined
   */
  weight(step: number, joined: number): number {
    const { ema, emaWarmup, swa } = this.#options;
    if (!this.exist) return 0;
    const count = this.included(step, joined);
    if (this.#due(step) === this.#due(step - 1)) return count === 0 ? 1 : 0;
    if (count === 1) return 1;
    if (swa > 0) return 1 / count;
    return 1 - (emaWarmup ? Math.min(ema, count / (9 + count)) : ema);
  }

  /** The number of steps up to `step` whose parameters the average of a group includes. */
  included(step: number, joined: number): number {
    return Math.min(this.count, this.#due(step) - this.#due(joined));
  }

  /** The number of steps up to `step` at which parameters join the average. */
  #due(step: number): number {
    const { swa, averageStart } = this.#options;
    return Math.max(0, Math.floor((step - averageStart) / (swa || 1)));
  }
}
