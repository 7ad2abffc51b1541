/** The interface of wrappers: `sam`, `lookahead`, and any other. The optimizer knows no wrapper by name. */

import type { Tensor } from "../arena/tensor.js";
import type { Values } from "./hyper.js";
import type { WrapperPhases } from "./step.js";
import type { Computation } from "./vectors.js";

export interface Wrapper {
  /** The options that a checkpoint keeps. */
  readonly options: Values;
  readonly phases?: WrapperPhases;
  /** Additional state of each tensor. It starts as a copy of the parameters. */
  readonly state?: ReadonlyMap<Tensor, Readonly<Record<string, Float32Array>>>;
  readonly perturbation?: Perturbation;
}

/** A temporary change of the parameters, at which gradients are computed. The step undoes it before the update. */
export interface Perturbation {
  /** Whether the parameters are moved now. */
  readonly isApplied: boolean;
  /** Moves the parameters, by the gradients as they are now. The result is the norm of the gradients. */
  apply(): Computation<number>;
  /** Moves the parameters back, if they are moved. */
  undo(): void;
}
