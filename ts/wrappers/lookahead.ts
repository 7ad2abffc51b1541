import type { Optimizer } from "../optimizer/optimizer.js";
import { count, within } from "../option.js";
import type { Tensor } from "../arena/tensor.js";
import { Vectors } from "../optimizer/vectors.js";
import { startWrapping } from "../optimizer/wrapper.js";

export interface LookaheadOptions {
  /** How many steps the parameters go ahead before the slow weights follow. A whole number in [1, ∞). Default: 5. */
  syncPeriod?: number;
  /** Which part of the way the slow weights follow. A number in (0, 1]. Default: 0.5. */
  slowStepSize?: number;
}

/**
 * Lookahead, around any rule: `lookahead(adamw(params))`. After every `syncPeriod`-th step `slow = slow + slowStepSize * (p - slow);
 * p = slow`. The slow weights begin as the parameters of the first step, or if steps have been made, as those there are now; they are state,
 * `opt.state(tensor).slow`. Steps that are left out and micro-batches that make none do not count. An average, `ema` or
 * `swa`, is of the parameters before they go back. Takes as much memory as the parameters.
 *
 * Zhang, Lucas, Hinton & Ba, 2019, https://arxiv.org/abs/1907.08610
 *
 * Use it for runs whose rate or betas are hard to tune: the slow weights forgive more.
 *
 * Elsewhere: Optax' `lookahead`, which has no defaults and keeps both weights in the parameters. PyTorch, Keras and TensorFlow.js
 * have none.
 * @returns the optimizer itself
 * A TypeError or RangeError for wrong arguments, and for an optimizer that has been wrapped so.
 */
export function lookahead<Hyper, State>(
  optimizer: Optimizer<Hyper, State>,
  options: LookaheadOptions = {},
): Optimizer<Hyper, State & { readonly slow: Float32Array }> {
  const values = startWrapping(
    "lookahead",
    optimizer,
    { syncPeriod: count(5, 1), slowStepSize: within("(0, 1]", 0.5) },
    options,
  );
  const { syncPeriod, slowStepSize } = values;
  const { arena, step, wrappers } = optimizer.internals;
  const tensors = optimizer.groups.flatMap(({ params }) => params);
  const vectors = new Vectors(arena, optimizer.groups, 1, "lookahead's slow weights");
  const { params } = vectors;
  const slow = vectors.allocated[0]!;
  const added = new Map<Tensor, { readonly slow: Float32Array }>();
  for (const tensor of tensors) added.set(tensor, { slow: vectors.viewOf(slow, tensor) });
  arena.onFree({ release: () => added.clear() });
  if (step.count > 0) for (const tensor of tensors) added.get(tensor)!.slow.set(tensor.data);

  const due = () => step.count % syncPeriod === 0;
  const begin = () => (step.count === 1 ? vectors.combine(slow, 1, params) : undefined);
  step.phases.splice(step.phases.indexOf(step.decision) + 1, 0, begin);
  step.phases.push(
    () => (due() ? vectors.combine(slow, 1 - slowStepSize, slow, slowStepSize, params) : undefined),
    () => (due() ? vectors.combine(params, 1, slow) : undefined),
  );
  wrappers.set("lookahead", { options: values, added });
  return optimizer as Optimizer<Hyper, State & { readonly slow: Float32Array }>;
}
