/** What a rule says of itself, besides its formula. */

import {
  count,
  flag,
  nonNegative,
  oneOf,
  type Options,
  orWord,
  threshold,
  within,
  unit,
  type ValueOf,
} from "../option.js";

import type { Instruction, Matrices } from "../matrix/matrices.js";
import type { Shape, Tensor } from "../arena/tensor.js";

export type Scalars = Readonly<Record<string, number>>;

/** What options have come to. */
export type Chosen<O extends Options> = { readonly [Name in keyof O]: ValueOf<O[Name]> };

export type SlotShapes = Readonly<Record<string, Shape | undefined>>;

/** What a rule is besides its formula, which stands in crate/src/rules under the same name. */
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
  /** Live hyper-parameters, in the order of the Rust struct's fields: one double for a number or a flag, n for a list. */
  readonly hyper: Hyper;
  /** Options read once, when the optimizer is made. */
  readonly fixed?: Fixed;
  /** The slots of state that no option adds: one float a parameter each, where `shapes` says nothing else. */
  readonly state: readonly Slots[];
  /** Those of them that only the program works on: the rule's kernels do not have them. */
  readonly programState?: readonly NoInfer<Slots>[];
  /** Slots that an option adds when it is neither false nor 0; the rule has a kernel for each such set of options. */
  readonly addedState?: Readonly<Record<Added, keyof (Hyper & Fixed) & string>>;
  /**
   * Slots that the kernels have behind the state, one float a parameter each, only while a tensor is updated: shared by all
   * tensors, and not saved.
   */
  readonly scratch?: readonly Scratch[];
  /** Slots that start at an option's value, or as a copy of the parameters at their first step; the others start at zero. */
  readonly startsAt?: { readonly [Slot in Slots | Added]?: (keyof (Hyper & Fixed) & string) | "params" };
  /**
   * Numbers that the kernel reads behind the hyper-parameters, in the order of the Rust struct's fields, as they are before
   * the first step. A group has its own.
   */
  readonly scalars?: Readonly<Record<Counted, number>>;
  /** Which of them follow from the tensor alone. */
  readonly tensorScalars?: (tensor: Tensor) => Readonly<Partial<Record<NoInfer<Counted>, number>>>;
  /** Whether each tensor has its own. */
  readonly perTensor?: boolean;
  /** What its kernel `NAME_measure` adds up before the update: over the tensor if each has its own scalars, or over all. */
  readonly sums?: readonly Sums[];
  /** Computes the scalars of a step from those of the step before and from the sums. */
  readonly advance?: (
    from: Advance<Readonly<Record<Counted, number>>, Chosen<Hyper & Fixed>, Readonly<Record<Sums, number>>>,
  ) => Readonly<Record<NoInfer<Counted>, number>>;
  /** The shapes of slots, state or scratch, that are not the tensor's; undefined where it has none. */
  readonly shapes?: { readonly [Slot in keyof Shapes]: (shape: Shape) => Shapes[Slot] };
  /** What tensors it is for, if not for all. */
  readonly accepts?: keyof typeof tensorKinds;
  /** What is done with each tensor in a step, in order, where that is more than to measure, if there are sums, and to update. */
  readonly program?: (
    matrices: Matrices<Now<Hyper & Fixed, Counted>>,
    options: Chosen<Hyper & Fixed>,
  ) => readonly Instruction<Now<Hyper & Fixed, Counted>>[];
  /** What a parameter is for use, from what it is in training: `opt.eval()`. */
  readonly evalParam?: (
    param: number,
    state: { readonly [Slot in Slots]: number },
    options: Chosen<Hyper & Fixed>,
  ) => number;
  /** The slot that `opt.hessian()` averages the user's estimates in, and their decay. */
  readonly hessian?: {
    readonly slot: Slots;
    readonly beta: (options: Chosen<Hyper & Fixed>) => number;
  };
  /** What is wrong with hyper-parameters that are right one by one. */
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

/** What the numbers in a program follow from: options, the rule's scalars, and the step, counted from 1. */
export type Now<O extends Options, Counted extends string> = Chosen<O> &
  Readonly<Record<Counted, number>> & { readonly step: number };

/** What tensors a rule may be for. */
export const tensorKinds = {
  matrices: { fits: ({ length }: Shape) => length === 2, is: "a matrix", other: "adamw" },
  vectorsAndMatrices: { fits: ({ length }: Shape) => length <= 2, is: "a vector or a matrix", other: "adagrad" },
};

/** A definition with its name, its types forgotten: what the code below the factories works with. */
export interface Rule extends Omit<Definition, "conflict" | "advance" | "evalParam" | "hessian" | "program"> {
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
  readonly evalParam?: (
    param: number,
    state: Readonly<Record<string, number>>,
    options: Readonly<Record<string, unknown>>,
  ) => number;
  readonly hessian?: {
    readonly slot: string;
    readonly beta: (options: Readonly<Record<string, unknown>>) => number;
  };
  readonly conflict: (hyper: Readonly<Record<string, unknown>>) => string | undefined;
}

/** Options that every rule has, and every group may have of its own. */
export const groupOptions = {
  /** Climb instead of descending. */
  maximize: flag(false),
};

/** Options of every optimizer that hold for all of its groups. */
export const sharedOptions = {
  /** What gradients are multiplied by before anything else: one over a loss's scale, say. */
  gradScale: nonNegative(1),
  /** What the loss was multiplied by, `opt.lossScale`, and gradients are divided by. As PyTorch's GradScaler, "dynamic" begins with 65536, halves it and leaves the step out whenever a gradient is not finite, and doubles it after 2000 good steps. */
  lossScale: orWord("dynamic", within("(0, ∞)", 1)),
  /** How many micro-batches make a step: each call of `step()` adds up gradients, and every n-th updates from them. */
  accumulate: count(1, 1),
  /** Whether the step sees the mean of the micro-batches' gradients or their sum. */
  accumulateBy: oneOf("mean", "sum"),
  /** The norm of a tensor's gradient above which it is scaled down to it (Keras' `clipnorm`). */
  clipTensorNorm: threshold(Infinity),
  /** The gradients' norm, over all tensors, above which they are scaled down to it (`clip_grad_norm_`). */
  clipNorm: threshold(Infinity),
  /** Adaptive gradient clipping: scale each row's gradient down, in place, to `agc` times the norm of the row's parameters, at least 1e-3. A row is what stands under one first index, in PyTorch's layout an output's weights; a vector is one row (https://arxiv.org/abs/2102.06171). */
  agc: threshold(Infinity),
  /** The distance from zero within which each gradient is kept, after all scaling (`clip_grad_value_`). */
  clipValue: threshold(Infinity),
  /** What to do before anything is updated if a gradient, or the sum of micro-batches', is infinite or NaN: update all the same, throw, or leave the step out. Micro-batches are dropped then. */
  nonFinite: oneOf("ignore", "throw", "skip"),
  /** Decay of an exponential moving average of the parameters, `opt.average(tensor)`; 0 for none. */
  ema: unit(0),
  /** Let that decay begin with 2/11 and rise, to at most `(1 + n) / (10 + n)` after `n` steps (TensorFlow's `num_updates`). */
  emaWarmup: flag(false),
  /** After how many steps each the parameters join their equally weighted average, `opt.average(tensor)` (stochastic weight averaging, PyTorch's AveragedModel); 0 for never. */
  swa: count(0, 0),
  /** How many steps to make before either average begins; until then it is the parameters. */
  averageStart: count(0, 0),
  /** Zero the gradients behind the update. */
  zeroGrad: flag(false),
};
