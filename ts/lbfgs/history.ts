/** What L-BFGS remembers: the last changes of the gradient, and what it takes for the next one. */

import type { Scalars } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import type { CheckpointableGroup } from "../optimizer/checkpointable.js";
import type { Tensor } from "../arena/tensor.js";
import type { Vector, Vectors } from "../optimizer/vectors.js";

/** How the gradient changed over a step of the parameters, and one over their product. */
interface Pair {
  readonly y: Vector;
  readonly s: Vector;
  readonly rho: number;
}

/** What an iteration leaves to the next. It is never changed, so a step that fails leaves the one from before. */
export interface State {
  readonly iterations: number;
  readonly evaluations: number;
  /** Where the last one went: how far, along which direction, from which gradient. */
  readonly t: number;
  readonly direction: Vector;
  readonly gradient: Vector;
  /** The oldest first. */
  readonly pairs: readonly Pair[];
  /** The inverse Hessian's diagonal before the pairs. */
  readonly hDiag: number;
}

export class History<Hyper> implements CheckpointableGroup {
  readonly params: readonly Tensor[];
  readonly hyper: Hyper;
  readonly fixed: Values;
  readonly #vectors: Vectors;
  readonly #size: number;
  state: State;

  /** @param size how many pairs there are at most */
  constructor(params: readonly Tensor[], hyper: Hyper, fixed: Values, vectors: Vectors, size: number) {
    this.params = params;
    this.hyper = hyper;
    this.fixed = fixed;
    this.#vectors = vectors;
    this.#size = size;
    const [direction, gradient] = vectors.allocated as [Vector, Vector];
    this.state = { iterations: 0, evaluations: 0, t: 0, direction, gradient, pairs: [], hDiag: 1 };
  }

  /** How many vectors that takes. */
  static vectors(size: number): number {
    return 2 + 2 * size;
  }

  /** The vectors that the state holds. */
  get #kept(): Vector[] {
    const { direction, gradient, pairs } = this.state;
    return [direction, gradient, ...pairs.flatMap(({ y, s }) => [y, s])];
  }

  /** The vectors that it does not. */
  get free(): Vector[] {
    const kept = new Set(this.#kept);
    return this.#vectors.allocated.filter((vector) => !kept.has(vector));
  }

  /** The vectors as a checkpoint has them: as many as there may be pairs. */
  get #saved(): Vector[] {
    return [...this.#kept, ...this.free].slice(0, History.vectors(this.#size));
  }

  /** A tensor's part of them; zero where there is no pair yet. */
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

  /** Takes them in with the vectors as they were saved, which are in their places already. */
  set scalars([scalars]: readonly Scalars[]) {
    const { iterations, evaluations, t, hDiag, pairs: count, ...rho } = scalars as Record<string, number>;
    const [direction, gradient, ...saved] = this.#saved as [Vector, Vector, ...Vector[]];
    const pairs = Array.from({ length: Math.min(count!, this.#size) }, (_, i) => {
      return { y: saved[2 * i]!, s: saved[2 * i + 1]!, rho: rho[`rho${i}`]! };
    });
    this.state = { iterations, evaluations, t, hDiag, direction, gradient, pairs } as State;
  }
}
