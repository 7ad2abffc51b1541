/**
 * Oracles of the rules that read whole tensors, in double precision, written from the papers and Optax's documentation.
 */

import { withPenalty, type Options, type State } from "./oracle.js";

/**
 * Returns the new parameters of a tensor and updates its state. `memory` keeps further values from step to step; it is
 * empty before the first step. `t` is the step, from 1; the tensor's name is "w".
 */
export type WholeUpdate = (
  options: Options,
  t: number,
  p: readonly number[],
  g: readonly number[],
  state: Record<string, number[]>,
  memory: State,
) => number[];

const dot = (x: readonly number[], y: readonly number[]) => x.reduce((sum, x, i) => sum + x * y[i]!, 0);
const norm = (x: readonly number[]) => Math.sqrt(dot(x, x));
const minus = (x: readonly number[], y: readonly number[]) => x.map((x, i) => x - y[i]!);
const average = (beta: number, before: readonly number[], x: readonly number[]) =>
  before.map((before, i) => beta * before + (1 - beta) * x[i]!);
const squared = (x: readonly number[]) => x.map((x) => x ** 2);
const decayed = (g: readonly number[], decay: number, p: readonly number[]) =>
  g.map((g, i) => withPenalty(g, decay, p[i]!));
const descended = (p: readonly number[], rate: number, u: readonly number[]) => p.map((p, i) => p - rate * u[i]!);

export const wholes = {
  lamb({ lr, betas: [b1, b2], eps, epsRoot, weightDecay }, t, p, g, state) {
    state.expAvg = average(b1, state.expAvg!, g);
    state.expAvgSq = average(b2, state.expAvgSq!, squared(g));
    const root = state.expAvgSq.map((v) => Math.sqrt(v / (1 - b2 ** t) + epsRoot) + eps);
    const direction = state.expAvg.map((m, i) => m / (1 - b1 ** t) / root[i]!);
    const u = decayed(direction, weightDecay, p);
    return descended(p, lr * (norm(p) === 0 || norm(u) === 0 ? 1 : norm(p) / norm(u)), u);
  },

  lars({ lr, momentum, weightDecay, trustCoefficient, eps, nesterov }, _t, p, g, state) {
    const u = decayed(g, weightDecay, p);
    const ratio = norm(p) === 0 || norm(u) === 0 ? 1 : (trustCoefficient * norm(p)) / (norm(u) + eps);
    const scaled = u.map((u) => lr * ratio * u);
    const buffer = state.momentumBuffer!.map((v, i) => momentum * v + scaled[i]!);
    state.momentumBuffer = buffer;
    return minus(p, nesterov ? scaled.map((u, i) => u + momentum * buffer[i]!) : buffer);
  },

  novograd({ lr, betas: [b1, b2], eps, epsRoot, weightDecay }, t, p, g, state, memory) {
    const square = dot(g, g);
    memory.v = t === 1 ? square : b2 * memory.v! + (1 - b2) * square;
    const scaled = g.map((g) => g / (Math.sqrt(memory.v! + epsRoot) + eps));
    const u = decayed(scaled, weightDecay, p);
    state.expAvg = state.expAvg!.map((m, i) => b1 * m + u[i]!);
    return descended(p, lr, state.expAvg);
  },

  fromage({ lr, minNorm }, _t, p, g) {
    const ratio = Math.max(norm(p), minNorm) / Math.max(norm(g), minNorm);
    return descended(p, lr * ratio, g).map((p) => p / Math.sqrt(1 + lr ** 2));
  },

  dog({ lr, eps, weightDecay, initStep, initStepBy }, _t, p, g, state, memory) {
    const u = decayed(g, weightDecay, p);
    const start = { heuristic: initStep * (1 + norm(p)), distance: initStep, learningRate: 0 };
    memory.far = Math.max(memory.far ?? start[initStepBy as "distance"], norm(minus(p, state.initParams!)));
    const given = memory.far === 0 && !memory.squares && initStepBy === "learningRate";
    memory.squares = (memory.squares ?? 0) + dot(u, u);
    return descended(p, lr * (given ? initStep : memory.far / Math.sqrt(memory.squares + eps)), u);
  },

  dowg({ lr, eps, weightDecay, initEstimSqDist }, _t, p, g, state, memory) {
    const u = decayed(g, weightDecay, p);
    const far = minus(p, state.initParams!);
    memory.far = Math.max(memory.far ?? initEstimSqDist, dot(far, far));
    memory.squares = (memory.squares ?? 0) + memory.far * dot(u, u);
    return descended(p, (lr * memory.far) / (Math.sqrt(memory.squares) + eps), u);
  },

  dadaptAdamw({ lr, betas: [b1, b2], eps, estimLr0, weightDecay }, t, p, g, state, memory) {
    const estimate = memory.estimate ?? estimLr0;
    const rate = (estimate * lr * Math.sqrt(1 - b2 ** t)) / (1 - b1 ** t);
    const taken = g.map((g) => rate * g);
    const weighted = state.s!.map((s, i) => s / (Math.sqrt(state.expAvgSq![i]!) + eps));
    const root = Math.sqrt(b2);
    memory.numerator = root * (memory.numerator ?? 0) + (1 - root) * dot(taken, weighted);
    state.expAvg = average(b1, state.expAvg!, taken);
    state.expAvgSq = average(b2, state.expAvgSq!, squared(g));
    state.s = average(root, state.s!, taken);
    const sizes = state.s.reduce((sum, s) => sum + Math.abs(s), 0);
    memory.estimate = Math.max(estimate, sizes === 0 ? 0 : memory.numerator / ((1 - root) * sizes));
    return p.map((p, i) => {
      const update = state.expAvg![i]! / (Math.sqrt(state.expAvgSq![i]!) + eps);
      return p * (1 - rate * weightDecay) - update;
    });
  },

  prodigy(options, t, p, g, state, memory) {
    const { lr, betas, eps, estimLr0, estimLrCoef, weightDecay, safeguardWarmup } = options;
    const [b1, b2] = betas;
    const b3 = options.beta3 || Math.sqrt(b2);
    const estimate = memory.estimate ?? estimLr0;
    const rate = (estimate * lr * Math.sqrt(1 - b2 ** t)) / (1 - b1 ** t);
    const growth = estimate / estimLr0;
    const scaled = g.map((g) => estimate * g);
    memory.numerator = b3 * (memory.numerator ?? 0) + growth * rate * dot(g, minus(state.initParams!, p));
    state.expAvg = average(b1, state.expAvg!, scaled);
    state.expAvgSq = average(b2, state.expAvgSq!, squared(scaled));
    const weight = growth * (safeguardWarmup ? estimate : rate);
    state.s = state.s!.map((s, i) => b3 * s + weight * g[i]!);
    const sizes = state.s.reduce((sum, s) => sum + Math.abs(s), 0);
    memory.estimate = Math.max(estimate, sizes === 0 ? 0 : (estimLrCoef * memory.numerator) / sizes);
    return p.map((p, i) => {
      const update = state.expAvg![i]! / (Math.sqrt(state.expAvgSq![i]!) + memory.estimate! * eps);
      return p * (1 - rate * weightDecay) - rate * update;
    });
  },

  noisySgd({ lr, eta, gamma, seed }, t, p, g) {
    const deviation = Math.sqrt(eta / t ** gamma);
    return p.map((p, i) => p - lr * (g[i]! + deviation * gaussian(i, t, seed)));
  },
} satisfies Record<string, WholeUpdate>;

/** A normally distributed number, by Box and Muller's method from two of pcg3d's (Jarzynski & Olano, 2020). */
function gaussian(index: number, step: number, seed: number): number {
  const letters = Array.from(`${seed} w`, (letter) => letter.charCodeAt(0));
  const key = letters.reduce((key, letter) => Math.imul(key ^ letter, 0x01000193) >>> 0, 0x811c9dc5); // FNV-1a
  const v = [index, step, key].map((x) => (Math.imul(x, 1664525) + 1013904223) >>> 0);
  for (let round = 0; round < 2; round++) {
    for (let i = 0; i < 3; i++) v[i] = (v[i]! + Math.imul(v[(i + 1) % 3]!, v[(i + 2) % 3]!)) >>> 0;
    if (round === 0) for (let i = 0; i < 3; i++) v[i] = (v[i]! ^ (v[i]! >>> 16)) >>> 0;
  }
  const [u, turn] = v.map((x) => ((x ^ (x >>> 16)) >>> 9) / 2 ** 23 + 2 ** -24) as [number, number];
  return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * turn);
}
