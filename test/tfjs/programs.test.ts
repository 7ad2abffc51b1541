/**
 * The actions of programs between steps: other backends, other variables, missing gradients, assignments, disposals.
 */

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-layers"; // registers the gradients of operations
import fc from "fast-check"; // generates the programs, and shrinks those that fail
import { describe, expect, test, vi } from "vitest";
import * as adapted from "../../ts/tfjs/index.js";
import { adagrad, adam, adamw, dog, muon, sgd, sophia, type TfjsOptimizer } from "../../ts/tfjs/index.js";
import { error } from "../harness.js";
import { factories, fitting } from "../registry.js";
import { hostOf } from "../../ts/tfjs/host.js";
import * as core from "../../ts/index.js";
import { type Backend, backends, counted, numbers, use } from "./backends.js";

const sizes = [1, 5, 16, 33];

/** Adam in double precision, with a count of steps for each variable. */
class Reference {
  #state = new Map<number, { p: number[]; m: number[]; v: number[]; t: number }>();
  /** State that was loaded and has had no step. It belongs to a name, so a program must not dispose its variable. */
  readonly #loaded = new Set<number>();

  set(id: number, p: readonly number[]): void {
    const known = this.#state.get(id);
    if (known) known.p = [...p];
    else this.#state.set(id, { p: [...p], m: p.map(() => 0), v: p.map(() => 0), t: 0 });
  }

  drop(id: number): void {
    this.#state.delete(id);
  }

  isLoaded(id: number): boolean {
    return this.#loaded.has(id);
  }

  load(): void {
    for (const [id, { t }] of this.#state) if (t > 0) this.#loaded.add(id);
  }

  step(id: number, g: ArrayLike<number>): void {
    const state = this.#state.get(id)!;
    this.#loaded.delete(id);
    const t = ++state.t;
    state.p.forEach((_, i) => {
      state.m[i] = 0.9 * state.m[i]! + 0.1 * g[i]!;
      state.v[i] = 0.999 * state.v[i]! + 0.001 * g[i]! ** 2;
      const [m, v] = [state.m[i]! / (1 - 0.9 ** t), state.v[i]! / (1 - 0.999 ** t)];
      state.p[i]! -= (0.1 * m) / (Math.sqrt(v) + 1e-8);
    });
  }

  values(id: number): readonly number[] {
    return this.#state.get(id)!.p;
  }
}

const changes = ["make", "dispose", "assign", "share", "grow"] as const;

type Command =
  | { readonly do: "backend"; readonly to: Backend }
  | { readonly do: "save" }
  | { readonly do: "step"; readonly which: readonly boolean[]; readonly asList: boolean; readonly fails: boolean }
  | { readonly do: "make"; readonly at: number }
  | { readonly do: "dispose"; readonly at: number }
  | { readonly do: "assign"; readonly at: number }
  | { readonly do: "share"; readonly at: number }
  | { readonly do: "grow"; readonly at: number };

const command = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant("backend" as const), to: fc.constantFrom(...backends) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom(...changes),
      at: fc.nat(3),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("step" as const),
      which: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
      asList: fc.boolean(),
      fails: fc.nat(3).map((n) => n === 0),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("save" as const) }) },
);

const stateOf = async (optimizer: tf.Optimizer) =>
  (await optimizer.getWeights()).map(({ name, tensor }) => [name, ...tensor.dataSync()]);

async function run(program: readonly Command[]): Promise<void> {
  tf.disposeVariables(); // of a program that failed
  await use("wasm");
  const before = counted();
  const reference = new Reference();
  const newOptimizer = () => adam({ lr: 0.1, nonFinite: "throw" });
  let optimizer = newOptimizer();
  const variables: (tf.Variable | undefined)[] = [];
  /** Tensors that share the data of a variable, with their values. */
  const shared: [tf.Tensor, number[]][] = [];
  const heap: tf.Tensor[] = [];
  let seed = 0;
  const make = (id: number) => {
    const values = numbers(sizes[id]!, seed++);
    variables[id] = tf.tidy(() => tf.variable(tf.tensor(values), true, `v${id}`));
    reference.set(id, [...values]);
  };
  sizes.forEach((_, id) => make(id));
  for (const command of program) {
    if (command.do === "backend") await use(command.to);
    else if (command.do === "make") {
      if (variables[command.at] === undefined) make(command.at);
    } else if (command.do === "dispose") {
      if (reference.isLoaded(command.at)) continue;
      variables[command.at]?.dispose();
      variables[command.at] = undefined;
      reference.drop(command.at);
    } else if (command.do === "assign") {
      const variable = variables[command.at];
      if (variable === undefined) continue;
      const values = numbers(variable.size, seed++);
      tf.tidy(() => variable.assign(tf.tensor(values)));
      reference.set(command.at, [...values]);
    } else if (command.do === "share") {
      const variable = variables[command.at];
      if (variable) shared.push([tf.reshape(variable, [-1]), [...variable.dataSync()]]);
    } else if (command.do === "grow") {
      heap.push(tf.zeros([2 ** 20 * (1 + command.at)])); // the memory of the backend wasm grows
    } else if (command.do === "save") {
      const weights = await optimizer.getWeights();
      const next = newOptimizer();
      await next.setWeights(weights);
      optimizer.dispose();
      optimizer = next;
      reference.load();
    } else {
      const which = variables.flatMap((variable, id) => (variable && command.which[id] ? [id] : []));
      if (which.length === 0) continue;
      const grads = which.map((id) => numbers(sizes[id]!, seed++));
      if (command.fails) grads.at(-1)![0] = Number.NaN;
      const step = () =>
        tf.tidy(() => {
          const list: { name: string; tensor: tf.Tensor }[] = which.map((id, i) => ({
            name: `v${id}`,
            tensor: tf.tensor(grads[i]!),
          }));
          // The others have null, as TensorFlow.js gives it.
          variables.forEach((variable, id) => {
            if (variable && !which.includes(id)) list.push({ name: `v${id}`, tensor: null as unknown as tf.Tensor });
          });
          const record = Object.fromEntries(list.map(({ name, tensor }) => [name, tensor]));
          optimizer.applyGradients(command.asList ? list : record);
        });
      if (command.fails) {
        const before = await stateOf(optimizer);
        expect(step).toThrow("must be finite");
        expect(await stateOf(optimizer)).toEqual(before);
      } else {
        step();
        which.forEach((id, i) => reference.step(id, grads[i]!));
      }
    }
    variables.forEach((variable, id) => {
      if (variable === undefined) return;
      const expected = reference.values(id);
      variable.dataSync().forEach((x, i) => expect(x).toBeCloseTo(expected[i]!, 4));
    });
    for (const [tensor, values] of shared) expect([...tensor.dataSync()]).toEqual(values);
  }
  optimizer.dispose();
  tf.dispose([...variables.filter((variable) => variable !== undefined), ...shared.map(([tensor]) => tensor), ...heap]);
  expect(counted()).toEqual(before);
}

test("programs", async () => {
  await fc.assert(fc.asyncProperty(fc.array(command as fc.Arbitrary<Command>, { maxLength: 14 }), run), {
    numRuns: 60,
  });
});

test("micro-batches that lack gradients of some variables update as in the core, also if state is saved between them", async () => {
  await use("wasm");
  const ids = [0, 1, 2];
  const options = { lr: 0.1, weightDecay: 0.1, accumulate: 3, clipNorm: 1 };
  const microBatch = fc.subarray(ids, { minLength: 1 });
  const run = async (microBatches: number[][], savedAfter: number) => {
    const arena = await core.createArena();
    const tensors = ids.map((id) => arena.tensor(`v${id}`, [sizes[id]!]));
    tensors.forEach((tensor, id) => tensor.data.set(numbers(sizes[id]!, id)));
    const expected = core.adamw(tensors, options);
    const variables = ids.map((id) => tf.tidy(() => tf.variable(tf.tensor(numbers(sizes[id]!, id)), true, `v${id}`)));
    let optimizer = adamw(options);
    for (const [i, which] of microBatches.entries()) {
      const grads = ids.map((id) => numbers(sizes[id]!, 10 * i + id));
      tensors.forEach((tensor, id) => {
        tensor.requiresGrad = which.includes(id);
        if (tensor.requiresGrad) tensor.grad.set(grads[id]!);
      });
      expected.step();
      tf.tidy(() => optimizer.applyGradients(Object.fromEntries(which.map((id) => [`v${id}`, tf.tensor(grads[id]!)]))));
      expect(variables.map((variable) => [...variable.dataSync()])).toEqual(tensors.map(({ data }) => [...data]));
      if (i !== savedAfter || !continues(microBatches, i)) continue;
      const weights = await optimizer.getWeights();
      const next = adamw(options);
      await next.setWeights(weights);
      optimizer.dispose();
      optimizer = next;
    }
    optimizer.dispose();
    tf.dispose(variables);
    arena.free();
  };
  await fc.assert(
    fc
      .asyncProperty(fc.array(microBatch, { minLength: 1, maxLength: 9 }), fc.nat(8), run)
      .beforeEach(() => tf.disposeVariables()),
    {
      numRuns: 40,
      examples: [
        [[[0, 1], [1], [1]], 9],
        [[[0], [0, 1, 2], [1]], 0],
      ],
    },
  );
});

/** Whether the step after `steps[i]` has a variable that had a step. Then state that was loaded belongs to variables by name. */
const continues = (steps: readonly number[][], i: number): boolean => {
  const seen = steps.slice(0, i + 1).flat();
  return steps[i + 1]?.some((id) => seen.includes(id)) ?? false;
};

test.each(factories.map((factory) => [factory.rule.name, factory] as const))(
  "%s: variables that rest in some steps are updated as in the core, also if state is saved",
  async (name, factory) => {
    await use("wasm");
    const lr = (step: number) => (step === 1 ? 0.3 : 0.1); // another at one step, because some rules remember it
    const options = "lr" in factory.rule.hyper ? { lr } : {};
    const ids = [0, 1, 2];
    const shape = fitting(factory.rule, [3, 5]);
    /** The options of a group: other decays, and other first estimates. */
    const own = Object.fromEntries(
      Object.entries(factory.rule.hyper).flatMap(([option, { default: value }]): [string, unknown][] => {
        if (option === "betas") return [[option, (value as number[]).map((beta) => 0.9 * beta)]];
        return typeof value === "number" && /^(init|estim)/.test(option) ? [[option, 2 * value]] : [];
      }),
    );
    const run = async (given: number[][], savedAfter: number, isGrouped: boolean) => {
      // Both groups are in the first step. One that joins later gets the scalars of the other, as with `addGroup` of the core.
      const steps = isGrouped ? [[0, 1], ...given] : given;
      const arena = core.createArenaSync({ maxBytes: 2 ** 18, threads: 1 });
      const tensors = ids.map((id) => arena.tensor(`v${id}`, shape));
      tensors.forEach((tensor, id) => tensor.data.set(numbers(15, id)));
      const [first, ...others] = tensors;
      const expected = factory(isGrouped ? [{ params: [first!], ...own }, { params: others }] : tensors, options);
      const groups = isGrouped ? [{ variables: ["v0"], ...own }] : [];
      const variables = tensors.map(({ name, data }) =>
        tf.tidy(() => tf.variable(tf.tensor(data.slice(), [...shape]), true, name)),
      );
      const make = () => (adapted as any)[name]({ ...options, groups }) as TfjsOptimizer;
      let optimizer = make();
      for (const [i, which] of steps.entries()) {
        const grads = ids.map((id) => numbers(15, 10 * i + id));
        tensors.forEach((tensor, id) => {
          tensor.requiresGrad = which.includes(id);
          if (tensor.requiresGrad) tensor.grad.set(grads[id]!);
        });
        expected.step();
        tf.tidy(() =>
          optimizer.applyGradients(
            Object.fromEntries(which.map((id) => [`v${id}`, tf.tensor(grads[id]!, [...shape])])),
          ),
        );
        if (i !== savedAfter || !continues(steps, i)) continue;
        const weights = await optimizer.getWeights();
        const next = make();
        await next.setWeights(weights);
        optimizer.dispose();
        optimizer = next;
      }
      const [here, there] = [variables.flatMap((v) => [...v.dataSync()]), tensors.flatMap(({ data }) => [...data])];
      optimizer.dispose();
      tf.dispose(variables);
      arena.free();
      expect(error(here, there)).toBeLessThan(1);
    };
    const steps = fc.array(fc.subarray(ids, { minLength: 1 }), { minLength: 1, maxLength: 9 });
    await fc.assert(
      fc.asyncProperty(steps, fc.nat(8), fc.boolean(), run).beforeEach(() => tf.disposeVariables()),
      {
        numRuns: 10,
        examples: [
          [[[0, 1], [0], [1], [0, 1], [0, 1]], 9, false],
          [[[0, 1], [1], [1], [1], [0, 1]], 9, true],
          [
            [
              [0, 1],
              [0, 1],
              [0, 1],
            ],
            1,
            true,
          ],
          [[[0, 1], [0], [0], [0]], 0, false],
        ],
      },
    );
  },
);

test("a step on the backend wasm copies nothing: the arrays stay where they are", async () => {
  await use("wasm");
  const wasm = tf.backend() as any;
  const variable = tf.variable(tf.zeros([400, 16]));
  const optimizer = adamw();
  const place = () => wasm.dataIdMap.get(variable.dataId).memoryOffset;
  const step = () => tf.tidy(() => optimizer.applyGradients({ [variable.name]: tf.ones([400, 16]) }));
  step();
  const at = place();
  let allocated = 0;
  const { _malloc } = wasm.wasm;
  wasm.wasm._malloc = (bytes: number) => ((allocated += bytes), _malloc(bytes));
  const gradient = tf.ones([400, 16]);
  allocated = 0;
  optimizer.applyGradients({ [variable.name]: gradient });
  expect(allocated).toBe(0);
  expect(place()).toBe(at);
  wasm.wasm._malloc = _malloc;
  const [, m] = (await optimizer.getWeights()) as [unknown, { tensor: tf.Tensor }];
  expect(wasm.dataIdMap.get(m.tensor.dataId).memoryOffset).toBeGreaterThan(0);
  optimizer.dispose();
  tf.dispose([variable, gradient]);
});

/** A step with gradients of ones. */
const descend = (optimizer: TfjsOptimizer, ...variables: tf.Variable[]) =>
  tf.tidy(() => optimizer.applyGradients(Object.fromEntries(variables.map((v) => [v.name, tf.onesLike(v)]))));

describe.each(backends)("on %s", (backend) => {
  test("arrays that dataSync() returned keep their values, and tensors made of them", async () => {
    await use(backend);
    const variable = tf.variable(tf.zeros([40]));
    const optimizer = sgd({ lr: 1 });
    descend(optimizer, variable);
    const before = variable.dataSync();
    const other = tf.variable(tf.tensor1d(before));
    descend(optimizer, variable);
    expect([before[0], other.dataSync()[0], variable.dataSync()[0]]).toEqual([-1, -1, -2]);
    descend(optimizer, variable, other);
    expect([other.dataSync()[0], variable.dataSync()[0]]).toEqual([-2, -3]);
    optimizer.dispose();
    tf.dispose([variable, other]);
  });

  test("variables that share data have their own updates", async () => {
    await use(backend);
    const zeros = tf.zeros([40]);
    const [a, b] = [tf.variable(zeros), tf.variable(zeros)];
    const optimizer = sgd({ lr: 1 });
    descend(optimizer, a, b);
    descend(optimizer, a);
    expect([a, b].map((v) => v.dataSync()[0])).toEqual([-2, -1]);
    b.assign(a);
    descend(optimizer, a, b);
    descend(optimizer, b);
    expect([a, b].map((v) => v.dataSync()[0])).toEqual([-3, -4]);
    optimizer.dispose();
    tf.dispose([a, b, zeros]);
  });

  test("a micro-batch before the last gives a variable no new values", async () => {
    await use(backend);
    const variable = tf.variable(tf.ones([16]));
    const optimizer = sgd({ lr: 1, accumulate: 2 });
    for (let i = 0; i < 2; i++) descend(optimizer, variable);
    const { dataId } = variable;
    const publish = vi.spyOn(hostOf(tf.engine().backend).constructor.prototype, "publish");
    descend(optimizer, variable);
    expect(variable.dataId).toBe(dataId);
    expect(publish).not.toHaveBeenCalled();
    descend(optimizer, variable);
    expect(publish).toHaveBeenCalled();
    expect(variable.dataSync()[0]).toBe(-1);
    publish.mockRestore();
    optimizer.dispose();
    variable.dispose();
  });

  test("assignments and disposed variables take no more memory", async () => {
    await use(backend);
    const host = hostOf(tf.engine().backend);
    const addresses = new Set<number>();
    for (let i = 0; i < 500; i++) {
      const variable = tf.tidy(() => tf.variable(tf.zeros([1000])));
      for (let assignment = 0; assignment < 3; assignment++) {
        addresses.add(host.address(variable));
        host.publish([variable]);
        tf.tidy(() => variable.assign(tf.fill([1000], i)));
      }
      variable.dispose();
    }
    expect(addresses.size).toBeLessThan(100);
    host.dispose();
  });
});

test("minimize: the loss, variables that do not take part, and variables that are listed twice", async () => {
  await use("wasm");
  const [a, b, c] = [tf.variable(tf.scalar(3)), tf.variable(tf.scalar(4)), tf.variable(tf.scalar(5), false)];
  const optimizer = sgd({ lr: 0.1 });
  const cost = optimizer.minimize(() => tf.mul(a, a) as tf.Scalar, true, [a, a, b, c]);
  expect(cost!.dataSync()[0]).toBe(9);
  expect([a, b, c].map((variable) => variable.dataSync()[0])).toEqual([3 - Math.fround(0.6), 4, 5].map(Math.fround));
  tf.dispose([a, b, c, cost!]);
});

test("gradients that computeGradients returns by name, and gives to applyGradients", async () => {
  await use("wasm");
  const [a, b] = [tf.variable(tf.scalar(3), true, "a"), tf.variable(tf.scalar(4), true, "b")];
  const optimizer = sgd({ lr: 0.5 });
  const { value, grads } = optimizer.computeGradients(() => tf.add(tf.square(a), tf.mul(3, b)) as tf.Scalar);
  expect(value.dataSync()[0]).toBe(21);
  expect(Object.entries(grads).map(([name, grad]) => [name, grad.dataSync()[0]])).toEqual([
    ["a", 6],
    ["b", 3],
  ]);
  optimizer.applyGradients(grads);
  expect([a, b].map((variable) => variable.dataSync()[0])).toEqual([0, 2.5]);
  tf.dispose([a, b, value, ...Object.values(grads)]);
});

test("minimize disposes the gradients if there is an error", async () => {
  await use("wasm");
  const a = tf.variable(tf.scalar(3));
  const optimizer = sgd({ lr: 0.1, nonFinite: "throw" });
  optimizer.minimize(() => tf.square(a));
  const before = counted();
  expect(() => optimizer.minimize(() => tf.div(a, 0), true)).toThrow("must be finite");
  expect(counted()).toEqual(before);
  tf.dispose(a);
});

test("between eval() and train(), state is not loaded; dispose() ends it", async () => {
  await use("wasm");
  const a = tf.variable(tf.scalar(3));
  const optimizer = adapted.scheduleFreeSgd({ lr: 0.1 });
  const step = () => optimizer.minimize(() => tf.square(a), false, [a]);
  step();
  const weights = await optimizer.getWeights();
  step();
  optimizer.eval();
  await expect(optimizer.setWeights(weights)).rejects.toThrow(
    "scheduleFreeSgd: setWeights: the parameters are those of eval(); call train() first",
  );
  const [evaluated] = a.dataSync();
  optimizer.dispose();
  optimizer.train();
  expect(a.dataSync()[0]).toBe(evaluated);
  step();
  expect(optimizer.iterations).toBe(1);
  optimizer.dispose();
  a.dispose();
});

test.each(backends)("an average that a program holds is that of the last step, on %s", async (backend) => {
  await use(backend);
  const a = tf.variable(tf.ones([4, 4]));
  const optimizer = sgd({ lr: 0.25, ema: 0.5 });
  const step = () => optimizer.minimize(() => tf.sum(tf.square(a)) as tf.Scalar, false, [a]);
  step();
  const held = optimizer.average(a) as tf.Tensor2D;
  const product = () => tf.tidy(() => tf.matMul(tf.ones([1, 4]), held).dataSync()[0]!);
  product();
  step();
  step();
  expect(held.dataSync()[0]).toBe(0.25); // of 0.5, 0.25 and 0.125: 0.5, 0.375, 0.25
  expect(product()).toBe(4 * held.dataSync()[0]!);
  optimizer.dispose();
  a.dispose();
});

test("iterations are saved, and the learning rate is a number, as in TensorFlow.js", async () => {
  await use("wasm");
  const a = tf.variable(tf.scalar(3));
  const optimizer = sgd({ lr: (step) => 0.1 / (1 + step) });
  for (let i = 0; i < 3; i++) optimizer.minimize(() => tf.square(a), false, [a]);
  const { name, tensor } = await optimizer.saveIterations();
  expect([name, tensor.dataSync()[0], tensor.dtype]).toEqual(["iter", 3, "int32"]);
  expect(optimizer.learningRate).toBe(0.1 / 4);
  optimizer.learningRate *= 0.5;
  expect(optimizer.hyper.lr).toBe(0.1 / 8);
  expect(adapted.rprop({ lr: 0.2 }).learningRate).toBe(0.2); // is fixed
  tf.dispose([a, tensor]);
});

test("a variable without elements", async () => {
  await use("wasm");
  const [empty, a] = [tf.variable(tf.zeros([0, 3])), tf.variable(tf.zeros([2]))];
  const optimizer = sgd({ lr: 1 });
  tf.tidy(() => optimizer.applyGradients({ [empty.name]: tf.zeros([0, 3]), [a.name]: tf.ones([2]) }));
  expect([...a.dataSync()]).toEqual([-1, -1]);
  tf.dispose([empty, a]);
});

test("a variable that is its own gradient", async () => {
  await use("wasm");
  const [a, b] = [tf.variable(tf.fill([16], 2)), tf.variable(tf.fill([16], 3))];
  sgd({ lr: 1 }).applyGradients({ [a.name]: b, [b.name]: a });
  expect([a.dataSync()[0], b.dataSync()[0]]).toEqual([-1, 1]);
  tf.dispose([a, b]);
});

test("momentum that changes has an effect", async () => {
  await use("wasm");
  const a = tf.variable(tf.zeros([1]));
  const optimizer = sgd({ lr: 1, momentum: 0.9 });
  const step = () => tf.tidy(() => optimizer.applyGradients({ [a.name]: tf.ones([1]) }));
  step();
  optimizer.setMomentum(0.5);
  step();
  expect(a.dataSync()[0]).toBeCloseTo(-1 - 1.5, 6);
  optimizer.learningRate = 0.5;
  expect(optimizer.hyper.lr).toBe(0.5);
  expect(() => adagrad().setMomentum(0.5)).toThrow('adagrad: no option "momentum"');
  const groups = [{ variables: /a/, momentum: 0.9 }, { variables: /b/ }];
  const grouped = sgd({ lr: 1, groups });
  expect(() => grouped.setMomentum(0.7)).toThrow(
    "momentum must stay 0, because the optimizer was made without momentumBuffer",
  );
  expect(grouped.groups.map(({ hyper }) => hyper.momentum)).toEqual([0.9, 0, 0]);
  a.dispose();
});

test("estimates of the Hessian", async () => {
  await use("wasm");
  const a = tf.variable(tf.ones([3]));
  const optimizer = sophia();
  tf.tidy(() => optimizer.applyHessian({ [a.name]: tf.ones([3]) }));
  tf.tidy(() => optimizer.applyGradients({ [a.name]: tf.ones([3]) }));
  expect(optimizer.iterations).toBe(1);
  expect(() => sgd().applyHessian({})).toThrow("applyHessian() is for rules that use one");
  a.dispose();
});

test("errors name the remedy, and change nothing", async () => {
  await use("wasm");
  const a = tf.variable(tf.ones([2, 2]), true, "a");
  const optimizer = adam();
  const apply = (gradients: any) => () => tf.tidy(() => optimizer.applyGradients(gradients));
  expect(apply({ z: tf.ones([2]) })).toThrow('adam: applyGradients: variable "z" must be registered');
  expect(apply({ a: tf.ones([4]) })).toThrow("has shape [2, 2], its gradient must have the same, got [4]");
  expect(apply({ a: tf.ones([2, 2], "int32") })).toThrow("must be float32, got int32");
  expect(apply({ a: 3 })).toThrow("must have a tensor as its gradient, got 3");
  expect(apply(undefined)).toThrow("gradients must be a record by name");
  for (const wrong of [new Map([["a", tf.ones([2, 2])]]), Promise.resolve({}), new Date(), tf.ones([2, 2])]) {
    expect(apply(wrong)).toThrow("gradients must be a record by name, or a list of { name, tensor }, got an object (");
  }
  for (const wrong of [null, { name: "a" }, { name: "a", gradient: tf.ones([2, 2]) }, { tensor: tf.ones([2, 2]) }]) {
    expect(apply([wrong])).toThrow("adam: applyGradients: gradients[0] must be { name, tensor }, got");
  }
  expect(apply([,])).toThrow("adam: applyGradients: gradients[0] must be { name, tensor }, got undefined");
  expect(apply({ toString: null })).toThrow('adam: applyGradients: variable "toString" must be registered');
  expect(
    apply([
      { name: "a", tensor: tf.ones([2, 2]) },
      { name: "a", tensor: tf.zeros([2, 2]) },
    ]),
  ).toThrow("got two");
  expect(() => adam({ zeroGrad: true } as any)).toThrow("adam: zeroGrad is not needed here");
  expect(() => adam({ lr: -1 })).toThrow("adam: lr must be in [0, ∞), got -1");
  expect(() => adam({ groups: [{ lr: 1 }] } as any)).toThrow("adam: groups[0] must be { variables, ...options }");
  expect(() => adam({ groups: [{ variables: /a/, lr: -1 }] })).toThrow("adam: groups[0].lr must be in [0, ∞)");
  expect(() => adam({ lr: () => -1, groups: [{ variables: /a/ }] })).toThrow("adam: at step 0, lr must be in [0, ∞)");
  const vector = tf.variable(tf.ones([8]));
  expect(() => tf.tidy(() => muon().applyGradients({ [vector.name]: tf.ones([8]) }))).toThrow(
    "must be of two dimensions or more",
  );
  expect(() => tf.tidy(() => dog({ nonFinite: "throw" }).applyGradients({ a: tf.fill([2, 2], NaN) }))).toThrow(
    'the gradient of tensor "a" must be finite, got NaN at index 0',
  );
  expect(optimizer.iterations).toBe(0);
  expect([...a.dataSync()]).toEqual([1, 1, 1, 1]);
  tf.dispose([a, vector]);
});

test("a gradient of a micro-batch is not lost: after loading, the first step has its variable", async () => {
  await use("cpu");
  const [a, b] = [tf.variable(tf.ones([2]), true, "a"), tf.variable(tf.ones([3]), true, "b")];
  const make = () => sgd({ lr: 0.1, accumulate: 2 });
  const step = (optimizer: TfjsOptimizer, variable: tf.Variable, value: number) =>
    tf.tidy(() => optimizer.applyGradients({ [variable.name]: tf.fill(variable.shape, value) }));
  const first = make();
  step(first, a, 1);
  const second = make();
  await second.setWeights(await first.getWeights());
  expect(() => step(second, b, 1)).toThrow("must fit the variables of the first step by name or by order");
  step(second, a, 3);
  expect(a.dataSync()[0]).toBeCloseTo(0.8, 6);
  expect(b.dataSync()[0]).toBe(1);
  for (const optimizer of [first, second]) optimizer.dispose();
  tf.dispose([a, b]);
});

test.each(["rmsprop", "momentum"] as const)("%s keeps its momentum where the last rate was zero", async (name) => {
  await use("cpu");
  const lr = (step: number) => (step === 1 ? 0 : 0.1);
  const make = () => (name === "rmsprop" ? adapted.rmsprop({ lr, momentum: 0.9 }) : adapted.momentum({ lr }));
  const a = tf.variable(tf.ones([2]));
  const first = make();
  descend(first, a);
  descend(first, a);
  const second = make();
  await second.setWeights((await first.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() })));
  const before = a.clone();
  descend(first, a);
  const expected = [...a.dataSync()];
  a.assign(before);
  descend(second, a);
  expect([...a.dataSync()]).toEqual(expected);
  for (const optimizer of [first, second]) optimizer.dispose();
  tf.disposeVariables();
});

test("eval() after loading needs a step, not one of each variable", async () => {
  await use("cpu");
  const [a, b] = [tf.variable(tf.ones([2])), tf.variable(tf.ones([2]))];
  const make = () => adapted.scheduleFreeSgd({ lr: 0.1 });
  const first = make();
  descend(first, a, b);
  const second = make();
  await second.setWeights(await first.getWeights());
  expect(() => second.eval()).toThrow("make it first");
  descend(second, a);
  second.eval();
  second.train();
  for (const optimizer of [first, second]) optimizer.dispose();
  tf.dispose([a, b]);
});

test("memory of copies is used again: regions that grow, and variables of all sizes that come and go", async () => {
  await use("cpu");
  const host = hostOf(tf.engine().backend);
  let most = 0;
  for (let k = 1; k <= 100; k++) most = Math.max(most, host.region("gradients", 1000 * k) + 1000 * k);
  expect(most).toBeLessThan(400_000);
  for (let k = 0; k < 2000; k++) {
    const variable = tf.variable(tf.zeros([5000 + k]));
    most = Math.max(most, host.address(variable) + 4 * variable.size);
    variable.dispose();
  }
  expect(most).toBeLessThan(10_000_000);
  host.dispose();
});

describe("state that was loaded beside its variables", () => {
  /** Two variables, their copies, and an optimizer of the copies with the state of the first two. */
  async function beside(make: () => TfjsOptimizer) {
    await use("cpu");
    const variables = [tf.variable(tf.ones([2]), true, "a"), tf.variable(tf.ones([3]), true, "b")];
    const first = make();
    descend(first, ...variables);
    const copies = variables.map((variable) => tf.variable(variable, true, `${variable.name}_1`));
    const second = make();
    await second.setWeights(await first.getWeights());
    const end = () => {
      for (const optimizer of [first, second]) optimizer.dispose();
      tf.dispose([...variables, ...copies]);
    };
    return { variables, copies, second, end };
  }

  test("changes no variable that is not in a step", async () => {
    const { variables, copies, second, end } = await beside(() => sgd({ lr: 0.1, accumulate: 2 }));
    expect(() => descend(second, copies[0]!)).toThrow("must fit the variables of the first step by name or by order");
    expect(variables.map((variable) => variable.dataSync()[0])).toEqual([1, 1]);
    end();
  });

  test("belongs to the variables without its numbers only if all are there", async () => {
    for (const areAllThere of [true, false]) {
      const { variables, copies, second, end } = await beside(() => sgd({ lr: 0.1, momentum: 0.9 }));
      if (!areAllThere) copies[1]!.dispose();
      variables[0]!.assign(copies[0]!);
      descend(second, copies[0]!);
      const names = (await second.getWeights()).map(({ name }) => name);
      expect(names.includes("a_1/momentum")).toBe(!areAllThere); // its own new state
      end();
    }
  });

  test("is not evaluated into them", async () => {
    const { variables, copies, second, end } = await beside(() => adapted.scheduleFreeSgd({ lr: 0.1 }));
    for (let i = 0; i < 2; i++) descend(second, copies[0]!);
    const before = variables.map((variable) => variable.dataSync()[0]);
    second.eval();
    expect(variables.map((variable) => variable.dataSync()[0])).toEqual(before);
    second.train();
    end();
  });
});

const averages = [{ ema: 0.5 }, { ema: 0.9, averageStart: 4 }, { swa: 1, averageStart: 3 }, { swa: 2 }];

test.each(["sgd", "adam", "prodigy"] as const)(
  "%s: averages of variables that rest are those of the core, also if state is saved",
  async (name) => {
    const sizes = [3, 17, 40];
    const run = async (which: number[][], option: number, backend: Backend, savedAfter: number) => {
      await use(backend);
      const steps = [[0, 1, 2], ...which];
      const options = { ...averages[option]!, lr: 0.1 };
      const arena = core.createArenaSync({ maxBytes: 2 ** 18, threads: 1 });
      const tensors = sizes.map((size, id) => arena.tensor(`v${id}`, [size]));
      tensors.forEach((tensor, id) => tensor.data.set(numbers(sizes[id]!, id)));
      // Each has a group, because each has its own number of steps.
      const expected = core[name](
        tensors.map((tensor) => ({ params: [tensor] })),
        options,
      );
      const variables = tensors.map(({ name, data }) =>
        tf.tidy(() => tf.variable(tf.tensor(data.slice()), true, name)),
      );
      let optimizer: TfjsOptimizer = adapted[name](options);
      for (const [i, which] of steps.entries()) {
        const grads = sizes.map((size, id) => numbers(size, 10 * i + id));
        tensors.forEach((tensor, id) => {
          tensor.requiresGrad = which.includes(id);
          if (tensor.requiresGrad) tensor.grad.set(grads[id]!);
        });
        expected.step();
        tf.tidy(() =>
          optimizer.applyGradients(Object.fromEntries(which.map((id) => [`v${id}`, tf.tensor(grads[id]!)]))),
        );
        if (i !== savedAfter || i === steps.length - 1) continue;
        const next: TfjsOptimizer = adapted[name](options);
        await next.setWeights(await optimizer.getWeights());
        optimizer.dispose();
        optimizer = next;
      }
      const there = tensors.map((tensor) => [...tensor.data, ...expected.average(tensor)]);
      const here = variables.map((variable) => [...variable.dataSync(), ...optimizer.average(variable).dataSync()]);
      optimizer.dispose();
      tf.dispose(variables);
      arena.free();
      expect(here).toEqual(there);
    };
    const steps = fc.array(fc.subarray([0, 1, 2], { minLength: 1 }), { minLength: 1, maxLength: 9 });
    await fc.assert(
      fc
        .asyncProperty(steps, fc.nat(3), fc.constantFrom<Backend>("cpu", "wasm"), fc.nat(9), run)
        .beforeEach(() => tf.disposeVariables()),
      { numRuns: 40 },
    );
  },
);

test("state whose names fit in part belongs to variables by order, as in TensorFlow.js", async () => {
  await use("cpu");
  const run = async (make: () => tf.Optimizer) => {
    const [a, b] = ["d1", "d2"].map((name) => tf.variable(tf.tensor([0]), true, name)) as [tf.Variable, tf.Variable];
    const first = make();
    tf.tidy(() => first.applyGradients({ d1: tf.tensor([1]), d2: tf.tensor([100]) }));
    const weights = (await first.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() }));
    first.dispose();
    tf.dispose([a, b]);
    const others = ["d2", "d3"].map((name) => tf.variable(tf.tensor([0]), true, name));
    const second = make();
    await second.setWeights(weights);
    tf.tidy(() => second.applyGradients({ d2: tf.tensor([0]), d3: tf.tensor([0]) }));
    const values = others.map((variable) => variable.dataSync()[0]!);
    second.dispose();
    tf.dispose([...others, ...weights.map(({ tensor }) => tensor)]);
    return values;
  };
  const [here, there] = [await run(() => adapted.momentum({ lr: 1 })), await run(() => tf.train.momentum(1, 0.9))];
  expect(error(here, there)).toBeLessThan(1);
});

test("a variable with the name of loaded state that belongs to another is refused", async () => {
  await use("cpu");
  const variable = (name: string) => tf.variable(tf.tensor([0]), true, name);
  const step = (optimizer: TfjsOptimizer, ...variables: tf.Variable[]) =>
    tf.tidy(() => optimizer.applyGradients(variables.map(({ name }) => ({ name, tensor: tf.tensor([1]) }))));
  const [saved, first, second] = [variable("w"), adam(), adam()];
  step(first, saved);
  const weights = (await first.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() }));
  first.dispose();
  saved.dispose();
  const other = variable("other");
  await second.setWeights(weights);
  step(second, other);
  const w = variable("w");
  expect(() => step(second, other, w)).toThrow('adam: variable "w" cannot join');
  expect([second.iterations, w.dataSync()[0]]).toEqual([2, 0]);
  step(second, other);
  expect(second.iterations).toBe(3);
  second.dispose();
  tf.dispose([other, w, ...weights.map(({ tensor }) => tensor)]);
});

test("tensors that `getWeights` made for a variable go with it", async () => {
  await use("cpu");
  const optimizer = adapted.momentum({ lr: 0.1 });
  const count = async () => {
    const variable = tf.tidy(() => tf.variable(tf.ones([4])));
    tf.tidy(() => optimizer.applyGradients({ [variable.name]: tf.ones([4]) }));
    await optimizer.getWeights();
    variable.dispose();
    await optimizer.getWeights();
    return tf.memory().numTensors;
  };
  await count();
  const second = await count();
  for (let i = 0; i < 5; i++) expect(await count()).toBe(second);
  optimizer.dispose();
});

test("an average equals the parameters until it begins", async () => {
  await use("cpu");
  for (const [options, grad] of [
    [{ lossScale: "dynamic" }, Infinity],
    [{ accumulate: 3 }, 1],
  ] as const) {
    const variable = tf.variable(tf.tensor1d([1, 2]));
    const optimizer = adamw({ ...options, ema: 0.99 });
    optimizer.applyGradients({ [variable.name]: tf.tensor1d([grad, 1]) });
    expect([...optimizer.average(variable).dataSync()]).toEqual([1, 2]);
  }
});

test.each([
  ["momentum", 0.1],
  ["rmsprop", 0.1],
] as const)("getWeights of %s at a rate of zero converts momentum by the rate before", async (name, lr) => {
  await use("cpu");
  const variable = tf.variable(tf.tensor1d([1, 2]));
  const optimizer = adapted[name]({ lr, momentum: 0.9 });
  for (let i = 0; i < 3; i++) optimizer.applyGradients({ [variable.name]: tf.tensor1d([1, -1]) });
  const momentum = async () => {
    const { tensor } = (await optimizer.getWeights()).find(({ name }) => name.endsWith("/momentum"))!;
    return [...tensor.dataSync()];
  };
  const before = await momentum();
  optimizer.hyper.lr = 0;
  expect(await momentum()).toEqual(before);
  const loaded = adapted[name]({ lr: 0, momentum: 0.9 });
  await loaded.setWeights((await optimizer.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() })));
  const start = variable.clone();
  const [first, second] = [optimizer, loaded].map((one) => {
    variable.assign(start);
    one.hyper.lr = lr;
    one.applyGradients({ [variable.name]: tf.tensor1d([1, 1]) });
    return [...variable.dataSync()];
  });
  expect(error(second!, first!)).toBeLessThan(1);
});

test.each(backends)("variables after tf.disposeVariables(), on %s", async (backend) => {
  await use(backend);
  const optimizer = adam({ lr: 0.1, ema: 0.9 });
  for (const name of ["same", "same", undefined, undefined]) {
    const variable = tf.variable(tf.tensor1d([1, 2]), true, name);
    optimizer.applyGradients({ [variable.name]: tf.tensor1d([1, 1]) });
    expect(error(variable.dataSync(), [0.9, 1.9])).toBeLessThan(1); // new state
    expect(await optimizer.getWeights()).toHaveLength(5); // iter, m, v, average, progress
    tf.disposeVariables();
  }
  expect(await optimizer.getWeights()).toHaveLength(2);
});

test("a variable whose first step failed joins with the values that it has later", async () => {
  await use("cpu");
  const [a, b] = [tf.variable(tf.ones([2])), tf.variable(tf.fill([2], 100))];
  const optimizer = adapted.prodigy({ nonFinite: "throw", ema: 0.9 });
  descend(optimizer, a);
  const before = counted();
  const wrong = () => optimizer.applyGradients({ [a.name]: tf.ones([2]), [b.name]: tf.fill([2], Number.NaN) });
  expect(() => tf.tidy(wrong)).toThrow("must be finite");
  expect(counted()).toEqual(before);
  expect(() => optimizer.average(b)).toThrow("a variable that the optimizer updates");
  tf.tidy(() => b.assign(tf.ones([2])));
  descend(optimizer, a, b);
  const start = (await optimizer.getWeights()).find(({ name }) => name === `${b.name}/initParams`)!;
  expect([...start.tensor.dataSync()]).toEqual([1, 1]);
  optimizer.dispose();
  tf.dispose([a, b]);
});

test("state that was loaded waits for its variables if the first step fails", async () => {
  await use("cpu");
  const [a, b] = [tf.variable(tf.ones([2]), true, "a"), tf.variable(tf.ones([2]), true, "b")];
  const make = () => sgd({ lr: 1, momentum: 0.5, nonFinite: "throw" });
  const [first, second] = [make(), make()];
  descend(first, a);
  const weights = (await first.getWeights()).map(({ name, tensor }) => ({ name, tensor: tensor.clone() }));
  tf.dispose(a);
  await second.setWeights(weights);
  const wrong = () => tf.tidy(() => second.applyGradients({ b: tf.fill([2], Number.NaN) }));
  expect(wrong).toThrow("must be finite"); // it would have had the state, by order
  const c = tf.variable(tf.ones([2]), true, "c");
  descend(second, c);
  expect([...c.dataSync()]).toEqual([-0.5, -0.5]);
  for (const optimizer of [first, second]) optimizer.dispose();
  tf.dispose([b, c, ...weights.map(({ tensor }) => tensor)]);
});
