/** A number that depends on the step. Optimizers need no more of a schedule, so pages without schedules do not load `Schedule`. */
export abstract class OfStep {
  /** The value at a step, counted from 0. */
  abstract at(step: number): number;
}
