/**
 * Calls of other libraries, and the calls of downhill that compute the same numbers. test/porting.test.ts runs each
 * call here.
 */

import { code, made, table } from "./markdown.js";

export interface Port {
  /** Code in the other library. */
  readonly there: string;
  /** Code here; `model` is a record of tensors. */
  readonly here: string;
  /** The remaining difference, if there is one. */
  readonly differs?: string;
}

export interface Library {
  readonly name: string;
  /** Remarks on all of its calls. */
  readonly says: string;
  readonly ports: readonly Port[];
}

const RATE = "the rate is inside the momentum buffer there: a difference once the rate changes";

const CLIP = "1e-6 is added to the norm here, as in PyTorch";

export const pytorch: Library = {
  name: "PyTorch",
  says: "`torch.optim` of PyTorch 2.13. The options are shown with their defaults, which are also the defaults here. `foreach`, `fused`, `capturable` and `differentiable` choose how PyTorch computes and have no counterpart. `maximize` is an option of every optimizer here. There is no `SparseAdam`, because gradients here are dense.",
  ports: [
    {
      there: "SGD(params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False)",
      here: "sgd(model, { lr: 1e-3, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false })",
    },
    {
      there: "Adagrad(params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10)",
      here: "adagrad(model, { lr: 1e-2, lrDecay: 0, weightDecay: 0, initialAccumulatorValue: 0, eps: 1e-10 })",
    },
    {
      there: "RMSprop(params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False)",
      here: "rmsprop(model, { lr: 1e-2, alpha: 0.99, eps: 1e-8, weightDecay: 0, momentum: 0, centered: false })",
    },
    {
      there:
        "Adam(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, decoupled_weight_decay=False)",
      here: "adam(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, amsgrad: false })",
      differs: "`decoupled_weight_decay=True` is `adamw`",
    },
    {
      there: "AdamW(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False)",
      here: "adamw(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 1e-2, amsgrad: false })",
    },
    {
      there: "Rprop(params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50))",
      here: "rprop(model, { lr: 1e-2, etas: [0.5, 1.2], stepSizes: [1e-6, 50] })",
    },
    {
      there: "Adadelta(params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0)",
      here: "adadelta(model, { lr: 1, rho: 0.9, eps: 1e-6, weightDecay: 0 })",
    },
    {
      there: "Adamax(params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)",
      here: "adamax(model, { lr: 2e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 })",
    },
    {
      there: "RAdam(params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False)",
      here: "radam(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, decoupledWeightDecay: false })",
    },
    {
      there:
        "NAdam(params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, decoupled_weight_decay=False)",
      here: "nadam(model, { lr: 2e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0, momentumDecay: 4e-3, decoupledWeightDecay: false })",
    },
    {
      there: "ASGD(params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0)",
      here: "asgd(model, { lr: 1e-2, lambd: 1e-4, alpha: 0.75, t0: 1e6, weightDecay: 0 })",
      differs: "a new `lr`, `lambd`, `alpha` or `t0` takes effect one step later in PyTorch",
    },
    {
      there:
        'Muon(params, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.775, 2.0315), eps=1e-7, ns_steps=5, adjust_lr_fn="original")',
      here: 'muon(model, { lr: 1e-3, weightDecay: 0.1, momentum: 0.95, nesterov: true, nsCoefficients: [3.4445, -4.775, 2.0315], eps: 1e-7, nsSteps: 5, adjustLr: "original" })',
      differs: "PyTorch iterates in bfloat16, downhill in float32",
    },
    {
      there: "Adafactor(params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0)",
      here: "adafactor(model, { lr: 1e-2, beta2Decay: -0.8, eps: [1.1920928955078125e-7, 1e-3], d: 1, weightDecay: 0 })",
    },
    {
      there:
        "LBFGS(params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9, history_size=100, line_search_fn=None)",
      here: 'lbfgs(model, { lr: 1, maxIter: 20, toleranceGrad: 1e-7, toleranceChange: 1e-9, historySize: 100, lineSearchFn: "none" })',
    },
    {
      there: 'LBFGS(params, max_eval=100, line_search_fn="strong_wolfe")',
      here: 'lbfgs(model, { maxEval: 100, lineSearchFn: "strong_wolfe" })',
    },
  ],
};

export const optax: Library = {
  name: "Optax",
  says: "Optax 0.2.8. The options are shown with their defaults. The learning rate has no default there; 1e-3 is an example. Options that are not shown have the same name in camelCase here if they exist (`eps_root`, `nesterov`, `weight_decay`, `beta3`; `key` is `seed`). Others, such as `mu_dtype`, have no counterpart. Instead of `mask`, make two groups, one of them with `weightDecay: 0`.",
  ports: [
    { there: "sgd(1e-3)", here: "sgd(model, { lr: 1e-3 })" },
    {
      there: "sgd(1e-3, momentum=0.9, nesterov=True)",
      here: "sgd(model, { lr: 1e-3, momentum: 0.9, nesterov: true })",
    },
    {
      there: "chain(add_decayed_weights(1e-4), sgd(1e-3, momentum=0.9))",
      here: "sgd(model, { lr: 1e-3, momentum: 0.9, weightDecay: 1e-4 })",
    },
    {
      there: "adagrad(1e-3, initial_accumulator_value=0.1, eps=1e-7)",
      here: "adagrad(model, { lr: 1e-3, initialAccumulatorValue: 0.1, eps: 1e-7, epsInSqrt: true })",
    },
    {
      there: "rmsprop(1e-3, decay=0.9, eps=1e-8, centered=False, eps_in_sqrt=True)",
      here: "rmsprop(model, { lr: 1e-3, alpha: 0.9, eps: 1e-8, centered: false, epsInSqrt: true })",
    },
    {
      there: "rmsprop(1e-3, momentum=0.9)",
      here: "rmsprop(model, { lr: 1e-3, alpha: 0.9, momentum: 0.9, epsInSqrt: true })",
      differs: RATE,
    },
    {
      there: "adam(1e-3, b1=0.9, b2=0.999, eps=1e-8, eps_root=0.0)",
      here: "adam(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, epsRoot: 0 })",
    },
    {
      there: "nadam(1e-3, b1=0.9, b2=0.999, eps=1e-8), adam(1e-3, nesterov=True)",
      here: "adam(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, nesterov: true })",
    },
    {
      there: "amsgrad(1e-3, b1=0.9, b2=0.999, eps=1e-8)",
      here: "adam(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, amsgrad: true, amsgradCorrected: true })",
    },
    {
      there: "adamw(1e-3, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4)",
      here: "adamw(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 1e-4 })",
    },
    {
      there: "nadamw(1e-3, b1=0.9, b2=0.999, eps=1e-8, weight_decay=1e-4)",
      here: "adamw(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 1e-4, nesterov: true })",
    },
    { there: "sign_sgd(1e-3)", here: "signSgd(model, { lr: 1e-3 })" },
    { there: "signum(1e-3, beta=0.9)", here: "signum(model, { lr: 1e-3, beta: 0.9 })" },
    {
      there: "lion(1e-3, b1=0.9, b2=0.99, weight_decay=1e-3)",
      here: "lion(model, { lr: 1e-3, betas: [0.9, 0.99], weightDecay: 1e-3 })",
    },
    {
      there: "rprop(1e-3, eta_minus=0.5, eta_plus=1.2, min_step_size=1e-6, max_step_size=50.0)",
      here: "rprop(model, { lr: 1e-3, etas: [0.5, 1.2], stepSizes: [1e-6, 50] })",
      differs: "there, each update is applied one step later, and the update before a change of sign is dropped",
    },
    {
      there: "adadelta(1e-3, rho=0.9, eps=1e-6, weight_decay=0.0)",
      here: "adadelta(model, { lr: 1e-3, rho: 0.9, eps: 1e-6, weightDecay: 0 })",
    },
    {
      there: "adamax(1e-3, b1=0.9, b2=0.999, eps=1e-8)",
      here: "adamax(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8 })",
    },
    {
      there: "radam(1e-3, b1=0.9, b2=0.999, eps=1e-8)",
      here: "radam(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8 })",
      differs: "there, eps is added after bias correction, and a variance estimate of exactly 5 is rectified",
    },
    {
      there: "adabelief(1e-3, b1=0.9, b2=0.999, eps=1e-16, eps_root=1e-16)",
      here: "adabelief(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-16, epsRoot: 1e-16 })",
    },
    {
      there: "yogi(1e-3, b1=0.9, b2=0.999, eps=1e-3)",
      here: "yogi(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-3 })",
    },
    {
      there: "contrib.adopt(1e-3, b1=0.9, b2=0.9999, eps=1e-6)",
      here: "adopt(model, { lr: 1e-3, betas: [0.9, 0.9999], eps: 1e-6 })",
    },
    {
      there: "contrib.ademamix(1e-3, b1=0.9, b2=0.999, b3=0.9999, alpha=5.0, eps=1e-8, weight_decay=0.0)",
      here: "ademamix(model, { lr: 1e-3, betas: [0.9, 0.999, 0.9999], alpha: 5, eps: 1e-8, weightDecay: 0 })",
    },
    {
      there: "contrib.simplified_ademamix(1e-3, b1=0.99, b2=0.95, alpha=0.0, eps=1e-8, eps_root=0.0, weight_decay=0.0)",
      here: "simplifiedAdemamix(model, { lr: 1e-3, betas: [0.99, 0.95], alpha: 0, eps: 1e-8, epsRoot: 0, weightDecay: 0 })",
    },
    {
      there: "adan(1e-3, b1=0.98, b2=0.92, b3=0.99, eps=1e-8, weight_decay=0.0)",
      here: "adan(model, { lr: 1e-3, betas: [0.98, 0.92, 0.99], eps: 1e-8, weightDecay: 0, noProx: true })",
      differs:
        "the weight of the gradient's change is 1 - b2 there; here it is b2, as in the authors' code. There, `eps_root=1e-8` is added inside the root",
    },
    {
      there: "contrib.madgrad(1e-3, momentum=0.9, weight_decay=0.0, eps=1e-6)",
      here: "madgrad(model, { lr: 1e-3, momentum: 0.9, weightDecay: 0, eps: 1e-6 })",
    },
    {
      there: "contrib.schedule_free_sgd(1.0, b1=0.9, weight_lr_power=2.0)",
      here: "scheduleFreeSgd(model, { lr: 1, betas: [0.9], weightLrPower: 2 })",
      differs:
        "`warmup_steps` is a schedule here: `lr: warmupConstant({ peakValue: 1, warmupSteps })`. While the rate rises, the weight of a step comes from the next step's rate there, and from its own rate here",
    },
    {
      there: "contrib.schedule_free_adamw(0.0025, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0)",
      here: "scheduleFreeAdamw(model, { lr: 0.0025, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0 })",
      differs: "as for `schedule_free_sgd`, with `peakValue: 0.0025`",
    },
    {
      there: "contrib.sophia(1e-3, b1=0.965, b2=0.99, eps=1e-8, weight_decay=1e-4, gamma=0.01, clip_threshold=1.0)",
      here: "sophia(model, { lr: 1e-3, betas: [0.965, 0.99], eps: 1e-8, weightDecay: 1e-4, gamma: 0.01, clipThreshold: 1 })",
      differs:
        "there, the optimizer estimates the Hessian every `update_interval` steps; here, you write an estimate to the gradients and call `opt.hessian()`",
    },
    {
      there: "optimistic_adam_v2(1e-3, alpha=1.0, beta=1.0, b1=0.9, b2=0.999, eps=1e-8)",
      here: "optimisticAdam(model, { lr: 1e-3, alpha: 1, beta: 1, betas: [0.9, 0.999], eps: 1e-8 })",
    },
    {
      there: "noisy_sgd(1e-3, eta=0.01, gamma=0.55)",
      here: "noisySgd(model, { lr: 1e-3, eta: 0.01, gamma: 0.55 })",
      differs: "the random numbers are others",
    },
    {
      there: "contrib.cocob(1.0, alpha=100.0, eps=1e-8, weight_decay=0.0)",
      here: "cocob(model, { lr: 1, alpha: 100, eps: 1e-8, weightDecay: 0 })",
    },
    {
      there: "lamb(1e-3, b1=0.9, b2=0.999, eps=1e-6, eps_root=0.0, weight_decay=0.0)",
      here: "lamb(model, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-6, epsRoot: 0, weightDecay: 0 })",
    },
    {
      there: "lars(1e-3, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, momentum=0.9, nesterov=False)",
      here: "lars(model, { lr: 1e-3, weightDecay: 0, trustCoefficient: 0.001, eps: 0, momentum: 0.9, nesterov: false })",
    },
    {
      there: "novograd(1e-3, b1=0.9, b2=0.25, eps=1e-6, eps_root=0.0, weight_decay=0.0)",
      here: "novograd(model, { lr: 1e-3, betas: [0.9, 0.25], eps: 1e-6, epsRoot: 0, weightDecay: 0 })",
    },
    { there: "fromage(1e-3, min_norm=1e-6)", here: "fromage(model, { lr: 1e-3, minNorm: 1e-6 })" },
    {
      there: 'contrib.dog(1.0, init_step=("heuristic", 1e-6), eps=1e-8)',
      here: 'dog(model, { lr: 1, initStepBy: "heuristic", initStep: 1e-6, eps: 1e-8 })',
    },
    {
      there: "contrib.dowg(1.0, init_estim_sq_dist=None, eps=1e-4)",
      here: "dowg(model, { lr: 1, initEstimSqDist: 1e-4, eps: 1e-4 })",
      differs: "`None` means `eps` there",
    },
    {
      there: "contrib.dadapt_adamw(1.0, betas=(0.9, 0.999), eps=1e-8, estim_lr0=1e-6, weight_decay=0.0)",
      here: "dadaptAdamw(model, { lr: 1, betas: [0.9, 0.999], eps: 1e-8, estimLr0: 1e-6, weightDecay: 0 })",
    },
    {
      there: "contrib.prodigy(1.0, betas=(0.9, 0.999), eps=1e-8, estim_lr0=1e-6, estim_lr_coef=1.0, weight_decay=0.0)",
      here: "prodigy(model, { lr: 1, betas: [0.9, 0.999], eps: 1e-8, estimLr0: 1e-6, estimLrCoef: 1, weightDecay: 0 })",
    },
    {
      there: "contrib.muon(1e-3, beta=0.95, eps=1e-8, ns_steps=5, nesterov=True)",
      here: "muon(model, { lr: 1e-3, momentum: 0.95, eps: 1e-8, weightDecay: 0, biasCorrection: true, epsAdded: true, inputsFirst: true })",
      differs:
        'there, AdamW updates all tensors that are not matrices; here, make another optimizer for them. `consistent_rms=0.2` is `adjustLr: "match_rms_adamw"`',
    },
    {
      there: "adafactor(1e-3, decay_rate=0.8, clipping_threshold=1.0)",
      here: "adafactor(model, { lr: 1e-3, beta2Decay: -0.8, d: 1 })",
      differs:
        "there, the rate is not limited to `1 / sqrt(t)`, eps is added to the squares, and only dimensions of at least 128 are factored",
    },
    {
      there: "lbfgs(memory_size=10)",
      here: 'lbfgs(model, { historySize: 10, lineSearchFn: "strong_wolfe" })',
      differs: "its line search is another one",
    },
    { there: "sm3(1e-3, momentum=0.9)", here: "sm3(model, { lr: 1e-3, momentum: 0.9 })" },
    {
      there: "lookahead(sgd(1e-3), sync_period=5, slow_step_size=0.5)",
      here: "lookahead(sgd(model, { lr: 1e-3 }), { syncPeriod: 5, slowStepSize: 0.5 })",
    },
    {
      there: "contrib.sam(sgd(1e-3), chain(contrib.normalize(), sgd(0.05)), sync_period=2)",
      here: "sam(sgd(model, { lr: 1e-3 }), { rho: 0.05 })",
      differs:
        "there, every other step is the perturbation (except in opaque mode); here, a step calls its closure twice",
    },
    {
      there: "chain(clip_by_global_norm(1.0), adam(1e-3))",
      here: "adam(model, { lr: 1e-3, clipNorm: 1 })",
      differs: CLIP,
    },
    {
      there: "chain(adaptive_grad_clip(0.01), adam(1e-3))",
      here: "adam(model, { lr: 1e-3, agc: 0.01 })",
      differs:
        "a row is one output: here all weights with one index in the first dimension, as PyTorch stores matrices; there one index in the last dimension, as Flax stores them. A vector is one row in both",
    },
    { there: "chain(clip(1.0), adam(1e-3))", here: "adam(model, { lr: 1e-3, clipValue: 1 })" },
    { there: "MultiSteps(adam(1e-3), every_k_schedule=4)", here: "adam(model, { lr: 1e-3, accumulate: 4 })" },
    {
      there: "apply_if_finite(adam(1e-3), max_consecutive_errors=5)",
      here: 'adam(model, { lr: 1e-3, nonFinite: "skip", maxConsecutiveErrors: 5 })',
      differs: "there, the step after five errors is made anyway; here it is an error",
    },
    {
      there: "chain(adam(1e-3), keep_params_nonnegative())",
      here: "adam(model, { lr: 1e-3, nonNegative: true })",
    },
  ],
};

export const tfjs: Library = {
  name: "TensorFlow.js",
  says: "TensorFlow.js 4.22. The arguments are shown with their defaults. The learning rates of `sgd`, `momentum`, `rmsprop` and `adagrad`, and the momentum of `momentum`, have no defaults; the values shown are examples. With 32-bit floats, `eps` is 1e-7 in TensorFlow.js. A test runs both sides and compares the results. In a program of TensorFlow.js, [`downhill/tfjs`](tfjs.md) has the same factories without the first argument, and reads its state.",
  ports: [
    { there: "tf.train.sgd(0.01)", here: "sgd(model, { lr: 0.01 })" },
    { there: "tf.train.momentum(0.01, 0.9)", here: "sgd(model, { lr: 0.01, momentum: 0.9 })" },
    {
      there: "tf.train.momentum(0.01, 0.9, true)",
      here: "sgd(model, { lr: 0.01, momentum: 0.9, nesterov: true })",
    },
    {
      there: "tf.train.adagrad(0.01, 0.1)",
      here: "adagrad(model, { lr: 0.01, initialAccumulatorValue: 0.1, eps: 1e-7, epsInSqrt: true })",
    },
    {
      there: "tf.train.rmsprop(0.01, 0.9, 0, 1e-7, false)",
      here: "rmsprop(model, { lr: 0.01, alpha: 0.9, momentum: 0, eps: 1e-7, epsInSqrt: true, centered: false })",
      differs: "with `centered`, eps is subtracted there",
    },
    {
      there: "tf.train.rmsprop(0.01, 0.9, 0.9)",
      here: "rmsprop(model, { lr: 0.01, alpha: 0.9, momentum: 0.9, eps: 1e-7, epsInSqrt: true })",
      differs: RATE,
    },
    {
      there: "tf.train.adam(0.001, 0.9, 0.999, 1e-7)",
      here: "adam(model, { lr: 0.001, betas: [0.9, 0.999], eps: 1e-7 })",
    },
    {
      there: "tf.train.adamax(0.002, 0.9, 0.999, 1e-7)",
      here: "adamax(model, { lr: 0.002, betas: [0.9, 0.999], eps: 1e-7, epsOutside: true })",
    },
    {
      there: "tf.train.adamax(0.002, 0.9, 0.999, 1e-7, 0.1)",
      here: "adamax(model, { lr: (step) => 0.002 / (1 + 0.1 * step), eps: 1e-7, epsOutside: true })",
    },
    {
      there: "tf.train.adadelta(0.001, 0.95, 1e-7)",
      here: "adadelta(model, { lr: 0.001, rho: 0.95, eps: 1e-7 })",
      differs:
        "there, the gradient is divided by the mean square of the earlier steps, so the first updates are larger",
    },
  ],
};

export const keras: Library = {
  name: "Keras",
  says: "Keras 3.15. The options are shown with their defaults. All optimizers of Keras have a decoupled `weight_decay`. Here `adamw`, `lion`, `adafactor`, `muon` and `scheduleFreeAdamw` have it as `weightDecay`, and `nadam` with `decoupledWeightDecay: true`. Keras's other optimizers have no decoupled decay here.",
  ports: [
    { there: "SGD(learning_rate=0.01)", here: "sgd(model, { lr: 0.01 })" },
    { there: "SGD(learning_rate=0.01, momentum=0.9)", here: "momentum(model, { lr: 0.01, momentum: 0.9 })" },
    {
      there: "SGD(learning_rate=0.01, momentum=0.9, nesterov=True)",
      here: "sgd(model, { lr: 0.01, momentum: 0.9, nesterov: true })",
      differs: RATE,
    },
    {
      there: "Adagrad(learning_rate=0.001, initial_accumulator_value=0.1, epsilon=1e-7)",
      here: "adagrad(model, { lr: 0.001, initialAccumulatorValue: 0.1, eps: 1e-7, epsInSqrt: true })",
    },
    {
      there: "RMSprop(learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, centered=False)",
      here: "rmsprop(model, { lr: 0.001, alpha: 0.9, momentum: 0, eps: 1e-7, epsInSqrt: true, centered: false })",
      differs: RATE,
    },
    {
      there: "Adam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, amsgrad=False)",
      here: "adam(model, { lr: 0.001, betas: [0.9, 0.999], eps: 1e-7, epsHat: true, amsgrad: false })",
    },
    {
      there: "AdamW(learning_rate=0.001, weight_decay=0.004, beta_1=0.9, beta_2=0.999, epsilon=1e-7)",
      here: "adamw(model, { lr: 0.001, weightDecay: 0.004, betas: [0.9, 0.999], eps: 1e-7, epsHat: true })",
    },
    {
      there: "Adamax(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7)",
      here: "adamax(model, { lr: 0.001, betas: [0.9, 0.999], eps: 1e-7, epsOutside: true })",
    },
    {
      there: "Nadam(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7)",
      here: "nadam(model, { lr: 0.001, betas: [0.9, 0.999], eps: 1e-7, momentumDecay: 1 })",
    },
    {
      there: "Adadelta(learning_rate=0.001, rho=0.95, epsilon=1e-7)",
      here: "adadelta(model, { lr: 0.001, rho: 0.95, eps: 1e-7 })",
    },
    {
      there: "Lion(learning_rate=0.001, beta_1=0.9, beta_2=0.99)",
      here: "lion(model, { lr: 0.001, betas: [0.9, 0.99], weightDecay: 0 })",
    },
    {
      there: "Lamb(learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7)",
      here: "lamb(model, { lr: 0.001, betas: [0.9, 0.999], eps: 1e-7 })",
    },
    {
      there: "Ftrl(learning_rate=0.001, learning_rate_power=-0.5, initial_accumulator_value=0.1, beta=0.0)",
      here: "ftrl(model, { lr: 0.001, lrPower: -0.5, initialAccumulatorValue: 0.1, beta: 0 })",
    },
    {
      there:
        "Adafactor(learning_rate=0.001, beta_2_decay=-0.8, epsilon_1=1e-30, epsilon_2=1e-3, clip_threshold=1.0, relative_step=True)",
      here: "adafactor(model, { lr: 0.001, beta2Decay: -0.8, eps: [1e-30, 1e-3], d: 1 })",
      differs: "there, the first eps is added to the squares; here, the rate is always relative",
    },
    {
      there: "Muon(learning_rate=0.001, weight_decay=0.004, momentum=0.95, ns_steps=5, nesterov=True, rms_rate=0.2)",
      here: 'muon(model, { lr: 0.001, weightDecay: 0.004, momentum: 0.95, nsSteps: 5, nesterov: true, eps: 1e-7, epsAdded: true, adjustLr: "match_rms_adamw" })',
      differs: "there, AdamW updates embeddings and all tensors that are not matrices",
    },
    {
      there: "ScheduleFreeAdamW(learning_rate=0.0025, beta_1=0.9, beta_2=0.999, epsilon=1e-8)",
      here: "scheduleFreeAdamw(model, { lr: 0.0025, betas: [0.9, 0.999], eps: 1e-8, weightLrPower: 0 })",
    },
    { there: "Adam(clipnorm=1.0)", here: "adam(model, { clipTensorNorm: 1, eps: 1e-7, epsHat: true })" },
    {
      there: "Adam(global_clipnorm=1.0)",
      here: "adam(model, { clipNorm: 1, eps: 1e-7, epsHat: true })",
      differs: CLIP,
    },
    { there: "Adam(clipvalue=1.0)", here: "adam(model, { clipValue: 1, eps: 1e-7, epsHat: true })" },
    {
      there: "Adam(use_ema=True, ema_momentum=0.99)",
      here: "adam(model, { ema: 0.99, eps: 1e-7, epsHat: true })",
    },
    { there: "Adam(gradient_accumulation_steps=4)", here: "adam(model, { accumulate: 4, eps: 1e-7, epsHat: true })" },
  ],
};

/** Formulas of textbooks and papers, in the usual notation. */
export const textbooks: Library = {
  name: "textbooks",
  says: "θ are the parameters, g = ∇J(θ) is the gradient, α the rate, ε a small constant, t the step counted from 1.",
  ports: [
    { there: "θ = θ − αg, over all samples or over a mini-batch", here: "sgd(model, { lr: α })" },
    { there: "v = βv − αg; θ = θ + v", here: "momentum(model, { lr: α, momentum: β })" },
    { there: "b = βb + g; θ = θ − αb", here: "sgd(model, { lr: α, momentum: β })" },
    { there: "b = βb + g; θ = θ − α(g + βb)", here: "sgd(model, { lr: α, momentum: β, nesterov: true })" },
    { there: "s = s + g²; θ = θ − αg / (√s + ε)", here: "adagrad(model, { lr: α, eps: ε })" },
    { there: "s = βs + (1 − β)g²; θ = θ − αg / (√s + ε)", here: "rmsprop(model, { lr: α, alpha: β, eps: ε })" },
    {
      there: "m = β1·m + (1 − β1)g; s = β2·s + (1 − β2)g²; θ = θ − αm / (√s + ε)",
      here: "adam(model, { lr: α, betas: [β1, β2], eps: ε, biasCorrection: false })",
    },
    {
      there: "the same with m / (1 − β1ᵗ) for m and s / (1 − β2ᵗ) for s",
      here: "adam(model, { lr: α, betas: [β1, β2], eps: ε })",
      differs: "this is Adam as published",
    },
    {
      there: "θ = (1 − αλ)θ, then Adam",
      here: "adamw(model, { lr: α, betas: [β1, β2], eps: ε, weightDecay: λ })",
    },
  ],
};

export const libraries = [pytorch, optax, tfjs, keras, textbooks];

/** PyTorch code around the optimizer. Here, `opt` is an optimizer over `model`, and `head` is a list of other tensors. */
export const around: readonly Port[] = [
  {
    there: '[{"params": decay}, {"params": rest, "weight_decay": 0}]',
    here: "adamw([{ params: [model.w] }, { params: [model.b], weightDecay: 0 }])",
  },
  {
    there: 'optimizer.add_param_group({"params": head, "lr": 1e-4})',
    here: "opt.addGroup({ params: head, lr: 1e-4 })",
  },
  { there: 'optimizer.param_groups[0]["lr"] = 3e-4', here: "opt.groups[0].hyper.lr = 3e-4" },
  { there: 'optimizer.state[p]["exp_avg"]', here: "opt.state(model.w).expAvg" },
  { there: "optimizer.zero_grad()", here: "model.w.grad.fill(0)", differs: "or the option `zeroGrad: true`" },
  {
    there: "StepLR(optimizer, step_size=30), scheduler.step()",
    here: "adamw(model, { lr: stepLR({ lr: 0.1, stepSize: 30 }) })",
    differs: "schedules count steps, not epochs",
  },
  { there: "scheduler.get_last_lr()", here: "opt.groups[0].hyperAt(opt.steps).lr" },
  {
    there: "LambdaLR(optimizer, lambda step: 0.95 ** step)",
    here: "adamw(model, { lr: (step) => 1e-3 * 0.95 ** step })",
  },
  {
    there: "MultiplicativeLR(optimizer, lambda step: 0.95)",
    here: "adamw(model, { lr: multiplicativeLR({ lr: 1e-3, lrLambda: () => 0.95 }) })",
  },
  {
    there: "SWALR(optimizer, swa_lr=0.05), after 1000 steps",
    here: "adamw(model, { lr: sequentialLR({ schedules: [constant({ value: 0.1 }), swaLR({ lr: 0.1, swaLr: 0.05 })], milestones: [1000] }) })",
    differs: "the rate where it begins, `lr`, is an option here",
  },
  {
    there: "ReduceLROnPlateau(optimizer), scheduler.step(loss)",
    here: "adamw(model, { lr: reduceLROnPlateau({ lr: 1e-3 }) })",
    differs:
      "call `schedule.observe(loss)`; PyTorch's schedule takes a negative loss that stays the same for an improvement, this one does not",
  },
  { there: "clip_grad_norm_(params, 1.0)", here: "adamw(model, { clipNorm: 1 })" },
  { there: "clip_grad_value_(params, 1.0)", here: "adamw(model, { clipValue: 1 })" },
  {
    there: "GradScaler()",
    here: 'adamw(model, { lossScale: "dynamic" })',
    differs: "multiply the loss by `opt.lossScale`",
  },
  {
    there: "optimizer.step() after every fourth backward()",
    here: "adamw(model, { accumulate: 4 })",
    differs: "call `opt.step()` after each, and `opt.flush()` for the last ones of an epoch",
  },
  {
    there: "model.w.requires_grad = False, or model.w.grad = None",
    here: "(model.w.requiresGrad = false)",
    differs: "`true` again once it has a gradient; the steps without one do not count for it",
  },
  {
    there: "p.clamp_(-1, 1) for all p in params, after optimizer.step()",
    here: "adamw(model, { box: [-1, 1] })",
    differs: "in the same pass; averages include the clamped parameters",
  },
  { there: "AveragedModel(model), update_parameters every 100 steps", here: "adamw(model, { swa: 100 })" },
  {
    there: "DataLoader(…, batch_size=128, shuffle=True)",
    here: "batches(60_000, 128, { seed: 1, epochs: 5 })",
    differs: "one loop over all epochs",
  },
  {
    there: 'model.load_state_dict(torch.load("model.pt"))',
    here: 'loadModel(readFileSync("model.pt"), model)',
    differs: "from `downhill/torch`; also reads safetensors files",
  },
  {
    there: 'optimizer.load_state_dict(torch.load("optimizer.pt"))',
    here: 'loadOptimizer(readFileSync("optimizer.pt"), opt)',
    differs:
      "state, step and hyper-parameters, of all of `torch.optim` that downhill has; nothing in the file is executed",
  },
  {
    there: 'torch.save(optimizer.state_dict(), "optimizer.pt")',
    here: "saveOptimizer(opt)",
    differs: "returns the bytes of a file for `torch.load(weights_only=True)`",
  },
];

/** The rule that a call here makes. */
export const ruleIn = ({ here }: Port): string => here.slice(0, here.indexOf("("));

export function portingPage(): string {
  const sections = libraries.map(
    ({ name, says, ports }) => `## From ${name}

${says}

${table(
  [name, "downhill", "what differs"],
  ports.map((port) => [code(port.there), `[${code(port.here)}](optimizers/${ruleIn(port)}.md)`, port.differs ?? ""]),
)}`,
  );
  return `${made("scripts/porting.ts")}# Porting

Each call on the left has a call on the right that computes the same numbers, except for rounding. \`model\` is a record or a list of tensors.
The last column names the differences that remain.

${sections.join("\n")}
## Around the optimizer, from PyTorch

\`opt\` is an optimizer over \`model\`, and \`head\` a list of other tensors. \`saveModel\` and \`saveOptimizer\` give bytes in PyTorch's file
format; files that \`torch.save\` wrote are loaded in the same way.

${table(
  ["PyTorch", "downhill", "notes"],
  around.map(({ there, here, differs }) => [code(there), code(here), differs ?? ""]),
)}
## What differs from PyTorch

Names are PyTorch's in camelCase, and defaults are the same. With the same gradients, parameters after 30 steps are within 1e-5 relative plus
1e-6 absolute of PyTorch's (\`test/golden\` in the repository). The tables above have differences of single calls. Other differences:

- \`momentum\`, \`alpha\` and \`betas\` must be in [0, 1), and \`dampening\` in [0, 1].
- The variance of a centered RMSprop is never below zero. In PyTorch rounding can make it negative, and then parameters become NaN.
- In a step whose momentum is 0, PyTorch does not change the buffer of \`SGD\` and \`RMSprop\`. Here it is overwritten.
- \`Rprop\` ignores a gradient that is NaN in PyTorch. Here the parameter becomes NaN.
- \`LBFGS\` continues with NaN in PyTorch. Here a line search turns back from NaN.
- Some [schedules](schedules.md#pytorchs) combine in another way: \`chained\`, and \`multiplicativeLR\` and \`oneCycleLR\` in \`sequentialLR\`.
- [Numbers too small to matter count as zero](decisions/02-subnormal-numbers.md).
`;
}
