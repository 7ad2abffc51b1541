/** The optimizer L-BFGS. A step calls the closure several times. */

import type { Arena } from "../arena/arena.js";
import { type AsyncClosure, type Closure, type ClosureComputation, ClosureDriver } from "../optimizer/closure.js";
import { groupOptions } from "../optimizer/definition.js";
import { type LiveOptions, liveHyper, refusing, resolveOptions, type Values, valuesAt } from "../optimizer/hyper.js";
import { commonArena, listTensors, named, type Tensors } from "../optimizer/params.js";
import { count, flag, isRecord, nonNegative, oneOf, refuseNames, whole } from "../option.js";
import { Checkpointable, type CheckpointableGroup } from "../optimizer/checkpointable.js";
import type { Scheduled } from "../rule.js";
import type { Tensor } from "../arena/tensor.js";
import { Vectors } from "../optimizer/vectors.js";
import { History } from "./history.js";
import { type LBFGSReport, minimize, needed, type Settings } from "./minimize.js";

/** Options that can be changed between steps. */
export interface LBFGSHyper {
  /** The step length along a direction, or the first one that a line search tries. A number in [0, ∞). Default: 1. */
  lr: Scheduled<number>;
  /** A step ends when no gradient is larger than this. A number in [0, ∞). Default: 1e-7. */
  toleranceGrad: Scheduled<number>;
  /** A step ends when the loss, or every parameter, changes by less than this. A number in [0, ∞). Default: 1e-9. */
  toleranceChange: Scheduled<number>;
}

export interface LBFGSOptions extends Partial<LBFGSHyper> {
  /** The largest number of iterations of a step. A whole number in [1, ∞). Default: 20. */
  maxIter?: number;
  /**
   * A step begins no new iteration after this number of calls of the closure. A whole number in [1, ∞). Default:
   * `maxIter * 5 / 4`, rounded down.
   */
  maxEval?: number;
  /** The largest number of past changes of the gradient that are kept. A whole number in [1, 100000]. Default: 100. */
  historySize?: number;
  /** The line search. "none": the step length is `lr`. "strong_wolfe": a line search finds a point where the loss has decreased enough and the slope is less steep. Default: "none". */
  lineSearchFn?: "none" | "strong_wolfe";
  /** Maximize the loss instead of minimizing it. Default: false. */
  maximize?: boolean;
}

const rule = {
  name: "lbfgs",
  hyper: { lr: nonNegative(1), toleranceGrad: nonNegative(1e-7), toleranceChange: nonNegative(1e-9) },
  fixed: {
    maxIter: count(20, 1),
    maxEval: count(undefined, 1),
    historySize: whole(100, 1, 100000),
    lineSearchFn: oneOf("none", "strong_wolfe"),
    maximize: flag(false),
  },
  addedState: {},
  conflict: () => undefined,
};

/**
 * Minimizes a function with an estimate of its curvature, from the last changes of the gradient (a quasi-Newton
 * method). A step, `lbfgs(params, { lineSearchFn: "strong_wolfe" }).step(closure)`, makes up to `maxIter` iterations:
 * `p = p - t * H * g`. `H` is the estimate of the inverse Hessian, and `t` the step length. Without a line search the
 * loss can rise. The history reserves address space for `2 * historySize + 2 * min(maxIter, historySize) + 9` times the parameters, and takes
 * memory as it grows.
 *
 * Liu & Nocedal, 1989, https://doi.org/10.1007/BF01589116
 *
 * Use it for small problems whose loss is computed from the whole data set. It does not work with mini-batches.
 *
 * Elsewhere: PyTorch's `LBFGS`; here vectors are float32, and sums and scalars float64. Optax's `lbfgs` keeps ten
 * changes, and has another line search. Keras and TensorFlow.js have none.
 * @param params tensors, by name or in a list. There are no groups.
 * @throws a TypeError or RangeError for wrong arguments, a RangeError if memory runs out.
 */
export function lbfgs(params: Tensors, options: LBFGSOptions = {}): LBFGS {
  return new (refusing(LBFGS, rule, "optimizer"))(params, options);
}

/** Minimizes a function by L-BFGS. Made by `lbfgs(params, options)`. */
export class LBFGS extends Checkpointable {
  /** Checks changes of several options; the result writes them. */
  readonly #stage: LiveOptions["stage"];
  readonly #groups: readonly [CheckpointableGroup<LBFGSHyper>];
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
    const refused = Object.keys(groupOptions).find(
      (name) => !(name in rule.fixed) && isRecord(options) && name in options,
    );
    if (refused !== undefined) {
      throw new TypeError(
        `lbfgs: there is no ${refused}, because L-BFGS cannot keep parameters within bounds; use another optimizer, such as adam, or write the parameter as a function of another, such as exp(x)`,
      );
    }
    const values = resolveOptions(rule, options) as Values & { maxIter: number; maxEval?: number; historySize: number };
    const {
      maxIter,
      historySize,
      lineSearchFn,
      maximize,
      maxEval = Math.max(1, Math.floor((maxIter * 5) / 4)),
    } = values;
    const vectorCount = History.vectors(historySize) + needed(maxIter, historySize);
    this.#vectors = new Vectors(arena, [{ params: tensors, sign: 1 }], vectorCount, "lbfgs's history");
    this.#arena = arena;
    this.#driver = new ClosureDriver(rule.name, arena);
    const { hyper, stage } = liveHyper(rule, values, () => arena.internals(rule.name));
    this.#stage = stage;
    const fixed = { maxIter, maxEval, historySize, lineSearchFn, maximize };
    const Group = refusing(History<LBFGSHyper>, rule, "group");
    this.#history = new Group(tensors, hyper as unknown as LBFGSHyper, fixed, this.#vectors, historySize);
    this.#groups = Object.freeze([this.#history]);
    Object.freeze(this);
  }

  /** The only group. */
  get groups(): readonly [CheckpointableGroup<LBFGSHyper>] {
    return this.#groups;
  }

  /** The number of steps so far. */
  get steps(): number {
    return this.#step.counts.steps;
  }

  /** The live options. A change takes effect at the next step. A wrong value is an error and changes nothing. */
  get hyper(): LBFGSHyper {
    return this.groups[0].hyper;
  }

  /**
   * Makes up to `maxIter` iterations from the present parameters.
   * @param closure writes the gradients at the present parameters, and returns the loss
   * @returns the loss at the start, and the number of iterations and of calls of the closure. A line search treats a
   * loss or a gradient of NaN as an infinite loss, and tries a shorter step. If the slope along a direction is not
   * finite, the step ends.
   * @throws an error of the closure; a TypeError if the closure returns no number; an Error for a tensor without a gradient, after
   * `arena.free()`, during another step in the arena, and after a step was torn. Parameters and history are restored then.
   */
  step(closure: Closure): LBFGSReport {
    return this.#driver.run(this.#computation(this.#settings), closure);
  }

  /**
   * Like `step`, but does not block the event loop. The closure may be async. Only one step can run at a time. It uses the
   * options at the time of the call.
   */
  async stepAsync(closure: AsyncClosure): Promise<LBFGSReport> {
    return this.#driver.runAsync(this.#computation(this.#settings), closure);
  }

  get #settings(): Settings {
    const { fixed, hyper } = this.#history;
    return valuesAt(rule, { ...fixed, ...hyper }, this.steps) as unknown as Settings;
  }

  *#computation(settings: Settings): ClosureComputation<LBFGSReport> {
    const history = this.#history;
    const checkGradients = () => {
      const frozen = history.params.find(({ requiresGrad }) => !requiresGrad);
      if (frozen === undefined) return;
      throw new Error(
        `lbfgs: ${named(frozen)} must have a gradient, and its requiresGrad is false; make another lbfgs without it, because its directions are those of all tensors together`,
      );
    };
    const { state, report } = yield* minimize(this.#vectors, history.state, history.free, settings, checkGradients);
    history.state = state;
    this.#step.counts.steps += 1;
    return report;
  }

  /** The parts that checkpoints need. @internal */
  get internals() {
    return {
      rule,
      step: this.#step,
      stage: this.#stage,
      viewsOf: (tensor: Tensor) => {
        this.#arena.internals(rule.name);
        return { state: this.#history.views(tensor) };
      },
      checkTraining: (title: string) => {
        this.#arena.internals(rule.name);
        this.#driver.check(`${title}: ${rule.name}`);
      },
      wrappers: new Map<string, never>(),
    };
  }
}

refuseNames(LBFGS.prototype, () => "lbfgs: there is no", { zeroGrad: "(); write grad.fill(0) in the closure" });
