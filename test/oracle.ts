/**
 * Oracles: the formula of every rule for one element, in double precision, written from the papers and PyTorch's
 * documentation.
 */

/** The options of a rule, without `maximize`. */
export type Options = any;
export type State = Record<string, number>;

/** Returns the new parameter and updates the state. `t` is the step, from 1. */
export type Update = (options: Options, t: number, p: number, g: number, state: State) => number;

export const oracle = {
  sgd({ lr, momentum, dampening, weightDecay, nesterov }, t, p, g, state) {
    g = withPenalty(g, weightDecay, p);
    if (momentum === 0) return p - lr * g;
    state.momentumBuffer = t === 1 ? g : momentum * state.momentumBuffer! + (1 - dampening) * g;
    return p - lr * (nesterov ? g + momentum * state.momentumBuffer : state.momentumBuffer);
  },

  momentum({ lr, momentum }, _t, p, g, state) {
    state.momentumBuffer = momentum * state.momentumBuffer! - lr * g;
    return p + state.momentumBuffer;
  },

  adagrad({ lr, lrDecay, eps, weightDecay, epsInSqrt }, t, p, g, state) {
    g = withPenalty(g, weightDecay, p);
    state.sum! += g ** 2;
    return p - ((lr / (1 + (t - 1) * lrDecay)) * g) / rootOf(state.sum!, eps, epsInSqrt);
  },

  rmsprop({ lr, alpha, eps, weightDecay, momentum, centered, epsInSqrt }, _t, p, g, state) {
    g = withPenalty(g, weightDecay, p);
    state.squareAvg = alpha * state.squareAvg! + (1 - alpha) * g ** 2;
    let variance = state.squareAvg;
    if (centered) {
      state.gradAvg = alpha * state.gradAvg! + (1 - alpha) * g;
      variance -= state.gradAvg ** 2;
    }
    const normalized = g / rootOf(variance, eps, epsInSqrt);
    if (momentum === 0) return p - lr * normalized;
    state.momentumBuffer = momentum * state.momentumBuffer! + normalized;
    return p - lr * state.momentumBuffer;
  },

  adam(options, t, p, g, state) {
    return p - adamStep(options, t, withPenalty(g, options.weightDecay, p), state);
  },

  adamw(options, t, p, g, state) {
    return p * (1 - options.lr * options.weightDecay) - adamStep(options, t, g, state);
  },

  signSgd({ lr }, _t, p, g) {
    return p - lr * Math.sign(g);
  },

  signum({ lr, beta }, _t, p, g, state) {
    state.expAvg = beta * state.expAvg! + (1 - beta) * g;
    return p - lr * Math.sign(state.expAvg);
  },

  lion({ lr, betas: [b1, b2], weightDecay }, _t, p, g, state) {
    const update = Math.sign(b1 * state.expAvg! + (1 - b1) * g);
    state.expAvg = b2 * state.expAvg! + (1 - b2) * g;
    return p * (1 - lr * weightDecay) - lr * update;
  },

  rprop({ etas: [etaminus, etaplus], stepSizes: [least, most] }, _t, p, g, state) {
    const kept = Math.sign(g) * Math.sign(state.prev!);
    const factor = kept > 0 ? etaplus : kept < 0 ? etaminus : 1;
    state.stepSize = Math.min(Math.max(state.stepSize! * factor, least), most);
    state.prev = kept < 0 ? 0 : g;
    return p - Math.sign(state.prev) * state.stepSize;
  },

  adadelta({ lr, rho, eps, weightDecay }, _t, p, g, state) {
    g = withPenalty(g, weightDecay, p);
    state.squareAvg = rho * state.squareAvg! + (1 - rho) * g ** 2;
    const delta = (Math.sqrt(state.accDelta! + eps) / Math.sqrt(state.squareAvg + eps)) * g;
    state.accDelta = rho * state.accDelta! + (1 - rho) * delta ** 2;
    return p - lr * delta;
  },

  adamax({ lr, betas: [b1, b2], eps, weightDecay, epsOutside }, t, p, g, state) {
    g = withPenalty(g, weightDecay, p);
    state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
    state.expInf = Math.max(b2 * state.expInf!, Math.abs(g) + (epsOutside ? 0 : eps));
    return p - ((lr / (1 - b1 ** t)) * state.expAvg) / (state.expInf + (epsOutside ? eps : 0));
  },

  radam({ lr, betas: [b1, b2], eps, weightDecay, decoupledWeightDecay }, t, p, g, state) {
    g = withPenalty(g, decoupledWeightDecay ? 0 : weightDecay, p);
    p *= decoupledWeightDecay ? 1 - lr * weightDecay : 1;
    state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
    state.expAvgSq = b2 * state.expAvgSq! + (1 - b2) * g ** 2;
    const mean = state.expAvg / (1 - b1 ** t);
    const longest = 2 / (1 - b2) - 1;
    const length = longest - (2 * t * b2 ** t) / (1 - b2 ** t);
    if (length <= 5) return p - lr * mean;
    const rectified = Math.sqrt(((length - 4) * (length - 2) * longest) / ((longest - 4) * (longest - 2) * length));
    return p - (lr * mean * rectified * Math.sqrt(1 - b2 ** t)) / (Math.sqrt(state.expAvgSq) + eps);
  },

  adabelief({ lr, betas: [b1, b2], eps, epsRoot }, t, p, g, state) {
    state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
    const surprise = g - state.expAvg;
    const expAvgVar = b2 * state.expAvgVar! + (1 - b2) * surprise ** 2 + epsRoot;
    state.expAvgVar = expAvgVar;
    return p - (lr * (state.expAvg / (1 - b1 ** t))) / (Math.sqrt(expAvgVar / (1 - b2 ** t)) + eps);
  },

  yogi({ lr, betas: [b1, b2], eps }, t, p, g, state) {
    state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
    state.expAvgSq = state.expAvgSq! - (1 - b2) * Math.sign(state.expAvgSq! - g ** 2) * g ** 2;
    return p - (lr * (state.expAvg / (1 - b1 ** t))) / (Math.sqrt(state.expAvgSq / (1 - b2 ** t)) + eps);
  },

  adopt({ lr, betas: [b1, b2], eps }, t, p, g, state) {
    const most = (t - 1) ** 0.25;
    const ratio = g / Math.max(Math.sqrt(state.expAvgSq!), eps);
    state.expAvg = b1 * state.expAvg! + (1 - b1) * Math.min(Math.max(ratio, -most), most);
    state.expAvgSq = t === 1 ? g ** 2 : b2 * state.expAvgSq! + (1 - b2) * g ** 2;
    return p - lr * state.expAvg;
  },

  ademamix({ lr, betas: [b1, b2, b3], alpha, eps, weightDecay }, t, p, g, state) {
    state.expAvgFast = b1 * state.expAvgFast! + (1 - b1) * g;
    state.expAvgSlow = b3 * state.expAvgSlow! + (1 - b3) * g;
    state.expAvgSq = b2 * state.expAvgSq! + (1 - b2) * g ** 2;
    const mean = state.expAvgFast / (1 - b1 ** t) + alpha * state.expAvgSlow;
    return p * (1 - lr * weightDecay) - (lr * mean) / (Math.sqrt(state.expAvgSq / (1 - b2 ** t)) + eps);
  },

  simplifiedAdemamix({ lr, betas: [b1, b2], alpha, eps, epsRoot, weightDecay }, t, p, g, state) {
    state.momentumBuffer = b1 * state.momentumBuffer! + g;
    state.expAvgSq = b2 * state.expAvgSq! + (1 - b2) * g ** 2;
    const root = Math.sqrt(state.expAvgSq / (1 - b2 ** t) + epsRoot) + eps;
    return p * (1 - lr * weightDecay) - (lr * (state.momentumBuffer + alpha * g)) / root;
  },

  nadam(options, t, p, g, state) {
    const { lr, betas, eps, weightDecay, momentumDecay, decoupledWeightDecay } = options;
    const [b1, b2] = betas;
    const mu = (t: number) => b1 * (1 - 0.5 * 0.96 ** (t * momentumDecay));
    state.muProduct = (t === 1 ? 1 : state.muProduct!) * mu(t);
    g = withPenalty(g, decoupledWeightDecay ? 0 : weightDecay, p);
    p *= decoupledWeightDecay ? 1 - lr * weightDecay : 1;
    state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
    state.expAvgSq = b2 * state.expAvgSq! + (1 - b2) * g ** 2;
    const root = Math.sqrt(state.expAvgSq / (1 - b2 ** t)) + eps;
    const now = ((1 - mu(t)) / (1 - state.muProduct)) * g;
    return p - (lr * (now + (mu(t + 1) / (1 - state.muProduct * mu(t + 1))) * state.expAvg)) / root;
  },

  asgd({ lr, lambd, alpha, t0, weightDecay }, t, p, g, state) {
    g = withPenalty(g, weightDecay, p);
    const eta = lr / (1 + lambd * lr * (t - 1)) ** alpha;
    p = p * (1 - lambd * eta) - eta * g;
    const mu = 1 / Math.max(1, t - 1 - t0);
    state.ax = state.ax! + (mu === 1 ? p - state.ax! : mu * (p - state.ax!));
    return p;
  },

  adan({ lr, betas: [b1, b2, b3], eps, weightDecay, noProx }, t, p, g, state) {
    const change = t === 1 ? 0 : g - state.prevGrad!;
    state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
    state.expAvgDiff = b2 * state.expAvgDiff! + (1 - b2) * change;
    state.expAvgSq = b3 * state.expAvgSq! + (1 - b3) * (g + b2 * change) ** 2;
    state.prevGrad = g;
    const mean = state.expAvg / (1 - b1 ** t) + (b2 * state.expAvgDiff) / (1 - b2 ** t);
    const update = (lr * mean) / (Math.sqrt(state.expAvgSq / (1 - b3 ** t)) + eps);
    return noProx ? p * (1 - lr * weightDecay) - update : (p - update) / (1 + lr * weightDecay);
  },

  madgrad({ lr, momentum, weightDecay, eps }, t, p, g, state) {
    const weight = lr === 0 ? 0 : (lr + eps) * Math.sqrt(t);
    g = withPenalty(g, weightDecay, p);
    state.gradSumSq! += weight * g ** 2;
    state.s! += weight * g;
    const z = state.x0! - state.s! / (Math.cbrt(state.gradSumSq!) + eps);
    return p + (1 - momentum) * (z - p); // in this form, a rate of zero changes nothing
  },

  scheduleFreeSgd(options, _t, p, g, state) {
    return scheduleFree(options, p, withPenalty(g, options.weightDecay, p), state);
  },

  scheduleFreeAdamw(options, t, p, g, state) {
    const { betas, eps, weightDecay } = options;
    state.expAvgSq = betas[1] * state.expAvgSq! + (1 - betas[1]) * g ** 2;
    const direction = g / (Math.sqrt(state.expAvgSq / (1 - betas[1] ** t)) + eps);
    return scheduleFree(options, p, withPenalty(direction, weightDecay, p), state);
  },

  sophia({ lr, betas, eps, weightDecay, gamma, clipThreshold }, t, p, g, state) {
    state.expAvg = betas[0] * state.expAvg! + (1 - betas[0]) * g;
    const ratio = state.expAvg / (1 - betas[0] ** t) / Math.max(gamma * state.hessian!, eps);
    return p * (1 - lr * weightDecay) - lr * Math.min(Math.max(ratio, -clipThreshold), clipThreshold);
  },

  ftrl(options, _t, p, g, state) {
    const { lr, lrPower, beta } = options;
    const [l1, l2] = [options.l1RegularizationStrength, options.l2RegularizationStrength];
    const before = state.accumulator! ** -lrPower / lr;
    state.accumulator! += g ** 2;
    const now = state.accumulator! ** -lrPower / lr;
    state.linear! += g + 2 * options.l2ShrinkageRegularizationStrength * p - (now - before) * p;
    return (Math.min(Math.max(state.linear!, -l1), l1) - state.linear!) / (now + 2 * (l2 + beta / (2 * lr)));
  },

  optimisticAdam({ lr, alpha, beta, nesterov, ...adam }, t, p, g, state) {
    const update = adamStep({ ...adam, nesterov, lr: 1, biasCorrection: true }, t, g, state);
    const change = t === 1 ? 0 : update - state.prevUpdate!;
    state.prevUpdate = update;
    return p - lr * (alpha * update + beta * change);
  },

  cocob({ lr, alpha, weightDecay }, _t, p, g, state) {
    g = lr * withPenalty(g, weightDecay, p);
    state.scale = Math.max(state.scale!, Math.abs(g));
    state.subgradients! += Math.abs(g);
    state.reward = Math.max(state.reward! - g * (p - state.initParams!), 0);
    state.cumulativeGrads! -= g;
    const share =
      state.cumulativeGrads! / (state.scale * Math.max(state.subgradients! + state.scale, alpha * state.scale));
    return state.initParams! + share * (state.scale + state.reward);
  },
} satisfies Record<string, Update>;

/** Coupled weight decay. As in PyTorch, a weight decay of zero adds nothing, also if the parameter is infinite or NaN. */
export function withPenalty(g: number, weightDecay: number, p: number) {
  return weightDecay === 0 ? g : g + weightDecay * p;
}

/** Schedule-free rules: `z` is the base iterate, `x` its weighted mean, and the parameter `y` is between both. */
function scheduleFree({ lr, betas: [b1], weightLrPower }: Options, y: number, direction: number, state: State) {
  const x = (y - (1 - b1) * state.z!) / b1;
  state.maxLr = Math.max(state.maxLr ?? 0, lr);
  const weight = state.maxLr ** weightLrPower;
  state.weightSum = (state.weightSum ?? 0) + weight;
  const share = state.weightSum > 0 ? weight / state.weightSum : 0;
  state.z! -= lr * direction;
  return (1 - b1) * state.z! + b1 * ((1 - share) * x + share * state.z!);
}

const rootOf = (x: number, eps: number, inside: boolean) => (inside ? Math.sqrt(x + eps) : Math.sqrt(x) + eps);

function adamStep(options: Options, t: number, g: number, state: State) {
  const { lr, betas, eps, epsRoot, epsHat, nesterov, amsgrad, amsgradCorrected } = options;
  const [b1, b2] = betas;
  const bias = (beta: number, t: number) => (options.biasCorrection ? 1 - beta ** t : 1);
  state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
  state.expAvgSq = b2 * state.expAvgSq! + (1 - b2) * g ** 2;
  let mean = state.expAvg / bias(b1, t);
  if (nesterov) mean = (b1 * state.expAvg) / bias(b1, t + 1) + ((1 - b1) * g) / bias(b1, t);
  let [square, late] = [state.expAvgSq, bias(b2, t)];
  if (amsgrad) {
    if (amsgradCorrected) [square, late] = [square / late, 1];
    square = state.maxExpAvgSq = Math.max(state.maxExpAvgSq!, square);
  }
  return (lr * mean) / (Math.sqrt(square / late + epsRoot) + eps / (epsHat ? Math.sqrt(late) : 1));
}
