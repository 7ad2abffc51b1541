/** The scale of the loss: a number, or a dynamic scale that changes like that of PyTorch's GradScaler. */

/** The first scale, and the number of good steps after which it doubles: PyTorch's defaults. */
const FIRST = 65536;
export const GOOD_STEPS = 2000;

/** The bounds of a dynamic scale. It and its inverse are float32 numbers. */
const MIN_SCALE = 1 / 2 ** 126;
const MAX_SCALE = 2 ** 127;

export class LossScale {
  readonly isDynamic: boolean;
  /** The value at the first step. */
  readonly first: number;
  value: number;
  /** The number of steps since the scale last changed. */
  goodSteps = 0;

  constructor(option: number | "dynamic") {
    this.isDynamic = option === "dynamic";
    this.first = option === "dynamic" ? FIRST : option;
    this.value = this.first;
  }

  /** Counts a step whose gradients were finite. */
  grow(): void {
    if (!this.isDynamic || ++this.goodSteps < GOOD_STEPS) return;
    this.value = Math.min(2 * this.value, MAX_SCALE);
    this.goodSteps = 0;
  }

  /** Halves the scale after a step whose gradients were not finite. */
  shrink(): void {
    if (!this.isDynamic) return;
    this.value = Math.max(this.value / 2, MIN_SCALE);
    this.goodSteps = 0;
  }
}
