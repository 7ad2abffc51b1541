/** The interface of optimizers that a checkpoint can hold. */

import { FREE, GRADIENTS, isRevoked, refuseNames } from "../option.js";
import { INSPECT } from "../platform.js";
import type { Tensor } from "../arena/tensor.js";
import type { Rule, Scalars } from "./definition.js";
import type { Values } from "./hyper.js";
import { changedOptions, groupContents, type Inspect, shownAs } from "./inspect.js";
import type { Segment, TensorViews } from "./segment.js";

/** Tensors that share hyper-parameters. */
export interface CheckpointableGroup<Hyper = unknown> {
  readonly params: readonly Tensor[];
  readonly hyper: Hyper;
  /** @internal */
  readonly fixed: Values;
  /** The progress of each tensor, in the order of `params`. Undefined if it cannot differ from that of the optimizer. @internal */
  readonly segmentOfEach?: readonly Pick<Segment, "since" | "joined" | "isDue">[];
  /** Whether each tensor has its own segment and scalars. @internal */
  readonly isSeparate?: boolean;
  /** The rule's scalars: one record, or one for each tensor. @internal */
  scalars: readonly Scalars[];
}

/** An optimizer that `save` and `load` accept. */
export abstract class Checkpointable {
  abstract readonly groups: readonly CheckpointableGroup[];
  /** The number of steps. */
  abstract readonly steps: number;
  /** @internal */
  abstract readonly internals: {
    readonly rule: Pick<Rule, "name" | "hyper" | "fixed"> &
      Partial<Pick<Rule, "shapes" | "startsAt" | "perTensor" | "sums">>;
    /** The options of all groups, and counters, which are whole numbers except the scale of the loss. */
    readonly step: { readonly shared: Values; counts: object; readonly lossScale?: { readonly first: number } };
    readonly viewsOf: (tensor: Tensor) => TensorViews;
    /**
     * Gives each tensor of a group its own segment and scalars.
     * @throws a RangeError if memory runs out.
     */
    readonly separate?: (group: any) => void;
    /** Throws if `eval()` or `perturb()` replaced the parameters, or a step is under way. */
    readonly checkTraining: (title: string) => void;
    readonly wrappers: ReadonlyMap<string, { readonly options: Values }>;
  };

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](_: unknown, options: object, inspect: Inspect): string {
    const { rule, step, wrappers } = this.internals;
    const contents = {
      steps: this.steps,
      ...changedOptions(step.shared),
      ...Object.fromEntries([...wrappers].map(([name, { options }]) => [name, options])),
      groups: this.groups.map(groupContents),
    };
    return shownAs(rule.name, contents, options, inspect);
  }
}

/** Whether a value is an optimizer that checkpoints can hold. */
export const isOptimizer = (value: unknown): value is Checkpointable =>
  !isRevoked(value) && value instanceof Checkpointable;

refuseNames(Checkpointable.prototype, ({ internals }) => `${internals.rule.name}: there is no`, {
  zeroGrad:
    "(); make the optimizer with zeroGrad: true, which zeroes the gradients after each step, or write grad.fill(0)",
  stateDict: "(); call save(model, optimizer)",
  loadStateDict: "(); call load(bytes, model, optimizer)",
  minimize: `()${GRADIENTS}`,
  applyGradients: `()${GRADIENTS}`,
  dispose: FREE,
});
