/** Every rule again, in plain doubles, one element at a time, straight from the papers and PyTorch's documentation. */

/** A rule's options, PyTorch's `maximize` aside. */
export type Options = any;
export type State = Record<string, number>;

/** Returns the new parameter and updates the state. `t` is the step, from 1. */
export type Update = (options: Options, t: number, p: number, g: number, state: State) => number;

export const oracle: Record<string, Update> = {
  sgd({ lr, momentum, dampening, weightDecay, nesterov }, t, p, g, state) {
    g += weightDecay * p;
    if (momentum === 0) return p - lr * g;
    state.momentumBuffer = t === 1 ? g : momentum * state.momentumBuffer! + (1 - dampening) * g;
    return p - lr * (nesterov ? g + momentum * state.momentumBuffer : state.momentumBuffer);
  },

  momentum({ lr, momentum }, _t, p, g, state) {
    state.momentumBuffer = momentum * state.momentumBuffer! - lr * g;
    return p + state.momentumBuffer;
  },

  adagrad({ lr, lrDecay, eps, weightDecay }, t, p, g, state) {
    g += weightDecay * p;
    state.sum! += g ** 2;
    return p - ((lr / (1 + (t - 1) * lrDecay)) * g) / (Math.sqrt(state.sum!) + eps);
  },

  rmsprop({ lr, alpha, eps, weightDecay, momentum, centered }, _t, p, g, state) {
    g += weightDecay * p;
    state.squareAvg = alpha * state.squareAvg! + (1 - alpha) * g ** 2;
    let variance = state.squareAvg;
    if (centered) {
      state.gradAvg = alpha * state.gradAvg! + (1 - alpha) * g;
      variance -= state.gradAvg ** 2;
    }
    const normalized = g / (Math.sqrt(variance) + eps);
    if (momentum === 0) return p - lr * normalized;
    state.momentumBuffer = momentum * state.momentumBuffer! + normalized;
    return p - lr * state.momentumBuffer;
  },

  adam(options, t, p, g, state) {
    return p - adamStep(options, t, g + options.weightDecay * p, state);
  },

  adamw(options, t, p, g, state) {
    return p * (1 - options.lr * options.weightDecay) - adamStep(options, t, g, state);
  },
};

function adamStep({ lr, betas: [b1, b2], eps, biasCorrection, amsgrad }: Options, t: number, g: number, state: State) {
  state.expAvg = b1 * state.expAvg! + (1 - b1) * g;
  state.expAvgSq = b2 * state.expAvgSq! + (1 - b2) * g ** 2;
  if (amsgrad) state.maxExpAvgSq = Math.max(state.maxExpAvgSq!, state.expAvgSq);
  const mean = state.expAvg / (biasCorrection ? 1 - b1 ** t : 1);
  const square = (amsgrad ? state.maxExpAvgSq! : state.expAvgSq) / (biasCorrection ? 1 - b2 ** t : 1);
  return (lr * mean) / (Math.sqrt(square) + eps);
}
