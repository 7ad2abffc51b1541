/**
 * Tests of the options that every optimizer has, such as scales, clipping, averages and zeroing: for every rule, on any
 * number of threads.
 */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Arena, createArena } from "../ts/arena/arena.js";
import { save } from "../ts/checkpoint/index.js";
import { sharedOptions } from "../ts/optimizer/definition.js";
import { snake } from "../ts/option.js";
import { adamw, sgd } from "../ts/rules/index.js";
import type { Shape, Tensor } from "../ts/arena/tensor.js";
import { bits, error, inputs, numbers } from "./harness.js";
import { small } from "./small.js";
import { type AnyFactory, type Case, cases, fitting } from "./registry.js";

const read = (name: string) => JSON.parse(readFileSync(new URL(`golden/${name}`, import.meta.url), "utf8"));
const golden = read("inputs.json");

/** An optimizer over three tensors, two of them side by side, with different gradients at every step. */
function make(
  { factory, options }: { factory: AnyFactory; options: object },
  arena: Arena,
  added: object,
  shapes: readonly Shape[] = [[83], [1], [8, 5]],
) {
  const [a, b, c] = shapes.map((shape) => fitting(factory.rule, shape));
  const tensors: Tensor[] = [...Object.values(arena.tensors({ a: a!, b: b! })), arena.tensor("c", c!)];
  const runs = tensors.map(({ size }, i) => inputs(size, 4, i + 1));
  tensors.forEach(({ data }, i) => data.set(runs[i]!.params));
  const optimizer = factory(tensors, { ...options, ...added });
  const load = (step: number, change = (g: number) => g) =>
    tensors.forEach(({ grad }, i) => grad.set(runs[i]!.grads[step]!.map(change)));
  const state = () => tensors.map((tensor) => bits({ params: tensor.data, state: optimizer.state(tensor) }));
  return { tensors, optimizer, load, state };
}

const norm = (tensors: readonly Tensor[]) =>
  Math.sqrt(tensors.flatMap(({ grad }) => [...grad]).reduce((sum, g) => sum + g * g, 0));

test("the norm and the clipped gradients are PyTorch's", () => {
  for (const { step, max_norm, norm, grads } of read("clip_norm.json").cases) {
    const arena = small();
    const model: Record<string, Tensor> = arena.tensors(golden.vectors.shapes);
    for (const name in model) model[name]!.grad.set(golden.vectors.grads[name][step - 1]);
    const { gradNorm } = sgd(model, { lr: 1, clipNorm: max_norm }).step();
    expect(Math.abs(gradNorm! - norm)).toBeLessThan(1e-12 * norm);
    for (const name in model)
      expect(
        error(
          model[name]!.data,
          grads[name].map((g: number) => -g),
        ),
        name,
      ).toBeLessThan(1);
  }
});

test("the average is PyTorch's", () => {
  const { decay, result } = read("ema.json");
  const arena = small();
  const model: Record<string, Tensor> = arena.tensors(golden.vectors.shapes);
  for (const name in model) model[name]!.data.set(golden.vectors.params[name]);
  const optimizer = sgd(model, { lr: 0, ema: decay });
  optimizer.step(); // the average begins with the parameters
  for (let step = 0; step < golden.steps; step++) {
    for (const name in model) model[name]!.data.set(golden.vectors.grads[name][step]);
    optimizer.step();
  }
  for (const name in model) expect(error(optimizer.average(model[name]!), result[name]), name).toBeLessThan(1);
});

describe.each(cases)("$name", (one: Case) => {
  test("clipping by norm is a scale, by value a clamp, and both leave the gradient", () => {
    const clipped = make(one, small(), { clipNorm: 0.5, clipValue: 0.01 });
    const scaled = make(one, small(), { clipValue: 0.01 });
    for (let step = 0; step < 4; step++) {
      clipped.load(step);
      const before = clipped.tensors.map(({ grad }) => [...grad]);
      const { gradNorm, skipped } = clipped.optimizer.step();
      expect(skipped).toBe(false);
      expect(Math.abs(gradNorm - norm(clipped.tensors))).toBeLessThan(1e-12 * gradNorm);
      expect(clipped.tensors.map(({ grad }) => [...grad])).toEqual(before);
      const scale = Math.fround(Math.min(1, 0.5 / (gradNorm + 1e-6)));
      scaled.load(step, (g) => Math.fround(g * scale));
      expect(scaled.optimizer.step().gradNorm).toBe(undefined);
    }
    // Not to the bit, because tiny gradients count as zero before scaling.
    clipped.tensors.forEach(({ data }, i) => expect(error(data, scaled.tensors[i]!.data)).toBeLessThan(1e-6));
  });

  test("clipping by the norm of each tensor scales its gradient, before clipping by the norm of all", () => {
    const clipped = make(one, small(), { clipTensorNorm: 0.5, clipNorm: 0.6 });
    const scaled = make(one, small(), {});
    for (let step = 0; step < 4; step++) {
      clipped.load(step);
      const norms = clipped.tensors.map((tensor) => norm([tensor]));
      const scales = norms.map((norm) => Math.min(1, 0.5 / norm));
      const all = Math.hypot(...norms.map((norm, i) => norm * scales[i]!));
      const { gradNorm } = clipped.optimizer.step();
      expect(Math.abs(gradNorm - Math.hypot(...norms))).toBeLessThan(1e-12 * gradNorm);
      scaled.load(step);
      scaled.tensors.forEach(({ grad }, i) => {
        const scale = Math.fround(scales[i]! * Math.min(1, 0.6 / (all + 1e-6)));
        grad.set(grad.map((g) => g * scale));
      });
      scaled.optimizer.step();
    }
    // Not to the bit, because Adam scales the weights of its averages.
    clipped.tensors.forEach(({ data }, i) => expect(error(data, scaled.tensors[i]!.data)).toBeLessThan(0.1));
  });

  test("rows are clipped by their parameters' norm, in place", () => {
    const shapes = [[7, 13], [6], [3, 2, 10]];
    const clipped = make(one, small(), { agc: 0.02, gradScale: 0.5 }, shapes);
    const plain = make(one, small(), { gradScale: 0.5 }, shapes);
    let touched = 0;
    for (let step = 0; step < 4; step++) {
      for (const { load } of [clipped, plain]) load(step);
      for (const { shape, size, data, grad } of plain.tensors) {
        const unit = shape.length === 1 ? size : size / shape[0]!;
        for (let start = 0; start < size; start += unit) {
          const norm = (of: Float32Array) => Math.hypot(...of.subarray(start, start + unit));
          const scale = (0.02 * Math.max(norm(data), 1e-3)) / (0.5 * norm(grad));
          if (scale < 1) {
            touched += 1;
            grad.set(
              grad.subarray(start, start + unit).map((g) => g * scale),
              start,
            );
          }
        }
      }
      clipped.optimizer.step();
      clipped.tensors.forEach(({ grad }, i) => expect(error(grad, plain.tensors[i]!.grad)).toBeLessThan(0.1));
      // With the same gradients, a difference in the last bit does not grow.
      plain.tensors.forEach(({ grad }, i) => grad.set(clipped.tensors[i]!.grad));
      plain.optimizer.step();
    }
    expect(touched).toBeGreaterThan(10);
    expect(touched).toBeLessThan(4 * 11);
    expect(clipped.state()).toEqual(plain.state());
  });

  test.each(["mean", "sum"])("micro-batches make one step of their gradients' %s", (accumulateBy) => {
    const added = { clipNorm: 0.1, ema: 0.9 };
    const gathered = make(one, small(), { ...added, accumulate: 4, accumulateBy, zeroGrad: true });
    const plain = make(one, small(), { ...added, gradScale: accumulateBy === "mean" ? 1 / 4 : 1 });
    for (let step = 0; step < 8; step++) {
      const before = gathered.state();
      gathered.load(step % 4);
      const { gradNorm, skipped } = gathered.optimizer.step();
      expect(skipped).toBe(false);
      expect(gathered.tensors.every(({ grad }) => grad.every((g) => g === 0))).toBe(true);
      if (step % 4 < 3) {
        expect([gradNorm, gathered.state()]).toEqual([undefined, before]);
        continue;
      }
      const sums = plain.tensors.map(({ size }) => new Float32Array(size));
      for (let part = 0; part < 4; part++) {
        plain.load(part);
        plain.tensors.forEach(({ grad }, i) => sums[i]!.forEach((sum, j) => (sums[i]![j] = sum + grad[j]!)));
      }
      plain.tensors.forEach(({ grad }, i) => grad.set(sums[i]!));
      expect(plain.optimizer.step().gradNorm).toBe(gradNorm);
    }
    expect(gathered.optimizer.steps).toBe(2);
    expect(gathered.state()).toEqual(plain.state());
  });

  test("gradScale gives the step of scaled gradients", () => {
    const [scaled, plain] = [make(one, small(), { gradScale: 0.25 }), make(one, small(), {})];
    for (let step = 0; step < 4; step++) {
      scaled.load(step, (g) => g * 4);
      plain.load(step);
      scaled.optimizer.step();
      plain.optimizer.step();
    }
    expect(scaled.state()).toEqual(plain.state());
  });

  test("averages and zeroing are exact, and change nothing else", () => {
    const [riding, plain] = [make(one, small(), { ema: 0.9, zeroGrad: true }), make(one, small(), {})];
    let expected = riding.tensors.map(({ size }) => new Float64Array(size));
    for (let step = 0; step < 4; step++) {
      for (const { load, optimizer } of [riding, plain]) {
        load(step);
        optimizer.step();
      }
      expect(riding.tensors.every(({ grad }) => grad.every((g) => g === 0))).toBe(true);
      const take = step === 0 ? 1 : 0.1;
      expected = expected.map((average, i) => average.map((a, j) => a + take * (riding.tensors[i]!.data[j]! - a)));
    }
    expect(riding.state()).toEqual(plain.state());
    riding.tensors.forEach((tensor, i) => {
      expect(error(riding.optimizer.average(tensor), expected[i]!)).toBeLessThan(1);
    });
    const averages = riding.tensors.map((tensor) => [...riding.optimizer.average(tensor)]);
    riding.optimizer.swapAverages();
    expect(riding.tensors.map(({ data }) => [...data])).toEqual(averages);
    riding.optimizer.swapAverages();
    expect(riding.state()).toEqual(plain.state());
  });

  test.each(["throw", "skip"])("a gradient that is not finite is found before anything is written: %s", (nonFinite) => {
    const { tensors, optimizer, load, state } = make(one, small(), { nonFinite, ema: 0.9, zeroGrad: true });
    load(0);
    expect(optimizer.step()).toEqual({ gradNorm: expect.any(Number), skipped: false });
    for (const wrong of [Number.NaN, Infinity, -Infinity]) {
      load(1);
      tensors[2]!.grad[7] = wrong;
      const before = [...state(), ...tensors.map((tensor) => [...optimizer.average(tensor)])];
      if (nonFinite === "skip") expect(optimizer.step().skipped).toBe(true);
      else {
        const message = `${one.rule.name}: the gradient of tensor "c" must be finite, got ${wrong} at index 7; nothing was updated`;
        expect(() => optimizer.step()).toThrow(message);
        expect(tensors[2]!.grad[7]).toBe(wrong);
      }
      expect([...state(), ...tensors.map((tensor) => [...optimizer.average(tensor)])]).toEqual(before);
      expect(optimizer.steps).toBe(1);
    }
    load(1);
    expect(optimizer.step().skipped).toBe(false);
    expect(optimizer.steps).toBe(2);
  });
});

test.each([
  { weightDecay: 0.1, clipValue: 0.5, ema: 0.9, box: [-0.9, 0.9], zeroGrad: true },
  { accumulate: 2, amsgrad: true },
] as const)("a step that is larger than caches gives the bits of steps over its parts: %o", (options) => {
  const size = 2 ** 19;
  const parameters = Float32Array.from({ length: 2 * size }, numbers(1));
  const gradients = Float32Array.from({ length: 2 * size }, numbers(2));
  /** Steps once with all tensors, or with an optimizer for each. */
  const after = (sizes: readonly number[]) => {
    const arena = small({ maxBytes: 2 ** 27 });
    const tensors = sizes.map((size, i) => arena.tensor(`w${i}`, [size]));
    const optimizers = tensors.map((tensor) => adamw([tensor], options));
    for (let step = 1; step <= 34; step++) {
      tensors.forEach(({ data, grad }, i) => {
        if (step === 1) data.set(parameters.subarray(i * size, i * size + data.length));
        grad.set(gradients.subarray(i * size, i * size + data.length));
        optimizers[i]!.step();
      });
    }
    const arrays = tensors.map((tensor, i) => {
      const [optimizer, { data, grad }] = [optimizers[i]!, tensor];
      const average = "ema" in options ? [optimizer.average(tensor)] : [];
      return [data, grad, ...average, ...Object.values(optimizer.state(tensor))];
    });
    return arrays[0]!.map((_, k) =>
      arrays.reduce((hash, of) => hash.update(of[k]!), createHash("sha256")).digest("hex"),
    );
  };
  expect(after([2 * size])).toEqual(after([size, size]));
});

test("the norm and the clipped step have the same bits on any number of threads", async () => {
  const shapes = [[1000, 300], [70_000], [250_001]];
  const added = { clipNorm: 1, clipTensorNorm: 0.8, agc: 0.01, nonFinite: "throw", ema: 0.99, accumulate: 2 };
  const results: unknown[] = [];
  for (const threads of [1, 2, 3, 4, 8, 16]) {
    const arena = await createArena({ maxBytes: 2 ** 26, threads });
    const { tensors, optimizer, load, state } = make({ factory: adamw, options: {} }, arena, added, shapes);
    const norms: unknown[] = [];
    for (let step = 0; step < 4; step++) {
      load(step);
      norms.push({ ...(step % 2 ? await optimizer.stepAsync() : optimizer.step()) });
    }
    const hash = createHash("sha256");
    for (const part of state()) hash.update(part);
    for (const tensor of tensors) hash.update(optimizer.average(tensor).slice());
    results.push([norms, hash.digest("hex")]);
    arena.free();
  }
  for (const result of results) expect(result).toEqual(results[0]);
});

describe("averages", () => {
  /** The average of the parameters after each step, by its definition in double precision. */
  const definitions: Record<string, [options: object, average: (params: readonly number[]) => number]> = {
    "ema with warm-up": [
      { ema: 0.9, emaWarmup: true },
      (params) =>
        params.slice(1).reduce((average, p, n) => {
          const decay = Math.min(0.9, (2 + n) / (11 + n));
          return decay * average + (1 - decay) * p;
        }, params[0]!),
    ],
    "ema from a step on": [
      { ema: 0.9, averageStart: 7 },
      (params) => {
        const rest = params.slice(7);
        return rest.slice(1).reduce((average, p) => 0.9 * average + 0.1 * p, rest[0] ?? params.at(-1)!);
      },
    ],
    swa: [
      { swa: 3, averageStart: 5 },
      (params) => {
        const taken = params.filter((_, i) => i + 1 > 5 && (i + 1 - 5) % 3 === 0);
        return taken.length === 0 ? params.at(-1)! : taken.reduce((sum, p) => sum + p, 0) / taken.length;
      },
    ],
    "swa of every step": [{ swa: 1 }, (params) => params.reduce((sum, p) => sum + p, 0) / params.length],
  };

  test.each(Object.entries(definitions))("%s", (_, [options, average]) => {
    const w = small().tensor("w", [3]);
    const optimizer = sgd([w], { lr: 0, ...options });
    const seen: number[] = [];
    for (let step = 1; step <= 40; step++) {
      seen.push(Math.fround(Math.sqrt(step)));
      w.data.fill(seen.at(-1)!);
      optimizer.step();
      const expected = average(seen);
      expect(error(optimizer.average(w), [expected, expected, expected]), `step ${step}`).toBeLessThan(1);
    }
  });

  test("before the first step they equal the parameters, and an exchange during a step is refused", async () => {
    const w = small().tensor("w", [3]);
    w.data.fill(7);
    const optimizer = sgd([w], { ema: 0.9 });
    expect([...optimizer.average(w)]).toEqual([7, 7, 7]);
    optimizer.swapAverages();
    expect([...w.data]).toEqual([7, 7, 7]);
    optimizer.swapAverages();
    const step = optimizer.stepAsync();
    expect(() => optimizer.swapAverages()).toThrow("sgd: swapAverages: a stepAsync() is under way in this arena");
    await step;
  });

  test.each([{ swa: 1 }, { swa: 2, averageStart: 3 }, { ema: 0.5 }, { ema: 0.5, emaWarmup: true, averageStart: 4 }])(
    "a group that joins later has the average of an optimizer of its own: %j",
    (options) => {
      fc.assert(
        fc.property(fc.nat(8), fc.integer({ min: 1, max: 9 }), (before, after) => {
          const { w, late, own } = small().tensors({ w: [2], late: [2], own: [2] });
          const optimizer = sgd([w], { ...options, lr: 1 });
          for (let i = 0; i < before; i++) optimizer.step();
          optimizer.addGroup({ params: [late] });
          for (const tensor of [late, own]) tensor.data.fill(3); // weights that are set after the group is added
          const averageStart = Math.max(0, (options.averageStart ?? 0) - before);
          const alone = sgd([own], { ...options, averageStart, lr: 1 });
          for (const tensor of [late, own]) tensor.grad.fill(0.25);
          for (let i = 0; i < after; i++) {
            optimizer.step();
            alone.step();
          }
          const isInPhase =
            !("swa" in options) || Math.max(0, before - (options.averageStart ?? 0)) % options.swa! === 0;
          if (isInPhase) expect([...optimizer.average(late)]).toEqual([...alone.average(own)]);
        }),
      );
    },
  );

  test.each([
    [{ ema: 0.5, averageStart: 2 }, false],
    [{ ema: 0.5, averageStart: 2 }, true],
    [{ swa: 2 }, false],
    [{ swa: 3 }, false],
  ])("begins with the parameters, whatever they were before: %j", (options, isRead) => {
    const w = small().tensor("w", [3]);
    const optimizer = sgd([w], { lr: 0, ...options });
    w.data.set([1e8, Number.NaN, Infinity]);
    optimizer.step();
    w.data.set([1.5, 2, 3]);
    for (let i = 0; i < 4; i++) {
      if (isRead) optimizer.average(w);
      optimizer.step();
    }
    expect([...optimizer.average(w)]).toEqual([1.5, 2, 3]);
  });

  test("while they are exchanged, steps and saving are refused", () => {
    const w = small().tensor("w", [3]);
    const optimizer = sgd([w], { ema: 0.9 });
    optimizer.step();
    optimizer.swapAverages();
    const message = "the parameters are the averages; call swapAverages() again first";
    expect(() => optimizer.step()).toThrow(`sgd: ${message}`);
    expect(() => save([w], optimizer)).toThrow(`save: sgd: ${message}`);
    optimizer.swapAverages();
    expect(optimizer.step().skipped).toBe(false);
  });

  test("options of averages without ema or swa are refused", () => {
    const w = small().tensor("w", [3]);
    for (const options of [{ emaWarmup: true }, { emaWarmup: true, swa: 2 }]) {
      expect(() => sgd([w], options)).toThrow("sgd: emaWarmup requires ema, got none");
    }
    expect(() => sgd([w], { averageStart: 3 })).toThrow("sgd: averageStart requires ema or swa, got neither");
  });

  test("ema and swa together are refused", () => {
    const w = small().tensor("w", [3]);
    expect(() => sgd([w], { ema: 0.9, swa: 2 })).toThrow("sgd: ema and swa must not both be given");
  });
});

test.each(["throw", "skip"])("micro-batches whose sum is not finite are dropped: %s", (nonFinite) => {
  const { tensors, optimizer, load, state } = make({ factory: sgd, options: {} }, small(), {
    nonFinite,
    accumulate: 2,
  });
  load(0);
  tensors[2]!.grad[7] = Infinity;
  const before = state();
  optimizer.step();
  load(1);
  if (nonFinite === "skip") expect(optimizer.step().skipped).toBe(true);
  else {
    expect(() => optimizer.step()).toThrow(
      'sgd: the sum of the micro-batches\' gradients of tensor "c" must be finite, got Infinity at index 7; the micro-batches were dropped, and nothing was updated',
    );
  }
  expect([state(), optimizer.steps]).toEqual([before, 0]);
  for (const part of [0, 1]) {
    load(part);
    optimizer.step();
  }
  expect(optimizer.steps).toBe(1);
  expect(state().every((part) => new Float32Array(part.buffer).every(Number.isFinite))).toBe(true);
});

describe("the scale of the loss", () => {
  test("divides the gradients, and the norm that is reported", () => {
    const [scaled, plain] = [{ lossScale: 1024, clipNorm: 1 }, { clipNorm: 1 }].map((added) =>
      make({ factory: adamw, options: {} }, small(), added),
    ) as [ReturnType<typeof make>, ReturnType<typeof make>];
    for (let step = 0; step < 4; step++) {
      scaled.load(step, (g) => g * scaled.optimizer.lossScale);
      plain.load(step);
      expect({ ...scaled.optimizer.step() }).toEqual({ ...plain.optimizer.step() });
    }
    expect(scaled.state()).toEqual(plain.state());
    expect([scaled.optimizer.lossScale, plain.optimizer.lossScale]).toEqual([1024, 1]);
  });

  test("changes after overflows and good steps as in PyTorch's GradScaler", () => {
    const { tensors, optimizer, load, state } = make({ factory: sgd, options: {} }, small(), {
      lossScale: "dynamic",
      zeroGrad: true,
    });
    expect(optimizer.lossScale).toBe(65536);
    for (const scale of [32768, 16384]) {
      load(0);
      tensors[1]!.grad[0] = Infinity;
      const before = state();
      expect(optimizer.step().skipped).toBe(true);
      expect(state()).toEqual(before);
      expect(tensors[0]!.grad.every((g) => g === 0)).toBe(true);
      expect([optimizer.lossScale, optimizer.steps]).toEqual([scale, 0]);
    }
    for (let step = 1; step < 2000; step++) optimizer.step();
    expect(optimizer.lossScale).toBe(16384);
    expect(optimizer.step().skipped).toBe(false);
    expect([optimizer.lossScale, optimizer.steps]).toEqual([32768, 2000]);
    for (let step = 0; step < 1999; step++) optimizer.step();
    tensors[1]!.grad[0] = Number.NaN;
    optimizer.step();
    expect(optimizer.lossScale).toBe(16384);
  });
});

test("step() returns the same report each time, and stepAsync() a new one", async () => {
  const { optimizer, load } = make({ factory: sgd, options: {} }, small(), { clipNorm: 1 });
  load(0);
  const report = optimizer.step();
  const first = report.gradNorm;
  const [a, b] = await Promise.all([optimizer.stepAsync(), optimizer.stepAsync()]);
  load(1);
  expect(optimizer.step()).toBe(report);
  expect([a.gradNorm, b.gradNorm]).toEqual([first, first]);
  expect(report.gradNorm).not.toBe(first);
  expect(a).not.toBe(b);
});

test("with clipTensorNorm, an infinite gradient of one tensor does not affect the others", () => {
  const { x, y } = small().tensors({ x: [1], y: [1] });
  x.grad.fill(Infinity);
  y.grad.fill(0.5);
  sgd([x, y], { lr: 1, clipTensorNorm: 1 }).step();
  expect([x.data[0], y.data[0]]).toEqual([Number.NaN, -0.5]);
});

test("with agc, a gradient that is NaN makes its row NaN, and no other", () => {
  const w = small().tensor("w", [2, 3]);
  w.data.fill(1);
  w.grad.set([Number.NaN, 1, 2, 1, 1, 1]);
  sgd([w], { lr: 1, agc: 0.01 }).step();
  expect([...w.data.subarray(0, 3)]).toEqual([Number.NaN, Number.NaN, Number.NaN]);
  for (const x of w.data.subarray(3)) expect(x).toBeCloseTo(0.99, 6);
});

test("a schedule that frees the arena makes the step an error", () => {
  const arena = small();
  const w = arena.tensor("w", [2]);
  const optimizer = sgd([w], { lr: (step) => (step === 1 ? (arena.free(), 1) : 1) });
  optimizer.step();
  expect(() => optimizer.step()).toThrow("the arena was freed");
});

test("small gradients add up", () => {
  const w = small().tensor("w", [1]);
  const optimizer = sgd([w], { lr: 1, accumulate: 2, accumulateBy: "sum", gradScale: 1e15 });
  for (let i = 0; i < 2; i++) {
    w.grad.fill(1e-21);
    optimizer.step();
  }
  expect(error(w.data, [-2e-6])).toBeLessThan(0.1);
});

test("by default, infinite and NaN norms scale all gradients as in PyTorch", () => {
  const { tensors, optimizer, load } = make({ factory: sgd, options: {} }, small(), { clipNorm: 1 });
  load(0);
  tensors[0]!.grad[0] = Infinity;
  const before = [...tensors[1]!.data];
  expect(optimizer.step().gradNorm).toBe(Infinity);
  expect([...tensors[1]!.data]).toEqual(before); // scaled to zero
  expect(tensors[0]!.data[0]).toBe(Number.NaN);
});

describe("refused", () => {
  const wrong: Record<string, unknown[]> = {
    number: [Number.NaN, -1, "1", null, [1], {}],
    boolean: [0, 1, "true", null, [], {}],
    string: ["", "Throw", 0, null, [], {}],
  };
  const list = Object.entries(sharedOptions).flatMap(([name, option]) =>
    wrong[typeof option.default]!.map((value) => [name, value] as const),
  );

  test.each(list)("%s: %s", (name, value) => {
    const arena = small();
    const w = arena.tensor("w", [4]);
    const left = arena.bytesLeft;
    expect(() => sgd([w], { [name]: value } as object)).toThrow(new RegExp(`^sgd: ${name} must be .*got `));
    for (const spelled of [name, snake(name)]) {
      expect(() => sgd([{ params: [w], [spelled]: sharedOptions[name as "ema"].default }] as never)).toThrow(
        `sgd: groups[0].${name} is the same for all groups; pass it as an option of the optimizer`,
      );
    }
    expect(arena.bytesLeft).toBe(left);
    expect(() => Object.assign(sgd([w]).hyper, { [name]: 1 })).toThrow(TypeError);
  });

  test("averages of an optimizer without them, and of other tensors", () => {
    const arena = small();
    const { w, b } = arena.tensors({ w: [4], b: [1] });
    expect(() => sgd([w]).average(w)).toThrow("sgd: average requires the option ema or swa, got neither");
    const message = 'sgd: average: tensor "b" is not among the parameters of this optimizer';
    expect(() => sgd([w], { ema: 0.9 }).average(b)).toThrow(message);
    expect(() => sgd([w]).swapAverages()).toThrow("sgd: swapAverages requires the option ema or swa");
  });
});
