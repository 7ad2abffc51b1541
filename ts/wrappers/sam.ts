import type { Arena } from "../arena/arena.js";
import type { Group } from "../optimizer/group.js";
import type { Optimizer } from "../optimizer/optimizer.js";
import { tensorsOf } from "../optimizer/params.js";
import { type Computation, MAX_WEIGHT, type Vector, Vectors } from "../optimizer/vectors.js";
import type { Perturbation } from "../optimizer/wrapper.js";
import type { Tensor } from "../arena/tensor.js";
import { nonNegative, show } from "../option.js";
import type { Task } from "../threads/task.js";
import { checkWrappable } from "./wrap.js";

export interface SamOptions {
  /** The norm of the perturbation, over all tensors. A number in [0, ∞). Default: 0.05. */
  rho?: number;
}

/**
 * Sharpness-aware minimization, a wrapper for any rule: `sam(sgd(params))`. Each step moves the parameters up the loss,
 * to `q = p + rho * g / norm(g)`, with the norm over all tensors, and updates the parameters `p` by the gradients at
 * `q`. `opt.step(closure)` calls the closure in both places. Without a closure, call `opt.perturb()` after the first
 * gradients and `opt.step()` after the second. If `rho` or the norm is zero, if the norm is not finite, or if `rho /
 * norm` overflows, the parameters do not move: the step is that of the rule without `sam`, and the closure is called
 * once. With `accumulate`, each micro-batch moves by its own gradients. With `zeroGrad`, the gradients are also zeroed
 * after the move. The wrapper uses as much memory as the parameters.
 *
 * Foret, Kleiner, Mobahi & Neyshabur, 2021, https://arxiv.org/abs/2010.01412
 *
 * Use it for models that overfit. A step takes twice as long, because gradients are computed twice.
 *
 * Elsewhere: Optax's `contrib.sam`, which combines an outer and an adversarial optimizer. PyTorch, Keras and
 * TensorFlow.js have none.
 * @returns the optimizer itself
 * @throws a TypeError or RangeError for wrong arguments, and for an optimizer that `sam` already wraps.
 */
export function sam<Hyper, State, GroupOptions, GradNorm>(
  optimizer: Optimizer<Hyper, State, GroupOptions, GradNorm>,
  options: SamOptions = {},
): Optimizer<Hyper, State, GroupOptions, GradNorm> {
  const values = checkWrappable("sam", optimizer, { rho: nonNegative(0.05) }, options);
  const { arena, rule, step, wrap } = optimizer.internals;
  const perturbation = new SamPerturbation(rule.name, arena, optimizer.groups, values.rho, step.shared.zeroGrad);
  wrap("sam", { options: values, phases: { first: [() => perturbation.undoTask()] }, perturbation });
  return optimizer;
}

/** The tensors that are moved now. */
const moved = new WeakSet<Tensor>();

class SamPerturbation implements Perturbation {
  /** The tensors that this wrapper has moved. */
  #moved: readonly Tensor[] = [];
  /** Whether `apply` was called since the last step, even if it did not move the parameters. */
  #isReady = false;
  readonly #name: string;
  readonly #groups: readonly Group[];
  readonly #zeroGrad: boolean;
  readonly #rho: number;
  readonly #vectors: Vectors;
  /** A copy of the parameters before the move. */
  readonly #before: Vector;

  constructor(name: string, arena: Arena, groups: readonly Group[], rho: number, zeroGrad: boolean) {
    this.#name = name;
    this.#groups = groups;
    this.#zeroGrad = zeroGrad;
    this.#rho = rho;
    this.#vectors = new Vectors(arena, groups, 1, "sam's copy of the parameters");
    this.#before = this.#vectors.allocated[0]!;
  }

  get isApplied(): boolean {
    return this.#moved.length > 0;
  }

  *apply(): Computation<number> {
    const { params, grads } = this.#vectors;
    const tensors = tensorsOf(this.#groups).filter(({ requiresGrad }) => requiresGrad);
    const taken = tensors.find((tensor) => moved.has(tensor));
    if (taken) {
      throw new Error(
        `${this.#name}: tensor ${show(taken.name)} is already moved by another sam(); call the step() of that optimizer first`,
      );
    }
    this.#vectors.select(({ requiresGrad }) => requiresGrad);
    const norm = Math.sqrt(yield* this.#vectors.dot(grads, grads));
    const scale = this.#rho / norm;
    this.#isReady = true;
    if (!(scale > 0 && scale < MAX_WEIGHT)) return norm;
    yield this.#vectors.combine(this.#before, 1, params);
    this.#moved = tensors;
    for (const tensor of tensors) moved.add(tensor);
    yield this.#vectors.combine(params, 1, params, scale, grads);
    for (const { grad } of this.#zeroGrad ? tensors : []) grad.fill(0);
    return norm;
  }

  /** Returns the first task of a step: it restores the parameters. */
  undoTask(): Task | undefined {
    if (!this.#isReady) {
      throw new Error(
        `${this.#name}: a step of sam() requires gradients at two points; call step(closure), or perturb() before step()`,
      );
    }
    this.#isReady = false;
    if (!this.isApplied) return undefined;
    this.#forget();
    return this.#vectors.combine(this.#vectors.params, 1, this.#before);
  }

  undo(): void {
    if (this.isApplied) this.#vectors.copy(this.#vectors.params, this.#before);
    this.#forget();
    this.#isReady = false;
  }

  #forget(): void {
    for (const tensor of this.#moved) moved.delete(tensor);
    this.#moved = [];
  }
}
