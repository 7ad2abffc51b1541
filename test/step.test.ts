/** What rides along with an update: scales, clipping, guards, averages, zeroing; for every rule, on any number of threads. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { describe, expect, onTestFinished, test } from "vitest";
import { type Arena, type ArenaOptions, createArena, createArenaSync } from "../ts/arena.js";
import { overall } from "../ts/definition.js";
import { adamw, sgd } from "../ts/rules/index.js";
import type { Tensor } from "../ts/tensor.js";
import { bits, error, inputs } from "./harness.js";
import { type AnyFactory, type Case, cases } from "./registry.js";

const read = (name: string) => JSON.parse(readFileSync(new URL(`golden/${name}`, import.meta.url), "utf8"));
const golden = read("inputs.json");

function small(options: ArenaOptions = {}): Arena {
  const arena = createArenaSync({ maxBytes: 2 ** 20, threads: 1, ...options });
  onTestFinished(() => arena.free());
  return arena;
}

/** An optimizer over three tensors, two of them side by side, with gradients of its own for every step. */
function make(
  { factory, options }: { factory: AnyFactory; options: object },
  arena: Arena,
  added: object,
  sizes = [83, 1, 40],
) {
  const [a, b] = sizes as [number, number];
  const tensors: Tensor[] = [...Object.values(arena.tensors({ a: [a], b: [b] })), arena.tensor("c", [sizes[2]!])];
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
    // Beside where tiny gradients count as zero, which is decided before scaling.
    clipped.tensors.forEach(({ data }, i) => expect(error(data, scaled.tensors[i]!.data)).toBeLessThan(1e-6));
  });

  test("a scale of the gradients is as if they had been scaled", () => {
    const [scaled, plain] = [make(one, small(), { gradScale: 0.25 }), make(one, small(), {})];
    for (let step = 0; step < 4; step++) {
      scaled.load(step, (g) => g * 4);
      plain.load(step);
      scaled.optimizer.step();
      plain.optimizer.step();
    }
    expect(scaled.state()).toEqual(plain.state());
  });

  test("averages and zeroing change nothing else, and are what they say", () => {
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

  test.each(["throw", "skip"])("a gradient that is not finite, found before anything is written: %s", (nonFinite) => {
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

test("the norm and what follows from it have the same bits on any number of threads", async () => {
  const sizes = [300_000, 70_000, 250_001];
  const added = { clipNorm: 1, ema: 0.99, zeroGrad: true, nonFinite: "throw" };
  const results: unknown[] = [];
  for (const threads of [1, 2, 3, 4, 8, 16]) {
    const arena = await createArena({ maxBytes: 2 ** 26, threads });
    const { tensors, optimizer, load, state } = make({ factory: adamw, options: {} }, arena, added, sizes);
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

describe("the scale of the loss", () => {
  test("is divided out of the gradients, and of the norm that is reported", () => {
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

  test("follows overflows and good steps as PyTorch's GradScaler does", () => {
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

test("a report is one object for all steps, and one of its own for each asynchronous step", async () => {
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

test("infinite and NaN norms do to all gradients what PyTorch's do, unless told otherwise", () => {
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
  const list = Object.entries(overall).flatMap(([name, option]) =>
    wrong[typeof option.default]!.map((value) => [name, value] as const),
  );

  test.each(list)("%s: %s", (name, value) => {
    const arena = small();
    const w = arena.tensor("w", [4]);
    const left = arena.bytesLeft;
    expect(() => sgd([w], { [name]: value } as object)).toThrow(new RegExp(`^sgd: ${name} must be .*got `));
    expect(() => sgd([{ params: [w], [name]: overall[name as "ema"].default }] as never)).toThrow(
      `sgd: groups[0].${name} holds for all groups; give it beside them`,
    );
    expect(() => Object.assign(sgd([w]).hyper, { [name]: 1 })).toThrow(TypeError);
    expect(left - arena.bytesLeft).toBeLessThan(1024);
  });

  test("averages where there are none", () => {
    const arena = small();
    const { w, b } = arena.tensors({ w: [4], b: [1] });
    const message =
      "sgd: average must be asked of one of its params, of an optimizer made with the option ema, got tensor";
    expect(() => sgd([w]).average(w)).toThrow(message);
    expect(() => sgd([w], { ema: 0.9 }).average(b)).toThrow(message);
    expect(() => sgd([w]).swapAverages()).toThrow(message);
  });
});
