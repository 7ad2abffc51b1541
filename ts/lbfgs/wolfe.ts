/** The line search for the strong Wolfe conditions: Nocedal & Wright, 2006, algorithms 3.5 and 3.6, as in PyTorch's LBFGS. */

import { MAX_WEIGHT } from "../optimizer/vectors.js";

/** A point on the line: the distance along the direction, the loss, and the slope. The loss may be infinite, but is never NaN. */
export interface Point {
  readonly t: number;
  readonly loss: number;
  readonly slope: number;
}

/** The line along which the search evaluates the loss. */
interface Line<At extends Point, Step> {
  /** Evaluates the loss. */
  readonly at: (t: number) => Generator<Step, At, unknown>;
  /** Copies a point's gradient, so that the next evaluation does not overwrite it. */
  readonly keep: (point: At) => Generator<Step, At, unknown>;
  /** The shortest interval that is still divided. */
  readonly shortest: number;
}

/**
 * The constants `c1` and `c2` of the strong Wolfe conditions: the fraction of the decrease promised by the slope that
 * is required, and the fraction of the slope that may remain.
 */
const DECREASE = 1e-4;
const LEFT = 0.9;

/**
 * Looks for a point where the loss has decreased enough and the slope is less steep.
 * @param start the point at t = 0, where the slope is negative
 * @param t the first distance to try
 * @param most the largest number of evaluations after the first
 * @returns such a point; or, after the last evaluation, the lower end of the last interval
 */
export function* strongWolfe<At extends Point, Step>(
  { at, keep, shortest }: Line<At, Step>,
  start: At,
  t: number,
  most: number,
): Generator<Step, At, unknown> {
  const decreased = ({ t, loss }: Point) => loss <= start.loss + DECREASE * t * start.slope;
  const flat = ({ slope }: Point) => Math.abs(slope) <= -LEFT * start.slope;
  let now = yield* at(t);
  let round = 0;

  // Go farther, until a point that fits must lie between the last two points.
  let before = start;
  let bracket: [At, At] | undefined;
  while (round < most) {
    if (!decreased(now) || (round > 1 && now.loss >= before.loss)) bracket = [before, now];
    else if (flat(now)) return yield* keep(now);
    else if (now.slope >= 0) bracket = [before, now];
    if (bracket) break;
    const next = between(before, now, now.t + 0.01 * (now.t - before.t), Math.min(10 * now.t, MAX_WEIGHT));
    before = yield* keep(now);
    now = yield* at(next);
    round += 1;
  }
  bracket ??= [start, now];

  // Search between these two points until one fits. Only the gradient of the lower end is needed again.
  const lower = () => (bracket[0].loss <= bracket[1].loss ? 0 : 1);
  let low: 0 | 1 = lower();
  if (bracket[low] === now) bracket[low] = yield* keep(now);
  let stuck = false;
  while (round < most) {
    const [a, b] = bracket;
    const [first, last] = [Math.min(a.t, b.t), Math.max(a.t, b.t)];
    if (last - first < shortest) break;
    let t = between(a, b, first, last);
    // If two points in a row are near an end, or one is at an end, the next point is a tenth of the interval away from
    // the end.
    const margin = 0.1 * (last - first);
    const near = Math.min(last - t, t - first) < margin;
    if (near && (stuck || t >= last || t <= first)) {
      t = Math.abs(t - last) < Math.abs(t - first) ? last - margin : first + margin;
      stuck = false;
    } else stuck = near;

    now = yield* at(t);
    round += 1;
    const high = low === 0 ? 1 : 0;
    if (!decreased(now) || now.loss >= bracket[low].loss) {
      bracket[high] = now;
      low = lower();
      if (bracket[low] === now) bracket[low] = yield* keep(now);
    } else {
      const done = flat(now);
      if (!done && now.slope * (bracket[high].t - bracket[low].t) >= 0) bracket[high] = bracket[low];
      bracket[low] = yield* keep(now);
      if (done) break;
    }
  }
  return bracket[low];
}

/** The minimum of the cubic through two points with their slopes, between `least` and `most`; the middle if there is none. */
function between(p: Point, q: Point, least: number, most: number): number {
  const [a, b] = p.t <= q.t ? [p, q] : [q, p];
  const d1 = p.slope + q.slope - (3 * (p.loss - q.loss)) / (p.t - q.t);
  const d2 = Math.sqrt(d1 * d1 - p.slope * q.slope);
  const lowest = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2));
  return Number.isNaN(lowest) ? (least + most) / 2 : Math.min(Math.max(lowest, least), most);
}
