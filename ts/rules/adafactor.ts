import { pow } from "../math.js";
import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";

const isMatrix = (shape: readonly number[]) => shape.length > 1;

/**
 * RMSprop that keeps of the second moment of a matrix only the averages `R` of its rows and `C` of its columns, of a tensor of more
 * dimensions those of its last two. `R = R + t ** beta2Decay * (mean(g ** 2) - R)`, so too `C`; `u = g / sqrt(R * C / mean(R))`, the mean at least
 * `eps[0]` and what is under the root its square; `p = p * (1 - lr * weightDecay) - max(eps[1], rms(p)) * min(lr, 1 / sqrt(t)) / max(1, rms(u) / d) * u`.
 *
 * Shazeer & Stern, 2018, https://arxiv.org/abs/1804.04235; as in PyTorch
 *
 * Use it for large matrices where memory is short: it takes no more than a row and a column. Where there is memory, AdamW learns faster.
 *
 * Elsewhere: PyTorch's `Adafactor`. Optax' `adafactor` has no bound of `1 / sqrt(t)` on the rate, adds eps to the squared gradient, factors
 * the two largest dimensions if they are at least 128, and does not multiply decay by the rate; it may have momentum. Keras' `Adafactor` follows the paper: rate 1e-3, eps 1e-30 in the
 * squares. TensorFlow.js has none.
 */
export const adafactor = rule("adafactor", {
  hyper: {
    /** Learning rate, relative to the parameters' root mean square. */
    lr: nonNegative(1e-2),
    /** The power of the step by which averages take in what comes. */
    beta2Decay: within("(-∞, 0]", -0.8),
    /** Lower bounds: of the mean of the rows' averages and of the second moment's root; and of the parameters' root mean square. */
    eps: nonNegative([1.1920928955078125e-7, 1e-3]),
    /** The root mean square above which the direction is scaled down to it. */
    d: within("[1, ∞)", 1),
    /** Decoupled weight decay: each step takes away `lr * weightDecay` of the parameter. */
    weightDecay: nonNegative(0),
  },
  state: ["rowVar", "colVar", "variance"],
  programState: ["rowVar"],
  scratch: ["rowScale"],
  shapes: {
    rowVar: (shape) => (isMatrix(shape) ? [...shape.slice(0, -1), 1] : undefined),
    colVar: (shape) => (isMatrix(shape) ? [...shape.slice(0, -2), 1, shape.at(-1)!] : undefined),
    variance: (shape) => (isMatrix(shape) ? undefined : shape),
    rowScale: (shape) => (isMatrix(shape) ? [...shape.slice(0, -1), 1] : undefined),
  },
  perTensor: true,
  sums: ["params", "updates"],
  scalars: { rows: 1, columns: 1, size: 1, stepSize: 0 },
  tensorScalars: ({ shape, size }) => ({ rows: shape.at(-2) ?? 1, columns: shape.at(-1) ?? 1, size }),
  advance: ({ before, options: { lr, beta2Decay, eps, d }, step, sums: { params, updates }, tensor: { size } }) => {
    const rms = (squares: number) => Math.sqrt(squares / size);
    const relative = Math.max(eps[1], rms(params)) * Math.min(lr, 1 / Math.sqrt(step));
    return {
      ...before,
      stepSize: relative / Math.max(1, rms(updates) / d),
    };
  },
  program(matrices) {
    const { shape } = matrices;
    const columns = shape.at(-1) ?? 1;
    const share = ({ step, beta2Decay }: { step: number; beta2Decay: number }) => pow(step, beta2Decay);
    if (!isMatrix(shape)) {
      const grid = [1, 1, columns] as const;
      return [matrices.reduce("average_columns", "variance", grid, { share }), "measure", "update"];
    }
    const grid = [shape.slice(0, -2).reduce((a, b) => a * b, 1), shape.at(-2)!, columns] as const;
    return [
      matrices.reduce("average_rows", "rowVar", grid, { share }),
      matrices.reduce("average_columns", "colVar", grid, { share }),
      matrices.reduce("divide_rows", "rowScale", grid, { share: ({ eps }) => eps[0], ofRows: "rowVar" }),
      "measure",
      "update",
    ];
  },
});
