/**
 * Oracles of the rules of matrices: the formulas in double precision, written from the papers and the authors' code.
 */

import type { Rule } from "../ts/optimizer/definition.js";
import type { Shape } from "../ts/arena/tensor.js";
import type { Options } from "./oracle.js";

/** A matrix: a list of rows. */
export type Matrix = readonly (readonly number[])[];
export type State = Record<string, Matrix>;

/** Returns the new parameters and updates the state. `t` is the step, from 1. */
export type Update = (options: Options, t: number, p: Matrix, g: Matrix, state: State) => Matrix;

export const map = (f: (...elements: number[]) => number, ...matrices: readonly Matrix[]): Matrix =>
  matrices[0]!.map((row, i) => row.map((_, j) => f(...matrices.map((matrix) => matrix[i]![j]!))));
export const transpose = (a: Matrix): Matrix => a[0]!.map((_, j) => a.map((row) => row[j]!));
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
export const product = (a: Matrix, b: Matrix): Matrix => {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => dot(row, column)));
};
const mean = (a: readonly number[]) => a.reduce((sum, x) => sum + x, 0) / a.length;
export const norm = (a: Matrix) => Math.sqrt(a.flat().reduce((sum, x) => sum + x * x, 0));

/** Makes a matrix from its elements, row by row. */
export const rowsOf = (flat: ArrayLike<number>, columns: number): Matrix =>
  Array.from({ length: flat.length / columns }, (_, i) =>
    Array.from({ length: columns }, (_, j) => flat[i * columns + j]!),
  );

/**
 * Returns the rows and columns of a slot for a tensor of this shape; undefined if the tensor does not have the slot.
 */
export function slotShape({ shapes }: Pick<Rule, "shapes">, slot: string, shape: Shape) {
  const own = shapes[slot] ? shapes[slot](shape) : shape;
  return own && ([own.length > 1 ? own[0]! : 1, own.at(-1)!] as const);
}

/** Returns the shape of a matrix of `length` elements: as near to a square as possible, and not higher than wide. */
export function matrixOf(length: number): [rows: number, columns: number] {
  let rows = Math.floor(Math.sqrt(length));
  while (length % rows !== 0) rows--;
  return [rows, length / rows];
}

export const oracle = {
  muon(options, t, p, g, state) {
    const { lr, momentum, weightDecay, nsCoefficients, eps, nesterov, biasCorrection } = options;
    const { nsSteps, adjustLr, inputsFirst, epsAdded } = options;
    const late = (t: number) => (biasCorrection ? 1 - momentum ** t : 1);
    const buffer = map((m, g) => momentum * m + (1 - momentum) * g, state.momentumBuffer!, g);
    state.momentumBuffer = buffer;
    const direction = nesterov
      ? map((m, g) => (momentum * m) / late(t + 1) + ((1 - momentum) * g) / late(t), buffer, g)
      : map((m) => m / late(t), buffer);
    const length = norm(direction);
    let x = map((d) => d / (epsAdded ? length + eps : Math.max(length, eps)), direction);
    const [a, b, c] = nsCoefficients;
    for (let i = 0; i < nsSteps; i++) {
      const xxt = product(x, transpose(x));
      const [first, third, fifth] = [x, product(xxt, x), product(product(xxt, xxt), x)];
      x = map((x1, x3, x5) => a * x1 + b * x3 + c * x5, first, third, fifth);
    }
    const [outputs, inputs] = inputsFirst ? [p[0]!.length, p.length] : [p.length, p[0]!.length];
    const ratio = {
      original: Math.sqrt(Math.max(1, outputs! / inputs!)),
      match_rms_adamw: 0.2 * Math.sqrt(Math.max(outputs!, inputs!)),
    }[adjustLr as "original"];
    return map((p, x) => p * (1 - lr * weightDecay) - lr * ratio * x, p, x);
  },

  adafactor({ lr, beta2Decay, eps, d, weightDecay }, t, p, g, state) {
    const take = (old: number, now: number) => old + t ** beta2Decay * (now - old);
    const squares = map((g) => g * g, g);
    const rms = (a: Matrix) => norm(a) / Math.sqrt(a.flat().length);
    const atLeast = (least: number, x: number) => (x > least ? x : least); // PyTorch's Python takes `least` if x is NaN
    const alpha = atLeast(eps[1], rms(p)) * Math.min(lr, 1 / Math.sqrt(t));
    state.rowVar = map(
      take,
      state.rowVar!,
      squares.map((row) => [mean(row)]),
    );
    state.colVar = map(take, state.colVar!, [transpose(squares).map(mean)]);
    const rows = state.rowVar.flat();
    const divisor = Math.max(mean(rows), eps[0]);
    const u = g.map((row, i) =>
      row.map((g, j) => g / Math.sqrt(Math.max((rows[i]! * state.colVar![0]![j]!) / divisor, eps[0] ** 2))),
    );
    const denominator = atLeast(1, rms(u) / d);
    return map((p, u) => p * (1 - lr * weightDecay) - (alpha / denominator) * u, p, u);
  },

  sm3({ lr, momentum, eps }, _t, p, g, state) {
    const [rows, columns] = [state.rowMax!.flat(), state.columnMax!.flat()];
    const sums = g.map((row, i) => row.map((g, j) => g * g + Math.min(rows[i]!, columns[j]!)));
    const u = map((g, s) => (s === 0 ? 0 : g / Math.sqrt(s + eps)), g, sums);
    state.momentumBuffer = map((m, u) => momentum * m + (1 - momentum) * u, state.momentumBuffer!, u);
    // NaN is never the maximum, because otherwise it would spread.
    const largest = (sums: readonly number[]) => sums.reduce((most, s) => (s > most ? s : most), 0);
    state.rowMax = sums.map((row) => [largest(row)]);
    state.columnMax = [transpose(sums).map(largest)];
    return map((p, m) => p - lr * m, p, state.momentumBuffer);
  },

  shampoo({ lr, eps, weightDecay, preconditionFrequency }, t, p, g, state) {
    state.left = map((l, x) => l + x, state.left!, product(g, transpose(g)));
    state.right = map((r, x) => r + x, state.right!, product(transpose(g), g));
    if ((t - 1) % preconditionFrequency === 0) {
      state.leftRoot = inverseFourthRoot(state.left, eps);
      state.rightRoot = inverseFourthRoot(state.right, eps);
    }
    const direction = product(product(state.leftRoot!, g), state.rightRoot!);
    return map((p, d) => p * (1 - lr * weightDecay) - lr * d, p, direction);
  },

  soap({ lr, betas, eps, weightDecay, biasCorrection, preconditionFrequency }, t, p, g, state) {
    const [b1, b2] = betas;
    const bases = () => [state.leftBasis!, state.rightBasis!] as const;
    const into = (x: Matrix) => product(product(transpose(bases()[0]), x), bases()[1]);
    const outOf = (x: Matrix) => product(product(bases()[0], x), transpose(bases()[1]));
    const step = t - 1;
    if (step > 0) {
      state.expAvg = map((m, g) => b1 * m + (1 - b1) * g, state.expAvg!, g);
      state.expAvgSq = map((v, g) => b2 * v + (1 - b2) * g * g, state.expAvgSq!, into(g));
      const u = outOf(map((m, v) => m / (Math.sqrt(v) + eps), into(state.expAvg), state.expAvgSq));
      const corrected = biasCorrection ? Math.sqrt(1 - b2 ** step) / (1 - b1 ** step) : 1;
      p = map((p, u) => (p - lr * corrected * u) * (1 - lr * weightDecay), p, u);
    }
    state.left = map((l, x) => b2 * l + (1 - b2) * x, state.left!, product(g, transpose(g)));
    state.right = map((r, x) => b2 * r + (1 - b2) * x, state.right!, product(transpose(g), g));
    const identity = (a: Matrix) => a.map((_, i) => a.map((_, j) => Number(i === j)));
    if (step === 0) {
      [state.leftBasis, state.rightBasis] = [identity(state.left), identity(state.right)];
      for (let i = 0; i < 10; i++) {
        state.leftBasis = improved(state.left, state.leftBasis).basis;
        state.rightBasis = improved(state.right, state.rightBasis).basis;
      }
    } else if (step % preconditionFrequency === 0) {
      const [left, right] = [improved(state.left, state.leftBasis!), improved(state.right, state.rightBasis!)];
      [state.leftBasis, state.rightBasis] = [left.basis, right.basis];
      state.expAvgSq = left.order.map((i) => right.order.map((j) => state.expAvgSq![i]![j]!));
    }
    return p;
  },
} satisfies Record<string, Update>;

/** Computes the inverse fourth root. The diagonal gets `eps` and a millionth of the trace. */
function inverseFourthRoot(a: Matrix, eps: number): Matrix {
  const begun = a.map((row, i) => row.map((x, j) => x + (i === j ? eps : 0)));
  const trace = begun.reduce((sum, row, i) => sum + row[i]!, 0);
  const { values, vectors } = eigen(begun);
  const scaled = vectors.map((row) => row.map((x, k) => x * (values[k]! + 1e-6 * trace) ** -0.25));
  return product(scaled, transpose(vectors));
}

/** The eigenvalues of a symmetric matrix, and its eigenvectors as columns, by Jacobi's rotations. */
export function eigen(symmetric: Matrix) {
  const a = symmetric.map((row) => [...row]);
  const n = a.length;
  const vectors = a.map((_, i) => a.map((_, j) => Number(i === j)));
  const squares = (of: Matrix, diagonal: boolean) =>
    of.reduce((sum, row, i) => sum + row.reduce((sum, x, j) => (diagonal || i !== j ? sum + x * x : sum), 0), 0);
  for (let sweep = 0; sweep < 30 && squares(a, false) > 1e-30 * squares(a, true); sweep++) {
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        if (a[p]![q] === 0) continue;
        const theta = (a[q]![q]! - a[p]![p]!) / (2 * a[p]![q]!);
        const tangent = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const cosine = 1 / Math.hypot(tangent, 1);
        const sine = tangent * cosine;
        for (const rows of [a, vectors]) {
          for (const row of rows) {
            const [x, y] = [row[p]!, row[q]!];
            [row[p], row[q]] = [cosine * x - sine * y, sine * x + cosine * y];
          }
        }
        for (let k = 0; k < n; k++) {
          const [x, y] = [a[p]![k]!, a[q]![k]!];
          [a[p]![k], a[q]![k]] = [cosine * x - sine * y, sine * x + cosine * y];
        }
      }
    }
  }
  return { values: a.map((row, i) => row[i]!), vectors };
}

/**
 * Orders the vectors of the basis, multiplies them by the matrix, and makes them orthonormal: twice with the
 * Gram-Schmidt process.
 */
function improved(a: Matrix, basis: Matrix) {
  const vectors = transpose(basis);
  const images = transpose(product(a, basis));
  const sums = vectors.map((vector, i) => dot(vector, images[i]!));
  const order = sums.map((_, i) => i).sort((i, j) => sums[j]! - sums[i]! || i - j);
  const found: number[][] = [];
  for (const index of order) {
    let vector = [...images[index]!];
    for (let time = 0; time < 2; time++) {
      for (const one of found) {
        const along = dot(vector, one);
        vector = vector.map((x, i) => x - along * one[i]!);
      }
    }
    const length = Math.hypot(...vector);
    found.push(vector.map((x) => x / length));
  }
  return { basis: transpose(found), order };
}
