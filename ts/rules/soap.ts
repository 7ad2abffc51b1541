import { kernels } from "../kernels/soap.js";
import * as matrix from "../kernels/matrix.js";
import * as qr from "../kernels/qr.js";
import * as sort from "../kernels/sort.js";
import { planProgram } from "../matrix/program.js";
import { type Matrices, type Matrix, MIN_NORMAL_F32, SQRT_MIN_NORMAL_F32 } from "../matrix/matrices.js";
import { ranked, reordered } from "../matrix/order.js";
import { orthonormalized } from "../matrix/qr.js";
import { CHUNK } from "../threads/task.js";
import { count, flag, nonNegative, unit } from "../option.js";
import { rule } from "../rule.js";

/** Number of power iterations for the first bases. */
const FIRST = 10;

/**
 * Adam in another basis: it rotates a matrix's gradient to the eigenvectors `QL` and `QR` of the running means of `g * g'` and
 * `g' * g`, and rotates the update back. `m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * (QL' * g *
 * QR) ** 2; p = (p - lr * c * QL * (QL' * m * QR / (sqrt(v) + eps)) * QR') * (1 - lr * weightDecay)`. `c` is Adam's
 * bias correction. Every `preconditionFrequency` steps, a power iteration and a QR decomposition update the bases. The
 * first step only makes the bases and moves no parameter.
 *
 * Vyas et al., 2024, https://arxiv.org/abs/2409.11321; as in the authors' code, except that the first bases are power
 * iterations, and that sides above 10,000 are not left out
 *
 * Use it for matrices with up to some thousand rows and columns, when `adamw` takes too many steps. It is tuned like
 * `adamw`. Gradients above 1e18 have infinite products, and turn parameters into NaN: limit them with
 * `clipValue`.
 *
 * Elsewhere: The authors have published `SOAP` for PyTorch. PyTorch itself, Optax, Keras and TensorFlow.js do not include it.
 */
export const soap = rule("soap", {
  kernels: { ...kernels, ...matrix, ...qr, ...sort },
  hyper: {
    /** Learning rate. */
    lr: nonNegative(3e-3),
    /** Exponential decay rates of the first and the second moment. The second is also that of the preconditioners. */
    betas: unit([0.95, 0.95]),
    /** Added to the root of the second moment. */
    eps: nonNegative(1e-8),
    /** Decoupled weight decay: each step multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(1e-2),
    /** Divide the moments, which start at zero, by `1 - beta ** step`. */
    biasCorrection: flag(true),
  },
  fixed: {
    /** Number of steps between two updates of the eigenbases. */
    preconditionFrequency: count(10, 1),
  },
  state: ["expAvg", "expAvgSq", "left", "right", "leftBasis", "rightBasis"],
  programState: ["expAvgSq", "left", "right", "leftBasis", "rightBasis"],
  scratch: ["direction"],
  shapes: {
    left: ([rows]) => [rows!, rows!],
    right: ([, columns]) => [columns!, columns!],
    leftBasis: ([rows]) => [rows!, rows!],
    rightBasis: ([, columns]) => [columns!, columns!],
  },
  accepts: "matrices",
  perTensor: true,
  sums: ["squares"],
  scalars: { trace: 0 },
  advance: ({
    before: { trace },
    options: {
      betas: [, beta],
    },
    sums: { squares },
  }) => ({ trace: beta * trace + (1 - beta) * squares }),
  planProgram,
  program(matrices, { preconditionFrequency }) {
    const [rows, columns] = matrices.shape as [number, number];
    const slot = (at: string | number) => ({ rows, columns, at });
    const [g, turned] = [matrices.matrix(rows, columns), matrices.matrix(columns, rows)];
    const [other, otherTurned] = [matrices.matrix(rows, columns), matrices.matrix(columns, rows)];
    const grad = matrices.row(rows * columns).at;
    const work = scratch(matrices, Math.max(rows, columns));
    const left = side(matrices, work, "left", rows, turned);
    const right = side(matrices, work, "right", columns, g);
    /** `to = transpose(QL) * from * QR`, or with `transposed` the way back. */
    const rotated = (to: string | number, from: string, transposed: boolean) => [
      matrices.copy(other, slot(from), { least: SQRT_MIN_NORMAL_F32 }),
      left.load(transposed),
      matrices.product(otherTurned, other, left.q),
      right.load(transposed),
      matrices.product(other, otherTurned, right.q),
      matrices.copy(slot(to), other),
    ];
    const squares = slot("expAvgSq");
    const reorder = (transposed: boolean) => {
      const [from, to] = transposed ? [turned, otherTurned] : [g, other];
      return [
        matrices.copy(from, squares, { transposed }),
        reordered(to, from, work),
        matrices.copy(squares, to, { transposed }),
      ];
    };
    const repeated = <Item>(items: readonly Item[]) => Array.from({ length: FIRST }, () => items).flat();
    return [
      "measure",
      matrices.copy(g, slot("direction")),
      matrices.copy(turned, slot("direction"), { transposed: true }),
      {
        when: ({ step }) => step > 1,
        then: [
          ...rotated(grad, "direction", false),
          ...rotated("direction", "expAvg", false),
          // Updates the average of squares, and replaces that of gradients by Adam's direction without bias correction.
          {
            kernel: "adapt",
            amounts: [({ betas }) => betas[1], ({ eps }) => eps],
            places: [grad, "expAvgSq", "direction"],
            counts: [rows * columns],
            pieces: Math.ceil((rows * columns) / CHUNK),
            bytes: 20 * rows * columns,
          },
          ...rotated("direction", "direction", true),
        ],
      },
      "update",
      ...left.accumulate,
      ...right.accumulate,
      {
        when: ({ step }) => step === 1,
        then: [...left.begin, ...repeated(left.improve), ...right.begin, ...repeated(right.improve)],
      },
      {
        when: ({ step }) => step > 1 && (step - 1) % preconditionFrequency === 0,
        then: [...left.improve, ...reorder(true), ...right.improve, ...reorder(false)],
      },
    ];
  },
});

/** Scratch memory that both sides share. */
function scratch(matrices: Matrices<any>, size: number) {
  const [gg, q, p] = [matrices.matrix(size, size), matrices.matrix(size, size), matrices.matrix(size, size)];
  return { gg, q, p, dots: matrices.row(size), order: matrices.row(size) };
}

/** The preconditioner and the basis of one side. */
function side<Now extends { readonly betas: readonly [number, number]; readonly trace: number }>(
  matrices: Matrices<Now>,
  work: ReturnType<typeof scratch>,
  name: "left" | "right",
  size: number,
  factor: Matrix,
) {
  const square = { rows: size, columns: size };
  const [gg, q, p] = [work.gg, work.q, work.p].map((matrix) => ({ ...matrix, ...square })) as [Matrix, Matrix, Matrix];
  const [average, basis] = [
    { ...square, at: name },
    { ...square, at: `${name}Basis` },
  ];
  return {
    q,
    load: (transposed: boolean) => matrices.copy(q, basis, { transposed }),
    accumulate: [
      matrices.copy(gg, average),
      matrices.product(gg, factor, factor, {
        alpha: ({ betas }) => 1 - betas[1],
        beta: ({ betas }) => betas[1],
        addend: gg,
        symmetric: true,
        least: MIN_NORMAL_F32,
      }),
      matrices.copy(average, gg),
    ],
    begin: [matrices.copy(basis, average, { scale: 0, shift: 1 })],
    improve: [
      // Eigenvectors do not depend on the scale.
      matrices.copy(gg, average, {
        scale: ({ trace }) => 1 / Math.max(trace, MIN_NORMAL_F32),
        least: SQRT_MIN_NORMAL_F32,
      }),
      matrices.copy(q, basis),
      matrices.product(p, gg, q),
      ...ranked(work, q, p),
      reordered(gg, p, work),
      ...orthonormalized(matrices, q, gg),
      matrices.copy(basis, q),
    ],
  };
}
