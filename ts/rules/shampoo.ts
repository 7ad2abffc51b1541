import { kernels } from "../kernels/shampoo.js";
import * as matrix from "../kernels/matrix.js";
import { planProgram } from "../matrix/program.js";
import { type Matrices, type Matrix, MIN_NORMAL_F32, SQRT_MIN_NORMAL_F32 } from "../matrix/matrices.js";
import { count, nonNegative } from "../option.js";
import { rule } from "../rule.js";

/** Added to a matrix's diagonal before its root is computed, relative to its trace: the limit of single precision. */
const RIDGE = 1e-6;

/** The largest number of iterations for a root, in groups of three. It is enough for an eigenvalue of `RIDGE`. */
const THREES = 7;

/**
 * Multiplies a matrix's gradient on both sides by a preconditioner: the inverse fourth root of `L`, the sum of `g * g'` over all steps, and that
 * of `R`, the sum of `g' * g`. `L = L + g * g'; R = R + g' * g; p = p * (1 - lr * weightDecay) - lr * (L + eps * I) ** (-1/4) * g * (R +
 * eps * I) ** (-1/4)`. The roots are computed again every `preconditionFrequency` steps.
 *
 * Gupta, Koren & Singer, 2018, https://arxiv.org/abs/1802.09568; the roots by the coupled Newton iteration of Guo &
 * Higham, 2006, with a millionth of the trace on the diagonal; the authors' later code has a millionth of the largest
 * eigenvalue
 *
 * Use it for matrices with up to some thousand rows and columns in badly conditioned problems. `muon` does nearly the
 * same for less. Gradients above 1e18 have infinite products, and turn parameters into NaN: limit them with `clipValue`.
 *
 * Elsewhere: PyTorch, Optax, Keras and TensorFlow.js have none. Research code adds momentum, blocks and the step size
 * of another rule.
 */
export const shampoo = rule("shampoo", {
  kernels: { ...kernels, ...matrix },
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-1),
    /** The first value on the diagonals of the preconditioners. */
    eps: nonNegative(1e-4),
    /** Decoupled weight decay: each step first multiplies the parameter by `1 - lr * weightDecay`. */
    weightDecay: nonNegative(0),
  },
  fixed: {
    /** Number of steps between two computations of the roots. A larger number is cheaper, but until the next computation steps along new directions are far too long. */
    preconditionFrequency: count(1, 1),
  },
  state: ["left", "right", "leftRoot", "rightRoot"],
  programState: ["left", "right", "leftRoot", "rightRoot"],
  scratch: ["direction"],
  shapes: {
    left: ([rows]) => [rows!, rows!],
    right: ([, columns]) => [columns!, columns!],
    leftRoot: ([rows]) => [rows!, rows!],
    rightRoot: ([, columns]) => [columns!, columns!],
  },
  accepts: "matrices",
  perTensor: true,
  sums: ["squares"],
  scalars: { trace: 0 },
  advance: ({ before: { trace }, sums: { squares } }) => ({ trace: trace + squares }),
  planProgram,
  program(matrices, { preconditionFrequency }) {
    const [rows, columns] = matrices.shape as [number, number];
    const direction = { rows, columns, at: "direction" };
    const [g, turned] = [matrices.matrix(rows, columns), matrices.matrix(columns, rows)];
    const larger = Math.max(rows, columns);
    const scratch = Array.from({ length: 4 }, () => matrices.matrix(larger, larger));
    const side = (name: "left" | "right", size: number, factor: Matrix) => {
      const slot = { rows: size, columns: size, at: name };
      const all = scratch.map((matrix) => ({ ...matrix, rows: size, columns: size })) as Four;
      const [sum, , root] = all;
      const load = [matrices.copy(root, { ...slot, at: `${name}Root` })];
      const accumulate = [
        matrices.copy(sum, slot),
        matrices.product(sum, factor, factor, { addend: sum, symmetric: true, least: MIN_NORMAL_F32 }),
        matrices.copy(slot, sum),
      ];
      const renewed = inverseFourthRoot(matrices, all, size);
      const keep = matrices.copy({ ...slot, at: `${name}Root` }, root);
      const isDue = ({ step }: { step: number }) => (step - 1) % preconditionFrequency === 0;
      return { root, accumulate, load, renew: { when: isDue, then: [...renewed, keep] } };
    };
    const left = side("left", rows, turned);
    const right = side("right", columns, g);
    return [
      "measure",
      matrices.copy(g, direction),
      matrices.copy(turned, direction, { transposed: true }),
      ...left.accumulate,
      left.renew,
      ...right.accumulate,
      right.renew,
      ...left.load,
      matrices.product(turned, g, left.root),
      ...right.load,
      matrices.product(g, turned, right.root),
      matrices.copy(direction, g),
      "update",
    ];
  },
});

type Four = [Matrix, Matrix, Matrix, Matrix];
interface Known {
  readonly trace: number;
  readonly eps: number;
}

/** `most` is an upper bound of the eigenvalues, above zero. `least` is added to the diagonal, so no eigenvalue is smaller. */
const most = ({ trace, eps }: Known, size: number) => Math.max(trace + size * eps, 1e-30) * (1 + RIDGE);
const least = (known: Known, size: number) => known.eps + most(known, size) * RIDGE;

/**
 * The number of iterations, in groups of three, after which the smallest possible eigenvalue is near one. The largest
 * is scaled to 5/2. At first an iteration multiplies the eigenvalue by nearly (5/4)^4; in the end it squares the
 * distance from one.
 */
function needed(known: Known, size: number): number {
  let iterations = 6;
  for (let x = (2.5 * least(known, size)) / most(known, size); x < 0.5; x *= 2.44) iterations += 1;
  return Math.ceil(iterations / 3);
}

/** `(A + least * I)^(-1/4)` of the first matrix, which is overwritten. */
function inverseFourthRoot<Now extends Known>(matrices: Matrices<Now>, [a, b, root, t]: Four, size: number) {
  const scale = (known: Known) => 2.5 / most(known, size);
  const begin = [
    matrices.copy(b, a, { scale, shift: (known) => scale(known) * least(known, size), least: SQRT_MIN_NORMAL_F32 }),
    matrices.copy(root, b, { scale: 0, shift: (known) => Math.sqrt(Math.sqrt(scale(known))) }),
  ];
  // All matrices are polynomials of one symmetric matrix, so all are symmetric.
  const symmetric = { symmetric: true };
  const iteration = (x: Matrix, m: Matrix, free: Matrix) => [
    matrices.copy(t, m, { scale: -0.25, shift: 1.25, least: SQRT_MIN_NORMAL_F32 }),
    matrices.product(free, x, t, symmetric),
    matrices.product(x, t, t, symmetric),
    matrices.product(t, x, x, symmetric),
    matrices.product(x, t, m, symmetric),
  ];
  // An iteration writes the new `x` to the free matrix, and the new `m` to the place of `x`. After three, each is where it was.
  const three = [...iteration(root, b, a), ...iteration(a, root, b), ...iteration(b, a, root)];
  const threes = Array.from({ length: THREES }, (_, i) => ({
    when: (known: Known) => i < needed(known, size),
    then: three,
  }));
  return [...begin, ...threes];
}
