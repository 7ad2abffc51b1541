/** L-BFGS, which calls the closure as it needs. */

import type { Arena } from "../arena/arena.js";
import { type AsyncClosure, type Closure, type ClosureComputation, ClosureDriver } from "../optimizer/closure.js";
import { liveHyper, resolveOptions, type Values, valuesAt } from "../optimizer/hyper.js";
import { commonArena, listTensors, type Tensors } from "../optimizer/params.js";
import { count, nonNegative, oneOf } from "../option.js";
import { Checkpointable, type CheckpointableGroup } from "../optimizer/checkpointable.js";
import type { Scheduled } from "../rule.js";
import type { Tensor } from "../arena/tensor.js";
import { Vectors } from "../optimizer/vectors.js";
import { History } from "./history.js";
import { type LBFGSReport, minimize, needed, type Settings } from "./minimize.js";

/** What may be changed between steps. */
export interface LBFGSHyper {
  /** How far to go along a direction, or where a line search looks first. A number in [0, ∞). Default: 1. */
  lr: Scheduled<number>;
  /** A step ends where no gradient is larger. A number in [0, ∞). Default: 1e-7. */
  toleranceGrad: Scheduled<number>;
  /** A step ends where the loss changes by less, or no parameter by more. A number in [0, ∞). Default: 1e-9. */
  toleranceChange: Scheduled<number>;
}

export interface LBFGSOptions extends Partial<LBFGSHyper> {
  /** How many directions a step goes along, at most. A whole number in [1, ∞). Default: 20. */
  maxIter?: number;
  /** After how many calls of the closure a step goes along no further direction. A whole number in [1, ∞). Default: `maxIter * 5 / 4`, rounded down. */
  maxEval?: number;
  /** How many changes of the gradient a direction follows from, at most. A whole number in [1, ∞). Default: 100. */
  historySize?: number;
  /** How far to go along a direction: "none", as far as `lr` says; "strong_wolfe", where a line search finds that the loss has decreased in proportion and the slope is less steep. Default: "none". */
  lineSearchFn?: "none" | "strong_wolfe";
}

const rule = {
  name: "lbfgs",
  hyper: { lr: nonNegative(1), toleranceGrad: nonNegative(1e-7), toleranceChange: nonNegative(1e-9) },
  fixed: {
    maxIter: count(20, 1),
    maxEval: count(undefined, 1),
    historySize: count(100, 1),
    lineSearchFn: oneOf("none", "strong_wolfe"),
  },
  addedState: {},
  conflict: () => undefined,
};

/**
 * L-BFGS: `lbfgs(params, { lineSearchFn: "strong_wolfe" }).step(closure)`. A step goes along up to `maxIter` directions: `p = p - t *
 * H * g`, where the inverse Hessian `H` follows from the last changes of the gradient. Without a line search nothing sees to it that
 * the loss decreases. Takes address space for `2 * historySize + 2 * min(maxIter, historySize) + 9` times the parameters, and
 * memory as the history grows.
 *
 * Liu & Nocedal, 1989, https://doi.org/10.1007/BF01589116
 *
 * Use it for losses that are one function, as those of whole data sets are, and not for mini-batches.
 *
 * Elsewhere: PyTorch's `LBFGS`; here in float32 with sums and scalars in float64. Optax' `lbfgs` keeps ten changes, and
 * has another line search. Keras and TensorFlow.js have none.
 * @param params tensors, by name or in a list; there are no groups
 * A TypeError or RangeError for wrong arguments, a RangeError if memory runs out.
 */
export function lbfgs(params: Tensors, options: LBFGSOptions = {}): LBFGS {
  return new LBFGS(params, options);
}

/** Minimizes a function by L-BFGS. Made by `lbfgs(params, options)`. */
export class LBFGS extends Checkpointable {
  /** The one there is. */
  readonly groups: readonly [CheckpointableGroup<LBFGSHyper>];
  readonly #history: History<LBFGSHyper>;
  readonly #arena: Arena;
  readonly #vectors: Vectors;
  readonly #driver: ClosureDriver;
  readonly #step = { shared: {}, counts: { steps: 0 } };

  /** @internal */
  constructor(params: Tensors, options: object) {
    super();
    const tensors = listTensors("lbfgs: params must be tensors, by name or in a list; there are no groups", params);
    const arena = commonArena("lbfgs", tensors);
    const values = resolveOptions(rule, options) as Values & { maxIter: number; maxEval?: number; historySize: number };
    const { maxIter, historySize, lineSearchFn, maxEval = Math.max(1, Math.floor((maxIter * 5) / 4)) } = values;
    const count = History.vectors(historySize) + needed(maxIter, historySize);
    this.#vectors = new Vectors(arena, [{ params: tensors, sign: 1 }], count, "lbfgs's history");
    this.#arena = arena;
    this.#driver = new ClosureDriver(rule.name, arena);
    const hyper = liveHyper(rule, values, () => arena.internals(rule.name)).hyper as unknown as LBFGSHyper;
    const fixed = { maxIter, maxEval, historySize, lineSearchFn };
    this.#history = new History(tensors, hyper, fixed, this.#vectors, historySize);
    this.groups = [this.#history];
    Object.freeze(this);
  }

  /** How many steps were made. */
  get steps(): number {
    return this.#step.counts.steps;
  }

  /** Live: what is written here holds from the next step on. A wrong value is an error and changes nothing. */
  get hyper(): LBFGSHyper {
    return this.groups[0].hyper;
  }

  /**
   * Goes down from the parameters as they stand, along up to `maxIter` directions.
   * @param closure writes the gradients at the parameters as they stand, and returns the loss
   * @returns the loss it began with, and what it took. A line search takes a loss that is NaN for an infinite one, and turns
   * back; where the slope along a direction is not finite, the step ends
   * What the closure throws; a TypeError if it returns no number; an Error after `arena.free()`, while another step is
   * under way in the arena, and once one was torn. Parameters and history are put back then.
   */
  step(closure: Closure): LBFGSReport {
    return this.#driver.run(this.#computation(), closure);
  }

  /** The same without holding up the event loop; the closure may be async. One at a time. */
  async stepAsync(closure: AsyncClosure): Promise<LBFGSReport> {
    return this.#driver.runAsync(this.#computation(), closure);
  }

  *#computation(): ClosureComputation<LBFGSReport> {
    const history = this.#history;
    const settings = valuesAt(rule, { ...history.fixed, ...history.hyper }, this.steps) as unknown as Settings;
    const { state, report } = yield* minimize(this.#vectors, history.state, history.free, settings);
    history.state = state;
    this.#step.counts.steps += 1;
    return report;
  }

  /** What checkpoints need. @internal */
  get internals() {
    return {
      rule,
      step: this.#step,
      viewsOf: (tensor: Tensor) => ({ state: this.#history.views(tensor) }),
      checkTraining: (title: string) => {
        this.#arena.internals(rule.name);
        this.#driver.check(`${title}: ${rule.name}`);
      },
      wrappers: new Map<string, never>(),
    };
  }
}
