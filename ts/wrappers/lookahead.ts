import type { Tensor } from "../arena/tensor.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { tensorsOf } from "../optimizer/params.js";
import { Vectors } from "../optimizer/vectors.js";
import { count, within } from "../option.js";
import { checkWrappable } from "./wrap.js";

export interface LookaheadOptions {
  /** The number of steps between updates of the slow weights. A whole number in [1, ∞). Default: 5. */
  syncPeriod?: number;
  /**
   * The fraction of the distance to the parameters by which the slow weights move. A number in (0, 1]. Default: 0.5.
   */
  slowStepSize?: number;
}

/** The state that `lookahead` adds. */
export type SlowWeights = {
  /** The slow weights: a view. */
  readonly slow: Float32Array;
};

/**
 * Lookahead, a wrapper for any rule: `lookahead(adamw(params))`. After every `syncPeriod`-th step `slow = slow +
 * slowStepSize * (p - slow); p = slow`. The slow weights start as a copy of the parameters: at the first step, or at
 * once if steps have been made. They are state, `opt.state(tensor).slow`. Skipped steps, and micro-batches that make no
 * step, do not count. An average, `ema` or `swa`, includes the parameters before they are set to the slow weights. The
 * wrapper uses as much memory as the parameters.
 *
 * Zhang, Lucas, Hinton & Ba, 2019, https://arxiv.org/abs/1907.08610
 *
 * Use it for runs whose rate or betas are hard to tune: the slow weights are less sensitive to them.
 *
 * Elsewhere: Optax's `lookahead`, which has no defaults and keeps both weights in the parameters. PyTorch, Keras and
 * TensorFlow.js have none.
 * @returns the optimizer itself
 * @throws a TypeError or RangeError for wrong arguments, and for an optimizer that `lookahead` already wraps.
 */
export function lookahead<Hyper, State, GroupOptions, GradNorm>(
  optimizer: Optimizer<Hyper, State, GroupOptions, GradNorm>,
  options: LookaheadOptions = {},
): Optimizer<Hyper, State & SlowWeights, GroupOptions, GradNorm> {
  const values = checkWrappable(
    "lookahead",
    optimizer,
    { syncPeriod: count(5, 1), slowStepSize: within("(0, 1]", 0.5) },
    options,
  );
  const { syncPeriod, slowStepSize } = values;
  const { arena, step, wrap } = optimizer.internals;
  const tensors = tensorsOf(optimizer.groups);
  const vectors = new Vectors(arena, optimizer.groups, 1, "lookahead's slow weights");
  const { params } = vectors;
  const slow = vectors.allocated[0]!;
  const state = new Map<Tensor, SlowWeights>();
  for (const tensor of tensors) state.set(tensor, { slow: vectors.viewOf(slow, tensor) });
  arena.onFree({ release: () => state.clear() });
  if (step.count > 0) for (const tensor of tensors) state.get(tensor)!.slow.set(tensor.data);

  const isSyncStep = () => step.count % syncPeriod === 0;
  const start = () => {
    vectors.select(() => true);
    return vectors.combine(slow, 1, params);
  };
  const follow = () => {
    vectors.select(optimizer.internals.isDue);
    return vectors.combine(slow, 1 - slowStepSize, slow, slowStepSize, params);
  };
  const phases = {
    beforeUpdate: [() => (step.count === 1 ? start() : undefined)],
    last: [
      () => (isSyncStep() ? follow() : undefined),
      () => (isSyncStep() ? vectors.combine(params, 1, slow) : undefined),
    ],
  };
  wrap("lookahead", { options: values, phases, state });
  return optimizer as Optimizer<Hyper, State & SlowWeights, GroupOptions, GradNorm>;
}
