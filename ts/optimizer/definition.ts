/** The definition of a rule in TypeScript: the argument of `rule()`, also called its literal. The formula is in Rust. */

import {
  type Chosen,
  count,
  flag,
  nonNegative,
  oneOf,
  type Options,
  orWord,
  threshold,
  whole,
  within,
  unit,
} from "../option.js";

import type { Kernel } from "../wasm/kernels.js";
import type { Instruction, Matrices } from "../matrix/matrices.js";
import type { planProgram } from "../matrix/program.js";
import type { Shape, Tensor } from "../arena/tensor.js";
import type { byEvaluated } from "./replace.js";

export type Scalars = Readonly<Record<string, number>>;

export type SlotShapes = Readonly<Record<string, Shape | undefined>>;

/** A rule without its formula, which is in crate/src/rules under the same name. */
export interface Definition<
  Hyper extends Options = Options,
  Fixed extends Options = Options,
  Slots extends string = string,
  Added extends string = string,
  Counted extends string = string,
  Sums extends string = string,
  Scratch extends string = string,
  Shapes extends SlotShapes = SlotShapes,
> {
  /** The kernels, by their names in Rust: the rule's, and those that its program uses. */
  readonly kernels: Readonly<Record<string, Kernel>>;
  /** Live hyper-parameters, in the order of the fields of the Rust struct: one double for a number or a flag, n for a list. */
  readonly hyper: Hyper;
  /** Options that cannot change after the optimizer is made. */
  readonly fixed?: Fixed;
  /** The slots of state, in the order of the Rust function: one float per parameter, unless `shapes` has another shape. */
  readonly state: readonly Slots[];
  /** The slots of `state` that only the program uses: the rule's kernels do not get them. */
  readonly programState?: readonly NoInfer<Slots>[];
  /** Slots that exist if an option is neither false nor 0. The rule has a kernel for each set of such options. */
  readonly addedState?: Readonly<Record<Added, keyof (Hyper & Fixed) & string>>;
  /**
   * Slots that exist only while a tensor is updated. All tensors share their memory, and checkpoints do not keep them. The
   * kernels get them after the state.
   */
  readonly scratch?: readonly Scratch[];
  /** Slots that start at the value of an option, or at their first step as a copy of the parameters. Other slots start at zero. */
  readonly startsAt?: { readonly [Slot in Slots | Added]?: (keyof (Hyper & Fixed) & string) | "params" };
  /**
   * Numbers that `advance` computes once per step and group, with their values before the first step. In the Rust struct they follow
   * the hyper-parameters, in this order.
   */
  readonly scalars?: Readonly<Record<Counted, number>>;
  /** The scalars that depend only on the tensor. */
  readonly tensorScalars?: (tensor: Tensor) => Readonly<Partial<Record<NoInfer<Counted>, number>>>;
  /** Whether each tensor has its own scalars. */
  readonly perTensor?: boolean;
  /** The sums that the kernel `NAME_measure` computes before the update: over a tensor with `perTensor`, else over all tensors. */
  readonly sums?: readonly Sums[];
  /** Computes the scalars of a step, from the scalars of the step before and from the sums. */
  readonly advance?: (
    from: Advance<Readonly<Record<Counted, number>>, Chosen<Hyper & Fixed>, Readonly<Record<Sums, number>>>,
  ) => Readonly<Record<NoInfer<Counted>, number>>;
  /** The shapes of slots that differ from the tensor's shape; undefined for a tensor without the slot. */
  readonly shapes?: { readonly [Slot in keyof Shapes]: (shape: Shape) => Shapes[Slot] };
  /** The kind of tensors that the rule accepts. Default: all. */
  readonly accepts?: keyof typeof tensorKinds;
  /** The program of a rule of matrices: the instructions of a step for one tensor. Default: measure, if there are sums, then update. */
  readonly program?: (
    matrices: Matrices<Now<Hyper & Fixed, Counted>>,
    options: Chosen<Hyper & Fixed>,
  ) => readonly Instruction<Now<Hyper & Fixed, Counted>>[];
  /** `planProgram` of matrix/program.ts, if there is a program. Rules without one do not load it. */
  readonly planProgram?: typeof planProgram;
  /** Replaces parameters in training by those for evaluation, in place: for `opt.eval()`. */
  readonly evalParams?: (
    params: Float32Array,
    state: { readonly [Slot in Slots]: Float32Array },
    options: Chosen<Hyper & Fixed>,
  ) => void;
  /** `byEvaluated` of optimizer/replace.ts, if there is `evalParams`. Rules without it do not load it. */
  readonly byEvaluated?: typeof byEvaluated;
  /** The slot in which `opt.hessian()` averages the user's estimates, and the decay of that average. */
  readonly hessian?: {
    readonly slot: Slots;
    readonly beta: (options: Chosen<Hyper & Fixed>) => number;
  };
  /** The error message for hyper-parameters that are valid one by one, but not together. */
  readonly conflict?: (hyper: Chosen<Hyper>) => string | undefined;
}

/** The input of a rule's `advance`. */
export interface Advance<Before, Options, Sums> {
  /** The scalars at the step before. */
  readonly before: Before;
  readonly options: Options;
  /** The step, counted from 1. */
  readonly step: number;
  /** The sums that the rule's measuring kernel added up. */
  readonly sums: Sums;
  readonly tensor: Tensor;
}

/** The argument of functions in a program: options, the rule's scalars, and the step, counted from 1. */
export type Now<O extends Options, Counted extends string> = Chosen<O> &
  Readonly<Record<Counted, number>> & { readonly step: number };

/** The kinds of tensors that a rule may accept. */
export const tensorKinds = {
  matrices: { fits: ({ length }: Shape) => length === 2, is: "a matrix", other: "adamw" },
  matricesAndFilters: { fits: ({ length }: Shape) => length >= 2, is: "of two dimensions or more", other: "adamw" },
  vectorsAndMatrices: { fits: ({ length }: Shape) => length <= 2, is: "a vector or a matrix", other: "adagrad" },
};

/** A definition with its name and with defaults, without its generic types. All code below the factories uses it. */
export interface Rule extends Omit<Definition, "conflict" | "advance" | "evalParams" | "hessian" | "program"> {
  readonly name: string;
  readonly fixed: Options;
  readonly addedState: Readonly<Record<string, string>>;
  readonly startsAt: Readonly<Record<string, string>>;
  readonly scalars: Scalars;
  readonly programState: readonly string[];
  readonly scratch: readonly string[];
  readonly shapes: Readonly<Record<string, (shape: Shape) => Shape | undefined>>;
  readonly tensorScalars: (tensor: Tensor) => Scalars;
  readonly perTensor: boolean;
  readonly sums: readonly string[];
  readonly program?: (
    matrices: Matrices<any>,
    options: Readonly<Record<string, unknown>>,
  ) => readonly Instruction<any>[];
  readonly advance: (from: Advance<Scalars, Readonly<Record<string, unknown>>, Scalars>) => Scalars;
  readonly evalParams?: (
    params: Float32Array,
    state: Readonly<Record<string, Float32Array>>,
    options: Readonly<Record<string, unknown>>,
  ) => void;
  readonly hessian?: {
    readonly slot: string;
    readonly beta: (options: Readonly<Record<string, unknown>>) => number;
  };
  readonly conflict: (hyper: Readonly<Record<string, unknown>>) => string | undefined;
}

/** Options of every rule that each group may set. */
export const groupOptions = {
  /** Maximize instead of minimize: step up the gradient. */
  maximize: flag(false),
  /** The least and the greatest value of each parameter, rounded to float32: after each update, a parameter that is outside is set to the nearest of the two (projected gradient descent, PyTorch's `clamp_`, Optax's `projection_box`). A NaN stays. */
  box: within("[-∞, ∞]", [-Infinity, Infinity]),
  /** Whether parameters below zero are set to zero after each update (Optax's `projection_non_negative`). With `box`, both hold. */
  nonNegative: flag(false),
};

/** Options of every rule that are the same for all groups. */
export const sharedOptions = {
  /** Factor of the gradients, applied before all other options. */
  gradScale: nonNegative(1),
  /** Factor by which you multiply the loss, `opt.lossScale`; gradients are divided by it. "dynamic" does what PyTorch's GradScaler does: it starts at 65536, halves and skips the step if a gradient is not finite, and doubles after 2000 good steps. */
  lossScale: orWord("dynamic", within("(0, ∞)", 1)),
  /** Number of micro-batches in a step: each call of `step()` adds the present gradients to a sum, and every n-th call updates the parameters. Before each call, overwrite the gradients with those of one micro-batch. `flush()` updates from fewer micro-batches. */
  accumulate: count(1, 1),
  /** Whether the step uses the mean of the micro-batches' gradients or their sum. */
  accumulateBy: oneOf("mean", "sum"),
  /** Maximum norm of each tensor's gradient; larger gradients are scaled down to it (Keras's `clipnorm`). */
  clipTensorNorm: threshold(Infinity),
  /** Maximum norm of the gradients over all tensors; larger gradients are scaled down to it (PyTorch's `clip_grad_norm_`). */
  clipNorm: threshold(Infinity),
  /** Adaptive gradient clipping: maximum norm of each row's gradient, divided by the norm of the row's parameters, which counts as at least 1e-3. Larger gradients are scaled down in place. A row has one index in the first dimension: in PyTorch's layout, the weights of one output. A vector is one row (https://arxiv.org/abs/2102.06171). */
  agc: threshold(Infinity),
  /** Maximum magnitude of each gradient, after all scaling (PyTorch's `clip_grad_value_`). */
  clipValue: threshold(Infinity),
  /** The response to a gradient that is infinite or NaN, before anything is updated: update anyway, throw an error, or skip the step. A step that throws or is skipped drops accumulated micro-batches. */
  nonFinite: oneOf("ignore", "throw", "skip"),
  /** Number of steps in a row that `nonFinite: "skip"` or a dynamic `lossScale` may skip. One more is an error (Optax's `apply_if_finite`, which then updates). */
  maxConsecutiveErrors: whole(Infinity, 0, Infinity),
  /** Decay rate of an exponential moving average of the parameters, `opt.average(tensor)`; 0 for none. */
  ema: unit(0),
  /** Limit the decay of `ema` to `(1 + n) / (10 + n)` after `n` steps, which starts at 2/11 (TensorFlow's `num_updates`). */
  emaWarmup: flag(false),
  /** Number of steps between two updates of the equally weighted average of the parameters, `opt.average(tensor)` (stochastic weight averaging, PyTorch's AveragedModel); 0 for no average. */
  swa: count(0, 0),
  /** Number of steps before the average begins; until then it equals the parameters. */
  averageStart: count(0, 0),
  /** Set the gradients to zero after each call of `step()`, also if it was a micro-batch or was skipped. After an error they stay. */
  zeroGrad: flag(false),
};

/** Whether the scalars of a rule follow from sums over all tensors. Then all tensors have the same scalars. */
export const hasCommonScalars = ({ sums = [], perTensor }: Partial<Pick<Rule, "sums" | "perTensor">>): boolean =>
  sums.length > 0 && !perTensor;
