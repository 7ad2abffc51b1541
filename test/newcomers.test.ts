/**
 * The first steps of those who come from another library: errors name the remedy, and `console.log` shows what an object is. For every
 * kind of optimizer.
 */

import { defaultDevice, init, numpy as np } from "@jax-js/jax";
import * as tf from "@tensorflow/tfjs-core";
import { inspect } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { createArena, createArenaSync } from "../ts/arena/arena.js";
import { load, loadFile, save } from "../ts/checkpoint/index.js";
import { defaults } from "../ts/option.js";
import * as jax from "../ts/jax/index.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { sharedOptions } from "../ts/optimizer/definition.js";
import { adamw, sgd } from "../ts/rules/index.js";
import { reduceLROnPlateau, stepLR } from "../ts/schedules/index.js";
import * as tfjs from "../ts/tfjs/index.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { sam } from "../ts/wrappers/sam.js";
import { factories, fitting } from "./registry.js";
import { smallArena } from "./small.js";
import "./tfjs/backends.js";

beforeAll(async () => {
  await tf.setBackend("cpu");
  await init("wasm");
  defaultDevice("wasm");
});

/** Assigns to a property, whatever its type. */
const assign = (target: object, name: string, value: unknown) => () => {
  (target as Record<string, unknown>)[name] = value;
};
const read = (target: object, name: string) => () => (target as Record<string, unknown>)[name];
const call = (target: object, name: string) => () => (target as Record<string, () => unknown>)[name]!();

/** Every kind of optimizer, with the names of its hyper-parameters and the variable that has `hyper`. */
const kinds: [name: string, make: () => { optimizer: object; hyper: string[]; fixed: string[]; owner: string }][] = [
  ...factories.map((factory): (typeof kinds)[number] => [
    factory.rule.name,
    () => ({
      optimizer: factory([smallArena().tensor("w", fitting(factory.rule, [6]))]),
      hyper: Object.keys(factory.rule.hyper),
      fixed: Object.keys({ ...factory.rule.fixed, ...sharedOptions }).filter(
        (name) => !["lossScale", "zeroGrad"].includes(name),
      ),
      owner: "optimizer",
    }),
  ]),
  ...[sam, lookahead].map((wrap): (typeof kinds)[number] => [
    wrap.name,
    () => ({
      optimizer: wrap(adamw(smallArena().tensors({ w: [6] }))),
      hyper: Object.keys(adamw.rule.hyper),
      fixed: ["amsgrad", "clipNorm", "ema"],
      owner: "optimizer",
    }),
  ]),
  [
    "lbfgs",
    () => ({
      optimizer: lbfgs(smallArena().tensors({ w: [6] })),
      hyper: ["lr", "toleranceGrad", "toleranceChange"],
      fixed: ["maxIter", "historySize"],
      owner: "optimizer",
    }),
  ],
  [
    "a group",
    () => ({
      optimizer: adamw(smallArena().tensors({ w: [6] })).groups[0]!,
      hyper: Object.keys(adamw.rule.hyper),
      fixed: ["amsgrad", "maximize"],
      owner: "group",
    }),
  ],
  [
    "downhill/tfjs",
    () => ({
      optimizer: tfjs.adamw(),
      hyper: Object.keys(adamw.rule.hyper),
      fixed: ["amsgrad", "clipNorm", "ema"],
      owner: "optimizer",
    }),
  ],
  [
    "a group of downhill/tfjs",
    () => ({
      optimizer: tfjs.adamw().groups[0]!,
      hyper: Object.keys(adamw.rule.hyper),
      fixed: ["amsgrad"],
      owner: "group",
    }),
  ],
  [
    "downhill/jax",
    () => ({
      optimizer: jax.adamw(),
      hyper: [...Object.keys(adamw.rule.hyper)],
      fixed: ["amsgrad", "clipNorm", "ema"],
      owner: "state",
    }),
  ],
  [
    "a state of downhill/jax",
    () => ({
      optimizer: jax.adamw().init(np.zeros([3])),
      hyper: Object.keys(adamw.rule.hyper),
      fixed: ["amsgrad"],
      owner: "state",
    }),
  ],
];

test.each([adamw, sgd, lbfgs])("%o: learningRate is called lr", (make) => {
  const optimizer = make(smallArena().tensors({ w: [6] }));
  for (const act of [assign(optimizer, "learningRate", 3), read(optimizer, "learningRate")]) {
    expect(act).toThrow("learningRate is called lr here; write optimizer.hyper.lr");
  }
});

describe.each(kinds)("options of %s", (_, make) => {
  test("are hyper-parameters, which errors name, or fixed", () => {
    const { optimizer, hyper, fixed, owner } = make();
    for (const name of hyper) {
      const message = `${name} is a property of ${owner}.hyper; write ${owner}.hyper.${name}`;
      expect(assign(optimizer, name, 3)).toThrow(new RegExp(`^\\w+: ${message}$`));
      expect(read(optimizer, name)).toThrow(TypeError);
    }
    for (const name of fixed) {
      expect(assign(optimizer, name, 3)).toThrow(
        new RegExp(`^\\w+: ${name} is fixed when the optimizer is made; make a new optimizer to change it$`),
      );
    }
    expect(inspect(optimizer)).not.toMatch(/Getter/);
  });
});

describe("zeroGrad()", () => {
  const w = smallArena().tensor("w", [3]);
  const option =
    "there is no zeroGrad(); make the optimizer with zeroGrad: true, which zeroes the gradients after each step, or write grad.fill(0)";
  test.each([
    ["rules", adamw([w]), `adamw: ${option}`],
    ["wrappers", sam(lookahead(adamw([w]))), `adamw: ${option}`],
    ["lbfgs", lbfgs([w]), "lbfgs: there is no zeroGrad(); write grad.fill(0) in the closure"],
    [
      "downhill/tfjs",
      tfjs.adamw(),
      "adamw: zeroGrad is not needed here, because TensorFlow.js makes new gradients for each step; leave it out",
    ],
    [
      "downhill/jax",
      jax.adamw(),
      "adamw: zeroGrad is not needed here, because jax-js makes new gradients for each step; leave it out",
    ],
  ])("%s", (_, optimizer, message) => {
    expect(call(optimizer, "zeroGrad")).toThrow(new TypeError(message));
  });
});

describe("names of other libraries", () => {
  const arena = smallArena();
  const { w } = arena.tensors({ w: [3] });
  const optimizer = adamw([w]);
  const schedule = stepLR({ lr: 1, stepSize: 2 });
  const gradients = "write gradients to each tensor's grad";
  const free = "free all memory of the arena with arena.free()";
  const groups = "is called groups here; write optimizer.groups";
  const decay = "weight_decay is a property of";

  test.each<[string, () => unknown, string]>([
    [
      "zero_grad()",
      call(optimizer, "zero_grad"),
      "adamw: there is no zero_grad(); make the optimizer with zeroGrad: true",
    ],
    ["stateDict()", call(optimizer, "stateDict"), "adamw: there is no stateDict(); call save(model, optimizer)"],
    ["state_dict()", call(optimizer, "state_dict"), "adamw: there is no state_dict(); call save(model, optimizer)"],
    [
      "load_state_dict()",
      call(optimizer, "load_state_dict"),
      "adamw: there is no load_state_dict(); call load(bytes, model, optimizer)",
    ],
    ["minimize()", call(optimizer, "minimize"), `adamw: there is no minimize(); ${gradients}`],
    ["applyGradients()", call(optimizer, "applyGradients"), `adamw: there is no applyGradients(); ${gradients}`],
    ["apply_gradients()", call(sam(sgd([w])), "apply_gradients"), `sgd: there is no apply_gradients(); ${gradients}`],
    ["minimize() of lbfgs", call(lbfgs([w]), "minimize"), `lbfgs: there is no minimize(); ${gradients}`],
    [
      "zero_grad() of lbfgs",
      call(lbfgs([w]), "zero_grad"),
      "lbfgs: there is no zero_grad(); write grad.fill(0) in the closure",
    ],
    ["paramGroups", read(optimizer, "paramGroups"), `adamw: paramGroups ${groups}`],
    ["param_groups", read(optimizer, "param_groups"), `adamw: param_groups ${groups}`],
    ["param_groups =", assign(optimizer, "param_groups", []), `adamw: param_groups ${groups}`],
    ["param_groups of lbfgs", read(lbfgs([w]), "param_groups"), `lbfgs: param_groups ${groups}`],
    ["param_groups of tfjs", read(tfjs.sgd(), "param_groups"), `sgd: param_groups ${groups}`],
    [
      "add_param_group()",
      call(optimizer, "add_param_group"),
      "adamw: add_param_group is called addGroup here; write optimizer.addGroup",
    ],
    ["learning_rate", read(optimizer, "learning_rate"), "learning_rate is called lr here; write optimizer.hyper.lr"],
    ["learning_rate =", assign(optimizer.groups[0]!, "learning_rate", 1), "write group.hyper.lr"],
    ["weight_decay", read(optimizer, "weight_decay"), `${decay} optimizer.hyper; write optimizer.hyper.weightDecay`],
    ["weight_decay =", assign(optimizer.groups[0]!, "weight_decay", 1), `${decay} group.hyper`],
    ["clip_norm =", assign(optimizer, "clip_norm", 1), "adamw: clip_norm is fixed when the optimizer is made"],
    [
      "hyper.learningRate =",
      assign(optimizer.hyper, "learningRate", 1),
      'no option "learningRate"; did you mean "lr"?',
    ],
    [
      "hyper.learningRate",
      read(optimizer.hyper, "learningRate"),
      'adamw: no option "learningRate"; did you mean "lr"?',
    ],
    [
      "hyper.weight_decay",
      read(optimizer.hyper, "weight_decay"),
      'no option "weight_decay"; did you mean "weightDecay"?',
    ],
    ["hyper.b1 of tfjs", read(tfjs.adamw().hyper, "b1"), 'no option "b1"; did you mean "betas"?'],
    ["hyper.tolerance_grad", read(lbfgs([w]).hyper, "tolerance_grad"), 'did you mean "toleranceGrad"?'],
    ["step(gradients)", () => optimizer.step({ w: [1] } as never), `got an object (Object); ${gradients}`],
    ["step(loss)", () => optimizer.step(0.5 as never), `got 0.5; ${gradients}`],
    ["backward()", call(w, "backward"), `w: there is no backward(); ${gradients}`],
    ["grad.zero_()", call(w.grad, "zero_"), "w.grad: there is no zero_(); write fill(0)"],
    ["zero_grad() of a tensor", call(w, "zero_grad"), "w: there is no zero_grad(); write grad.fill(0)"],
    ["assign()", call(w, "assign"), "w: there is no assign(); write data.set(values)"],
    ["dispose() of a tensor", call(w, "dispose"), `w: there is no dispose(); ${free}`],
    ["dispose()", call(lookahead(adamw([w])), "dispose"), `adamw: there is no dispose(); ${free}`],
    ["requires_grad_()", call(w, "requires_grad_"), "w: there is no requires_grad_(); write requiresGrad"],
    ["trainable =", assign(w, "trainable", false), "w: there is no trainable; write requiresGrad"],
    ["iterations", read(optimizer, "iterations"), "adamw: iterations is called steps here; write optimizer.steps"],
    ["requires_grad =", assign(w, "requires_grad", false), "w: there is no requires_grad; write requiresGrad"],
    [
      "a schedule's step()",
      call(schedule, "step"),
      "stepLR: there is no step(); give the schedule to an optimizer, whose steps it follows: { lr: schedule }",
    ],
    [
      "get_last_lr()",
      call(schedule, "get_last_lr"),
      "stepLR: there is no get_last_lr(); read optimizer.groups[0].hyperAt(optimizer.steps).lr",
    ],
    [
      "a plateau's step(loss)",
      call(reduceLROnPlateau({ lr: 1 }), "step"),
      "reduceLROnPlateau: there is no step(); call observe(metric)",
    ],
    [
      "a schedule of an optimizer",
      () => stepLR(optimizer as never),
      "stepLR: expected options, got an optimizer; make the optimizer with the schedule, such as { lr: stepLR({ … }) }",
    ],
  ])("%s", (_, act, message) => {
    expect(act).toThrow(TypeError);
    expect(act).toThrow(message);
  });

  test("are neither copied nor shown", () => {
    for (const value of [optimizer, optimizer.groups[0]!, w, w.grad, schedule]) {
      expect(() => ({ ...value })).not.toThrow();
      expect(inspect(value)).not.toMatch(/Getter|zero_/);
    }
  });
});

describe("files without await", () => {
  const model = smallArena().tensors({ w: [3] });

  test.each(["steps", "extra", "leftOut"])("loadFile().%s", async (name) => {
    const loading = loadFile("/nowhere", model);
    expect(read(loading, name)).toThrow(new TypeError(`loadFile returns a promise; await it to read ${name}`));
    await expect(loading).rejects.toThrow("loadFile: /nowhere cannot be read");
  });

  test("load of a promise", () => {
    const act = () => load(Promise.resolve(save(model)) as never, model);
    expect(act).toThrow("load: expected a file's bytes, got an object (Promise); await it");
  });
});

describe("createArena() without await", () => {
  test.each(["tensors", "tensor", "threads", "shared", "free", "share", "bytesLeft", "torn"])("%s", async (name) => {
    const promise = createArena({ threads: 1, maxBytes: 2 ** 20 });
    expect(read(promise, name)).toThrow(
      new TypeError(
        `${name}: createArena() returns a promise; write \`const arena = await createArena()\`, or call createArenaSync()`,
      ),
    );
    const arena = await promise;
    expect(() => arena.threads).toThrow("freed"); // nobody has it
  });

  test("the promise is an ordinary one", async () => {
    const promise = createArena({ threads: 1, maxBytes: 2 ** 20 });
    expect(Object.keys(promise)).toEqual([]);
    expect(inspect(promise)).toBe("Promise { <pending> }");
    expect((await promise.finally(() => {})).threads).toBe(1);
  });

  test("an arena and its promise are no tensors", async () => {
    const message =
      "adamw: params must be tensors, by name or in a list, or a list of groups { params, ...options }, got";
    expect(() => adamw(smallArena() as never)).toThrow(new TypeError(`${message} an arena; write arena.tensors()`));
    expect(() => adamw(createArena({ threads: 1 }) as never)).toThrow(new TypeError(`${message} an object (Promise)`));
  });
});

describe("a tensor", () => {
  const { w } = smallArena().tensors({ w: [2, 3] });

  test.each(["data", "grad"] as const)("%s is not replaced", (name) => {
    expect(assign(w, name, new Float32Array(6))).toThrow(
      new TypeError(`w.${name} is a view of the arena's memory; write its values: w.${name}.set(values)`),
    );
  });

  test.each<[string, unknown[], new (...args: never) => Error, string]>([
    ["few", [[1]], RangeError, "there must be 6 values, got 1; to set a part, pass an offset: set(values, offset)"],
    ["many", [new Float32Array(7)], RangeError, "there must be 6 values, got 7"],
    ["beyond the end", [[1, 2], 5], RangeError, "offset plus the number of values must be at most 6, got 5 + 2"],
    ["before the start", [[1], -1], RangeError, "offset must be a whole number in [0, ∞), got -1"],
    ["between two", [[1], 0.5], RangeError, "offset must be a whole number in [0, ∞), got 0.5"],
    ["no offset", [[1], "1"], TypeError, 'offset must be a whole number in [0, ∞), got "1"'],
    [
      "lists of lists",
      [
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
      ],
      TypeError,
      "values must be a list of numbers, got [[1, 2, 3], [4, 5, 6]]; write values.flat(Infinity)",
    ],
    ["a number", [0], TypeError, "values must be a list of numbers, got 0"],
    ["nothing", [], TypeError, "values must be a list of numbers, got undefined"],
    ["a tensor", [w], TypeError, "values must be a list of numbers, got an object (Tensor)"],
    ["bigints", [new BigInt64Array(6)], TypeError, "values must be a list of numbers, got an object (BigInt64Array)"],
  ])("grad.set: %s", (_, values, type, message) => {
    w.grad.fill(7);
    const set = () => (w.grad.set as (...values: unknown[]) => void)(...values);
    expect(set).toThrow(type);
    expect(set).toThrow(`w.grad.set: ${message}`);
    expect([...w.grad]).toEqual([7, 7, 7, 7, 7, 7]);
  });

  test("grad.set: what fits", () => {
    w.grad.set([1, 2, 3, 4, 5, 6]);
    w.grad.set(new Float64Array([9, 8]), 2);
    w.grad.set([], 6);
    expect([...w.grad]).toEqual([1, 2, 9, 8, 5, 6]);
  });

  test("of another arena", () => {
    expect(() => adamw([w, smallArena().tensor("x", [3])])).toThrow(
      new RangeError(
        'adamw: params must be from one arena, but tensor "x" is in another arena than tensor "w"; make an optimizer for each arena',
      ),
    );
  });
});

test("a rate alone is no options, in any library", () => {
  const { w } = smallArena().tensors({ w: [3] });
  for (const make of [() => adamw([w], 0.1 as never), () => tfjs.adamw(0.1 as never), () => jax.adamw(0.1 as never)]) {
    expect(make).toThrow(new TypeError("adamw: options must be an object such as { lr: … }, got 0.1"));
  }
});

test("names that tools look for are undefined in hyper-parameters, as in any object", () => {
  const names =
    "then toJSON inspect asymmetricMatch $$typeof nodeType tagName _isMockFunction calls type props key ref size";
  const more =
    "length default __esModule __v_isRef __v_raw @@__IMMUTABLE_ITERABLE__@@ sample item id name value message stack";
  for (const factory of factories) {
    const { hyper } = factory([smallArena().tensor("w", fitting(factory.rule, [6]))]);
    for (const name of `${names} ${more}`.split(" ")) expect(read(hyper, name)()).toBeUndefined();
    expect({ ...hyper }).toEqual(JSON.parse(JSON.stringify(hyper)));
    // Programs for several rules ask whether a rule has an option of another.
    if (!("momentum" in hyper)) expect(read(hyper, "momentum")()).toBeUndefined();
  }
});

test("hyper of a solver is that of its states", () => {
  const message = new TypeError("adamw: hyper is a property of the state; write state.hyper");
  expect(read(jax.adamw(), "hyper")).toThrow(message);
  expect(assign(jax.adamw(), "hyper", { lr: 1 })).toThrow(message);
});

describe("console.log", () => {
  const arena = smallArena();
  const { w, b } = arena.tensors({ w: [2, 3], b: [3] });
  const group = (params: string, rule: { hyper: object; fixed?: object }) =>
    `params: [ ${params} ], ${Object.entries({
      ...defaults(rule.hyper as never),
      ...defaults((rule.fixed ?? {}) as never),
    })
      .map(([name, value]) => `${name}: ${inspect(value)}`)
      .join(", ")}`;
  const tensors = "'w [2, 3]', 'b [3]'";
  const shown = (value: unknown) => inspect(value, { breakLength: Infinity, compact: true });

  test("an arena and tensors", () => {
    const none = createArenaSync({ maxBytes: 2 ** 17, threads: 1, shared: false });
    expect(shown(none)).toBe("Arena { threads: 1, shared: false, bytesLeft: 129856, tensors: none }");
    const v = none.tensor("v", [2]);
    v.data.set([1, 2]);
    expect(shown(v)).toBe(`Tensor "v" [2] { data: Float32Array(2) [ 1, 2 ], grad: Float32Array(2) [ 0, 0 ] }`);
    none.free();
    expect([shown(none), shown(v)]).toEqual(["Arena (freed)", 'Tensor "v" [2] (freed)']);
  });

  test.each(factories)("$rule.name", (factory) => {
    expect(shown(factory)).toBe(`[Function: ${factory.rule.name}]`);
    const x = arena.tensor(factory.rule.name, fitting(factory.rule, [6]));
    const optimizer = factory([x]);
    const list = group(`'${x.name} [${x.shape.join(", ")}]'`, factory.rule);
    expect(shown(optimizer)).toBe(`${factory.rule.name} { steps: 0, groups: [ { ${list} } ] }`);
    expect(shown(optimizer.groups)).toBe(`[ Group { ${list} } ]`);
  });

  test("options that are not the defaults, schedules, wrappers", () => {
    const optimizer = sam(lookahead(sgd([w, b], { lr: stepLR({ lr: 1, stepSize: 2 }), clipNorm: 1 })));
    const list = group(tensors, sgd.rule).replace("lr: 0.001", "lr: stepLR({ lr: 1, stepSize: 2, gamma: 0.1 })");
    const wrappers = "lookahead: { syncPeriod: 5, slowStepSize: 0.5 }, sam: { rho: 0.05 }";
    expect(shown([[{ optimizer }]])).toBe(
      `[ [ { optimizer: sgd { steps: 0, clipNorm: 1, ${wrappers}, groups: [ { ${list} } ] } } ] ]`,
    );
  });

  test("lbfgs", () => {
    const list = "lr: 1, toleranceGrad: 1e-7, toleranceChange: 1e-9, maxIter: 20, maxEval: 25, historySize: 100";
    const all = `params: [ ${tensors} ], ${list}, lineSearchFn: 'none', maximize: false`;
    expect(shown(lbfgs([w, b]))).toBe(`lbfgs { steps: 0, groups: [ { ${all} } ] }`);
    expect(shown(lbfgs([w, b]).groups[0])).toBe(`Group { ${all} }`);
  });

  test("downhill/tfjs", () => {
    expect(shown(tfjs.sgd)).toBe("[Function: sgd]");
    const v = tf.variable(tf.zeros([2]), true, "kernel");
    const optimizer = tfjs.sgd({ lr: 1, clipNorm: 1, groups: [{ variables: /bias$/, lr: 2 }] });
    optimizer.applyGradients({ kernel: tf.ones([2]) });
    const rest = "momentum: 0, dampening: 0, weightDecay: 0, nesterov: false";
    expect(shown(optimizer)).toBe(
      `sgd { iterations: 1, variables: [ 'kernel' ], clipNorm: 1, groups: [ { variables: /bias$/, lr: 2, ${rest} }, { variables: undefined, lr: 1, ${rest} } ] }`,
    );
    v.dispose();
  });

  test("downhill/jax", () => {
    expect(shown(jax.sgd)).toBe("[Function: sgd]");
    const solver = jax.sgd({ lr: 1, clipNorm: 1 });
    expect(shown(solver)).toBe("sgd { lr: 1, clipNorm: 1 }");
    const state = solver.init({ w: np.zeros([2, 3]), b: np.zeros([3]) });
    const list = group("'w [2, 3]', 'b [3]'", sgd.rule).replace("lr: 0.001", "lr: 1");
    expect(shown(state)).toBe(`state of sgd { steps: 0, clipNorm: 1, groups: [ { ${list} } ] }`);
    state.dispose();
    expect(shown(state)).toBe("state of sgd (consumed)");
  });
});
