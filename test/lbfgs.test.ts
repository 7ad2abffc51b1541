/**
 * Tests of L-BFGS. An oracle in doubles follows PyTorch's path. With vectors rounded to floats, it follows the
 * package's path to the last bit, on any number of threads. Convergence, and errors.
 */

import { readFileSync } from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Arena, createArena } from "../ts/arena/arena.js";
import { load, save } from "../ts/checkpoint/index.js";
import { lbfgs, type LBFGSOptions } from "../ts/lbfgs/lbfgs.js";
import type { Tensor } from "../ts/arena/tensor.js";
import { camel } from "../ts/option.js";
import { sgd } from "../ts/rules/index.js";
import { numbers } from "./harness.js";
import { small, smallArena } from "./small.js";

test.each(["none", "strong_wolfe"] as const)(
  "maximize takes the path of the negative loss, to the bit: %s",
  (lineSearchFn) => {
    const run = (maximize: boolean) => {
      const w = small().tensor("w", [2]);
      w.data.set([-1.5, 2]);
      const sign = maximize ? -1 : 1;
      const optimizer = lbfgs([w], { lineSearchFn, lr: 0.01, maximize });
      const losses = [1, 2, 3].map(() => {
        const { loss } = optimizer.step(() => {
          const [x, y] = w.data as unknown as [number, number];
          w.grad.set([sign * (2 * (x - 1) - 400 * x * (y - x * x)), sign * 200 * (y - x * x)]);
          return sign * ((1 - x) ** 2 + 100 * (y - x * x) ** 2);
        });
        return sign * loss;
      });
      return [...w.data, ...losses];
    };
    expect(run(true)).toEqual(run(false));
    expect(run(true).at(-1)).toBeLessThan(run(true).at(2)!);
  },
);

test("a line search turns back from a gradient of NaN, as from a loss of NaN", () => {
  for (const from of [0.9, 0.5, 0.99]) {
    for (const bad of ["loss", "gradient"]) {
      const w = small().tensor("w", [1]);
      w.data[0] = 3;
      const optimizer = lbfgs([w], { lr: 3, lineSearchFn: "strong_wolfe" });
      const closure = () => {
        const x = w.data[0]!;
        const isBad = x < from;
        w.grad[0] = isBad && bad === "gradient" ? Number.NaN : 2 * (x - 1);
        return isBad && bad === "loss" ? Number.NaN : (x - 1) ** 2;
      };
      for (let i = 0; i < 5; i++) optimizer.step(closure);
      expect(w.data[0], `${bad} below ${from}`).toBeCloseTo(1, 3);
    }
  }
});

const golden = JSON.parse(readFileSync(new URL("golden/lbfgs.json", import.meta.url), "utf8"));

interface Problem {
  readonly start: readonly number[];
  readonly loss: (x: ArrayLike<number>) => number;
  readonly gradient: (x: ArrayLike<number>) => number[];
  /** The loss at the minimum. */
  readonly best: number;
}

const square = (x: number) => x * x;
const sum = (list: readonly number[]) => list.reduce((sum, x) => sum + x, 0);

const points = (() => {
  const next = numbers(5);
  return Array.from({ length: 60 }, (_, i) => [1, 2 * next() + (i % 2 ? 0.8 : -0.8), next()]);
})();
const margin = (w: ArrayLike<number>, i: number) => (i % 2 ? 1 : -1) * sum(points[i]!.map((x, k) => x * w[k]!));

const problems: Record<string, Problem> = {
  rosenbrock: {
    start: [-1.5, 2],
    loss: ([x, y]: any) => square(1 - x) + 100 * square(y - x * x),
    gradient: ([x, y]: any) => [2 * (x - 1) - 400 * x * (y - x * x), 200 * (y - x * x)],
    best: 0,
  },
  "rosenbrock in four dimensions": {
    start: [-1.2, 1, -1.2, 1],
    loss: (x) => sum([0, 1, 2].map((i) => square(1 - x[i]!) + 100 * square(x[i + 1]! - square(x[i]!)))),
    gradient: (x) =>
      [0, 1, 2, 3].map((i) => {
        const next = i < 3 ? 2 * (x[i]! - 1) - 400 * x[i]! * (x[i + 1]! - square(x[i]!)) : 0;
        return next + (i > 0 ? 200 * (x[i]! - square(x[i - 1]!)) : 0);
      }),
    best: 0,
  },
  "a bowl ten thousand times as steep one way": {
    start: [1, -1, 1],
    loss: (x) => (10_000 * square(x[0]!) + 100 * square(x[1]!) + square(x[2]!)) / 2,
    gradient: (x) => [10_000 * x[0]!, 100 * x[1]!, x[2]!],
    best: 0,
  },
  "a bowl with ripples": {
    start: [3, -2],
    loss: (x) => sum([0, 1].map((i) => square(x[i]!) / 4 + Math.sin(3 * x[i]!) / (i + 2))),
    gradient: (x) => [0, 1].map((i) => x[i]! / 2 + (3 * Math.cos(3 * x[i]!)) / (i + 2)),
    best: Number.NaN, // there are several local minima
  },
  regression: {
    start: [0, 0, 0],
    loss: (w) => sum(points.map((_, i) => Math.log1p(Math.exp(-margin(w, i))))) / points.length,
    gradient: (w) => {
      const pull = points.map((_, i) => -(i % 2 ? 1 : -1) / (1 + Math.exp(margin(w, i))) / points.length);
      return [0, 1, 2].map((k) => sum(points.map((x, i) => pull[i]! * x[k]!)));
    },
    best: 0.46801633323502334, // by Newton's method in doubles
  },
};

/**
 * `torch.optim.LBFGS` over a list of numbers. `round` rounds the elements of vectors: to float32, or not at all. Written
 * from PyTorch's documentation and source, with lists instead of the arena's vectors.
 */
function oracle({ loss, gradient, start }: Problem, options: LBFGSOptions, round: (x: number) => number) {
  const { lr = 1, maxIter = 20, maxEval = Math.floor(maxIter * 1.25), historySize = 100 } = options as any;
  const { toleranceGrad = 1e-7, toleranceChange = 1e-9, lineSearchFn } = options as any;
  const each = (f: (i: number) => number) => start.map((_, i) => round(f(i)));
  const r = round;
  // Four products are added in pairs, as in the kernel.
  const dot = (a: number[], b: number[]) => {
    const [p, q, s, t] = [0, 1, 2, 3].map((i) => (i < a.length ? a[i]! * b[i]! : 0)) as [
      number,
      number,
      number,
      number,
    ];
    return p + q + (s + t);
  };
  const largest = (a: number[]) => Math.max(...a.map(Math.abs));
  let x = start.map(round);
  let d: number[] = [];
  let previous: number[] = [];
  let [t, h, iterations] = [0, 1, 0];
  let old: { y: number[]; s: number[]; ro: number }[] = [];
  let evaluations = 0;
  const evaluate = (at: number[]) => {
    evaluations += 1;
    return [loss(at), gradient(at).map(round)] as [number, number[]];
  };
  const along = (t: number) => each((i) => x[i]! + r(r(t) * d[i]!));

  function cubic(x1: number, f1: number, g1: number, x2: number, f2: number, g2: number, low: number, high: number) {
    const d1 = g1 + g2 - (3 * (f1 - f2)) / (x1 - x2);
    const square = d1 ** 2 - g1 * g2;
    if (!(square >= 0)) return (low + high) / 2;
    const d2 = Math.sqrt(square);
    const at =
      x1 <= x2
        ? x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
        : x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2));
    return Math.min(Math.max(at, low), high);
  }

  function wolfe(f: number, g: number[], gtd: number, most: number): [number, number[], number] {
    let [fNew, gNew] = evaluate(along(t));
    let gtdNew = dot(gNew, d);
    let [tPrev, fPrev, gPrev, gtdPrev] = [0, f, g, gtd];
    let done = false;
    let round = 0;
    let [at, fs, gs, slopes] = [[] as number[], [] as number[], [] as number[][], [] as number[]];
    while (round < most) {
      if (fNew > f + 1e-4 * t * gtd || (round > 1 && fNew >= fPrev) || (Math.abs(gtdNew) > -0.9 * gtd && gtdNew >= 0)) {
        [at, fs, gs, slopes] = [
          [tPrev, t],
          [fPrev, fNew],
          [gPrev, gNew],
          [gtdPrev, gtdNew],
        ];
        break;
      }
      if (Math.abs(gtdNew) <= -0.9 * gtd) {
        [at, fs, gs, slopes, done] = [[t], [fNew], [gNew], [gtdNew], true];
        break;
      }
      const next = cubic(tPrev, fPrev, gtdPrev, t, fNew, gtdNew, t + 0.01 * (t - tPrev), t * 10);
      [tPrev, fPrev, gPrev, gtdPrev, t] = [t, fNew, gNew, gtdNew, next];
      [fNew, gNew] = evaluate(along(t));
      gtdNew = dot(gNew, d);
      round += 1;
    }
    if (round === most)
      [at, fs, gs] = [
        [0, t],
        [f, fNew],
        [g, gNew],
      ];
    let stuck = false;
    let [low, high] = fs[0]! <= fs.at(-1)! ? [0, 1] : [1, 0];
    while (!done && round < most) {
      if (Math.abs(at[1]! - at[0]!) * largest(d) < toleranceChange) break;
      const [least, greatest] = [Math.min(...at), Math.max(...at)];
      t = cubic(at[0]!, fs[0]!, slopes[0]!, at[1]!, fs[1]!, slopes[1]!, least, greatest);
      const eps = 0.1 * (greatest - least);
      if (Math.min(greatest - t, t - least) < eps) {
        if (stuck || t >= greatest || t <= least) {
          t = Math.abs(t - greatest) < Math.abs(t - least) ? greatest - eps : least + eps;
          stuck = false;
        } else stuck = true;
      } else stuck = false;
      [fNew, gNew] = evaluate(along(t));
      gtdNew = dot(gNew, d);
      round += 1;
      const put = (to: number, from: readonly [number, number, number[], number]) => {
        [at[to], fs[to], gs[to], slopes[to]] = from;
      };
      if (fNew > f + 1e-4 * t * gtd || fNew >= fs[low]!) {
        put(high, [t, fNew, gNew, gtdNew]);
        [low, high] = fs[0]! <= fs[1]! ? [0, 1] : [1, 0];
      } else {
        if (Math.abs(gtdNew) <= -0.9 * gtd) done = true;
        else if (gtdNew * (at[high]! - at[low]!) >= 0) put(high, [at[low]!, fs[low]!, gs[low]!, slopes[low]!]);
        put(low, [t, fNew, gNew, gtdNew]);
      }
    }
    return [fs[low]!, gs[low]!, at[low]!];
  }

  return () => {
    evaluations = 0;
    let [f, g] = evaluate(x);
    const first = f;
    let n = 0;
    const result = () => ({ x, report: { loss: first, iterations: n, evaluations } });
    if (largest(g) <= toleranceGrad) return result();
    while (n < maxIter) {
      n += 1;
      iterations += 1;
      if (iterations === 1) d = g.map((g) => -g);
      else {
        const y = each((i) => g[i]! - previous[i]!);
        const s = each((i) => r(t) * d[i]!);
        const ys = dot(y, s);
        if (ys > 1e-10) {
          old = [...old, { y, s, ro: 1 / ys }].slice(-historySize);
          h = ys / dot(y, y);
        }
        let q = g.map((g) => -g);
        const al: number[] = [];
        for (let i = old.length - 1; i >= 0; i--) {
          al[i] = dot(old[i]!.s, q) * old[i]!.ro;
          q = each((k) => q[k]! + r(r(-al[i]!) * old[i]!.y[k]!));
        }
        if (old.length > 0) q = each((k) => r(h) * q[k]!);
        old.forEach(({ y, s, ro }, i) => {
          const be = dot(y, q) * ro;
          q = each((k) => q[k]! + r(r(al[i]! - be) * s[k]!));
        });
        d = q;
      }
      previous = g;
      const last = f;
      t =
        iterations === 1
          ? Math.min(
              1,
              1 /
                dot(
                  g.map(Math.abs),
                  g.map(() => 1),
                ),
            ) * lr
          : lr;
      const gtd = dot(g, d);
      if (gtd > -toleranceChange) break;
      if (lineSearchFn === "strong_wolfe") {
        [f, g, t] = wolfe(f, g, gtd, maxEval - evaluations);
        x = along(t);
      } else {
        x = along(t);
        if (n !== maxIter) [f, g] = evaluate(x);
      }
      if (n === maxIter || evaluations >= maxEval || largest(g) <= toleranceGrad) break;
      if (t * largest(d) <= toleranceChange || Math.abs(f - last) < toleranceChange) break;
    }
    return result();
  };
}

/** Minimizes with the package: with one tensor, or one tensor for each number. */
function made(
  { loss, gradient, start }: Problem,
  options: LBFGSOptions,
  arena: Arena = small({ maxBytes: 2 ** 22 }),
  isApart = false,
) {
  const shapes = isApart ? start.map((_, i) => [`x${i}`, [] as number[]] as const) : [["x", [start.length]] as const];
  const tensors = shapes.map(([name, shape]) => arena.tensor(name, shape));
  const read = () => tensors.flatMap(({ data }) => [...data]);
  const write = (view: "data" | "grad", values: readonly number[]) => {
    tensors.forEach((tensor, i) => tensor[view].set(isApart ? [values[i]!] : values));
  };
  write("data", start);
  const optimizer = lbfgs(tensors, options);
  const closure = () => {
    const x = read();
    write("grad", gradient(x));
    return loss(x);
  };
  return { tensors, optimizer, closure, read };
}

const settings: LBFGSOptions[] = [
  { lr: 0.1, maxIter: 5 },
  { lr: 1e-3 },
  { lineSearchFn: "strong_wolfe" },
  { lineSearchFn: "strong_wolfe", historySize: 1, maxIter: 50 },
  { lineSearchFn: "strong_wolfe", historySize: 2, maxIter: 3, lr: 0.2 },
  { lineSearchFn: "strong_wolfe", maxEval: 2, toleranceChange: 0 },
  { lineSearchFn: "strong_wolfe", maxIter: 1, maxEval: 1 },
  { lineSearchFn: "strong_wolfe", lr: 0.05 },
];

const each = Object.entries(problems).flatMap(([name, problem]) =>
  settings.map((options) => ({ name: `${name} ${JSON.stringify(options)}`, problem, options })),
);

/** The largest difference of two points, in units of `unit`. */
const apart = (x: readonly number[], y: readonly number[], unit: number) =>
  Math.max(...x.map((x, i) => Math.abs(x - y[i]!))) / unit;

test.each<any>(golden.cases)(
  "PyTorch's path is that of the oracle in float64, and near that of the package in float32: $options",
  ({ options, trace }) => {
    const named = Object.fromEntries(Object.entries(options).map(([name, value]) => [camel(name), value]));
    const step = oracle(problems.rosenbrock!, named, (x) => x);
    const { optimizer, closure, read } = made(problems.rosenbrock!, named);
    trace.forEach((expected: number[], i: number) => {
      expect(apart(step().x, expected, 1e-11)).toBeLessThan(1);
      optimizer.step(closure);
      // With a line search, early points may differ where the function is steep. Later points agree.
      if (!named.lineSearchFn || i > 1) expect(apart(read(), expected, 5e-5)).toBeLessThan(1);
    });
  },
);

describe.each(each)("$name", ({ problem, options }) => {
  test("follows the oracle's path in float32, to the bit", () => {
    const step = oracle(problem, options, Math.fround);
    const { optimizer, closure, read } = made(problem, options);
    for (let i = 0; i < 8; i++) {
      const { x, report } = step();
      expect(optimizer.step(closure)).toEqual(report);
      expect(read()).toEqual(x);
    }
    expect(optimizer.steps).toBe(8);
  });

  test("an async closure gives the same bits", async () => {
    const [one, other] = [made(problem, options), made(problem, options)];
    for (let i = 0; i < 3; i++) {
      const report = one.optimizer.step(one.closure);
      const later = i % 2 ? other.closure : async () => (await null, other.closure());
      expect(await other.optimizer.stepAsync(later)).toEqual(report);
      expect(other.read()).toEqual(one.read());
    }
  });

  test("a run that is resumed gives the bits of a run that was never stopped", () => {
    const [run, again] = [made(problem, options), made(problem, options)];
    for (let i = 0; i < 2; i++) run.optimizer.step(run.closure);
    const file = save(run.tensors, run.optimizer);
    expect(load(file, again.tensors, again.optimizer)).toEqual({ steps: 2, extra: undefined, leftOut: [] });
    expect(Buffer.compare(save(again.tensors, again.optimizer), file)).toBe(0);
    for (let i = 0; i < 4; i++) {
      expect(again.optimizer.step(again.closure)).toEqual(run.optimizer.step(run.closure));
      expect(again.read()).toEqual(run.read());
    }
  });

  test("an error of the closure, at any call, changes neither parameters nor history nor steps", () => {
    const run = made(problem, options);
    run.optimizer.step(run.closure);
    const before = save(run.tensors, run.optimizer);
    const whole = made(problem, options);
    load(before, whole.tensors, whole.optimizer);
    const { evaluations } = whole.optimizer.step(whole.closure);
    for (let at = 1; at <= evaluations; at++) {
      let calls = 0;
      const failing = () => {
        if (++calls === at) throw new Error("no data");
        return run.closure();
      };
      expect(() => run.optimizer.step(failing)).toThrow("no data");
      expect(Buffer.compare(save(run.tensors, run.optimizer), before)).toBe(0);
    }
    run.optimizer.step(run.closure);
    expect(Buffer.compare(save(run.tensors, run.optimizer), save(whole.tensors, whole.optimizer))).toBe(0);
  });
});

/**
 * A problem with random losses and slopes, which do not depend on the parameters. The losses fall on average, so that
 * the line search has decisions to make.
 */
function drawn(seed: number): Problem {
  const [height, slope] = [numbers(seed), numbers(7 * seed)];
  let fallen = 0;
  const loss = () => Math.round(8 * height()) / 1e4 - 1e-4 * fallen++;
  return { start: [1], loss, gradient: () => [slope() * slope()], best: Number.NaN };
}

test("a line search decides as the oracle, for any losses and slopes", () => {
  let long = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const options: LBFGSOptions = {
      lineSearchFn: "strong_wolfe",
      lr: 1 + (seed % 7),
      maxIter: 8,
      maxEval: 40,
      historySize: 2,
    };
    const step = oracle(drawn(seed), options, Math.fround);
    const { optimizer, closure, read } = made(drawn(seed), options, small());
    for (let i = 0; i < 3; i++) {
      const { x, report } = step();
      expect(optimizer.step(closure)).toEqual(report);
      expect(read()).toEqual(x);
      long += Number(report.evaluations > 10);
    }
  }
  expect(long).toBeGreaterThan(400);
});

describe.each(Object.entries(problems).filter(([, { best }]) => best === best))("%s", (_, problem) => {
  test.each([false, true])("reaches the minimum (tensors apart: %s)", (isApart) => {
    const { optimizer, closure } = made(problem, { lineSearchFn: "strong_wolfe" }, small(), isApart);
    let evaluations = 0;
    for (let i = 0; i < 5; i++) evaluations += optimizer.step(closure).evaluations;
    expect(Math.abs(closure() - problem.best)).toBeLessThan(1e-5);
    expect(evaluations).toBeLessThan(100);
  });
});

test("any number of threads gives the same bits, with turns or without, for adjacent tensors and others", async () => {
  const length = 3 * 16384 + 77;
  const next = numbers(3);
  const [scales, goals] = [0, 0].map(() => Float32Array.from({ length }, () => 1 + 20 * Math.abs(next())));
  const results: Float32Array[][] = [];
  for (const [threads, turns] of [
    [1, false],
    [1, true],
    [2, false],
    [2, true],
    [4, false],
  ] as const) {
    const arena = await createArena({ maxBytes: 2 ** 26, threads });
    onTestFinished(() => arena.free());
    const { a, gap, b } = arena.tensors({ a: [length], gap: [5], b: [7, 11] });
    gap.data.fill(3);
    const optimizer = lbfgs([b, a], { historySize: 3, maxIter: 8, lineSearchFn: "strong_wolfe" });
    const closure = () => {
      let loss = 0;
      for (const { data, grad } of [a, b]) {
        data.forEach((x, i) => {
          const off = x - goals![i]!;
          grad[i] = scales![i]! * off + 4 * off ** 3;
          loss += (scales![i]! * off ** 2) / 2 + off ** 4;
        });
      }
      return loss;
    };
    const losses: number[] = [];
    for (let i = 0; i < 2; i++)
      losses.push((turns ? await optimizer.stepAsync(closure) : optimizer.step(closure)).loss);
    expect(losses[1]).toBeLessThan(losses[0]! / 10);
    results.push([a.data.slice(), b.data.slice(), Float32Array.from(losses)]);
    expect([...gap.data]).toEqual([3, 3, 3, 3, 3]);
  }
  for (const result of results) expect(result).toEqual(results[0]);
});

describe("where the function has no value", () => {
  test("the line search turns back", () => {
    // For x above 1 the argument of the logarithm is negative. The first step goes there.
    const barrier: Problem = {
      start: [0.9],
      loss: ([x]: any) => x * 10 - Math.log(1 - x) - Math.log(x),
      gradient: ([x]: any) => [10 + 1 / (1 - x) - 1 / x],
      best: 0,
    };
    const { optimizer, closure, read } = made(barrier, { lr: 5, lineSearchFn: "strong_wolfe" });
    let nans = 0;
    const counting = () => {
      const loss = closure();
      nans += Number(Number.isNaN(loss));
      return loss;
    };
    optimizer.step(counting);
    expect(nans).toBeGreaterThan(0);
    expect(apart(read(), [(12 - Math.sqrt(104)) / 20], 1e-4)).toBeLessThan(1);
  });

  test.each([
    [0, [Number.NaN, 0]],
    [0, [Infinity, 1]],
    [1, [Number.NaN, 1]],
    [1, [-Infinity, 1]],
  ])("after %d steps a gradient of %o moves nothing, and the history recovers", (steps, wrong) => {
    const { tensors, optimizer, closure, read } = made(problems.rosenbrock!, { lineSearchFn: "strong_wolfe" });
    for (let i = 0; i < steps; i++) optimizer.step(closure);
    const before = read();
    const broken = () => {
      tensors[0]!.grad.set(wrong);
      return Infinity;
    };
    expect(optimizer.step(broken)).toEqual({ loss: Infinity, iterations: 1, evaluations: 1 });
    expect(read()).toEqual(before);
    for (let i = 0; i < 4; i++) optimizer.step(closure);
    expect(closure()).toBeLessThan(1e-8);
    const padding = new Float32Array(tensors[0]!.data.buffer, tensors[0]!.data.byteOffset, 16);
    expect([...padding.subarray(2)]).toEqual(Array(14).fill(0));
  });

  test("an unbounded slope is followed until the largest float", () => {
    const { optimizer, read } = made(
      { ...problems.rosenbrock!, start: [0] },
      { lineSearchFn: "strong_wolfe", maxIter: 1, maxEval: 200 },
    );
    const tensor = optimizer.groups[0].params[0]!;
    optimizer.step(() => (tensor.grad.fill(-1), -tensor.data[0]!));
    expect(read()[0]).toBeGreaterThan(1e37);
    expect(new Float32Array(tensor.data.buffer, tensor.data.byteOffset, 2)[1]).toBe(0);
  });
});

test("the rate may be a schedule of the step, and is live", () => {
  const [scheduled, live] = [(step: number) => 0.1 / (1 + step), 0.1].map((lr) =>
    made(problems.regression!, { lr: lr as never, maxIter: 2 }),
  ) as [ReturnType<typeof made>, ReturnType<typeof made>];
  for (let i = 0; i < 4; i++) {
    live.optimizer.hyper.lr = 0.1 / (1 + i);
    expect(live.optimizer.step(live.closure)).toEqual(scheduled.optimizer.step(scheduled.closure));
    expect(live.read()).toEqual(scheduled.read());
  }
});

test("an asynchronous step uses the options at the time of the call, also if it waits for another", async () => {
  const [one, two] = [made(problems.regression!, { lr: 0.1 }), made(problems.regression!, { lr: 0.1 })] as const;
  one.optimizer.step(one.closure);
  const [tensor] = two.tensors as [Tensor];
  const other = sgd([tensor.arena.tensor("other", [1])]).stepAsync();
  const step = two.optimizer.stepAsync(two.closure);
  two.optimizer.hyper.lr = 5;
  await Promise.all([other, step]);
  expect(two.read()).toEqual(one.read());
});

describe("refused", () => {
  const arena = smallArena();
  const w = arena.tensor("w", [2]);
  const other = smallArena().tensor("v", [2]);

  test.each<[unknown, unknown, new (...args: never) => Error, string]>([
    [
      w,
      {},
      TypeError,
      "lbfgs: params must be tensors, by name or in a list; there are no groups, got one tensor; write [w]",
    ],
    [[], {}, RangeError, "lbfgs: params must be tensors, by name or in a list; there are no groups, got none"],
    [[{ params: [w] }], {}, TypeError, "there are no groups, got an object (Object) among them"],
    [[w, w], {}, RangeError, 'lbfgs: params must be different tensors, but tensor "w" is there twice'],
    [[w, other], {}, RangeError, "lbfgs: params must be from one arena"],
    [[w], { lr: -1 }, RangeError, "lbfgs: lr must be in [0, ∞), got -1"],
    [[w], { toleranceGrad: "0" }, TypeError, 'lbfgs: toleranceGrad must be a number in [0, ∞), got "0"'],
    [[w], { toleranceChange: Number.NaN }, RangeError, "lbfgs: toleranceChange must be in [0, ∞), got NaN"],
    [[w], { maxIter: 0 }, RangeError, "lbfgs: maxIter must be a whole number in [1, ∞), got 0"],
    [[w], { maxEval: 1.5 }, RangeError, "lbfgs: maxEval must be a whole number in [1, ∞), got 1.5"],
    [[w], { historySize: 0 }, RangeError, "lbfgs: historySize must be a whole number in [1, 100000], got 0"],
    [[w], { historySize: 1e9 }, RangeError, "lbfgs: historySize must be a whole number in [1, 100000], got 1000000000"],
    [[w], { lineSearchFn: "wolfe" }, RangeError, 'lbfgs: lineSearchFn must be "none" or "strong_wolfe", got "wolfe"'],
    [[w], { maximize: 1 }, TypeError, "lbfgs: maximize must be true or false, got 1"],
    [[w], { clipNorm: 1 }, TypeError, 'lbfgs: no option "clipNorm"; '],
    [[w], { historySize: 1e5 }, RangeError, " bytes for lbfgs's history,"],
  ])("%# %s %s", (params, options, type, message) => {
    const left = arena.bytesLeft;
    const act = () => lbfgs(params as never, options as never);
    expect(act).toThrow(type);
    expect(act).toThrow(message);
    expect(arena.bytesLeft).toBe(left);
  });

  test("wrong values of live options, and any value of fixed ones", () => {
    const { hyper } = lbfgs([w], { historySize: 2 });
    expect(() => (hyper.lr = -1)).toThrow("lbfgs: lr must be in [0, ∞), got -1");
    expect(hyper.lr).toBe(1);
    expect(() => ((hyper as any).historySize = 3)).toThrow(
      "lbfgs: historySize is fixed when the optimizer is made; make a new optimizer to change it",
    );
  });

  test("values that are not closures, and closures that return no loss", async () => {
    const optimizer = lbfgs([w], { historySize: 2 });
    expect(() => optimizer.step(undefined as never)).toThrow(
      "lbfgs: closure must be a function that returns the loss, got undefined",
    );
    expect(() => optimizer.step((() => {}) as never)).toThrow(
      "lbfgs: closure must return the loss, a number, got undefined",
    );
    expect(() => optimizer.step((async () => 1) as never)).toThrow(
      "lbfgs: closure must return the loss, a number, got an object (Promise); an async closure is for stepAsync()",
    );
    await expect(optimizer.stepAsync((async () => "1") as never)).rejects.toThrow(
      'lbfgs: closure must return the loss, a number, got "1"',
    );
    await expect(optimizer.stepAsync(async () => Promise.reject(new Error("no data")))).rejects.toThrow("no data");
    expect(optimizer.steps).toBe(0);
  });

  test("a step, a checkpoint and a load in the middle of a step", async () => {
    const { tensors, optimizer, closure, read } = made(problems.regression!, { maxIter: 3 });
    const file = save(tensors, optimizer);
    const message = "a step that calls a closure is under way; wait until it is done";
    const inside = [
      () => optimizer.step(closure),
      () => save(tensors, optimizer),
      () => load(file, tensors, optimizer),
    ];
    for (const act of inside) expect(() => optimizer.step(() => (act(), 1))).toThrow(message);
    const under = optimizer.stepAsync(async () => (await null, closure()));
    for (const act of inside) expect(act).toThrow(message);
    await expect(optimizer.stepAsync(closure)).rejects.toThrow(message);
    await under;
    expect(read()).not.toEqual(problems.regression!.start);
    const own = sgd(tensors, { lr: 0 });
    expect(optimizer.step(() => (own.step(), closure())).evaluations).toBe(3); // others may
  });

  test("the checkpoint of another optimizer, or of another history size", () => {
    const { tensors, optimizer } = made(problems.regression!, { historySize: 2 });
    const file = save(tensors, optimizer);
    const names = new TextDecoder().decode(file).match(/"optimizer\.x\.\w+"/g);
    expect(names).toEqual(["direction", "prevGrad", "y0", "s0", "y1", "s1"].map((name) => `"optimizer.x.${name}"`));
    const longer = made(problems.regression!, { historySize: 3 });
    expect(() => load(file, longer.tensors, longer.optimizer)).toThrow(
      "groups[0].historySize is 2 in the file, 3 here",
    );
    expect(() => load(file, tensors, sgd(tensors))).toThrow('the optimizer is "lbfgs" in the file, "sgd" here');
    expect(() => load(save(tensors, sgd(tensors)), tensors, optimizer)).toThrow('is "sgd" in the file, "lbfgs" here');
  });

  test("a freed arena", () => {
    const arena = small();
    const { optimizer, closure } = made(problems.regression!, {}, arena);
    expect(() => optimizer.step(() => (arena.free(), 1))).toThrow("the arena was freed");
    expect(() => optimizer.step(closure)).toThrow("lbfgs: the arena was freed");
    expect(() => (optimizer.hyper.lr = 1)).toThrow("lbfgs: the arena was freed");
    const loaded = made(problems.regression!, {}, small());
    const rename = (name: string) => (loaded.tensors[0]!.arena.free(), name);
    const file = save(loaded.tensors, loaded.optimizer);
    expect(() => load(file, loaded.tensors, loaded.optimizer, { rename })).toThrow("the arena was freed");
  });
});
