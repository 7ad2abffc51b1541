/** The memory of L-BFGS: the last changes of the gradient, and the numbers that the next iteration needs. */

import type { Scalars } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import type { CheckpointableGroup } from "../optimizer/checkpointable.js";
import type { Tensor } from "../arena/tensor.js";
import { groupContents, type Inspect, shownAs } from "../optimizer/inspect.js";
import type { Vector, Vectors } from "../optimizer/vectors.js";
import { INSPECT } from "../platform.js";

/**
 * `s` is a change of the parameters, `y` the change of the gradient over it, and `rho` the inverse of their dot product.
 */
interface Pair {
  readonly y: Vector;
  readonly s: Vector;
  readonly rho: number;
}

/** The state between two iterations. It is never modified, so a step that fails keeps the state from before. */
export interface State {
  readonly iterations: number;
  readonly evaluations: number;
  /** The last iteration: its step length, its direction, and the gradient before it. */
  readonly t: number;
  readonly direction: Vector;
  readonly gradient: Vector;
  /** The pairs, the oldest first. */
  readonly pairs: readonly Pair[];
  /** The first guess of the inverse Hessian: a multiple of the identity. */
  readonly hDiag: number;
}

export class History<Hyper> implements CheckpointableGroup {
  readonly params: readonly Tensor[];
  readonly fixed: Values;
  readonly #hyper: Hyper;
  readonly #vectors: Vectors;
  readonly #size: number;
  #state: State;

  /** @param size the largest number of pairs */
  constructor(params: readonly Tensor[], hyper: Hyper, fixed: Values, vectors: Vectors, size: number) {
    this.params = params;
    this.#hyper = hyper;
    this.fixed = fixed;
    this.#vectors = vectors;
    this.#size = size;
    const [direction, gradient] = vectors.allocated as [Vector, Vector];
    this.#state = { iterations: 0, evaluations: 0, t: 0, direction, gradient, pairs: [], hDiag: 1 };
    Object.freeze(this);
  }

  get hyper(): Hyper {
    return this.#hyper;
  }

  get state(): State {
    return this.#state;
  }

  set state(state: State) {
    this.#state = state;
  }

  /** The text that Node's `console.log` shows. */
  [INSPECT](_: unknown, options: object, inspect: Inspect): string {
    return shownAs("Group", groupContents(this), options, inspect);
  }

  /** The number of vectors that a history of `size` pairs needs. */
  static vectors(size: number): number {
    return 2 + 2 * size;
  }

  /** The vectors that the state uses. */
  get #kept(): Vector[] {
    const { direction, gradient, pairs } = this.state;
    return [direction, gradient, ...pairs.flatMap(({ y, s }) => [y, s])];
  }

  /** The vectors that the state does not use. */
  get free(): Vector[] {
    const kept = new Set(this.#kept);
    return this.#vectors.allocated.filter((vector) => !kept.has(vector));
  }

  /** The vectors in the order of a checkpoint: as many as the largest number of pairs needs. */
  get #saved(): Vector[] {
    return [...this.#kept, ...this.free].slice(0, History.vectors(this.#size));
  }

  /** Views of a tensor's part of these vectors. Those of pairs that do not exist yet are set to zero. */
  views(tensor: Tensor): Record<string, Float32Array> {
    const names = Array.from({ length: this.#size }, (_, i) => [`y${i}`, `s${i}`]).flat();
    const saved = this.#saved.map((vector) => this.#vectors.viewOf(vector, tensor));
    for (const view of saved.slice(this.#kept.length)) view.fill(0);
    return Object.fromEntries(["direction", "prevGrad", ...names].map((name, i) => [name, saved[i]!]));
  }

  get scalars(): readonly Scalars[] {
    const { iterations, evaluations, t, pairs, hDiag } = this.state;
    const rho = Array.from({ length: this.#size }, (_, i) => [`rho${i}`, pairs[i]?.rho ?? 0]);
    return [{ iterations, evaluations, t, hDiag, pairs: pairs.length, ...Object.fromEntries(rho) }];
  }

  /** Restores the numbers of a checkpoint. The vectors are already in their places. */
  set scalars([scalars]: readonly Scalars[]) {
    const { iterations, evaluations, t, hDiag, pairs: count, ...rho } = scalars as Record<string, number>;
    const [direction, gradient, ...saved] = this.#saved as [Vector, Vector, ...Vector[]];
    const pairs = Array.from({ length: Math.min(count!, this.#size) }, (_, i) => {
      return { y: saved[2 * i]!, s: saved[2 * i + 1]!, rho: rho[`rho${i}`]! };
    });
    this.state = { iterations, evaluations, t, hDiag, direction, gradient, pairs } as State;
  }
}
