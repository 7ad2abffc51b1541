import { type Matrices, type Matrix, MIN_NORMAL_F32, SQRT_MIN_NORMAL_F32 } from "../matrix/matrices.js";
import { count, nonNegative } from "../option.js";
import { rule } from "../rule.js";

/** What is added to a matrix' diagonal before its root is taken, relative to its trace: single precision has no more. */
const RIDGE = 1e-6;

/** How many threes of iterations a root takes at most: as many as an eigenvalue of `RIDGE` needs. */
const THREES = 7;

/**
 * The gradient between inverse fourth roots of what its rows, and its columns, have had in common. `L = L + g * g'; R = R + g' * g;
 * p = p * (1 - lr * weightDecay) - lr * (L + eps * I) ** (-1/4) * g * (R + eps * I) ** (-1/4)`, the roots being taken anew every `preconditionFrequency` steps.
 *
 * Gupta, Koren & Singer, 2018, https://arxiv.org/abs/1802.09568; the roots by the coupled Newton iteration of Guo & Higham, 2006, with a
 * millionth of the trace on the diagonal, where the authors' later code has one of the largest eigenvalue
 *
 * Use it for matrices of up to some thousand rows and columns on problems that are badly conditioned; Muon does nearly the same for
 * less.
 *
 * Elsewhere: PyTorch, Optax, Keras and TensorFlow.js have none; research code has momentum, blocks and the step of another rule besides.
 */
export const shampoo = rule("shampoo", {
  hyper: {
    /** Learning rate. */
    lr: nonNegative(1e-1),
    /** What the preconditioners begin with on their diagonals. */
    eps: nonNegative(1e-4),
    /** Decoupled weight decay: each step takes away `lr * weightDecay` of the parameter. */
    weightDecay: nonNegative(0),
  },
  fixed: {
    /** Take the roots anew every this many steps. Larger is cheaper; but steps along directions that are new are far too long until then. */
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
      const gather = [
        matrices.copy(sum, slot),
        matrices.product(sum, factor, factor, { plus: sum, symmetric: true, least: MIN_NORMAL_F32 }),
        matrices.copy(slot, sum),
      ];
      const renewed = inverseFourthRoot(matrices, all, size);
      const keep = matrices.copy({ ...slot, at: `${name}Root` }, root);
      const isDue = ({ step }: { step: number }) => (step - 1) % preconditionFrequency === 0;
      return { root, gather, load, renew: { when: isDue, then: [...renewed, keep] } };
    };
    const left = side("left", rows, turned);
    const right = side("right", columns, g);
    return [
      "measure",
      matrices.copy(g, direction),
      matrices.copy(turned, direction, { transposed: true }),
      ...left.gather,
      left.renew,
      ...right.gather,
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

/** What no eigenvalue can be above, not zero; what is added to the diagonal, so that none is below. */
const most = ({ trace, eps }: Known, size: number) => Math.max(trace + size * eps, 1e-30) * (1 + RIDGE);
const least = (known: Known, size: number) => known.eps + most(known, size) * RIDGE;

/**
 * How many threes of iterations bring the smallest eigenvalue there may be, relative to 5/2 of the largest, near one: at first each
 * multiplies it by nearly (5/4)^4, and in the end squares what it lacks.
 */
function needed(known: Known, size: number): number {
  let iterations = 6;
  for (let x = (2.5 * least(known, size)) / most(known, size); x < 0.5; x *= 2.44) iterations += 1;
  return Math.ceil(iterations / 3);
}

/** `(A + least * I)^(-1/4)` of the first matrix, which is lost. */
function inverseFourthRoot<Now extends Known>(matrices: Matrices<Now>, [a, b, root, t]: Four, size: number) {
  const scale = (known: Known) => 2.5 / most(known, size);
  const begin = [
    matrices.copy(b, a, { scale, shift: (known) => scale(known) * least(known, size), least: SQRT_MIN_NORMAL_F32 }),
    matrices.copy(root, b, { scale: 0, shift: (known) => Math.sqrt(Math.sqrt(scale(known))) }),
  ];
  // All are polynomials of one symmetric matrix.
  const symmetric = { symmetric: true };
  const iteration = (x: Matrix, m: Matrix, free: Matrix) => [
    matrices.copy(t, m, { scale: -0.25, shift: 1.25, least: SQRT_MIN_NORMAL_F32 }),
    matrices.product(free, x, t, symmetric),
    matrices.product(x, t, t, symmetric),
    matrices.product(t, x, x, symmetric),
    matrices.product(x, t, m, symmetric),
  ];
  // What comes of `x` is where nothing was, and of `m` where `x` was: after three all are where they were.
  const three = [...iteration(root, b, a), ...iteration(a, root, b), ...iteration(b, a, root)];
  const threes = Array.from({ length: THREES }, (_, i) => ({
    when: (known: Known) => i < needed(known, size),
    then: three,
  }));
  return [...begin, ...threes];
}
