import { Perturbation } from "./perturbation.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { nonNegative } from "../option.js";
import { startWrapping } from "../optimizer/wrapper.js";

export interface SamOptions {
  /** How far to climb: the norm of the perturbation, over all tensors. A number in [0, ∞). Default: 0.05. */
  rho?: number;
}

/**
 * Sharpness-aware minimization, around any rule: `sam(sgd(params))`. Each step climbs to `q = p + rho * g / norm(g)`, over all tensors,
 * and updates the parameters `p` by the gradients there. `opt.step(closure)` calls the closure in both places; by hand it
 * is `opt.perturb()` between two times that gradients are computed, and `opt.step()`. Where `rho` or the norm is zero, the norm so
 * near it that `rho / norm` overflows, or not finite, there is no way up: the step is the rule's own, and the closure is called
 * once. Micro-batches climb each by its own gradients. With `zeroGrad`, gradients are zeroed behind the climb, too. Takes as
 * much memory as the parameters.
 *
 * Foret, Kleiner, Mobahi & Neyshabur, 2021, https://arxiv.org/abs/2010.01412
 *
 * Use it for models that remember rather than generalize; a step takes twice as long.
 *
 * Elsewhere: Optax' `contrib.sam`, made of an outer and an adversarial optimizer. PyTorch, Keras and TensorFlow.js have none.
 * @returns the optimizer itself
 * A TypeError or RangeError for wrong arguments, and for an optimizer that has been wrapped so.
 */
export function sam<Hyper, State>(
  optimizer: Optimizer<Hyper, State>,
  options: SamOptions = {},
): Optimizer<Hyper, State> {
  const values = startWrapping("sam", optimizer, { rho: nonNegative(0.05) }, options);
  const { arena, step, wrappers } = optimizer.internals;
  const ascent = new Perturbation(arena, optimizer.groups, values.rho, step.overall.zeroGrad);
  step.phases.unshift(() => ascent.undo());
  wrappers.set("sam", { options: values, ascent });
  return optimizer;
}
