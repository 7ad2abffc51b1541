/** Tensors without a gradient: for every rule, as if each tensor had an optimizer of its own that makes only the tensor's steps. */

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createArena } from "../ts/arena/arena.js";
import { elementsIn, type Tensor } from "../ts/arena/tensor.js";
import { load, save } from "../ts/checkpoint/index.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { adamw, nadam, sgd, sophia } from "../ts/rules/index.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { sam } from "../ts/wrappers/sam.js";
import { defaults } from "../ts/option.js";
import { bitsOf, error, inputs } from "./harness.js";
import type { Options } from "./oracle.js";
import { wholes } from "./oracle.whole.js";
import { type AnyFactory, factories, fitting } from "./registry.js";
import { small } from "./small.js";

const NAMES = ["a", "b", "c"] as const;
const SHAPES = { a: [19], b: [3, 11], c: [2, 2] };
const STEPS = 6;
const runs = Object.fromEntries(NAMES.map((name, i) => [name, inputs(elementsIn(SHAPES[name]), STEPS, i + 1)]));

function model({ rule }: AnyFactory, arena = small()) {
  const tensors = arena.tensors(Object.fromEntries(NAMES.map((name) => [name, fitting(rule, SHAPES[name])])));
  for (const name of NAMES) tensors[name]!.data.set(runs[name]!.params);
  return tensors as Record<(typeof NAMES)[number], Tensor>;
}

type Model = ReturnType<typeof model>;

/** Gives a tensor its gradient of a call, or none. */
function give(tensor: Tensor, call: number, hasGrad: boolean): void {
  tensor.requiresGrad = hasGrad;
  if (hasGrad) tensor.grad.set(runs[tensor.name]!.grads[call]!);
  else tensor.grad.fill(NaN); // never read
}

const giveAll = (tensors: Model, call: number, who: Pattern[number]) =>
  NAMES.forEach((name, i) => give(tensors[name], call, who[i]!));

const allBits = (optimizer: any, tensors: Model) => NAMES.map((name) => bitsOf(optimizer, tensors[name]));

/** For each call, which tensors have a gradient. */
type Pattern = readonly (readonly [boolean, boolean, boolean])[];
const pattern = fc.array(fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()), { minLength: STEPS, maxLength: STEPS });

describe.each(factories)("$rule.name", (factory) => {
  const { rule } = factory;
  // Some rules measure all tensors together.
  const isAlone = rule.sums.length === 0 || rule.perTensor;

  test.runIf(isAlone)("each tensor makes its own steps, and no others", () => {
    const property = fc.property(pattern, fc.constantFrom(1, 2, 3), (calls, accumulate) => {
      const options = { accumulate, maximize: true, ...(accumulate > 1 && { zeroGrad: true }) };
      const [together, apart] = [model(factory), model(factory)];
      const optimizer = factory(together, options);
      const own = NAMES.map((name) => factory([apart[name]], options));
      calls.forEach((who, call) => {
        giveAll(together, call, who);
        optimizer.step();
      });
      // Alone, a micro-batch without a gradient has a gradient of zero, and a step without one is not made.
      NAMES.forEach((name, i) => {
        for (let first = 0; first + accumulate <= STEPS; first += accumulate) {
          const micro = calls.slice(first, first + accumulate).map((who) => who[i]!);
          if (!micro.includes(true)) continue;
          micro.forEach((hasGrad, k) => {
            if (hasGrad) apart[name].grad.set(runs[name]!.grads[first + k]!);
            else apart[name].grad.fill(0);
            own[i]!.step();
          });
        }
      });
      expect(optimizer.steps).toBe(Math.floor(STEPS / accumulate));
      NAMES.forEach((name, i) => expect(bitsOf(optimizer, together[name])).toEqual(bitsOf(own[i], apart[name])));
    });
    fc.assert(property, { numRuns: 12 });
  });

  test("the other tensors are updated as if the optimizer did not have a tensor that never has a gradient", () => {
    const [with_, without] = [model(factory), model(factory)];
    const options = { weightDecay: 0.1, clipNorm: 1, nonFinite: "throw" };
    const known = Object.fromEntries(
      Object.entries(options).filter(([name]) => name !== "weightDecay" || name in rule.hyper),
    );
    const [optimizer, other] = [factory(with_, known), factory([without.a, without.c], known)];
    const before = bitsOf(optimizer, with_.b);
    for (let step = 0; step < STEPS; step++) {
      giveAll(with_, step, [true, false, true]);
      giveAll(without, step, [true, false, true]);
      expect(optimizer.step()).toEqual(other.step());
    }
    for (const name of ["a", "c"] as const)
      expect(bitsOf(optimizer, with_[name])).toEqual(bitsOf(other, without[name]));
    expect(bitsOf(optimizer, with_.b)).toEqual(before);
    expect(with_.b.grad.every(Number.isNaN)).toBe(true);
  });

  test("a step without any gradient changes nothing", () => {
    const tensors = model(factory);
    const optimizer = factory(tensors, { clipNorm: 1, ema: 0.5 });
    const steps = [
      [true, true, true],
      [false, false, false],
      [true, true, true],
    ] as const;
    const bitsAfter = steps.map((who, call) => {
      giveAll(tensors, call, who);
      optimizer.step();
      return allBits(optimizer, tensors);
    });
    expect(optimizer.steps).toBe(3);
    expect(bitsAfter[1]).toEqual(bitsAfter[0]);
    expect(bitsAfter[2]).not.toEqual(bitsAfter[0]);
  });

  test("a run that is resumed gives the same bits, also between two micro-batches", () => {
    const options = { accumulate: 2, clipNorm: 1, ema: 0.9 };
    const property = fc.property(pattern, fc.integer({ min: 1, max: STEPS - 1 }), (calls, until) => {
      const [one, other] = [model(factory), model(factory)];
      const [optimizer, again] = [factory(one, options), factory(other, options)];
      const make = (tensors: Model, by: typeof optimizer, from: number, to: number) =>
        calls.slice(from, to).forEach((who, i) => {
          giveAll(tensors, from + i, who);
          by.step();
        });
      make(one, optimizer, 0, until);
      const file = save(one, optimizer);
      load(file, other, again);
      expect(save(other, again)).toEqual(file);
      make(one, optimizer, until, STEPS);
      make(other, again, until, STEPS);
      expect(allBits(again, other)).toEqual(allBits(optimizer, one));
      for (const name of NAMES) expect(again.average(other[name])).toEqual(optimizer.average(one[name]));
    });
    fc.assert(property, { numRuns: 6 });
  });

  test("schedules count the steps of the optimizer, and any number of threads gives the same bits", async () => {
    const results = [];
    for (const threads of [1, 3]) {
      const arena = await createArena({ threads, maxBytes: 2 ** 24 });
      const tensors = model(factory, arena);
      const optimizer = factory(tensors, "lr" in rule.hyper ? { lr: (step: number) => 0.1 / (step + 1) } : {});
      for (let step = 0; step < 4; step++) {
        giveAll(tensors, step, [step !== 1, step > 1, step % 2 === 0]);
        if (step % 2) await optimizer.stepAsync();
        else optimizer.step();
      }
      results.push(allBits(optimizer, tensors));
      arena.free();
    }
    expect(results[1]).toEqual(results[0]);
  });
});

describe.each(factories.filter(({ rule }) => rule.sums.length > 0 && !rule.perTensor))(
  "$rule.name measures the tensors with a gradient",
  (factory) => {
    const { rule } = factory;
    const values = defaults({ ...rule.hyper, ...rule.fixed }) as Options;
    const oracle = wholes[rule.name as keyof typeof wholes];

    test("if one tensor has a gradient in each step, in any order", () => {
      const property = fc.property(
        fc.array(fc.constantFrom(...NAMES), { minLength: STEPS, maxLength: STEPS }),
        (who) => {
          const tensors = model(factory);
          const optimizer = factory(tensors);
          const memory = {};
          const own = Object.fromEntries(
            NAMES.map((name) => {
              const params = [...runs[name]!.params];
              const zeros = Object.fromEntries(rule.state.map((slot) => [slot, params.map(() => 0)]));
              return [name, { steps: 0, params, state: { ...zeros, initParams: params } as Record<string, number[]> }];
            }),
          );
          who.forEach((name, call) => {
            giveAll(tensors, call, NAMES.map((other) => other === name) as never);
            optimizer.step();
            const one = own[name]!;
            const grads = [...runs[name]!.grads[call]!];
            one.params = oracle(values, ++one.steps, one.params, grads, one.state, memory);
          });
          for (const name of NAMES) expect(error(tensors[name].data, own[name]!.params)).toBeLessThan(1);
        },
      );
      fc.assert(property, { numRuns: 20, examples: [[["a", "b", "c", "a", "b", "c"]]] });
    });
  },
);

test("a value that is not true or false is refused", () => {
  const { a } = model(sgd);
  expect(() => ((a as any).requiresGrad = null)).toThrow(
    new TypeError('tensor "a": requiresGrad must be true or false, got null'),
  );
  expect(a.requiresGrad).toBe(true);
});

test("averages are updated, as in PyTorch's AveragedModel", () => {
  const tensors = model(sgd);
  const optimizer = sgd(tensors, { lr: 0.1, ema: 0.9 });
  let expected: number[] = [];
  for (let step = 0; step < STEPS; step++) {
    giveAll(tensors, step, [true, step < 2, true]);
    optimizer.step();
    const now = [...tensors.b.data];
    expected = step === 0 ? now : expected.map((average, i) => average + 0.1 * (now[i]! - average));
  }
  expect(error(optimizer.average(tensors.b), expected)).toBeLessThan(1);
});

test("the average of a parameter that never changed is exact", () => {
  const tensors = model(sgd);
  const optimizer = sgd(tensors, { lr: 0.1, swa: 1 });
  for (let step = 0; step < STEPS; step++) {
    giveAll(tensors, step, [true, false, true]);
    optimizer.step();
  }
  expect(optimizer.average(tensors.b)).toEqual(tensors.b.data);
});

test("the norm and the check of gradients leave out a tensor without a gradient", () => {
  const tensors = model(sgd);
  const optimizer = sgd(tensors, { lr: 1, clipNorm: 1, nonFinite: "throw", zeroGrad: true });
  for (const name of NAMES) tensors[name].grad.fill(1);
  tensors.b.grad.fill(Infinity);
  tensors.b.requiresGrad = false;
  expect(optimizer.step().gradNorm).toBeCloseTo(Math.sqrt(tensors.a.size + tensors.c.size), 12);
  expect(tensors.a.grad.every((g) => g === 0) && tensors.b.grad.every((g) => g === Infinity)).toBe(true);
});

test("a queued step reads requiresGrad when it is called, and after the closure if it has one", async () => {
  const tensors = model(sgd);
  const { a } = tensors;
  const optimizer = sgd([a], { lr: 1 });
  a.data.fill(0);
  a.grad.fill(1);
  const first = optimizer.stepAsync();
  a.requiresGrad = false;
  await Promise.all([first, optimizer.stepAsync()]);
  expect(a.data[0]).toBe(-1);
  await optimizer.stepAsync(() => {
    a.requiresGrad = true;
    return 0;
  });
  expect(a.data[0]).toBe(-2);
});

describe("between micro-batches", () => {
  const start = (options: object = {}) => {
    const tensors = model(adamw);
    const optimizer = adamw([tensors.a], { accumulate: 2, weightDecay: 0.5, ...options });
    giveAll(tensors, 0, [true, false, false]);
    optimizer.step();
    return { tensors, optimizer, before: tensors.b.data.slice() };
  };

  test.each(["step", "flush"] as const)("a group that joins without a gradient is left alone by %s()", (make) => {
    const { tensors, optimizer, before } = start();
    optimizer.addGroup({ params: [tensors.b] });
    optimizer[make]();
    expect(optimizer.steps).toBe(1);
    expect(tensors.b.data).toEqual(before);
    expect(optimizer.groups[1]!.segmentOfEach.map(({ since }) => since)).toEqual([1]);
  });

  test("a group that a checkpoint does not have is left alone", () => {
    const { tensors, optimizer } = start();
    const other = model(adamw);
    const again = adamw([{ params: [other.a] }, { params: [other.b] }], { accumulate: 2, weightDecay: 0.5 });
    load(save([tensors.a], optimizer), other, again, { strict: false });
    const before = other.b.data.slice();
    again.flush();
    expect(again.steps).toBe(1);
    expect(other.b.data).toEqual(before);
  });

  test("a call whose schedule fails gives no tensor a gradient", () => {
    let isBroken = false;
    const tensors = model(adamw);
    const lr = () => (isBroken ? NaN : 0.1);
    const optimizer = adamw([tensors.a, tensors.b], { accumulate: 2, weightDecay: 0.5, lr });
    giveAll(tensors, 0, [true, false, false]);
    optimizer.step();
    const before = tensors.b.data.slice();
    isBroken = true;
    tensors.b.requiresGrad = true;
    expect(() => optimizer.step()).toThrow("adamw: at step 0, lr must be in [0, ∞), got NaN");
    isBroken = false;
    tensors.b.requiresGrad = false;
    optimizer.step();
    expect(optimizer.steps).toBe(1);
    expect(tensors.b.data).toEqual(before);
  });
});

test("hessian() leaves out a tensor without a gradient", () => {
  const tensors = model(sophia);
  const optimizer = sophia(tensors);
  giveAll(tensors, 0, [true, false, true]);
  optimizer.hessian();
  expect(optimizer.state(tensors.b).hessian.every((h) => h === 0)).toBe(true);
  expect(optimizer.state(tensors.a).hessian.some((h) => h !== 0)).toBe(true);
});

test("without memory for the steps of each tensor, a step changes nothing", () => {
  const tensors = model(nadam);
  const { arena } = tensors.a;
  const optimizer = nadam(tensors);
  arena.tensor("rest", [(arena.bytesLeft - 512) / 8]);
  const before = allBits(optimizer, tensors);
  giveAll(tensors, 0, [true, false, true]);
  expect(() => optimizer.step()).toThrow(" bytes for nadam's steps of each tensor,");
  expect(allBits(optimizer, tensors)).toEqual(before);
  expect(optimizer.steps).toBe(0);
  giveAll(tensors, 0, [true, true, true]);
  optimizer.step();
});

test("sam neither moves nor measures a tensor without a gradient", () => {
  const [one, other] = [model(sgd), model(sgd)];
  const [optimizer, without] = [sam(sgd(one, { zeroGrad: true })), sam(sgd([other.a, other.c], { zeroGrad: true }))];
  const b = one.b.data.slice();
  const closure = (tensors: Model) => () => {
    giveAll(tensors, 0, [true, false, true]);
    for (const name of ["a", "c"] as const)
      tensors[name].grad.forEach((g, i, grad) => (grad[i] = g + tensors[name].data[i]!));
    expect(tensors.b.data).toEqual(b);
    return 0;
  };
  for (let step = 0; step < 3; step++) {
    optimizer.step(closure(one));
    without.step(closure(other));
  }
  for (const name of ["a", "c"] as const) expect(one[name].data).toEqual(other[name].data);
  // Moved back, though it lost its gradient in between.
  giveAll(one, 1, [true, true, true]);
  const before = one.b.data.slice();
  optimizer.perturb();
  expect(one.b.data).not.toEqual(before);
  one.b.requiresGrad = false;
  optimizer.train();
  expect(one.b.data).toEqual(before);
});

test("lookahead moves neither a tensor without a gradient nor its slow weights", () => {
  const tensors = model(adamw);
  const optimizer = lookahead(adamw(tensors), { syncPeriod: 2 });
  giveAll(tensors, 0, [true, true, true]);
  optimizer.step();
  const [fast, slow] = [tensors.b.data.slice(), optimizer.state(tensors.b).slow.slice()];
  giveAll(tensors, 1, [true, false, true]);
  optimizer.step();
  expect(tensors.b.data).toEqual(fast);
  expect(optimizer.state(tensors.b).slow).toEqual(slow);
  expect(tensors.a.data).toEqual(optimizer.state(tensors.a).slow);
});

test("lbfgs refuses a tensor without a gradient", () => {
  const tensors = model(sgd);
  const optimizer = lbfgs(tensors);
  const message = 'lbfgs: tensor "b" must have a gradient, and its requiresGrad is false';
  tensors.b.requiresGrad = false;
  expect(() => optimizer.step(() => 0)).toThrow(message);
  // A closure may find that a tensor has none, also at a later point.
  tensors.b.requiresGrad = true;
  const before = NAMES.map((name) => [...tensors[name].data]);
  let calls = 0;
  const closure = () => {
    giveAll(tensors, 0, [true, calls < 2, true]);
    return 1 / ++calls;
  };
  expect(() => optimizer.step(closure)).toThrow(message);
  expect(calls).toBe(3);
  expect(NAMES.map((name) => [...tensors[name].data])).toEqual(before);
  expect(optimizer.steps).toBe(0);
});
