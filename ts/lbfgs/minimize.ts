/**
 * The algorithm of L-BFGS: Nocedal & Wright, 2006, algorithms 7.4 and 7.5, with PyTorch's scales, guards and stopping
 * rules.
 */

import { type ClosureComputation, EVALUATE } from "../optimizer/closure.js";
import type { Computation, Vector, Vectors } from "../optimizer/vectors.js";
import type { State } from "./history.js";
import { type Point, strongWolfe } from "./wolfe.js";

export interface Settings {
  readonly lr: number;
  readonly toleranceGrad: number;
  readonly toleranceChange: number;
  readonly maxIter: number;
  readonly maxEval: number;
  readonly historySize: number;
  readonly lineSearchFn: "none" | "strong_wolfe";
  readonly maximize: boolean;
}

/** The report of a step. */
export interface LBFGSReport {
  /** The loss at the start. */
  readonly loss: number;
  /** The number of iterations, and of calls of the closure. */
  readonly iterations: number;
  readonly evaluations: number;
}

/** A pair `(y, s)` is kept only if dot(y, s) is larger than this. */
const LEAST = 1e-10;

/** The number of vectors that a step needs in addition to those of the state before it. */
export const needed = (maxIter: number, historySize: number) => 2 * Math.min(maxIter, historySize) + 7;

/** The vectors that a step may write to. */
class Free {
  readonly #all: ReadonlySet<Vector>;
  readonly #left: Vector[];

  constructor(vectors: readonly Vector[]) {
    this.#all = new Set(vectors);
    this.#left = [...vectors];
  }

  take(): Vector {
    return this.#left.pop()!;
  }

  /** Returns a vector that is no longer needed, unless it belongs to the state before the step. */
  give(...vectors: readonly Vector[]): void {
    this.#left.push(...vectors.filter((vector) => this.#all.has(vector)));
  }
}

/** A point on a line, and the gradient there. */
interface Place extends Point {
  readonly gradient: Vector;
}

/**
 * Minimizes from the present parameters. If anything throws, the parameters are restored.
 * @param checkGradients throws if the closure left a tensor without a gradient
 */
export function* minimize(
  vectors: Vectors,
  before: State,
  unused: readonly Vector[],
  { lr, toleranceGrad, toleranceChange, maxIter, maxEval, historySize, lineSearchFn, maximize }: Settings,
  checkGradients: () => void,
): ClosureComputation<{ readonly state: State; readonly report: LBFGSReport }> {
  const { params, grads } = vectors;
  const free = new Free(unused);
  // To maximize a loss is to minimize its negative.
  const sign = maximize ? -1 : 1;
  const evaluate = function* (): ClosureComputation<number> {
    const loss = (yield EVALUATE) as number;
    checkGradients();
    report.evaluations += 1;
    return sign * loss;
  };
  const copyOf = function* (vector: Vector): Computation<Vector> {
    const copy = free.take();
    yield vectors.combine(copy, vector === grads ? sign : 1, vector);
    return copy;
  };

  const report = { loss: 0, iterations: 0, evaluations: 0 };
  let loss = yield* evaluate();
  report.loss = sign * loss;
  let gradient = yield* copyOf(grads);
  let magnitude = yield* vectors.magnitude(gradient);
  let state = before;
  const done = () => ({ state: { ...state, evaluations: before.evaluations + report.evaluations }, report });
  if (magnitude.largest <= toleranceGrad) return done();

  const origin = yield* copyOf(params);
  const base = free.take();
  try {
    while (report.iterations < maxIter && (report.iterations === 0 || report.evaluations < maxEval)) {
      report.iterations += 1;
      const learned = yield* learn(vectors, state, gradient, historySize, free);
      const direction = free.take();
      yield* direct(vectors, direction, gradient, learned);
      const slope = yield* vectors.dot(gradient, direction);
      let t = state.iterations === 0 ? Math.min(1, 1 / magnitude.sum) * lr : lr;
      state = { ...state, ...learned, iterations: state.iterations + 1, t, direction, gradient };
      // The step also ends if the slope is not finite, because all later numbers would not be finite.
      if (!(slope <= -toleranceChange && slope > -Infinity)) break;

      const { largest } = yield* vectors.magnitude(direction);
      const last = loss;
      if (lineSearchFn === "none") {
        yield vectors.combine(params, 1, params, t, direction);
        if (report.iterations === maxIter) break;
        loss = yield* evaluate();
        gradient = yield* copyOf(grads);
      } else {
        yield vectors.combine(base, 1, params);
        const kept = free.take();
        const line = {
          *at(t: number): ClosureComputation<Place> {
            yield vectors.combine(params, 1, base, t, direction);
            const loss = yield* evaluate();
            const slope = sign * (yield* vectors.dot(grads, direction));
            // The search turns back from an infinite loss. A loss or a slope of NaN counts as an infinite loss.
            return { t, loss: Number.isNaN(loss + slope) ? Infinity : loss, slope, gradient: grads };
          },
          *keep(place: Place): ClosureComputation<Place> {
            yield vectors.combine(kept, place.gradient === grads ? sign : 1, place.gradient);
            return { ...place, gradient: kept };
          },
          shortest: toleranceChange / largest,
        };
        ({ t, loss, gradient } = yield* strongWolfe(
          line,
          { t: 0, loss, slope, gradient },
          t,
          maxEval - report.evaluations,
        ));
        yield vectors.combine(params, 1, base, t, direction);
        state = { ...state, t };
      }
      magnitude = yield* vectors.magnitude(gradient);
      if (magnitude.largest <= toleranceGrad) break;
      if (t * largest <= toleranceChange || Math.abs(loss - last) < toleranceChange) break;
    }
  } catch (error) {
    vectors.copy(params, origin);
    throw error;
  }
  return done();
}

/** Adds the last change of the gradient to the history, if the curvature along the step is positive. */
function* learn(
  vectors: Vectors,
  state: State,
  gradient: Vector,
  historySize: number,
  free: Free,
): Computation<Pick<State, "pairs" | "hDiag">> {
  if (state.iterations === 0) return state;
  const [y, s] = [free.take(), free.take()];
  yield vectors.combine(y, 1, gradient, -1, state.gradient);
  yield vectors.combine(s, state.t, state.direction);
  free.give(state.direction, state.gradient);
  const product = yield* vectors.dot(y, s);
  if (!(product > LEAST && product < Infinity)) {
    free.give(y, s);
    return state;
  }
  const hDiag = product / (yield* vectors.dot(y, y));
  const pairs = [...state.pairs, { y, s, rho: 1 / product }];
  if (pairs.length > historySize) {
    const { y, s } = pairs.shift()!;
    free.give(y, s);
  }
  return { pairs, hDiag };
}

/** The direction: minus the estimate of the inverse Hessian times the gradient, by the two-loop recursion. */
function* direct(
  vectors: Vectors,
  out: Vector,
  gradient: Vector,
  { pairs, hDiag }: Pick<State, "pairs" | "hDiag">,
): Computation<void> {
  yield vectors.combine(out, -1, gradient);
  if (pairs.length === 0) return;
  const alphas: number[] = [];
  for (const { y, s, rho } of [...pairs].reverse()) {
    const alpha = rho * (yield* vectors.dot(s, out));
    yield vectors.combine(out, 1, out, -alpha, y);
    alphas.push(alpha);
  }
  yield vectors.combine(out, hDiag, out);
  for (const { y, s, rho } of pairs) {
    const beta = rho * (yield* vectors.dot(y, out));
    yield vectors.combine(out, 1, out, alphas.pop()! - beta, s);
  }
}
