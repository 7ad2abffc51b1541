/** What a checkpoint needs to know of an optimizer. */

import type { Rule, Scalars } from "./definition.js";
import type { Values } from "./hyper.js";
import type { TensorViews } from "./segment.js";
import type { Tensor } from "../arena/tensor.js";

/** Tensors that share hyper-parameters. */
export interface CheckpointableGroup<Hyper = unknown> {
  readonly params: readonly Tensor[];
  readonly hyper: Hyper;
  /** @internal */
  readonly fixed: Values;
  /** How many steps were made before it joined, if it may. @internal */
  since?: number;
  /** What numbers there are besides tensors: one record, or one for each tensor. @internal */
  scalars: readonly Scalars[];
}

/** What `save` keeps, and `load` brings back: any optimizer. */
export abstract class Checkpointable {
  abstract readonly groups: readonly CheckpointableGroup[];
  /** How many steps were made. */
  abstract readonly steps: number;
  /** @internal */
  abstract readonly internals: {
    readonly rule: Pick<Rule, "name" | "hyper" | "fixed"> & Partial<Pick<Rule, "shapes" | "startsAt" | "perTensor">>;
    /** Options of all groups, and counters: whole numbers, but for the scale of the loss. */
    readonly step: { readonly overall: Values; counts: object; readonly firstScale?: number };
    readonly viewsOf: (tensor: Tensor) => TensorViews;
    /** Throws unless the parameters are those that training goes on from. */
    readonly checkTraining: (title: string) => void;
    readonly wrappers: ReadonlyMap<string, { readonly options: Values }>;
  };
}
