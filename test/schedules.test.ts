/** Tests of schedules: values of PyTorch and Optax, properties of all schedules, and optimizers with schedules. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Tensor } from "../ts/arena/tensor.js";
import { cosPi, exp, log, pow } from "../ts/math.js";
import { camel, show } from "../ts/option.js";
import { adamw, sgd } from "../ts/rules/index.js";
import type { ScheduleFactory } from "../ts/schedules/schedule.js";
import { scheduleFrom } from "../ts/schedules/data.js";
import * as factories from "../ts/schedules/index.js";
import * as optax from "../ts/schedules/optax.js";
import * as others from "../ts/schedules/others.js";
import * as torch from "../ts/schedules/torch.js";
import { cases as ruleCases, examples, fitting } from "./registry.js";
import { small } from "./small.js";

const { linear, multiplicativeLR, reduceLROnPlateau, stepLR, warmupCosineDecay } = factories;
const all = factories as unknown as Readonly<Record<string, ScheduleFactory>>;
const { cases } = JSON.parse(readFileSync(new URL("golden/schedules.json", import.meta.url), "utf8"));

/** Converts a PyTorch class name to the name here: `StepLR` to `stepLR`. */
const lowered = (name: string) => name.replace(/^([A-Z]+(?=LR$)|[A-Z])/, (letters) => letters.toLowerCase());

const camels = (options: object): object =>
  Object.fromEntries(
    Object.entries(options).map(([name, value]) => [
      camel(name),
      name === "lr_lambda"
        ? (step: number) => value[step]
        : Array.isArray(value) && typeof value[0] === "object"
          ? value.map(camels)
          : value,
    ]),
  );

test("the package exports every schedule", () => {
  expect({ ...factories }).toEqual({ ...optax, ...others, reduceLROnPlateau, ...torch });
});

describe("rates of PyTorch and Optax", () => {
  const named: any[] = cases.map((one: any) => ({
    ...one,
    name: one.from === "torch" ? lowered(one.schedule) : camel(one.schedule),
  }));

  test.each(named)("$name $options", (one: any) => {
    const { name, base_lr, options, lr, losses } = one;
    const factory = all[name]!;
    const schedule = factory({ ...("lr" in factory.options && { lr: base_lr }), ...camels(options) });
    lr.forEach((rate: number, i: number) => {
      expect(Math.abs(schedule.at(i) - rate), `step ${i}: ${schedule.at(i)}, ${rate}`).toBeLessThan(
        1e-12 * rate + 1e-15,
      );
      (schedule as any).observe?.(losses[i]);
    });
  });

  test("28 schedules are compared", () => expect(named).toHaveLength(28));
});

test("every schedule has an example", () => {
  expect(examples.map(({ name }) => name).sort()).toEqual(Object.keys(all).sort());
});

describe.each(examples.map((schedule) => ({ name: schedule.name, schedule })))("$name", ({ name, schedule }) => {
  const steps = Array.from({ length: 250 }, (_, i) => i);

  test("gives finite numbers that depend only on the step", () => {
    const rates = steps.map((i) => schedule.at(i));
    expect(rates.every(Number.isFinite)).toBe(true);
    expect(
      steps
        .toReversed()
        .map((i) => schedule.at(i))
        .reverse(),
    ).toEqual(rates);
    expect(Number.isFinite(schedule.at(10 ** 9))).toBe(true);
  });

  test("is the same after JSON, and after its printed code", () => {
    const rates = steps.map((i) => schedule.at(i));
    const again = scheduleFrom(JSON.parse(JSON.stringify(schedule)));
    expect(steps.map((i) => again.at(i))).toEqual(rates);
    expect(`${again}`).toBe(`${schedule}`);
    const written = new Function(...Object.keys(all), `return ${String(schedule)}`);
    expect(steps.map((i) => written(...Object.values(all)).at(i))).toEqual(rates);
  });

  test("accepts only whole steps from 0 on", () => {
    const message = `${name}: at(step): step must be a whole number in [0, ∞), got`;
    for (const step of [-1, 0.5, Number.NaN, Infinity]) {
      expect(() => schedule.at(step)).toThrow(new RangeError(`${message} ${step}`));
    }
    for (const step of ["1", Symbol("s"), Object.create(null)]) {
      expect(() => schedule.at(step as never)).toThrow(new TypeError(`${message} ${show(step)}`));
    }
  });

  const { options } = all[name]!;
  test.each(Object.keys(options))("refuses a wrong %s", (option) => {
    for (const wrong of [null, {}, -1, "x", Number.NaN, Symbol.iterator]) {
      const { range } = options[option]!;
      if (typeof wrong === "object" && wrong && range.startsWith("scales")) continue; // no scales
      if ((wrong === -1 && range.startsWith("(-")) || (Number.isNaN(wrong) && range.endsWith("NaN"))) continue;
      expect(() => all[name]!({ ...(schedule.options as object), [option]: wrong }), String(wrong)).toThrow(
        new RegExp(`^${name === "sgdr" ? "(sgdr|warmupCosineDecay)" : name}: `),
      );
    }
    if (options[option]!.default === undefined) {
      expect(() => all[name]!({ ...(schedule.options as object), [option]: undefined })).toThrow(
        `${name}: ${option} is missing`,
      );
    }
  });

  test("refuses an unknown option", () => {
    expect(() => all[name]!({ ...(schedule.options as object), warmup: 1 })).toThrow(`${name}: no option "warmup"`);
  });
});

test("options that are not finite are the same after JSON", () => {
  for (const schedule of [
    factories.constantLR({ lr: 0.1, totalIters: Infinity }),
    factories.stepLR({ lr: 0.1, stepSize: Infinity }),
    factories.exponentialDecay({ initValue: 0.1, transitionSteps: 10, decayRate: 0.5, endValue: Number.NaN }),
  ]) {
    const again = scheduleFrom(JSON.parse(JSON.stringify(schedule)));
    expect(again.options).toEqual(schedule.options);
    expect(`${again}`).toMatch(/Infinity|NaN/);
  }
});

test.each<[() => unknown, string]>([
  [() => scheduleFrom(3), "scheduleFrom: expected what a schedule's toJSON gave"],
  [() => scheduleFrom({ schedule: "stepLr", lr: 1, stepSize: 1 }), 'did you mean "stepLR"?'],
  [() => scheduleFrom({ schedule: "constructor" }), "scheduleFrom: no schedule"],
  [
    () => factories.join({ schedules: examples.slice(0, 2), boundaries: [3, 4] }),
    "join: boundaries must be one fewer than the 2 schedules, got 2",
  ],
  [
    () => factories.sequentialLR({ schedules: examples.slice(0, 3), milestones: [4, 4] }),
    "sequentialLR: milestones must rise, got [4, 4]",
  ],
  [
    () => warmupCosineDecay({ peakValue: 1, warmupSteps: 10, decaySteps: 10 }),
    "decaySteps must be above the 10 warmupSteps that it includes, got 10",
  ],
  [
    () => reduceLROnPlateau({ lr: 1 }).observe("1" as never),
    'reduceLROnPlateau: what is observed must be a number, got "1"',
  ],
  [
    () => factories.piecewiseConstant({ initValue: 1e300, boundariesAndScales: { 5: 1e300 } }),
    "piecewiseConstant: initValue times the scales must be finite, got Infinity at boundary 5",
  ],
  [
    () => factories.linearOnecycle({ transitionSteps: 10, peakValue: 1, pctStart: 0.5, pctFinal: 0.4 }),
    "linearOnecycle: pctFinal must be at least pctStart, 0.5, got 0.4",
  ],
  [
    () => factories.multiplicativeLR({ lr: 1, lrLambda: () => -1 }).at(3),
    "multiplicativeLR: lrLambda at step 1 must be in [0, ∞], got -1",
  ],
  [
    () =>
      factories.multiplicativeLR({
        lr: 1,
        lrLambda: factories.chained({ lr: 1, schedules: [reduceLROnPlateau({ lr: 1 })] }),
      }),
    "multiplicativeLR: lrLambda must return the same number each time, got a schedule with reduceLROnPlateau",
  ],
  [
    () => factories.chained({ lr: 0.1, schedules: [stepLR({ lr: 1, stepSize: 2 })] }),
    "chained: schedules must be made with the same lr, 0.1, got stepLR with 1",
  ],
  [() => reduceLROnPlateau({ lr: 1, factor: 1 }), "reduceLROnPlateau: factor must be in [0, 1), got 1"],
  [
    () => (reduceLROnPlateau({ lr: 1 }).observed = null as never),
    "reduceLROnPlateau: observed must be that of another schedule, got null",
  ],
  [
    () => {
      let data: object = stepLR({ lr: 1, stepSize: 1 }).toJSON();
      for (let i = 0; i < 5000; i++) data = { schedule: "chained", lr: 1, schedules: [data] };
      scheduleFrom(data);
    },
    "scheduleFrom: data must be at most 64 levels deep, got more",
  ],
  [() => ((stepLR.options as any).gamma = 1), "read only"],
  [() => ((reduceLROnPlateau.options as any).factor.default = 1), "read only"],
  [
    () => scheduleFrom({ ...stepLR({ lr: 1, stepSize: 1 }).toJSON(), observed: {} }),
    "scheduleFrom: stepLR observes nothing, got observed",
  ],
])("%s", (make, message) => {
  expect(make).toThrow(message);
});

describe("any options that are accepted", () => {
  const numbers = fc.oneof(
    fc.constantFrom(0, 1, 5e-324, 1e-30, 0.5, 2, 1e30, Number.MAX_VALUE),
    fc.double({ min: 0, max: 2, noNaN: true }),
  );
  const counts = fc.oneof(fc.integer({ min: 0, max: 20 }), fc.constantFrom(Infinity, Number.MAX_SAFE_INTEGER));
  const leaves = [factories.constant({ value: 0.5 }), factories.exponentialLR({ lr: 0.1, gamma: 3 })];
  /** Values of an option, from its range; some are not allowed. */
  const valuesOf = (name: string, option: { range: string; default?: unknown }): fc.Arbitrary<unknown> => {
    const { range } = option;
    if (name === "cosineKwargs") return fc.array(optionsOf("warmupCosineDecay"), { minLength: 1, maxLength: 3 });
    if (name === "schedules") return fc.array(fc.constantFrom(...leaves), { minLength: 1, maxLength: 3 });
    if (name === "lrLambda") return fc.constantFrom(...leaves, (step: number) => 3 / step);
    if (name === "boundariesAndScales") {
      return fc.dictionary(fc.integer({ min: 1, max: 20 }).map(String), numbers, { maxKeys: 4 });
    }
    if (range.startsWith("a list"))
      return fc.uniqueArray(counts, { maxLength: 3 }).map((list) => list.toSorted((a, b) => a - b));
    if (range.startsWith("true")) return fc.boolean();
    if (range.startsWith('"')) return fc.constantFrom(...range.split(" or ").map((word) => JSON.parse(word)));
    if (/Steps?$|Iters|Up|Down|^T|stepSize|patience|cooldown|transitionBegin|modelSize|Epochs|timescale/.test(name))
      return counts;
    if (range.startsWith("(-"))
      return fc.oneof(
        numbers,
        numbers.map((x) => -x),
      );
    return range.endsWith("1)") || range.endsWith("1]") ? fc.double({ min: 0, max: 1, noNaN: true }) : numbers;
  };
  const optionsOf = (name: string): fc.Arbitrary<Record<string, unknown>> => {
    const { options } = all[name]!;
    const needed = Object.keys(options).filter((key) => options[key]!.default === undefined);
    return fc.record(Object.fromEntries(Object.entries(options).map(([key, option]) => [key, valuesOf(key, option)])), {
      requiredKeys: needed,
    });
  };

  test.each(Object.keys(all))("%s is never NaN, and never throws", (name) => {
    let accepted = 0;
    // multiplicativeLR calls its function once for each step.
    const step = fc.oneof(fc.nat(30), fc.nat(name === "multiplicativeLR" ? 300 : 10 ** 4));
    fc.assert(
      fc.property(optionsOf(name), fc.array(step, { minLength: 5, maxLength: 10 }), (options, steps) => {
        let made;
        try {
          made = all[name]!(options as never);
        } catch (error) {
          expect((error as Error).message).toMatch(new RegExp(`^(${name}|warmupCosineDecay): `));
          return;
        }
        accepted += 1;
        const isOrdinary = (x: unknown) =>
          typeof x !== "number" || x === 0 || x === Infinity || (Math.abs(x) >= 1e-30 && Math.abs(x) <= 1e30);
        const bounded = Object.values(options).flat().every(isOrdinary);
        for (const step of [0, ...steps]) {
          const value = made.at(step);
          expect(value, `${made} at ${step}`).not.toBeNaN();
          if (bounded && !growing.has(name)) expect(Math.abs(value), `${made} at ${step}`).not.toBe(Infinity);
        }
        if (name === "multiplicativeLR" && typeof options.lrLambda === "function") return;
        const again = scheduleFrom(JSON.parse(JSON.stringify(made)));
        for (const step of steps) expect(again.at(step) + 0).toBe(made.at(step) + 0); // JSON has no -0
      }),
      { numRuns: 500 },
    );
    expect(accepted).toBeGreaterThan(50);
  });
  /** Schedules whose values grow without bound if a factor is above one. */
  const growing = new Set([
    "stepLR",
    "multiStepLR",
    "exponentialLR",
    "exponentialDecay",
    "warmupExponentialDecay",
    "cyclicLR",
    "cyclicMomentum",
    "multiplicativeLR",
    "chained",
    "sequentialLR",
    "join",
  ]);

  test("oneCycleLR without a step up begins at its highest rate", () => {
    const schedule = factories.oneCycleLR({ maxLr: 0.1, totalSteps: 10, pctStart: 0.1 });
    expect([schedule.at(0), schedule.at(9)]).toEqual([0.1, 0.1 / 25 / 1e4]);
  });

  test.each([
    ["constantLR", { lr: 0.5, totalIters: 0 }, [0.5, 0.5, 0.5]],
    ["exponentialDecay", { initValue: 0.5, transitionSteps: 1, decayRate: 0 }, [0.5, 0, 0]],
    ["warmupConstant", { peakValue: 0.5, warmupSteps: 0 }, [0.5, 0.5, 0.5]],
    [
      "cosineOnecycle",
      { peakValue: 0.5, transitionSteps: 1, pctStart: 1, divFactor: 2, finalDivFactor: 5 },
      [0.25, 0.05, 0.05],
    ],
    [
      "linearOnecycle",
      { peakValue: 0.5, transitionSteps: 2, pctStart: 0.5, pctFinal: 0.5, divFactor: 2, finalDivFactor: 5 },
      [0.25, 0.25, 0.05],
    ],
    [
      "linearOnecycle",
      { peakValue: 0.5, transitionSteps: 4, pctStart: 0.5, pctFinal: 0.5, divFactor: 2, finalDivFactor: 5 },
      [0.25, 0.375, 0.25],
    ],
  ] as const)("%s at an end of its range, where PyTorch or Optax differs", (name, options, values) => {
    const schedule = all[name]!(options);
    expect([0, 1, 2].map((i) => schedule.at(i))).toEqual(values);
  });

  test("in sequentialLR, each schedule has its own rate", () => {
    const schedule = factories.sequentialLR({
      schedules: [
        factories.linearLR({ lr: 1, startFactor: 0.5, totalIters: 4 }),
        factories.oneCycleLR({ maxLr: 10, totalSteps: 20, divFactor: 5 }),
      ],
      milestones: [5],
    });
    expect([0, 4, 5, 10].map((i) => schedule.at(i))).toEqual([0.5, 1, 2, 10]);
  });

  test("an empty list means no change", () => {
    const one = stepLR({ lr: 1, stepSize: 2 });
    for (const alone of [
      factories.join({ schedules: [one], boundaries: [] }),
      factories.sequentialLR({ schedules: [one], milestones: [] }),
    ]) {
      expect([0, 1, 2, 7].map((i) => alone.at(i))).toEqual([0, 1, 2, 7].map((i) => one.at(i)));
    }
    expect(factories.multiStepLR({ lr: 0.5, milestones: [] }).at(9)).toBe(0.5);
    expect(factories.piecewiseConstant({ initValue: 0.5, boundariesAndScales: {} }).at(9)).toBe(0.5);
  });
});

describe("reduceLROnPlateau", () => {
  const after = (losses: readonly number[], options = {}) => {
    const plateau = reduceLROnPlateau({ lr: 1, factor: 0.5, patience: 2, ...options });
    for (const loss of losses) plateau.observe(loss);
    return plateau;
  };

  test("reduces the rate when numbers of either sign stop improving", () => {
    const stuck = [0, 0, 0];
    for (const best of [-3, 0, 3]) {
      for (const mode of ["min", "max"]) {
        expect(after([best, ...stuck.map(() => best)], { mode }).at(0), `${mode} ${best}`).toBe(0.5);
        const sign = mode === "min" ? -1 : 1;
        const better = [1, 2, 3, 4, 5].map((i) => best + sign * i);
        expect(after(better, { mode }).at(0), `${mode} ${best} and better`).toBe(1);
      }
    }
  });

  test("takes NaN and infinity for no improvement, as PyTorch does", () => {
    expect(after([1, Number.NaN, Infinity, Number.NaN]).observed).toEqual({ rate: 0.5, best: 1, bad: 0, cooling: 0 });
    expect(after([Infinity, Infinity, Infinity]).at(0)).toBe(0.5);
    expect(after([Infinity, 5]).observed.best).toBe(5);
    expect(after([5], { threshold: 2 }).observed.best).toBe(5);
    expect(after([1, -Infinity]).observed.best).toBe(-Infinity);
  });

  test("keeps what it observed in JSON, also inside another schedule", () => {
    const number = fc.oneof(fc.double({ noNaN: false }), fc.integer({ min: -3, max: 3 }));
    fc.assert(
      fc.property(fc.array(number, { maxLength: 20 }), fc.array(number, { maxLength: 20 }), (before, later) => {
        const plateau = after(before);
        const outer = factories.join({ schedules: [plateau], boundaries: [] });
        const read = scheduleFrom(JSON.parse(JSON.stringify(outer))) as any;
        const again = read.options.schedules[0] as typeof plateau;
        for (const loss of later) [plateau, again].forEach((one) => one.observe(loss));
        expect(again.observed).toEqual(plateau.observed);
        expect(read.at(3)).toBe(outer.at(3));
      }),
    );
  });
});

test("inverseSqrt is as in Hugging Face's get_inverse_sqrt_schedule", () => {
  for (const [warmup, given] of [
    [10, 0],
    [0, 0],
    [7, 30],
  ] as const) {
    const schedule = factories.inverseSqrt({ peakValue: 0.1, warmupSteps: warmup, timescale: given });
    const timescale = given || warmup || 10_000;
    for (let step = 0; step < 100; step++) {
      const factor =
        step < warmup ? step / Math.max(1, warmup) : 1 / Math.sqrt((step + timescale - warmup) / timescale);
      expect(schedule.at(step)).toBeCloseTo(0.1 * factor, 14);
    }
  }
});

describe("the functions in ts/math.ts", () => {
  const ulps = (actual: number, expected: number) =>
    Math.abs(actual - expected) / (Math.abs(expected) * 2 ** -52 || 2 ** -1074);

  test("are within a few units in the last place of the engine's own", () => {
    const double = (min: number, max: number) => fc.double({ min, max, noNaN: true });
    fc.assert(
      fc.property(double(5e-324, 1e308), (x) => ulps(log(x), Math.log(x)) < 2),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(double(-700, 709), (x) => ulps(exp(x), Math.exp(x)) < 2),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(double(1e-3, 10), double(-3, 3), (x, y) => ulps(pow(x, y), x ** y) < 32),
      { numRuns: 5000 },
    );
    fc.assert(
      fc.property(double(-10, 10), (x) => Math.abs(cosPi(x) - Math.cos(Math.PI * (x % 2))) < 2e-15),
      { numRuns: 5000 },
    );
  });

  test("are exact where the result is a float64", () => {
    expect([
      log(1),
      exp(0),
      cosPi(0),
      cosPi(0.5),
      cosPi(1),
      cosPi(1.5),
      cosPi(-2),
      pow(0, 0),
      pow(3, 4),
      pow(2, -3),
      pow(0, 0.5),
    ]).toEqual([0, 1, 1, 0, -1, 0, 1, 1, 81, 0.125, 0]);
    expect([log(0), log(-1), log(Infinity), exp(800), exp(-800), exp(Number.NaN)]).toEqual([
      -Infinity,
      Number.NaN,
      Infinity,
      Infinity,
      0,
      Number.NaN,
    ]);
  });
});

describe("an optimizer", () => {
  const make = (options: object, rule: any = sgd) => {
    const w = small().tensor("w", fitting(rule.rule, [16]));
    w.grad.fill(1);
    return { w, optimizer: rule([w], options) };
  };

  test.each(ruleCases)(
    "accepts a schedule for every number, and takes the number of each step: $name",
    ({ factory, rule, options, values }) => {
      const linearly = (value: number, to: number) =>
        linear({ initValue: value, endValue: value * to, transitionSteps: 4 });
      // A schedule for an option that adds state would add it, and Nesterov momentum requires no dampening.
      const fixed = [
        ...Object.values(rule.addedState).filter((name) => !values[name]),
        ...(values.nesterov ? ["dampening"] : []),
      ];
      const moving = Object.keys(rule.hyper).filter(
        (name) => typeof values[name] !== "boolean" && !fixed.includes(name),
      );
      const scheduled = Object.fromEntries(
        moving.map((name) => {
          const to = rule.hyper[name]!.range.startsWith("[1") ? 2 : 0.5;
          const all = [values[name] as number | readonly number[]].flat().map((value) => linearly(value, to));
          return [name, Array.isArray(values[name]) ? all : all[0]!];
        }),
      );
      const at = (step: number) =>
        Object.fromEntries(
          Object.entries(scheduled).map(([name, given]) => [
            name,
            Array.isArray(given) ? given.map((one) => one.at(step)) : given!.at(step),
          ]),
        );
      if ([0, 1, 2, 3, 4, 5].some((step) => rule.conflict({ ...values, ...at(step) }))) return;
      const [by, hand] = [make({ ...options, ...scheduled }, factory), make(options, factory)];
      for (let step = 0; step < 6; step++) {
        Object.assign(hand.optimizer.hyper, at(step));
        by.optimizer.step();
        hand.optimizer.step();
      }
      expect([...by.w.data]).toEqual([...hand.w.data]);
      expect(by.optimizer.hyper.lr).toBe(scheduled.lr);
    },
  );

  test("takes a function of the step, counted from 0, and a schedule in the middle", async () => {
    const seen: number[] = [];
    const { w, optimizer } = make({ lr: (step: number) => (seen.push(step), 2 ** -step) });
    seen.length = 0;
    optimizer.step();
    optimizer.step();
    expect(seen).toEqual([0, 1]);
    expect(w.data[0]).toBe(-1.5);
    const later = optimizer.stepAsync();
    optimizer.hyper.lr = stepLR({ lr: 8, stepSize: 3 });
    await Promise.all([later, optimizer.stepAsync()]);
    expect(w.data[0]).toBeCloseTo(-1.5 - 0.25 - 0.8, 6);
  });

  test("gives the numbers of a step", () => {
    const { optimizer } = make(
      { lr: stepLR({ lr: 1, stepSize: 2 }), betas: [0.9, (step: number) => step / 10], weightDecay: 0.5 },
      adamw,
    );
    const [group] = optimizer.groups;
    expect(group.hyperAt(1)).toMatchObject({ lr: 1, betas: [0.9, 0.1], weightDecay: 0.5 });
    expect(group.hyperAt(3).lr).toBe(stepLR({ lr: 1, stepSize: 2 }).at(3));
    optimizer.step();
    expect(group.hyperAt(optimizer.steps).betas).toEqual([0.9, 0.1]);
    optimizer.hyper.lr = 3;
    expect(group.hyperAt(7).lr).toBe(3);
    expect(() => group.hyperAt(-1)).toThrow("adamw: hyperAt: step must be a whole number in [0, ∞), got -1");
    expect(() => group.hyperAt(11)).toThrow("adamw: at step 11, betas[1] must be in [0, 1), got 1.1");
  });

  test("refuses a step with a number out of range, and changes nothing", async () => {
    const { w, optimizer } = make(
      { lr: (step: number) => (step === 1 ? -1 : 1), betas: [0.9, (step: number) => 0.5] },
      adamw,
    );
    optimizer.step();
    const before = [...w.data, ...optimizer.state(w).expAvg];
    const message = "adamw: at step 1, lr must be in [0, ∞), got -1";
    expect(() => optimizer.step()).toThrow(message);
    await expect(optimizer.stepAsync()).rejects.toThrow(message);
    expect([...w.data, ...optimizer.state(w).expAvg]).toEqual(before);
    expect(optimizer.steps).toBe(1);
    optimizer.hyper.lr = 1;
    optimizer.step();
    expect(optimizer.steps).toBe(2);
  });

  test("names the group with a number out of range", async () => {
    const arena = small();
    const [a, b] = [arena.tensor("a", [1]), arena.tensor("b", [1])];
    const optimizer = sgd([{ params: [a] }, { params: [b], lr: (step: number) => 1 - step }]);
    optimizer.step();
    optimizer.step();
    const message = "sgd: at step 2, groups[1].lr must be in [0, ∞), got -1";
    expect(() => optimizer.step()).toThrow(message);
    await expect(optimizer.stepAsync()).rejects.toThrow(message);
  });

  test("refuses a function that makes the optimizer call it again for the same step, and changes nothing", async () => {
    const message = (step: number) =>
      `adamw: at step ${step}, lr needs itself: its function sets or reads options of the optimizer; let it return a number only`;
    type Made = ReturnType<typeof adamw>;
    const calls: [step: number, inAssignment: number, call: (optimizer: Made, step: number) => unknown][] = [
      [0, 0, ({ hyper }) => (hyper.weightDecay = 0.1)], // an assignment is checked with the numbers of step 0
      [1, 0, ({ groups: [group] }, step) => group!.hyperAt(step)],
      [1, 1, ({ groups: [group] }, step) => group!.hyperAt(step === 1 ? 2 : 1)],
    ];
    for (const [step, inAssignment, call] of calls) {
      let isOn = false;
      const lr = (step: number) => (isOn && call(optimizer, step), 0.1);
      const { w, optimizer } = make({ lr }, adamw) as { w: Tensor; optimizer: Made };
      optimizer.step();
      isOn = true;
      const before = [...w.data, ...optimizer.state(w).expAvg];
      expect(() => optimizer.step()).toThrow(message(step));
      await expect(optimizer.stepAsync()).rejects.toThrow(message(step));
      expect(() => optimizer.groups[0]!.hyperAt(1)).toThrow(message(step));
      expect(() => (optimizer.hyper.eps = 0.1)).toThrow(message(inAssignment));
      expect([...w.data, ...optimizer.state(w).expAvg]).toEqual(before);
      expect(optimizer.hyper).toMatchObject({ weightDecay: 0.01, eps: 1e-8 });
      isOn = false;
      optimizer.step();
      expect(optimizer.steps).toBe(2);
    }
    const again: Promise<void>[] = [];
    const lr = () => (asking && again.push(expect(asking.stepAsync()).rejects.toThrow(message(0))), 0.1);
    let asking: Made | undefined;
    asking = make({ lr }, adamw).optimizer as Made;
    await asking.stepAsync();
    expect(again).toHaveLength(1);
    await again[0];
  });

  test("takes a function that sets an option at some step, or asks for an earlier step", () => {
    const { optimizer } = make(
      {
        lr(step: number): number {
          if (step === 2) optimizer.hyper.weightDecay = 0.5;
          return step === 0 ? 1 : optimizer.hyper && optimizer.groups[0].hyperAt(step - 1).lr / 2;
        },
      },
      adamw,
    );
    for (let step = 0; step < 4; step++) optimizer.step();
    expect(optimizer.hyper.weightDecay).toBe(0.5);
    const lrLambda = (step: number) => {
      if (step === 2) optimizer.hyper.weightDecay = 0.25; // the check of this asks for the rate of step 0
      return 0.5;
    };
    optimizer.hyper.lr = multiplicativeLR({ lr: 1, lrLambda });
    expect([3, 2, 3].map((step) => optimizer.groups[0].hyperAt(step).lr)).toEqual([1 / 8, 1 / 4, 1 / 8]);
    expect(optimizer.hyper.weightDecay).toBe(0.25);
    optimizer.hyper.lr = (step: number): number => (step === 0 ? 1 : optimizer.groups[0].hyperAt(step - 1).lr / 2);
    expect(optimizer.groups[0].hyperAt(4).lr).toBe(1 / 16);
  });

  test("refuses schedules with invalid values", () => {
    expect(() => make({ lr: () => Number.NaN })).toThrow("sgd: at step 0, lr must be in [0, ∞), got NaN");
    expect(() => make({ lr: () => "1" })).toThrow('sgd: at step 0, lr must be a number in [0, ∞), got "1"');
    expect(() => make({ nesterov: stepLR({ lr: 1, stepSize: 1 }) })).toThrow("sgd: nesterov must be true or false");
    expect(() => make({ betas: [() => 0.5] }, adamw)).toThrow("adamw: betas must have 2 numbers, got 1");
    const { optimizer } = make({});
    expect(() => (optimizer.hyper.lr = () => -1)).toThrow("sgd: at step 0, lr must be in [0, ∞), got -1");
    expect(optimizer.hyper.lr).toBe(1e-3);
  });
});
