/** What sam() adds to an optimizer. */

import type { Arena } from "../arena/arena.js";
import type { Group } from "../optimizer/group.js";
import { MAX_WEIGHT, type Computation, type Vector, Vectors } from "../optimizer/vectors.js";
import type { Task } from "../threads/task.js";

/** The climb of a sharpness-aware step, and the way back. */
export class Perturbation {
  /** Whether the parameters are those that were climbed to. */
  isApplied = false;
  readonly #groups: readonly Group[];
  readonly #zeroGrad: boolean;
  readonly #rho: number;
  readonly #vectors: Vectors;
  /** The parameters as they were before. */
  readonly #before: Vector;

  constructor(arena: Arena, groups: readonly Group[], rho: number, zeroGrad: boolean) {
    this.#groups = groups;
    this.#zeroGrad = zeroGrad;
    this.#rho = rho;
    this.#vectors = new Vectors(arena, groups, 1, "sam's copy of the parameters");
    this.#before = this.#vectors.allocated[0]!;
  }

  /** Goes up from the gradients as they stand; the result is their norm. */
  *apply(): Computation<number> {
    const { params, grads } = this.#vectors;
    const norm = Math.sqrt(yield* this.#vectors.dot(grads, grads));
    const scale = this.#rho / norm;
    if (!(scale > 0 && scale < MAX_WEIGHT)) return norm;
    yield this.#vectors.combine(this.#before, 1, params);
    this.isApplied = true;
    yield this.#vectors.combine(params, 1, params, scale, grads);
    if (this.#zeroGrad) for (const { params } of this.#groups) for (const { grad } of params) grad.fill(0);
    return norm;
  }

  /** The way back, as a step begins with it. */
  undo(): Task | undefined {
    if (!this.isApplied) return undefined;
    this.isApplied = false;
    return this.#vectors.combine(this.#vectors.params, 1, this.#before);
  }

  /** The same at once. */
  undoNow(): void {
    if (this.isApplied) this.#vectors.params.forEach((part, i) => part.set(this.#before[i]!));
    this.isApplied = false;
  }

  /** Throws unless the parameters are those from before. */
  check(title: string): void {
    if (this.isApplied)
      throw new Error(`${title}: the parameters are those of perturb(); call step() or train() first`);
  }
}
