import { kernels } from "../kernels/adafactor.js";
import { elementsIn } from "../arena/tensor.js";
import * as factored from "../kernels/factored.js";
import { planProgram } from "../matrix/program.js";
import { pow } from "../math.js";
import { nonNegative, within } from "../option.js";
import { rule } from "../rule.js";

const isMatrix = (shape: readonly number[]) => shape.length > 1;

/**
 * RMSprop with little memory: of a matrix's mean squares it stores only the averages of the rows, `R`, and of the
 * columns, `C`. A tensor with more dimensions is a stack of matrices; a vector has a mean square for each element. `R =
 * R + t ** beta2Decay * (mean(g ** 2) - R); u = g / sqrt(R * C / mean(R)); p = p * (1 - lr * weightDecay) - max(eps[1],
 * rms(p)) * min(lr, 1 / sqrt(t)) / max(1, rms(u) / d) * u`. `C` changes like `R`. The mean of `R` is at least `eps[0]`,
 * and the number under the root at least its square.
 *
 * Shazeer & Stern, 2018, https://arxiv.org/abs/1804.04235; as in PyTorch
 *
 * Use it for large matrices when memory is short: its state is one row and one column. With enough memory, `adamw`
 * learns faster. Gradients above 1e18 have infinite squares, and turn parameters into NaN: limit them with
 * `clipValue`.
 *
 * Elsewhere: PyTorch's `Adafactor`. Optax's `adafactor` does not limit the rate to `1 / sqrt(t)`, adds eps to the
 * squared gradient, factors the two largest dimensions if they are at least 128, does not multiply the decay by the
 * rate, and can have momentum. Keras's `Adafactor` follows the paper: rate 1e-3, and eps 1e-30 in the squares.
 * TensorFlow.js has none.
 */
export const adafactor = rule("adafactor", {
  kernels: { ...kernels, ...factored },
  hyper: {
    /** Learning rate, relative to the parameters' root mean square. */
    lr: nonNegative(1e-2),
    /** The weight of a new square in the averages is the step to this power. */
    beta2Decay: within("(-∞, 0]", -0.8),
    /** Lower bounds. `eps[0]`: of the mean of the rows' averages, and of the root of the second moment. `eps[1]`: of the parameters' root mean square. */
    eps: nonNegative([1.1920928955078125e-7, 1e-3]),
    /** The largest root mean square of the update; a larger one is scaled down to it. */
    d: within("[1, ∞)", 1),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
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
    const atLeast = (least: number, x: number) => (x > least ? x : least); // unlike Math.max if x is NaN, as in PyTorch
    const rms = (squares: number) => Math.sqrt(squares / size);
    const relative = atLeast(eps[1], rms(params)) * Math.min(lr, 1 / Math.sqrt(step));
    return { ...before, stepSize: relative / atLeast(1, rms(updates) / d) };
  },
  planProgram,
  program(matrices) {
    const { shape } = matrices;
    const columns = shape.at(-1) ?? 1;
    const weight = ({ step, beta2Decay }: { step: number; beta2Decay: number }) => pow(step, beta2Decay);
    if (!isMatrix(shape)) {
      const grid = [1, 1, columns] as const;
      return [matrices.reduce("average_columns", "variance", grid, { weight }), "measure", "update"];
    }
    const grid = [elementsIn(shape.slice(0, -2)), shape.at(-2)!, columns] as const;
    return [
      matrices.reduce("average_rows", "rowVar", grid, { weight }),
      matrices.reduce("average_columns", "colVar", grid, { weight }),
      ...matrices.divideRows("rowScale", "rowVar", grid, ({ eps }) => eps[0]),
      "measure",
      "update",
    ];
  },
});
