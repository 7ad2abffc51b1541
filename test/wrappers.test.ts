/**
 * Tests of lookahead and sam. The bits equal those of the bare rule, with the wrapper's formula computed in JavaScript.
 */

import { describe, expect, onTestFinished, test } from "vitest";
import { type Arena, createArena, createArenaSync } from "../ts/arena/arena.js";
import { load, save } from "../ts/checkpoint/index.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import type { Optimizer } from "../ts/optimizer/optimizer.js";
import { adam, adamw, scheduleFreeSgd, sgd } from "../ts/rules/index.js";
import { sam } from "../ts/wrappers/sam.js";
import type { Tensor } from "../ts/arena/tensor.js";
import { bitsOfEach, inputs } from "./harness.js";
import { type AnyFactory, factories, fitting } from "./registry.js";
import { small } from "./small.js";

const shapes = { a: [83], b: [1], c: [8, 5] };

/** Makes two groups of three tensors. One group maximizes. The gradients depend on the parameters. */
function made(factory: AnyFactory, options: object = {}, arena: Arena = small(), sizes = shapes) {
  const fitted = Object.entries(sizes).map(([name, shape]) => [name, fitting(factory.rule, shape)]);
  const { c, ...rest } = arena.tensors(Object.fromEntries(fitted) as typeof sizes);
  const tensors = [...Object.values(rest), c];
  const goals = tensors.map(({ size, data }, i) => {
    const { params, grads } = inputs(size, 1, i + 1);
    data.set(params);
    return grads[0]!;
  });
  let calls = 0;
  const closure = () => {
    calls += 1;
    tensors.forEach(({ data, grad }, i) => {
      const sign = i === 2 ? -1 : 1;
      for (let k = 0; k < data.length; k++) grad[k] = sign * (data[k]! - goals[i]![k]! + Math.sin(calls + k) / 8);
    });
    return calls;
  };
  const optimizer = factory([{ params: tensors.slice(0, 2) }, { params: [c], maximize: true }], options);
  const state = () =>
    tensors.flatMap((tensor) => [
      [...tensor.data],
      ...Object.values(optimizer.state(tensor)).map((view: any) => [...view]),
    ]);
  return { tensors, optimizer, closure, state, counted: () => calls };
}

type Run = ReturnType<typeof made>;

const copies = (tensors: readonly Tensor[]) => tensors.map(({ data }) => data.slice());
const restore = (tensors: readonly Tensor[], kept: readonly Float32Array[]) =>
  tensors.forEach(({ data }, i) => data.set(kept[i]!));
const { fround } = Math;

/** Applies sam in JavaScript: computes the gradients at the perturbed parameters and restores the parameters. */
function climb({ tensors, closure }: Run, rho: number): void {
  closure();
  const before = copies(tensors);
  const squares = tensors.flatMap(({ grad }) => [...grad]).reduce((sum, g) => sum + g * g, 0);
  const scale = fround(rho / Math.sqrt(squares));
  tensors.forEach(({ data, grad }, i) => {
    const sign = i === 2 ? -1 : 1;
    for (let k = 0; k < data.length; k++) data[k] = data[k]! + fround(sign * scale * grad[k]!);
  });
  closure();
  restore(tensors, before);
}

/** Applies lookahead in JavaScript. */
function blend(tensors: readonly Tensor[], slow: readonly Float32Array[], part: number): void {
  const [keep, take] = [fround(1 - part), fround(part)];
  tensors.forEach(({ data }, i) => {
    for (let k = 0; k < data.length; k++) slow[i]![k] = fround(keep * slow[i]![k]!) + fround(take * data[k]!);
    data.set(slow[i]!);
  });
}

describe.each(factories)("$rule.name", (factory) => {
  test.each([undefined, { syncPeriod: 3, slowStepSize: 0.8 }, { syncPeriod: 1, slowStepSize: 1 }])(
    "lookahead %o",
    async (options) => {
      const { syncPeriod = 5, slowStepSize = 0.5 } = options ?? {};
      const [plain, ahead, turns] = [made(factory), made(factory), made(factory)];
      for (const { optimizer } of [ahead, turns]) expect(lookahead(optimizer, options)).toBe(optimizer);
      const slow = copies(plain.tensors);
      for (let step = 1; step <= 11; step++) {
        plain.closure();
        plain.optimizer.step();
        if (step % syncPeriod === 0) blend(plain.tensors, slow, slowStepSize);
        ahead.closure();
        ahead.optimizer.step();
        await turns.optimizer.stepAsync(turns.closure);
        expect(copies(ahead.tensors)).toEqual(copies(plain.tensors));
        expect(ahead.tensors.map((tensor) => ahead.optimizer.state(tensor).slow)).toEqual(slow);
        expect(turns.state()).toEqual(ahead.state());
      }
    },
  );

  test.each([0.05, 2])("sam %d", async (rho) => {
    const runs = Array.from({ length: 4 }, () => made(factory));
    const [plain, called, turns, byHand] = runs as [Run, Run, Run, Run];
    for (const { optimizer } of runs.slice(1)) expect(sam(optimizer, { rho })).toBe(optimizer);
    for (let step = 0; step < 5; step++) {
      climb(plain, rho);
      plain.optimizer.step();
      expect(called.optimizer.step(called.closure)).toMatchObject({ loss: 2 * step + 1, skipped: false });
      await turns.optimizer.stepAsync(async () => (await null, turns.closure()));
      byHand.closure();
      byHand.optimizer.perturb();
      byHand.closure();
      await byHand.optimizer.stepAsync();
      for (const { state } of runs.slice(1)) expect(state()).toEqual(plain.state());
    }
  });

  test("sam and lookahead can be combined, in any order and with the options of a step", () => {
    const options = { accumulate: 2, clipNorm: 0.5, ema: 0.9, lossScale: 4 };
    const [plain, one, other] = [made(factory, options), made(factory, options), made(factory, options)];
    lookahead(sam(one.optimizer), { syncPeriod: 2 });
    sam(lookahead(other.optimizer, { syncPeriod: 2 }));
    const slow = copies(plain.tensors);
    for (let micro = 1; micro <= 10; micro++) {
      climb(plain, 0.05);
      plain.optimizer.step();
      if (micro % 4 === 0) blend(plain.tensors, slow, 0.5);
      for (const { optimizer, closure } of [one, other]) optimizer.step(closure);
      expect(copies(one.tensors)).toEqual(copies(plain.tensors));
      expect(other.state()).toEqual(one.state());
    }
    expect(one.optimizer.steps).toBe(5);
    const averages = ({ tensors, optimizer }: Run) => tensors.map((tensor) => [...optimizer.average(tensor)]);
    expect(averages(one)).toEqual(averages(plain));
  });

  test("a run that is resumed gives the same bits", () => {
    const [run, again] = [made(factory, { accumulate: 2 }), made(factory, { accumulate: 2 })];
    for (const { optimizer } of [run, again]) lookahead(sam(optimizer), { syncPeriod: 3 });
    for (let i = 0; i < 7; i++) run.optimizer.step(run.closure);
    for (let i = 0; i < 7; i++) again.closure();
    load(save(run.tensors, run.optimizer), again.tensors, again.optimizer);
    while (again.counted() < run.counted()) again.closure();
    for (let i = 0; i < 8; i++) for (const { optimizer, closure } of [run, again]) optimizer.step(closure);
    expect(again.state()).toEqual(run.state());
  });
});

describe("lookahead", () => {
  const run = (options: object = {}) => {
    const run = made(adam, options);
    return { ...run, slow: () => run.tensors.map((tensor) => [...run.optimizer.state(tensor).slow]) };
  };

  test("slow weights start as the parameters at the first step", () => {
    const { tensors, optimizer, slow, closure } = run({ accumulate: 2, nonFinite: "skip" });
    lookahead(optimizer, { syncPeriod: 2 });
    closure();
    tensors[0]!.grad[7] = Infinity;
    for (let i = 0; i < 2; i++) optimizer.step();
    expect(optimizer.steps).toBe(0);
    tensors.forEach(({ data }, i) => data.fill(i + 2));
    for (let i = 0; i < 2; i++) optimizer.step(closure);
    expect(optimizer.steps).toBe(1);
    expect(slow().map(([first]) => first)).toEqual([2, 3, 4]);
  });

  test("slow weights start as the present parameters after earlier steps", () => {
    const { tensors, optimizer, slow, closure } = run();
    for (let i = 0; i < 3; i++) optimizer.step(closure);
    lookahead(optimizer);
    expect(slow()).toEqual(tensors.map(({ data }) => [...data]));
    const begun = slow();
    optimizer.step(closure);
    expect(slow()).toEqual(begun);
    optimizer.step(closure);
    expect(slow()).not.toEqual(begun);
  });

  test("a checkpoint without slow weights is refused, unless strict is false", () => {
    const [plain, ahead] = [run(), run()];
    lookahead(ahead.optimizer, { syncPeriod: 3 });
    for (let i = 0; i < 4; i++) plain.optimizer.step(plain.closure);
    const file = save(plain.tensors, plain.optimizer);
    const before = ahead.state();
    expect(() => load(file, ahead.tensors, ahead.optimizer)).toThrow(
      'lookahead is nothing in the file, {"syncPeriod":3,"slowStepSize":0.5} here',
    );
    expect(ahead.state()).toEqual(before);
    const { leftOut } = load(file, ahead.tensors, ahead.optimizer, { strict: false });
    expect(leftOut).toContain('tensor "optimizer.a.slow" is missing in the file');
    expect(ahead.slow()).toEqual(plain.tensors.map(({ data }) => [...data]));
    expect(() => load(save(ahead.tensors, ahead.optimizer), plain.tensors, plain.optimizer)).toThrow(
      'lookahead is {"syncPeriod":3,"slowStepSize":0.5} in the file, nothing here',
    );
  });
});

describe("sam", () => {
  const run = (options: object = {}, rho = 0.05) => {
    const run = made(sgd, { lr: 0.1, ...options });
    sam(run.optimizer, { rho });
    return run;
  };

  test.each([
    ["zero", 0],
    ["next to zero", 1e-42],
    ["infinite", Infinity],
    ["not a number", Number.NaN],
  ])("a gradient that is %s leads nowhere: the step is the rule's, and the closure called once", (_, g) => {
    const [{ tensors, optimizer }, plain] = [run({ nonFinite: "skip" }), made(sgd, { lr: 0.1, nonFinite: "skip" })];
    let calls = 0;
    const closure = () => {
      for (const { grad } of [...tensors, ...plain.tensors]) grad.fill(0);
      for (const { grad } of [tensors[0]!, plain.tensors[0]!]) grad[3] = g;
      return ++calls;
    };
    const { skipped } = optimizer.step(closure);
    expect([calls, skipped]).toEqual([1, !Number.isFinite(g)]);
    expect(plain.optimizer.step().skipped).toBe(skipped);
    expect(copies(tensors)).toEqual(copies(plain.tensors));
    const padding = new Float32Array(tensors[1]!.data.buffer, tensors[1]!.data.byteOffset, 16);
    expect([...padding.subarray(1)]).toEqual(Array(15).fill(0));
    expect(Object.is(optimizer.perturb(), g === 1e-42 ? Math.abs(Math.fround(g)) : g)).toBe(true);
    optimizer.step();
  });

  test("parameters move by rho, and are restored to the bit", () => {
    const { tensors, optimizer, closure } = run({}, 0.3);
    tensors[0]!.data.set([-0, 1e-42, Infinity, -Infinity], 0);
    const before = copies(tensors);
    tensors.forEach(({ grad }) => grad.fill(0.5));
    expect(optimizer.perturb()).toBe(Math.sqrt((83 + 1 + 40) * 0.25));
    const moved = tensors.flatMap(({ data }, i) => [...data].map((x, k) => x - before[i]![k]!).filter((x) => x === x));
    expect(Math.hypot(...moved, 0.3 / Math.sqrt(124), 0.3 / Math.sqrt(124))).toBeCloseTo(0.3, 6);
    expect(tensors[2]!.data[0]! < before[2]![0]!).toBe(true); // it is maximized
    optimizer.train();
    expect(copies(tensors).map(bitsOfEach)).toEqual(before.map(bitsOfEach));
    optimizer.step(closure);
  });

  test("with zeroGrad, gradients are also zeroed after the perturbation", () => {
    const [once, adding] = [run({ zeroGrad: true }), run({ zeroGrad: true })];
    const accumulating = () => {
      const before = adding.tensors.map(({ grad }) => grad.slice());
      const loss = adding.closure();
      adding.tensors.forEach(({ grad }, i) => grad.forEach((g, k) => (grad[k] = g + before[i]![k]!)));
      return loss;
    };
    for (let i = 0; i < 3; i++) {
      once.optimizer.step(once.closure);
      adding.optimizer.step(accumulating);
      expect(copies(adding.tensors)).toEqual(copies(once.tensors));
    }
  });

  test("an error of the closure, at the first or the second call, changes neither parameters nor state", async () => {
    const { tensors, optimizer, closure } = run({ momentum: 0.9 });
    optimizer.step(closure);
    const before = save(tensors, optimizer);
    for (const at of [1, 2]) {
      for (const act of [
        (closure: () => number) => optimizer.step(closure),
        (closure: () => number) => optimizer.stepAsync(async () => closure()),
      ]) {
        let calls = 0;
        const failing = () => {
          if (++calls === at) throw new Error("no data");
          return closure();
        };
        await expect((async () => act(failing))()).rejects.toThrow("no data");
        expect(Buffer.compare(save(tensors, optimizer), before)).toBe(0);
      }
    }
    optimizer.step(closure);
    expect(optimizer.steps).toBe(2);
  });

  test("parameters are restored after a gradient that is not finite at the perturbed parameters", () => {
    const { tensors, optimizer, closure } = run({ nonFinite: "throw" });
    const before = copies(tensors);
    let calls = 0;
    const closureToInfinity = () => {
      closure();
      if (++calls === 2) tensors[0]!.grad[5] = Infinity;
      return 1;
    };
    expect(() => optimizer.step(closureToInfinity)).toThrow('the gradient of tensor "a" must be finite, got Infinity');
    expect(copies(tensors)).toEqual(before);
  });

  test("between perturb() and step(), other calls are refused", () => {
    const { tensors, optimizer, closure } = run({ ema: 0.9 });
    closure();
    const file = save(tensors, optimizer);
    optimizer.perturb();
    const message = "the parameters are those of perturb(); call step() or train() first";
    for (const act of [
      () => optimizer.perturb(),
      () => optimizer.step(closure),
      () => optimizer.swapAverages(),
      () => save(tensors, optimizer),
      () => load(file, tensors, optimizer),
      () => lookahead(optimizer),
    ]) {
      expect(act).toThrow(message);
    }
    optimizer.train();
    expect(Buffer.compare(save(tensors, optimizer), file)).toBe(0);
    const free = made(scheduleFreeSgd);
    sam(free.optimizer);
    free.closure();
    free.optimizer.perturb();
    expect(() => free.optimizer.eval()).toThrow(message);
    free.optimizer.train();
    free.optimizer.eval();
    expect(() => free.optimizer.perturb()).toThrow("the parameters are those of eval(); call train() first");
  });
});

test("any optimizer accepts a closure", async () => {
  const [plain, called, turns] = [made(adamw), made(adamw), made(adamw)];
  for (let i = 1; i <= 3; i++) {
    plain.closure();
    expect(plain.optimizer.step().loss).toBe(undefined);
    expect(called.optimizer.step(called.closure).loss).toBe(i);
    expect((await turns.optimizer.stepAsync(async () => (await null, turns.closure()))).loss).toBe(i);
    for (const { state } of [called, turns]) expect(state()).toEqual(plain.state());
  }
  const message = "adamw: a step that calls a closure is under way; wait until it is done";
  const { optimizer, closure, tensors } = called;
  expect(() => optimizer.step(() => (optimizer.step(), 1))).toThrow(message);
  const under = turns.optimizer.stepAsync(async () => (await null, turns.closure()));
  expect(() => turns.optimizer.step()).toThrow(message);
  expect(() => turns.optimizer.train()).toThrow("adamw: train: a step that calls a closure is under way");
  expect(() => save(turns.tensors, turns.optimizer)).toThrow("save: adamw: a step that calls a closure is under way");
  await expect(turns.optimizer.stepAsync()).rejects.toThrow(message);
  await under;
  const before = copies(tensors);
  expect(() => optimizer.step((() => {}) as never)).toThrow(
    "adamw: closure must return the loss, a number, got undefined",
  );
  expect(() => optimizer.step(1 as never)).toThrow("adamw: closure must be a function that returns the loss, got 1");
  expect(copies(tensors)).toEqual(before);
  optimizer.step(closure);
});

test.each<[string, (of: (o?: object) => Optimizer) => unknown, new (...args: never) => Error, string]>([
  [
    "nothing to wrap",
    () => lookahead(undefined as never),
    TypeError,
    "lookahead: expected an optimizer that can be wrapped, such as adamw(model), got undefined",
  ],
  [
    "a rule",
    () => sam(adam as never),
    TypeError,
    "sam: expected an optimizer that can be wrapped, such as adamw(model), got a function",
  ],
  [
    "no steps",
    (of) => lookahead(of(), { syncPeriod: 0 }),
    RangeError,
    "lookahead: syncPeriod must be a whole number in [1, ∞), got 0",
  ],
  [
    "no way",
    (of) => lookahead(of(), { slowStepSize: 0 }),
    RangeError,
    "lookahead: slowStepSize must be in (0, 1], got 0",
  ],
  ["no option", (of) => lookahead(of(), { slow: 1 } as never), TypeError, 'lookahead: no option "slow"; '],
  ["backwards", (of) => sam(of(), { rho: -1 }), RangeError, "sam: rho must be in [0, ∞), got -1"],
  ["twice", (of) => sam(sam(of())), TypeError, "sam: the optimizer is already wrapped by sam"],
  ["twice", (of) => lookahead(lookahead(of())), TypeError, "lookahead: the optimizer is already wrapped by lookahead"],
  ["unwrapped", (of) => of().perturb(), TypeError, "adam: perturb() is for optimizers that sam() wrapped"],
  ["no memory", (of) => lookahead(of()), RangeError, " bytes for lookahead's slow weights,"],
  ["no memory", (of) => sam(of()), RangeError, " bytes for sam's copy of the parameters,"],
])("refused: %s, %s", (what, act, type, message) => {
  const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
  const size = what === "no memory" ? 6500 : 3;
  const make = () => adam([arena.tensor(`w${arena.bytesLeft}`, [size])]);
  const optimizer = make();
  const [left, steps] = [arena.bytesLeft, optimizer.internals.step.phases.length];
  expect(() => act(() => optimizer)).toThrow(type);
  if (what !== "twice") {
    expect(() => act(() => optimizer)).toThrow(message);
    expect([arena.bytesLeft, optimizer.internals.step.phases.length]).toEqual([left, steps]);
  } else expect(() => act(() => make())).toThrow(message);
});

test("any number of threads gives the same bits", async () => {
  const results: Float32Array[][] = [];
  for (const [threads, turns] of [
    [1, false],
    [2, false],
    [2, true],
    [4, false],
  ] as const) {
    const arena = await createArena({ maxBytes: 2 ** 26, threads });
    onTestFinished(() => arena.free());
    const { tensors, optimizer, closure } = made(adam, {}, arena, { a: [3 * 16384 + 5], b: [1], c: [300, 700] });
    lookahead(sam(optimizer), { syncPeriod: 2 });
    for (let i = 0; i < 4; i++) turns ? await optimizer.stepAsync(closure) : optimizer.step(closure);
    results.push(copies(tensors));
  }
  for (const result of results) expect(result).toEqual(results[0]);
});

test.each<[string, (optimizer: Optimizer) => Optimizer, number]>([
  ["lookahead", (optimizer) => lookahead(optimizer), 10_000],
  ["sam", (optimizer) => sam(optimizer, { rho: 1e-3 }), 10_000],
])("%s arrives on Rosenbrock's function", (_, wrap, steps) => {
  const arena = small();
  const w = arena.tensor("w", [2]);
  const optimizer = wrap(adam([w], { lr: 1e-2 }));
  const closure = () => {
    const [x, y] = w.data as unknown as [number, number];
    w.grad.set([2 * (x - 1) - 400 * x * (y - x ** 2), 200 * (y - x ** 2)]);
    return (1 - x) ** 2 + 100 * (y - x ** 2) ** 2;
  };
  for (let step = 0; step < steps; step++) optimizer.step(closure);
  expect(Math.max(...w.data.map((x) => Math.abs(x - 1)))).toBeLessThan(0.02);
});

test("an optimizer is wrapped between steps", async () => {
  const { optimizer } = made(adam);
  const step = optimizer.stepAsync();
  for (const wrap of [lookahead, sam]) expect(() => wrap(optimizer)).toThrow("a stepAsync() is under way");
  await step;
  expect(sam(lookahead(optimizer))).toBe(optimizer);
});

test("groups are added before an optimizer is wrapped", () => {
  const arena = small();
  const { optimizer } = made(adam, {}, arena);
  lookahead(optimizer);
  const late = { params: [arena.tensor("late", [3])] };
  expect(() => optimizer.addGroup(late)).toThrow(
    "adam: addGroup: lookahead() has wrapped the optimizer; add groups before",
  );
  expect(optimizer.groups.length).toBe(2);
});

test("a freed arena", () => {
  const arena = small();
  const { tensors, optimizer, closure } = made(adam, {}, arena);
  lookahead(sam(optimizer));
  optimizer.step(closure);
  arena.free();
  expect(() => optimizer.step(closure)).toThrow("adam: the arena was freed");
  expect(() => optimizer.perturb()).toThrow("adam: the arena was freed");
  expect(() => optimizer.state(tensors[0]!)).toThrow("adam: the arena was freed");
});

test("two optimizers with sam do not move the same tensor at once", () => {
  const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
  const [w, b] = [arena.tensor("w", [3]), arena.tensor("b", [2])];
  const [one, other] = [sam(sgd([w, b])), sam(sgd([w]))];
  w.grad.fill(1);
  one.perturb();
  const before = [...w.data];
  expect(() => other.perturb()).toThrow(
    'sgd: tensor "w" is already moved by another sam(); call the step() of that optimizer first',
  );
  expect([...w.data]).toEqual(before);
  one.step();
  other.perturb();
  other.step();
  expect(w.data[0]).toBeCloseTo(-0.002, 6);
  arena.free();
});

test("a step of sam without a closure needs perturb() each time", async () => {
  const w = small().tensor("w", [1]);
  const optimizer = sam(sgd([w], { lr: 1 }));
  const message =
    "sgd: a step of sam() requires gradients at two points; call step(closure), or perturb() before step()";
  w.grad.fill(1);
  expect(() => optimizer.step()).toThrow(message);
  await expect(optimizer.stepAsync()).rejects.toThrow(message);
  expect([w.data[0], optimizer.steps]).toEqual([0, 0]);
  for (const grad of [1, 0]) {
    w.grad.fill(grad);
    optimizer.perturb(); // which does not move the parameters, because the gradient is zero
    optimizer.step();
    expect(() => optimizer.step()).toThrow(message);
  }
  expect(optimizer.step(() => 0).loss).toBe(0);
});
