/** Laws that hold for every rule with every set of options. A new rule is tested as soon as it is registered. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Rule } from "../ts/optimizer/definition.js";
import { resolveAll, resolveGroup } from "../ts/optimizer/hyper.js";
import type { Option } from "../ts/option.js";
import { bits, toleranceFactor, error, inputs, kernelRun, numbers, oracleRun, type Span } from "./harness.js";
import { matrixOf } from "./oracle.matrix.js";
import { createArenaSync } from "../ts/arena/arena.js";
import { adafactor, noisySgd, rprop } from "../ts/rules/index.js";
import { cases, factories, fitting } from "./registry.js";
import { small } from "./small.js";

const steps = 30;
const MIN_NORMAL = 2 ** -126;

describe.each(cases)("$name", ({ factory, rule, options, values }) => {
  const run = inputs(83, steps);
  const shape = (length: number) => (rule.program ? matrixOf(length) : [length]);
  const measures = rule.sums.length > 0 || rule.program !== undefined;

  const compared = toleranceFactor[rule.name] !== Infinity;

  test.runIf(compared)("follows the oracle, parameters and state", () => {
    const actual = kernelRun(rule, values, run);
    const expected = oracleRun(rule, values, run);
    expect(error(actual.params, expected.params)).toBeLessThan(toleranceFactor[rule.name] ?? 1);
    expect(Object.keys(actual.state)).toEqual(Object.keys(expected.state));
    for (const slot of Object.keys(expected.state)) {
      expect(error(actual.state[slot]!, expected.state[slot]!), slot).toBeLessThan(toleranceFactor[rule.name] ?? 1);
    }
  });

  test.skipIf(measures)("an element's bits do not depend on the number of elements", () => {
    const powers = [7, 8, 10, 12].flatMap((k) => [2 ** k - 1, 2 ** k, 2 ** k + 1]);
    const most = inputs(4097, 3);
    const all = kernelRun(rule, values, most);
    for (const length of [...Array.from({ length: 67 }, (_, i) => i + 1), ...powers]) {
      const part = kernelRun(rule, values, {
        params: most.params.slice(0, length),
        grads: most.grads.map((grad) => grad.slice(0, length)),
      });
      expect(bits(part).equals(bits(all, length)), `length ${length}`).toBe(true);
    }
  });

  test.skipIf(rule.program)("an empty span changes nothing", () => {
    const actual = kernelRun(rule, values, run, { spans: [[16, 16]] });
    const before = kernelRun(rule, values, run, { spans: [] });
    expect(bits(actual).equals(bits(before))).toBe(true);
  });

  test.skipIf(rule.program)("any split of a span gives the same bits, also in streams", () => {
    const long = inputs(16 * 83, 3);
    const whole = bits(kernelRun(rule, values, long));
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 0, max: 83 }), { maxLength: 8 }),
        fc.boolean(),
        fc.boolean(),
        (cuts, backwards, inStreams) => {
          const edges = [0, ...cuts.sort((a, b) => a - b), 83];
          const spans = edges.slice(1).map((end, i): Span => [16 * edges[i]!, 16 * end]);
          if (backwards) spans.reverse();
          expect(bits(kernelRun(rule, values, long, { spans, inStreams })).equals(whole)).toBe(true);
        },
      ),
      { numRuns: 25 },
    );
  });

  test("shared and unshared memory give the same bits", () => {
    const [shared, unshared] = [true, false].map((shared) => {
      const into = small({ shared });
      return bits(kernelRun(rule, values, run, { into }));
    });
    expect(shared!.equals(unshared!)).toBe(true);
  });

  // With a large parameter, the first steps of dog and dowg change only its last digits, and later steps depend on the
  // distance.
  test.skipIf(rule.sums.includes("distance") || !compared)("random numbers follow the oracle", () => {
    // Numbers close to zero are replaced by zero.
    const float = fc.float({ min: -1000, max: 1000, noNaN: true }).map((x) => (Math.abs(x) < 1e-15 ? 0 : x));
    const element = fc.record({ p: float, g: fc.array(float, { minLength: 3, maxLength: 3 }) });
    fc.assert(
      fc.property(fc.array(element, { minLength: 1, maxLength: 9 }), (elements) => {
        const run = {
          params: elements.map(({ p }) => p),
          grads: [0, 1, 2].map((step) => elements.map(({ g }) => g[step]!)),
        };
        const distance = error(kernelRun(rule, values, run).params, oracleRun(rule, values, run).params);
        expect(distance).toBeLessThan(toleranceFactor[rule.name] ?? 10); // differences of such numbers lose digits
      }),
      { numRuns: 100 },
    );
  });

  test(`zero gradients and no decay move ${moves[rule.name] ?? "nothing"}`, () => {
    const still = rule.name in moves ? values : resolveGroup(rule, resolveAll(rule, { ...options, ...atRest(rule) }));
    const zeros = { params: run.params, grads: run.grads.map(() => new Float32Array(83)) };
    const { params } = kernelRun(rule, still, zeros);
    if (rule.name in moves) expect(error(params, oracleRun(rule, still, zeros).params)).toBeLessThan(1);
    else expect([...params]).toEqual([...run.params]);
  });

  test.runIf(rule.hyper.lr?.range.startsWith("[0"))("lr 0 changes no parameter", () => {
    const { params } = kernelRun(rule, resolveGroup(rule, resolveAll(rule, { ...options, lr: 0 })), run);
    expect([...params]).toEqual([...run.params]);
  });

  test("NaN and infinity spread only as in the formula", () => {
    const strange = [Number.NaN, Infinity, -Infinity];
    const clean = kernelRun(rule, values, inputs(24, 2));
    const { params, grads } = inputs(24, 2);
    strange.forEach((x, i) => {
      params[i * 3] = x;
      grads[0]![i * 3 + 10] = x;
    });
    const actual = kernelRun(rule, values, { params, grads });
    const expected = oracleRun(rule, values, { params, grads });
    for (let i = 0; i < 24; i++) {
      if (measures || [0, 3, 6, 10, 13, 16].includes(i))
        expect(error([actual.params[i]!], [expected.params[i]!]), `${i}`).toBeLessThan(1);
      else expect(actual.params[i]).toBe(clean.params[i]);
    }
  });

  test("fading state becomes zero, never subnormal", () => {
    const grads = [new Float32Array(16).fill(1e-18), ...Array.from({ length: 400 }, () => new Float32Array(16))];
    const still = resolveGroup(rule, resolveAll(rule, { ...options, ...atRest(rule) }));
    const { state } = kernelRun(rule, still, { params: new Float32Array(16), grads });
    for (const [slot, view] of Object.entries(state)) {
      expect(
        view.every((x) => x === 0 || Math.abs(x) >= MIN_NORMAL),
        slot,
      ).toBe(true);
    }
  });

  test("gradients so small that they would only slow a step down count as zero", () => {
    const tiny = (x: number) =>
      kernelRun(rule, values, { ...run, grads: run.grads.map(() => new Float32Array(83).fill(x)) });
    const zero = bits(tiny(0));
    for (const x of [1e-40, -1e-40, 1e-38, -1e-38]) expect(bits(tiny(x)).equals(zero), `${x}`).toBe(true);
  });

  test("maximize gives the bits of minimizing with the opposite gradient", () => {
    const opposite = { ...run, grads: run.grads.map((grad) => grad.map((g) => -g)) };
    const climbed = kernelRun(rule, resolveGroup(rule, resolveAll(rule, { ...options, maximize: true })), run);
    expect(bits(climbed).equals(bits(kernelRun(rule, values, opposite)))).toBe(true);
  });

  test("each group is updated by its own options, and the order of groups changes no bits", () => {
    const next = numbers(7);
    const [own, sets] = [{ lr: 0.25 }, ["a", "b", "c", "d"]];
    const train = (order: (groups: object[]) => object[]) => {
      const arena = small();
      const tensors = arena.tensors({ a: shape(19), b: [3, 11], c: rule.program ? [1, 1] : [], d: shape(5) });
      const all = sets.map((name) => tensors[name as "a"]);
      const optimizer = factory(
        order([{ params: [tensors.a, tensors.c] }, { params: { d: tensors.d, b: tensors.b }, ...own }]),
        options,
      );
      return { all, optimizer, tensors };
    };
    const data = sets.map((_, i) => inputs([19, 33, 1, 5][i]!, 3, 1 + Math.abs((next() * 1000) | 0)));
    const results = [(groups: object[]) => groups, (groups: object[]) => groups.toReversed()].map((order) => {
      const { all, optimizer } = train(order);
      all.forEach((tensor, i) => {
        tensor.data.set(data[i]!.params);
      });
      for (let step = 0; step < 3; step++) {
        all.forEach((tensor, i) => {
          tensor.grad.set(data[i]!.grads[step]!);
        });
        optimizer.step();
      }
      return all.map((tensor) => bits({ params: tensor.data, state: optimizer.state(tensor) }));
    });
    const expected = data.map((run, i) =>
      bits(
        kernelRun(rule, resolveGroup(rule, resolveAll(rule, i % 2 ? { ...options, ...own } : options)), run, {
          name: sets[i],
        }),
      ),
    );
    expect(results[1]).toEqual(results[0]);
    // In a rule with sums over all tensors, each tensor also depends on the others.
    if (!measures || rule.perTensor) expect(results[0]).toEqual(expected);
  });

  test.each(Object.keys(rule.hyper))("%s is live, and refused values change nothing", (name) => {
    const hyper = Object.fromEntries(Object.keys(rule.hyper).map((key) => [key, values[key]]));
    const changed = { ...hyper, [name]: nudged(hyper[name], rule.hyper[name]!) };
    if (rule.conflict(changed) !== undefined) return;
    const arena = small();
    const w = arena.tensor("w", shape(83));
    w.data.set(run.params);
    const optimizer = factory([w], options);
    run.grads.forEach((grad, index) => {
      if (index === 2 && !Object.values(rule.addedState).some((adder) => adder === name && !hyper[name])) {
        optimizer.hyper[name] = changed[name];
      }
      for (const wrong of wrongs(rule.hyper[name]!)) {
        expect(() => {
          optimizer.hyper[name] = wrong;
        }).toThrow(`${rule.name}: ${name}`);
      }
      w.grad.set(grad);
      optimizer.step();
    });
    expect(optimizer.steps).toBe(steps);
    if (!compared) return;
    const expected = oracleRun(rule, (t) => (t <= 2 ? values : { ...values, ...optimizer.hyper }), run);
    expect(error(w.data, expected.params)).toBeLessThan(toleranceFactor[rule.name] ?? 1);
  });
});

/** The rules that move parameters although gradients are zero, and the end of the test's title. */
const moves: Readonly<Record<string, string>> = {
  fromage: "them towards zero, as every step does",
  ftrl: "them to what no gradient asks for",
};

/** The options that turn off everything that moves parameters without a gradient. */
function atRest({ hyper, startsAt }: Rule): object {
  const starts = Object.values(startsAt).filter((option) => option === "initialAccumulatorValue");
  const decays = ["weightDecay", "lambd", "eta"].filter((name) => name in hyper);
  return Object.fromEntries([...decays, ...starts].map((name) => [name, 0]));
}

/** Values that an option refuses. */
function wrongs({ default: value, range }: Option): unknown[] {
  const list = Array.isArray(value) && value.length === 1 ? [1.5] : [0.1];
  return [Number.NaN, range.startsWith("(-∞") ? 1 : -1, "1", undefined, list, range.endsWith("∞]") ? 0 : Infinity];
}

/** Another value of the same kind, on the same side of zero. */
function nudged(value: unknown, { range }: Option): unknown {
  if (typeof value === "boolean") return !value;
  const factor = range.startsWith("[1") ? 1.1 : 0.9;
  return Array.isArray(value) ? value.map((x) => x * factor) : (value as number) * factor;
}

/**
 * Rules whose formulas, in float32, are not finite above some gradient: their pages say so. Sums of gradients are not finite near
 * the largest number.
 */
const limits: Readonly<Record<string, number>> = {
  sgd: 1e38,
  muon: 1e38,
  shampoo: 1e18,
  soap: 1e18,
  adafactor: 1e18,
  ftrl: 1e19,
  optimisticAdam: 1e38,
};

test.each(cases.map((one) => [one.name, one] as const))(
  "%s stays finite after a large gradient",
  (_, { rule, factory, options }) => {
    fc.assert(
      fc.property(fc.double({ min: 15, max: 38.4, noNaN: true }), fc.boolean(), (exponent, isNegative) => {
        const size = Math.min(10 ** exponent, limits[rule.name] ?? 3e38);
        const w = createArenaSync({ maxBytes: 2 ** 18, threads: 1 }).tensor("w", fitting(rule, [4, 4]));
        w.data.fill(1);
        const optimizer = factory([w], options);
        for (const grad of [isNegative ? -size : size, 1e-3, 0]) {
          w.grad.fill(grad);
          optimizer.step();
          expect(w.data.every(Number.isFinite), `${size}, then ${grad}: ${w.data[0]}`).toBe(true);
        }
      }),
      { numRuns: 15 },
    );
  },
);

test.each(factories.filter(({ rule }) => "eps" in rule.hyper).map((factory) => [factory.rule.name, factory] as const))(
  "%s without eps and without a gradient stays finite",
  (_, factory) => {
    const { eps } = factory.rule.hyper;
    if (eps!.range.startsWith("(")) return; // it must be above zero
    const zero = Array.isArray(eps!.default) ? eps!.default.map(() => 0) : 0;
    for (const param of [0, 1]) {
      const w = small().tensor("w", fitting(factory.rule, [4, 4]));
      w.data.fill(param);
      const optimizer = factory([w], { eps: zero });
      for (let i = 0; i < 3; i++) optimizer.step();
      expect(w.data.every(Number.isFinite)).toBe(true);
    }
  },
);

test("rprop: an infinite gradient of the other sign does not move the parameter", () => {
  const arena = small();
  const w = arena.tensor("w", [2]);
  const optimizer = rprop([w]);
  w.grad.set([-1, -1]);
  optimizer.step();
  const before = [...w.data];
  w.grad.set([1, Infinity]);
  optimizer.step();
  expect([...w.data]).toEqual(before);
  expect([...optimizer.state(w).prev]).toEqual([0, 0]);
});

test("adafactor: a gradient of NaN does not change the steps of other elements of a vector, as in PyTorch", () => {
  const w = small().tensor("w", [3]);
  w.data.set([1, 2, 3]);
  const optimizer = adafactor([w]);
  w.grad.set([0.5, Number.NaN, -0.5]);
  optimizer.step();
  const rate = 0.01 * Math.sqrt(14 / 3); // relative to the root mean square of the parameters
  expect(w.data[0]).toBeCloseTo(1 - rate, 6);
  expect(w.data[1]).toBeNaN();
  expect(w.data[2]).toBeCloseTo(3 + rate, 6);
});

test("adafactor: an average with the weight 1 is the new square, whatever it was before", () => {
  const w = small().tensor("w", [4]);
  w.data.fill(1);
  const optimizer = adafactor([w], { lr: 0.01, beta2Decay: 0, eps: [1e-7, 1e-3] });
  w.grad.fill(1e4);
  optimizer.step();
  w.grad.set([1e-2, 2e-2, -1e-2, 1e-2]);
  optimizer.step();
  // PyTorch 2.15's numbers.
  expect(error(w.data, [0.9801, 0.9801, 0.9999, 0.9801])).toBeLessThan(1);
  expect(error(optimizer.state(w).variance!, [1e-4, 4e-4, 1e-4, 1e-4])).toBeLessThan(1);
});

test("adafactor: an infinite gradient makes a matrix NaN", () => {
  const w = small().tensor("w", [3, 4]);
  w.data.fill(1);
  w.grad.fill(0.5)[0] = Infinity;
  adafactor([w], { lr: 0.01 }).step();
  expect(w.data.every(Number.isNaN)).toBe(true);
});

test("noisySgd: each pair of a seed and a name has its own noise", () => {
  const noises = new Set<string>();
  for (let seed = 0; seed < 16; seed++) {
    const arena = small();
    const tensors = Array.from({ length: 10 }, (_, i) => arena.tensor(`${i}.weight`, [4]));
    noisySgd(tensors, { lr: 1, seed }).step();
    for (const { data } of tensors) noises.add(data.join());
  }
  expect(noises.size).toBe(160);
});
