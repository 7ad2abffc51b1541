/** State in files: written here and read by TensorFlow.js, and the other way round. */

import * as tf from "@tensorflow/tfjs-core";
import fc from "fast-check"; // generates the steps, and shrinks those that fail
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { chained, reduceLROnPlateau } from "../../ts/schedules/index.js";
import * as downhill from "../../ts/tfjs/index.js";
import { error } from "../harness.js";
import { factories, fitting } from "../registry.js";
import { backends, counted, numbers, use } from "./backends.js";

type Optimizer = tf.Optimizer;

/**
 * The seven optimizers of TensorFlow.js with the rules that compute the same, and the names of slots in a file, in
 * order.
 */
const pairs: Record<string, { theirs: () => Optimizer; ours: () => Optimizer; names: string[]; within?: number }> = {
  sgd: { theirs: () => tf.train.sgd(0.1), ours: () => downhill.sgd({ lr: 0.1 }), names: [] },
  "sgd with momentum": {
    theirs: () => tf.train.momentum(0.1, 0.9),
    ours: () => downhill.sgd({ lr: 0.1, momentum: 0.9 }),
    names: ["momentum"],
  },
  "sgd with Nesterov's": {
    theirs: () => tf.train.momentum(0.1, 0.9, true),
    ours: () => downhill.sgd({ lr: 0.1, momentum: 0.9, nesterov: true }),
    names: ["momentum"],
  },
  momentum: {
    theirs: () => tf.train.momentum(0.1, 0.9),
    ours: () => downhill.momentum({ lr: 0.1 }),
    names: ["momentum"],
  },
  adagrad: {
    theirs: () => tf.train.adagrad(0.1),
    ours: () => downhill.adagrad({ lr: 0.1, initialAccumulatorValue: 0.1, epsInSqrt: true, eps: 1e-7 }),
    names: ["accumulator"],
  },
  // TensorFlow.js divides by the mean square of the earlier steps. The state is the same, but the updates differ.
  adadelta: {
    theirs: () => tf.train.adadelta(0.1, 0.95),
    ours: () => downhill.adadelta({ lr: 0.1, rho: 0.95, eps: 1e-7 }),
    names: ["accum_grad", "accum_var"],
    within: 0.1, // a run that loses a part of the state ends 0.18 away
  },
  adam: { theirs: () => tf.train.adam(0.1), ours: () => downhill.adam({ lr: 0.1, eps: 1e-7 }), names: ["m", "v"] },
  rmsprop: {
    theirs: () => tf.train.rmsprop(0.1),
    ours: () => downhill.rmsprop({ lr: 0.1, alpha: 0.9, eps: 1e-7, epsInSqrt: true }),
    names: ["rms", "momentum"],
  },
  "rmsprop with momentum": {
    theirs: () => tf.train.rmsprop(0.1, 0.9, 0.5),
    ours: () => downhill.rmsprop({ lr: 0.1, alpha: 0.9, momentum: 0.5, eps: 1e-7, epsInSqrt: true }),
    names: ["rms", "momentum"],
  },
  // TensorFlow.js subtracts eps here.
  "rmsprop, centered, with momentum": {
    theirs: () => tf.train.rmsprop(0.1, 0.9, 0.5, 0, true),
    ours: () => downhill.rmsprop({ lr: 0.1, alpha: 0.9, momentum: 0.5, eps: 0, centered: true }),
    names: ["rms", "momentum", "mg"],
  },
};

const shapes = { w: [3, 5], b: [2] };
let variables: tf.Variable[] = [];

beforeEach(async () => {
  await use("wasm");
  variables = Object.entries(shapes).map(([name, shape], i) => {
    const size = shape.reduce((a, b) => a * b);
    return tf.variable(tf.tensor(numbers(size, i), shape), true, name);
  });
});
afterEach(() => tf.disposeVariables());

function train(optimizer: Optimizer, from: number, to: number): void {
  for (let step = from; step < to; step++) {
    tf.tidy(() => {
      optimizer.applyGradients(
        variables.map(({ name, shape, size }, i) => ({ name, tensor: tf.tensor(numbers(size, 10 * step + i), shape) })),
      );
    });
  }
}

const values = () => variables.flatMap((variable) => [...variable.dataSync()]);
const assign = (from: readonly number[]) => {
  let at = 0;
  for (const variable of variables) {
    variable.assign(tf.tensor(from.slice(at, at + variable.size), variable.shape));
    at += variable.size;
  }
};

/** Returns the parameters after a run that one optimizer begins and another one continues. */
async function handedOver(first: () => Optimizer, second: () => Optimizer): Promise<number[]> {
  const start = values();
  const [a, b] = [first(), second()];
  train(a, 0, 3);
  await b.setWeights(await a.getWeights());
  expect(b.iterations).toBe(a.iterations);
  a.dispose();
  train(b, 3, 6);
  const end = values();
  b.dispose();
  assign(start);
  return end;
}

/** By default as far apart as the powers of the betas, which TensorFlow.js keeps in single precision, make them. */
const near = (a: readonly number[], b: readonly number[], within = 1e-5) => {
  const distance = Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
  expect(distance).toBeLessThan(within);
};

describe.each(Object.entries(pairs))("%s", (_, { theirs, ours, names, within }) => {
  test("names and order are those of TensorFlow.js", async () => {
    const [a, b] = [theirs(), ours()];
    train(a, 0, 2);
    train(b, 0, 2);
    const [there, here] = [await a.getWeights(), await b.getWeights()];
    expect(here.map(({ name }) => name)).toEqual(["iter", ...names.flatMap((slot) => [`w/${slot}`, `b/${slot}`])]);
    expect(here.map(({ name }) => name)).toEqual(there.map(({ name }) => name));
    expect(here.map(({ tensor }) => [tensor.shape, tensor.dtype])).toEqual(
      there.map(({ tensor }) => [tensor.shape, tensor.dtype]),
    );
  });

  test("a run that TensorFlow.js begins ends here, and the other way round", async () => {
    const whole = await handedOver(theirs, theirs);
    near(await handedOver(theirs, ours), whole, within);
    near(await handedOver(ours, theirs), within ? await handedOver(ours, ours) : whole, within);
    const alone = ours();
    const start = values();
    train(alone, 0, 6);
    const end = values();
    assign(start);
    near(await handedOver(ours, ours), end);
  });
});

test("equal gradients: TensorFlow.js's centered RMSProp gives NaN, and ours a number", () => {
  const [w] = variables as [tf.Variable];
  const end = (optimizer: Optimizer) => {
    for (let step = 0; step < 50; step++) tf.tidy(() => optimizer.applyGradients({ w: tf.onesLike(w) }));
    return w.dataSync()[0];
  };
  expect(end(downhill.rmsprop({ lr: 0.1, alpha: 0.5, eps: 1e-7, epsInSqrt: true, centered: true }))).toSatisfy(
    Number.isFinite,
  );
  expect(end(tf.train.rmsprop(0.1, 0.5, 0, 1e-7, true))).toBeNaN();
});

describe("Adamax, whose state TensorFlow.js does not write", () => {
  test("m and v", async () => {
    const optimizer = downhill.adamax();
    train(optimizer, 0, 1);
    expect((await optimizer.getWeights()).map(({ name }) => name)).toEqual(["iter", "w/m", "b/m", "w/v", "b/v"]);
  });
});

describe("everything else that a run needs is in one more tensor", () => {
  const options = { lr: 0.05, ema: 0.9, accumulate: 2, lossScale: "dynamic" } as const;
  const all = {
    prodigy: () => downhill.prodigy(),
    lamb: () => downhill.lamb(),
    dog: () => downhill.dog(),
    scheduleFreeAdamw: () => downhill.scheduleFreeAdamw(),
    adamw: () => downhill.adamw(options),
    adafactor: () => downhill.adafactor(),
  };
  test.each(Object.entries(all))("%s resumes to the bit", async (_, make) => {
    const start = values();
    const alone = make();
    train(alone, 0, 6);
    const end = values();
    assign(start);
    expect(await handedOver(make, make)).toEqual(end);
  });
});

test("wrong weights are refused, and change nothing", async () => {
  const optimizer = downhill.adam();
  train(optimizer, 0, 2);
  const before = (await optimizer.getWeights()).map(({ name, tensor }) => [name, ...tensor.dataSync()]);
  const zero = tf.zeros([3, 5]);
  const iter = { name: "iter", tensor: tf.scalar(1, "int32") };
  await expect(optimizer.setWeights([])).rejects.toThrow(
    'adam: setWeights: the first weight must be the number of steps, "iter"',
  );
  await expect(optimizer.setWeights([iter, { name: "w/x", tensor: zero }])).rejects.toThrow(
    "must end with one of /m, /v",
  );
  await expect(optimizer.setWeights([iter, { name: "w/m", tensor: zero }])).rejects.toThrow('"w/v" is missing');
  await expect(
    optimizer.setWeights([iter, { name: "w/m", tensor: zero }, { name: "w/v", tensor: tf.zeros([2, 1]) }]),
  ).rejects.toThrow('adam: setWeights: the state of "w" must have one shape, got [3, 5] and [2, 1]');
  await expect(optimizer.setWeights(undefined as any)).rejects.toThrow("weights must be a list");
  for (const wrong of [null, 3, {}, { name: "w/m" }, { name: "w/m", tensor: [1] }, { tensor: zero }]) {
    const weights = [iter, wrong] as any;
    await expect(optimizer.setWeights(weights)).rejects.toThrow("weights[1] must be { name, tensor }, got");
  }
  const gone = { name: "w/m", tensor: tf.zeros([3, 5]) };
  gone.tensor.dispose();
  await expect(optimizer.setWeights([iter, gone])).rejects.toThrow('"w/m" must have its values');
  const [m, v] = ["w/m", "w/v"].map((name) => ({ name, tensor: zero }));
  await expect(optimizer.setWeights([iter, m!, v!, m!])).rejects.toThrow('"w/m" must come once, it came twice');
  const two = { name: "iter", tensor: tf.tensor1d([1, 2], "int32") };
  await expect(optimizer.setWeights([two])).rejects.toThrow('"iter" must be one number, got shape [2]');
  const after = (await optimizer.getWeights()).map(({ name, tensor }) => [name, ...tensor.dataSync()]);
  expect(after).toEqual(before);
});

test("weights have the progress of plateaus, also before they observe; if one is wrong, none changes", async () => {
  const make = () => {
    const [lr, weightDecay] = [reduceLROnPlateau({ lr: 0.1 }), reduceLROnPlateau({ lr: 0.01 })];
    return { lr, weightDecay, optimizer: downhill.adamw({ lr, weightDecay }) };
  };
  const [saved, loaded, other] = [make(), make(), make()];
  train(saved.optimizer, 0, 1);
  saved.lr.observe(3);
  const weights = await saved.optimizer.getWeights();
  await loaded.optimizer.setWeights(weights);
  expect(loaded.lr.observed).toEqual(saved.lr.observed);
  expect(loaded.weightDecay.observed).toEqual(saved.weightDecay.observed);

  const { name, tensor } = weights.at(-1)!;
  const progress = JSON.parse(String.fromCharCode(...tensor.dataSync()));
  progress.observed[1].bad = -1;
  const codes = Array.from(JSON.stringify(progress), (character) => character.charCodeAt(0));
  const wrong = [...weights.slice(0, -1), { name, tensor: tf.tensor1d(codes, "int32") }];
  const before = other.lr.observed;
  await expect(other.optimizer.setWeights(wrong)).rejects.toThrow("reduceLROnPlateau: observed.bad must be");
  expect(other.lr.observed).toBe(before);
});

/** Weights whose last tensor, the progress, has changed. */
async function changed(optimizer: Optimizer, change: (progress: any) => void) {
  const weights = await optimizer.getWeights();
  const { name, tensor } = weights.at(-1)!;
  const progress = JSON.parse(String.fromCharCode(...tensor.dataSync()));
  change(progress);
  const codes = Array.from(JSON.stringify(progress), (character) => character.charCodeAt(0));
  return [...weights.slice(0, -1), { name, tensor: tf.tensor1d(codes, "int32") }];
}

test("a plateau within another schedule is found", async () => {
  const make = () => {
    const plateau = reduceLROnPlateau({ lr: 0.1, patience: 0 });
    return { plateau, optimizer: downhill.sgd({ lr: chained({ lr: 0.1, schedules: [plateau] }) }) };
  };
  const [saved, loaded] = [make(), make()];
  train(saved.optimizer, 0, 1);
  saved.plateau.observe(1);
  saved.plateau.observe(1);
  await loaded.optimizer.setWeights(await saved.optimizer.getWeights());
  expect(loaded.plateau.observed).toEqual(saved.plateau.observed);
});

test("numbers of a rule that are not finite come back", async () => {
  const [w] = variables as [tf.Variable];
  const [saved, loaded] = [downhill.lamb(), downhill.lamb()];
  saved.applyGradients({ w: tf.fill(w.shape, Number.NaN) });
  const weights = await saved.getWeights();
  await loaded.setWeights(weights);
  const text = (tensor: tf.Tensor) => String.fromCharCode(...tensor.dataSync());
  expect(text(weights.at(-1)!.tensor)).toContain('"NaN"');
  expect(text((await loaded.getWeights()).at(-1)!.tensor)).toBe(text(weights.at(-1)!.tensor));
});

test.each<[string, (progress: any) => void, string]>([
  [
    "steps of a variable",
    ({ since }) => (since.w = 9),
    'lamb: setWeights: since of "w" must be a whole number in [0, 1], got 9',
  ],
  [
    "micro-batches",
    ({ counts }) => (counts.microBatches = 1),
    "lamb: setWeights: microBatches must be a whole number in [0, 0], got 1",
  ],
  [
    "an average",
    ({ counts }) => (counts.averaged = 1),
    "lamb: setWeights: averaged must be a whole number in [0, 0], got 1",
  ],
  ["a scale", ({ counts }) => (counts.lossScale = 2), "lamb: setWeights: lossScale must be the option's 1, got 2"],
  ["a number", ({ scalars }) => (scalars.w = {}), "lamb: setWeights: trustRatio must be a number, got undefined"],
  [
    "a number that is text",
    ({ scalars }) => (scalars.w.trustRatio = "x"),
    'lamb: setWeights: trustRatio must be a number, got "x"',
  ],
  ["parts", (progress) => (progress.since = null), 'lamb: setWeights: the tensor "downhill" is damaged'],
])("progress that contradicts itself is refused: %s", async (_, change, message) => {
  const optimizer = downhill.lamb();
  const [w] = variables as [tf.Variable];
  optimizer.applyGradients({ w: tf.onesLike(w) });
  await expect(downhill.lamb().setWeights(await changed(optimizer, change))).rejects.toThrow(message);
});

test("progress may be long", async () => {
  const optimizer = downhill.lamb();
  const [w] = variables as [tf.Variable];
  optimizer.applyGradients({ w: tf.onesLike(w) });
  const long = await changed(optimizer, ({ since }) => {
    for (let i = 0; i < 20_000; i++) since[`other${i}`] = 0;
  });
  const loaded = downhill.lamb();
  await loaded.setWeights(long);
  expect(loaded.iterations).toBe(1);
});

test("variables that are disposed have no weights", async () => {
  const optimizer = downhill.adam();
  const gone = tf.variable(tf.zeros([2]), true, "gone");
  optimizer.applyGradients({ gone: tf.onesLike(gone) });
  gone.dispose();
  expect((await optimizer.getWeights()).map(({ name }) => name)).toEqual(["iter"]);
});

test("state of other shapes is refused at the step", async () => {
  const optimizer = downhill.adam();
  const wrong = ["m", "v"].map((slot) => ({ name: `w/${slot}`, tensor: tf.zeros([3, 4]) }));
  await optimizer.setWeights([{ name: "iter", tensor: tf.scalar(1, "int32") }, ...wrong]);
  const [w] = variables as [tf.Variable];
  expect(() => optimizer.applyGradients({ w: tf.zerosLike(w) })).toThrow("has shape [3, 4]");
});

const renamed = factories.filter(({ rule }) => rule.name !== "noisySgd"); // its noise follows the names

test.each(renamed.map((factory) => [factory.rule.name, factory] as const))(
  "%s: variables of other names continue by order with the same bits, also where only some have state",
  async (name, { rule }) => {
    await use("cpu");
    const shapes = [[3, 5], [5], [4, 5], [5], [5]].map((shape) => fitting(rule, shape));
    const own = Object.entries(rule.hyper).flatMap(([option, { default: value }]): [string, unknown][] => {
      if (option === "momentum") return [[option, 0.9]];
      return option === "betas" ? [[option, (value as number[]).map((beta) => 0.9 * beta)]] : [];
    });
    const run = async (accumulate: number, before: number[][], after: number[][], isDisposed: boolean) => {
      const groups = [{ variables: /[ac]/, ...Object.fromEntries(own) }];
      const make = () => (downhill as any)[name]({ groups, accumulate }) as downhill.TfjsOptimizer;
      const step = (
        optimizer: downhill.TfjsOptimizer,
        variables: readonly tf.Variable[],
        which: readonly number[],
        seed: number,
      ) =>
        tf.tidy(() =>
          optimizer.applyGradients(
            which.map((i) => ({
              name: variables[i]!.name,
              tensor: tf.tensor(numbers(tf.util.sizeFromShape([...shapes[i]!]), seed + i), [...shapes[i]!]),
            })),
          ),
        );
      const variables = shapes.map((shape, i) =>
        tf.tidy(() =>
          tf.variable(tf.tensor(numbers(tf.util.sizeFromShape([...shape]), 90 + i), [...shape]), true, "abcde"[i]!),
        ),
      );
      const first = make();
      before.forEach((which, i) => step(first, variables, which, 10 * i));
      const all = [...new Set(before.flat())]; // in the order in which they took part
      const weights = (await first.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() }));
      const copies = variables.map((variable, i) => tf.variable(variable, true, `new${i}`));
      const more = [all, ...after.map((which) => which.filter((i) => all.includes(i)))].filter(
        (which) => which.length > 0,
      );
      more.forEach((which, i) => step(first, variables, which, 500 + 10 * i));
      const expected = variables.map((variable) => [...variable.dataSync()]);
      first.dispose();
      if (isDisposed) tf.dispose(variables);
      const second = make();
      await second.setWeights(weights);
      more.forEach((which, i) => step(second, copies, which, 500 + 10 * i));
      const got = copies.map((variable) => [...variable.dataSync()]);
      second.dispose();
      for (const { tensor } of weights) tensor.dispose();
      tf.dispose([...copies, ...(isDisposed ? [] : variables)]);
      // The buffer of these is converted to the units of TensorFlow.js's.
      const isConverted = ["momentum", "rmsprop"].includes(name);
      for (const i of shapes.keys()) {
        if (isConverted) expect(error(got[i]!, expected[i]!)).toBeLessThan(1);
        else expect(got[i]).toEqual(expected[i]);
      }
    };
    const which = fc.subarray([0, 1, 2, 3, 4], { minLength: 1 });
    await fc.assert(
      fc
        .asyncProperty(
          fc.constantFrom(1, 2),
          fc.array(which, { minLength: 1, maxLength: 4 }),
          fc.array(which, { maxLength: 3 }),
          fc.boolean(),
          run,
        )
        .beforeEach(() => tf.disposeVariables()),
      {
        numRuns: 8,
        examples: [
          [2, [[0, 1, 2, 3, 4]], [], true],
          [1, [[0], [0, 1, 2, 3, 4]], [[1]], false],
        ],
      },
    );
  },
);

test("TensorFlow.js reads the state of sgd after it was loaded and after a variable rested", async () => {
  await use("cpu");
  const [a, b] = [tf.variable(tf.ones([2])), tf.variable(tf.ones([3]))];
  const step = (optimizer: tf.Optimizer, ...variables: tf.Variable[]) =>
    tf.tidy(() => optimizer.applyGradients(Object.fromEntries(variables.map((v) => [v.name, tf.onesLike(v)]))));
  const theirs = tf.train.sgd(0.1);
  step(theirs, a, b);
  const ours = downhill.sgd({ lr: 0.1 });
  await ours.setWeights(await theirs.getWeights());
  step(ours, a, b);
  step(ours, a);
  await tf.train.sgd(0.1).setWeights(await ours.getWeights());
  ours.dispose();
  tf.dispose([a, b]);
});

test("momentum of rmsprop at a rate of zero is written in TensorFlow.js's units", async () => {
  await use("cpu");
  const a = tf.variable(tf.ones([2]));
  const step = (optimizer: tf.Optimizer) => tf.tidy(() => optimizer.applyGradients({ [a.name]: tf.ones([2]) }));
  const ours = downhill.rmsprop({ lr: (step) => (step === 1 ? 0 : 0.1), momentum: 0.9 });
  step(ours);
  step(ours);
  const found = (await ours.getWeights()).find(({ name }) => name.endsWith("/momentum"))!;
  const reference = downhill.rmsprop({ lr: 0.1, momentum: 0.9 });
  step(reference);
  step(reference);
  const expected = (await reference.getWeights()).find(({ name }) => name.endsWith("/momentum"))!;
  expect(error(found.tensor.dataSync(), expected.tensor.dataSync())).toBeLessThan(1);
  for (const optimizer of [ours, reference]) optimizer.dispose();
  tf.dispose(a);
});

test.each(backends)(
  "copies of weights stay when the weights are disposed before the optimizer, on %s",
  async (backend) => {
    await use(backend);
    tf.disposeVariables();
    for (const disposed of ["all", "own"]) {
      const before = counted();
      const variable = tf.tidy(() => tf.variable(tf.ones([20])));
      const step = (optimizer: Optimizer) =>
        tf.tidy(() => optimizer.applyGradients({ [variable.name]: tf.ones([20]) }));
      const optimizer = downhill.adam();
      step(optimizer);
      const weights = await optimizer.getWeights();
      const copies = weights.map(({ tensor }) => tensor.clone());
      const expected = copies.map((copy) => [...copy.dataSync()]);
      if (disposed === "all") tf.disposeVariables();
      else {
        tf.dispose(weights.map(({ tensor }) => tensor));
        step(optimizer); // with new state
        variable.dispose();
      }
      await optimizer.getWeights();
      optimizer.dispose();
      expect(copies.map((copy) => [...copy.dataSync()])).toEqual(expected);
      tf.dispose(copies);
      expect(counted()).toEqual(before);
    }
  },
);

test("state of TensorFlow.js with a variable without elements belongs by order", async () => {
  await use("cpu");
  const make = (prefix: string) =>
    [[2], [0, 3], [3]].map((shape, i) => tf.tidy(() => tf.variable(tf.ones(shape), true, `${prefix}${i}`)));
  const step = (optimizer: Optimizer, variables: tf.Variable[]) =>
    tf.tidy(() => optimizer.applyGradients(variables.map((v) => ({ name: v.name, tensor: tf.onesLike(v) }))));
  const saved = make("saved");
  const theirs = tf.train.adam(0.1);
  step(theirs, saved);
  const weights = (await theirs.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() }));
  tf.dispose(saved);
  const ours = downhill.adam({ lr: 0.1, eps: 1e-7 });
  await ours.setWeights(weights);
  const loaded = make("loaded");
  step(ours, loaded);
  const m = (await ours.getWeights()).find(({ name }) => name === "saved2/m")!;
  expect(m.tensor.dataSync()[0]).toBeCloseTo(0.19, 6); // of two steps
  for (const optimizer of [theirs, ours]) optimizer.dispose();
  tf.dispose([...loaded, ...weights.map(({ tensor }) => tensor)]);
});

test("weights that are disposed while they are read change nothing", async () => {
  const make = () => {
    const lr = reduceLROnPlateau({ lr: 0.1 });
    return { lr, optimizer: downhill.adamw({ lr }) };
  };
  const [saved, loaded] = [make(), make()];
  train(saved.optimizer, 0, 1);
  saved.lr.observe(3);
  const weights = (await saved.optimizer.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() }));
  const before = [loaded.lr.observed, counted().numTensors - weights.length] as const;
  const reading = loaded.optimizer.setWeights(weights);
  tf.dispose(weights.map(({ tensor }) => tensor));
  await expect(reading).rejects.toThrow("must have its values, got a tensor that is disposed");
  expect([loaded.lr.observed, counted().numTensors]).toEqual(before);
});
