/**
 * Tests of PyTorch's files: runs continue here as in PyTorch, files can be read by PyTorch, and malicious files are
 * errors.
 */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { afterAll, describe, expect, test } from "vitest";
import { load, save } from "../../ts/checkpoint/index.js";
import { type LBFGS, lbfgs } from "../../ts/lbfgs/lbfgs.js";
import { camel } from "../../ts/option.js";
import { lookahead } from "../../ts/wrappers/lookahead.js";
import { adam, adamw, momentum, muon, nadam, rprop, sgd } from "../../ts/rules/index.js";
import { stepLR } from "../../ts/schedules/index.js";
import type { Tensor } from "../../ts/arena/tensor.js";
import {
  type Dict,
  loadModel,
  loadOptimizer,
  readTorch,
  saveModel,
  saveOptimizer,
  type FileTensor,
} from "../../ts/torch/index.js";
import { unzip, zip } from "../../ts/torch/zip.js";
import { file } from "../checkpoint/files.js";
import { error, relativeDistance } from "../harness.js";
import { small } from "../small.js";
import { factories } from "../registry.js";

const here = (name: string) => readFileSync(new URL(name, import.meta.url));
const resume = JSON.parse(here("../golden/resume/resume.json").toString());
const { grads, cases } = JSON.parse(here("fixtures/cases.json").toString());

const folder = mkdtempSync(join(tmpdir(), "downhill-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The run's tensors. Muon is for matrices: all of its tensors are matrices. */
const tensorsFor = (rule: string): Record<string, Tensor> =>
  small().tensors(
    rule === "muon"
      ? { "0.weight": [7, 9], "0.bias": [7, 1], scale: [1, 1] }
      : { "0.weight": [7, 9], "0.bias": [7], scale: [] },
  );
/** The values that PyTorch's None means: here they are explicit. */
const none: Record<string, object> = {
  muon: { adjust_lr_fn: "original" },
  adafactor: { eps: [2 ** -23, 1e-3] },
};

test("an optimizer that a file of PyTorch sets to fewer steps can be saved and loaded", () => {
  const model: Record<string, Tensor> = small().tensors({ w: [2] });
  const optimizer = adamw(model, { lossScale: "dynamic" });
  optimizer.step();
  const early = saveOptimizer(optimizer);
  for (let i = 0; i < 4; i++) optimizer.step();
  loadOptimizer(early, optimizer);
  expect(optimizer.steps).toBe(1);
  expect(load(save(model, optimizer), model, optimizer).steps).toBe(1);
});

test("a real run of PyTorch continues to PyTorch's result", () => {
  const model: Record<string, Tensor> = small().tensors({
    "0.weight": [7, 9],
    "0.bias": [7],
    "2.weight": [3, 7],
    "2.bias": [3],
  });
  const weights = [model["0.weight"]!, model["2.weight"]!];
  const biases = [model["0.bias"]!, model["2.bias"]!];
  const optimizer = adamw([
    { params: weights, weightDecay: 0.5 },
    { params: biases, lr: 7 },
  ]);
  expect(loadModel(here("../golden/resume/model.safetensors"), model)).toEqual({ leftOut: [] });
  expect(loadOptimizer(here("../golden/resume/optimizer.pt"), optimizer)).toEqual({ leftOut: [] });
  expect(optimizer.steps).toBe(resume.saved_after);
  expect(optimizer.groups.map(({ hyper: { lr, weightDecay } }) => [lr, weightDecay])).toEqual([
    [0.01, 0.1],
    [0.01, 0],
  ]);
  for (let step = 0; step < 5; step++) {
    for (const name in model)
      model[name]!.grad.set(
        resume.grads[name]
          .map((all: number[]) => all)
          .at(step)
          .flat(),
      );
    optimizer.step();
  }
  for (const name in model) expect(error(model[name]!.data, resume.after_10[name]), name).toBeLessThan(1);
});

describe.each(Object.keys(cases))("%s", (rule) => {
  const { options, before, after } = cases[rule];
  const factory = factories.find((factory) => factory.rule.name === rule)!;

  /** The run's model and optimizer, with rates that differ from the file's. */
  function make() {
    const model = tensorsFor(rule);
    const renamed = Object.fromEntries(Object.entries(options).map(([name, value]) => [camel(name), value]));
    const groups = [{ params: [model["0.weight"], model.scale] }, { params: [model["0.bias"]] }];
    return { model, optimizer: factory(groups, { ...renamed, ...("lr" in factory.rule.hyper && { lr: 1 }) }) };
  }
  const go = ({ model, optimizer }: ReturnType<typeof make>) => {
    for (let step = 5; step < 10; step++) {
      for (const name in model) model[name]!.grad.set(grads[step][name]);
      optimizer.step();
    }
    for (const name in model) {
      const { data } = model[name]!;
      const far = rule === "muon" ? relativeDistance(data, after[name], before[name]) / 0.03 : error(data, after[name]);
      expect(far, name).toBeLessThan(1);
    }
  };

  const resumed = () => {
    const run = make();
    for (const name in run.model) run.model[name]!.data.set(before[name]);
    loadOptimizer(here(`fixtures/${rule}.pt`), run.optimizer, { steps: 5 });
    return run;
  };

  test("continues from PyTorch's file", () => {
    const run = resumed();
    expect(run.optimizer.steps).toBe(5);
    go(run);
  });

  test("is written as it was read, for PyTorch and for Python's own unpickler", () => {
    const run = resumed();
    const [model, optimizer] = [saveModel(run.model), saveOptimizer(run.optimizer)];
    const there = readTorch(here(`fixtures/${rule}.pt`)) as any;
    const out = readTorch(optimizer) as any;
    for (const group of [0, 1]) {
      for (const key of Object.keys(there.param_groups[group]).filter((key) => key !== "initial_accumulator_value")) {
        const said = { ...there.param_groups[group], ...none[rule] };
        expect(out.param_groups[group][key], key).toEqual(said[key]);
      }
    }
    const numbers = (state: Record<string, Record<string, FileTensor>>) =>
      Object.entries(state).flatMap(([index, slots]) =>
        Object.entries(slots).map(([name, tensor]) => [index, name, tensor.shape, [...tensor.read()]]),
      );
    expect(numbers(out.state).sort()).toEqual(numbers(there.state).sort());

    const again = make();
    loadModel(model, again.model);
    loadOptimizer(optimizer, again.optimizer, { steps: 5 });
    go(again);
    const place = process.env.TORCH_OUT; // for scripts/pytorch.py check
    if (place) {
      writeFileSync(join(place, `${rule}.model.pt`), model);
      writeFileSync(join(place, `${rule}.pt`), optimizer);
    }
  });
});

const python = spawnSync("python3", ["--version"]).status === 0;

test.skipIf(!python)("Python's own unpickler reads it, under an allow-list", () => {
  const { w, b } = small().tensors({ w: [2, 3], b: [1] });
  w.data.set([1, 2, 3, 4, 5, 6]);
  const optimizer = adamw([w, b], { lr: 0.5, weightDecay: 0, betas: [0.5, 0.25] });
  w.grad.fill(2);
  optimizer.step();
  const script = fileURLToPath(new URL("unpickle.py", import.meta.url));
  const read = (bytes: Uint8Array) => {
    writeFileSync(join(folder, "out.pt"), bytes);
    return JSON.parse(execFileSync("python3", [script, join(folder, "out.pt")], { encoding: "utf8" }));
  };
  expect(read(saveModel({ w, b }))).toEqual({
    w: { size: [2, 3], stride: [3, 1], numbers: [...w.data] },
    b: { size: [1], stride: [1], numbers: [0] },
  });
  const { state, param_groups: groups } = read(saveOptimizer(optimizer));
  expect(state[0].exp_avg).toEqual({ size: [2, 3], stride: [3, 1], numbers: Array(6).fill(1) });
  expect(state[1].step).toEqual({ size: [], stride: [], numbers: [1] });
  expect(groups).toEqual([
    {
      lr: 0.5,
      betas: [0.5, 0.25],
      eps: 1e-8,
      weight_decay: 0,
      amsgrad: false,
      maximize: false,
      foreach: null,
      capturable: false,
      differentiable: false,
      fused: null,
      decoupled_weight_decay: true,
      params: [0, 1],
    },
  ]);
});

test("a file with many kinds of data is loaded in parts", () => {
  const whole = readTorch(here("fixtures/whole.pt")) as any;
  expect([whole.epoch, whole.big]).toEqual([3, 2 ** 40]);
  const weight: number[] = JSON.parse(here("fixtures/whole.json").toString());
  const read = (part: string): number[] => {
    const { shape } = whole[part].w as FileTensor;
    const w = small().tensor("w", shape);
    loadModel(whole[part], [w]);
    return [...w.data];
  };
  expect(read("half")).toEqual(weight);
  expect(read("bfloat")).toEqual(
    [1.5, -2, Math.fround(3.0039e38), Infinity].map((x, i) => (i === 2 ? expect.closeTo(3e38, -36) : x)),
  );
  expect(read("double")).toEqual([1.5, -2.25]);
  expect(read("transposed")).toEqual([0, 3, 1, 4, 2, 5].map((i) => weight[i]));
  expect(read("sliced")).toEqual([5, 6, 9, 10]);
  expect(read("parameter")).toEqual([4, 5]);
  expect([...(whole.model["0.weight"] as FileTensor).read()]).toEqual(weight);
  expect(whole.model["1.num_batches_tracked"].dtype).toBe("I64");
});

test("half precision is exact", () => {
  // Sign, exponent and fraction, by the definition of IEEE 754.
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const header = JSON.stringify({ w: { dtype: "F16", shape: [65536], data_offsets: [0, 131072] } });
  const w = small().tensor("w", [65536]);
  loadModel(file(header, new Uint8Array(bits.buffer)), [w]);
  for (let i = 0; i < 65536; i++) {
    const [sign, exponent, fraction] = [i >> 15 ? -1 : 1, (i >> 10) & 31, i & 1023];
    const expected =
      exponent === 31
        ? fraction
          ? Number.NaN
          : sign * Infinity
        : exponent === 0
          ? (sign * fraction) / 2 ** 24
          : sign * 2 ** (exponent - 15) * (1 + fraction / 1024);
    expect(w.data[i]).toBe(expected);
  }
});

test("schedules stay, and averages and micro-batches begin again", () => {
  const model: Record<string, Tensor> = small().tensors({ "0.weight": [7, 9], "0.bias": [7], scale: [] });
  const lr = stepLR({ lr: 0.5, stepSize: 2 });
  const groups = [{ params: [model["0.weight"]!, model.scale!] }, { params: [model["0.bias"]!], lr }];
  const optimizer = adamw(groups, { ema: 0.9, accumulate: 2 });
  optimizer.step();
  model.scale!.data.fill(3);
  loadOptimizer(here("fixtures/adamw.pt"), optimizer);
  expect([optimizer.groups[0]!.hyper.lr, optimizer.groups[1]!.hyper.lr]).toEqual([0.01, lr]);
  expect([...optimizer.average(model.scale!)]).toEqual([3]);
  optimizer.step();
  expect(optimizer.steps).toBe(5);
  optimizer.step();
  expect(optimizer.steps).toBe(6);
});

test("slow weights start as the parameters", () => {
  const model = small().tensors({ "0.weight": [7, 9], "0.bias": [7], scale: [] });
  const optimizer = lookahead(adamw([{ params: [model["0.weight"], model.scale] }, { params: [model["0.bias"]] }]));
  model.scale.data.fill(3);
  loadOptimizer(here("fixtures/adamw.pt"), optimizer);
  expect([...optimizer.state(model.scale).slow]).toEqual([3]);
});

test("an optimizer that was saved before its first step starts with initial state", () => {
  for (const factory of factories.filter(({ rule: { name } }) => Object.keys(cases).includes(name))) {
    const w = small().tensor("w", [3, 1]);
    const options = factory.rule.name === "adagrad" ? { initialAccumulatorValue: 0.5 } : {};
    const [fresh, stepped] = [factory([w], options), factory([w], options)];
    w.grad.fill(1);
    stepped.step();
    const file = saveOptimizer(fresh);
    loadOptimizer(file, stepped);
    expect(stepped.steps).toBe(0);
    expect(stepped.state(w)).toEqual(fresh.state(w));
  }
  // As PyTorch saves Adam before its first step.
  const w = small().tensor("w", [3]);
  const optimizer = adam([w], {});
  w.grad.fill(1);
  optimizer.step();
  const { param_groups } = readTorch(saveOptimizer(optimizer)) as Dict;
  loadOptimizer({ state: {}, param_groups: param_groups! }, optimizer);
  expect([optimizer.steps, ...optimizer.state(w).expAvg]).toEqual([0, 0, 0, 0]);
});

test("a dictionary made by hand", () => {
  const { w } = (readTorch(here("fixtures/whole.pt")) as any).parameter;
  const renamed = small().tensor("layer.w", [2]);
  loadModel({ "layer.w": w }, [renamed]);
  expect([...renamed.data]).toEqual([4, 5]);
});

test("a header of a length that begins like a zip archive's name", () => {
  const header = JSON.stringify({ w: { dtype: "F32", shape: [1], data_offsets: [0, 4] } }).padEnd(0x4b50);
  const w = small().tensor("w", [1]);
  loadModel(file(header, new Uint8Array(Float32Array.of(3).buffer)), [w]);
  expect(w.data[0]).toBe(3);
});

describe("what does not fit", () => {
  const model = () => small().tensors({ "0.weight": [7, 9], "0.bias": [7], scale: [] }) as Record<string, Tensor>;
  const groups = (of: Record<string, Tensor>) => [
    { params: [of["0.weight"]!, of.scale!] },
    { params: [of["0.bias"]!] },
  ];
  const adamwFile = here("fixtures/adamw.pt");
  const table: [title: string, act: () => unknown, message: string][] = [
    [
      "another rule's file",
      () => loadOptimizer(adamwFile, adam(groups(model()))),
      "loadOptimizer: groups[0].decoupled_weight_decay is true in the file, false here (strict: false loads the rest); nothing was loaded",
    ],
    [
      "a rule that PyTorch lacks",
      () => loadOptimizer(adamwFile, momentum(groups(model()))),
      "loadOptimizer: the optimizer must be one of torch.optim (sgd, adagrad",
    ],
    [
      "out, a rule that PyTorch lacks",
      () => saveOptimizer(momentum(groups(model()))),
      "saveOptimizer: the optimizer must be one of torch.optim (sgd, adagrad",
    ],
    [
      "an option that PyTorch lacks",
      () => loadOptimizer(adamwFile, adamw(groups(model()), { biasCorrection: false })),
      "loadOptimizer: groups[0].biasCorrection is false here, and PyTorch has only true",
    ],
    [
      "out, an option that PyTorch lacks",
      () => saveOptimizer(adamw(groups(model()), { biasCorrection: false })),
      "saveOptimizer: groups[0].biasCorrection must be true for PyTorch, got false",
    ],
    [
      "out, a settled option that PyTorch lacks",
      () => saveOptimizer(muon([small().tensor("w", [2, 2])], { inputsFirst: true })),
      "saveOptimizer: groups[0].inputsFirst must be false for PyTorch, got true",
    ],
    [
      "an option that is settled",
      () => loadOptimizer(adamwFile, adamw(groups(model()), { amsgrad: true })),
      "loadOptimizer: groups[0].amsgrad is false in the file, true here",
    ],
    [
      "momentum there and none here",
      () => loadOptimizer(here("fixtures/sgd.pt"), sgd(groups(model()))),
      "loadOptimizer: sgd: momentum must stay 0, because the optimizer was made without momentumBuffer, got 0.9",
    ],
    [
      "other groups",
      () => loadOptimizer(adamwFile, adamw(model())),
      "loadOptimizer: there are 2 groups in the file, 1 here",
    ],
    [
      "fewer params",
      () => loadOptimizer(adamwFile, adamw(groups(model()).map(({ params }) => ({ params: params.slice(0, 1) })))),
      "loadOptimizer: groups[0] has 2 params in the file, 1 here",
    ],
    [
      "another order",
      () => loadOptimizer(adamwFile, adamw(groups(model()).map(({ params }) => ({ params: [...params].reverse() })))),
      'loadOptimizer: tensor "scale.exp_avg" is F32 [7, 9] in the file, F32 [] here',
    ],
    [
      "a model for an optimizer",
      () => loadOptimizer(readTorch(here("fixtures/whole.pt")), adamw(groups(model()))),
      'loadOptimizer: the file must hold what optimizer.state_dict() gave, got a dictionary of "epoch", "big", "model", "half", "bfloat", "double", "transposed", "sliced"',
    ],
    [
      "an optimizer for a model",
      () => loadModel(adamwFile, model()),
      'loadModel: the file must contain a model.state_dict(), got a dictionary of "state", "param_groups"; read the file with readTorch(bytes), and pass the part that has it',
    ],
    [
      "other names",
      () => loadModel((readTorch(here("fixtures/whole.pt")) as Dict).half!, model()),
      'loadModel: tensor "0.weight" is missing in the file',
    ],
    [
      "names with a prefix",
      () => {
        const { bias: a, weight: b } = small().tensors({ bias: [1], weight: [1] });
        const { "module.bias": c, "module.weight": d } = small().tensors({ "module.bias": [1], "module.weight": [1] });
        loadModel(saveModel([c, d]), [a, b]);
      },
      'loadModel: tensor "bias" is missing in the file, which has "module.bias"; pass rename: { "module.": "" } (strict: false loads the rest)',
    ],
    [
      "whole numbers",
      () =>
        loadModel(file('{"w":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}', new Uint8Array(4)), [
          small().tensor("w", [1]),
        ]),
      'loadModel: tensor "w" is I32 [1] in the file, F32 [1] here',
    ],
    [
      "steps that are none",
      () => loadOptimizer(adamwFile, adamw(groups(model())), { steps: -1 }),
      "loadOptimizer: steps must be a whole number in [0, ∞), got -1",
    ],
    [
      "options that are a promise",
      () => loadOptimizer(adamwFile, adamw(groups(model())), Promise.resolve({ strict: false }) as never),
      "loadOptimizer: options must be an object such as { strict: … }, got an object (Promise)",
    ],
    [
      "options that are null",
      () => loadOptimizer(adamwFile, adamw(groups(model())), null as never),
      "loadOptimizer: options must be an object such as { strict: … }, got null",
    ],
    ...["step", "exp_avg_sq"].map((name): [string, () => unknown, string] => [
      `state without ${name}`,
      () => {
        const file = readTorch(adamwFile) as any;
        return loadOptimizer(
          { ...file, state: { ...file.state, 1: { ...file.state[1], [name]: null } } },
          adamw(groups(model())),
        );
      },
      name === "step"
        ? 'the state of "scale" has no "step" in the file'
        : 'tensor "scale.exp_avg_sq" is missing in the file',
    ]),
    [
      "NAdam's state without mu_product",
      () => {
        const w = small().tensor("w", [1]);
        const optimizer = nadam([w]);
        optimizer.step();
        const file = readTorch(saveOptimizer(optimizer)) as any;
        delete file.state[0].mu_product;
        loadOptimizer(file, optimizer);
      },
      'the state of "w" has no "mu_product" in the file',
    ],
    ["no file", () => readTorch("optimizer.pt" as never), 'readTorch: expected a file\'s bytes, got "optimizer.pt"'],
    [
      "no optimizer",
      () => saveOptimizer({} as never),
      "saveOptimizer: expected an optimizer, such as adamw(model), got an object (Object)",
    ],
  ];
  test.each(table)("%s", (_, act, message) => expect(act).toThrow(message));

  test("is left out with strict: false", () => {
    const [here_, there] = [model(), readTorch(here("fixtures/whole.pt")) as any];
    const { leftOut } = loadModel(there.parameter, here_, { strict: false });
    expect(leftOut).toHaveLength(4);
    const optimizer = adamw(groups(here_), { biasCorrection: false });
    expect(loadOptimizer(adamwFile, optimizer, { strict: false }).leftOut).toHaveLength(2);
    expect(optimizer.steps).toBe(5);
  });

  test("changes nothing", () => {
    const arena = small();
    const model = arena.tensors({ "0.weight": [7, 9], "0.bias": [8], scale: [] });
    const optimizer = adamw([{ params: [model["0.weight"], model.scale] }, { params: [model["0.bias"]] }], { lr: 7 });
    const before = save(model, optimizer);
    expect(() => loadOptimizer(adamwFile, optimizer)).toThrow(
      'tensor "0.bias.exp_avg" is F32 [7] in the file, F32 [8] here',
    );
    expect(Buffer.compare(save(model, optimizer), before)).toBe(0);
  });
});

describe("hostile", () => {
  const valid = here("fixtures/adamw.pt");
  /** An archive with this pickle. */
  const pickled = (...bytes: (number | string)[]) => {
    const pickle = Buffer.concat(
      bytes.map((part) => (typeof part === "string" ? Buffer.from(part, "latin1") : Buffer.from([part]))),
    );
    return zip(
      new Map([
        ["a/data.pkl", pickle],
        ["a/data/0", new Uint8Array(16)],
      ]),
    );
  };
  const storage = (type: string, key: string, size: string) =>
    `(X\x07\0\0\0storagectorch\n${type}\nX\x01\0\0\0${key}X\x03\0\0\0cpu${size}tQ`;
  const tensor = (offset: string, shape: string, strides: string, of = storage("FloatStorage", "0", "K\x04")) =>
    `\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(${of}${offset}${shape}${strides}\x89)tR.`;
  const table: [title: string, file: Uint8Array, message: string][] = [
    [
      "a command",
      pickled("\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R."),
      "got a call of os.system, which was not executed",
    ],
    [
      "eval",
      pickled("\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R."),
      "got a call of builtins.eval, which was not executed",
    ],
    [
      "a part of Python itself",
      pickled("\x80\x02cbuiltins\ngetattr\ncm\nA\nX\x09\0\0\0__class__\x86R."),
      "the file must call builtins.getattr as PyTorch does, got arguments that are not understood",
    ],
    [
      "a function of a module that another module has imported",
      pickled("\x80\x02cbuiltins\ngetattr\ncposixpath\nos\nX\x06\0\0\0system\x86RX\x02\0\0\0ls\x85R."),
      "the file must call builtins.getattr as PyTorch does, got arguments that are not understood",
    ],
    [
      "a dictionary with arguments",
      pickled("\x80\x02ccollections\nOrderedDict\nK\x01\x85R."),
      "the file must call collections.OrderedDict as PyTorch does, got arguments that are not understood: [1]",
    ],
    ["an instance", pickled("\x80\x02cos\nsystem\n)\x81."), "got a call of os.system, which was not executed"],
    ["an extension", pickled("\x80\x02\x82\x01."), "got opcode 0x82"],
    ["a later protocol", pickled("\x80\x06N."), "the pickle must have a protocol of at most 5, got 6"],
    [
      "a call of what is no function",
      pickled("\x80\x02K\x01)R."),
      "the pickle must have a call of a function by its name",
    ],
    ["nothing on the stack", pickled("\x80\x02a."), "the pickle must have something on its stack"],
    ["no mark", pickled("\x80\x02K\x01t."), "the pickle must have a mark on its stack"],
    ["a mark for a value", pickled("\x80\x02(q\x00."), "the pickle must have something on its stack"],
    ["what was never remembered", pickled("\x80\x02h\x07."), "the pickle must have a known memo index, got index 7"],
    [
      "a dictionary that is none",
      pickled("\x80\x02K\x01K\x02K\x03s."),
      "the pickle must have a dictionary to write to",
    ],
    ["a list that is none", pickled("\x80\x02K\x01K\x02a."), "the pickle must have a list to append to"],
    [
      "attributes of a number",
      pickled("\x80\x02K\x01}b."),
      "the pickle must have a dictionary or an object to write to, got 1",
    ],
    ["text beyond the end", pickled("\x80\x02X\xff\xff\xff\x7fa."), "the pickle must be complete, got 9 bytes"],
    ["no end", pickled("\x80\x02N"), "the pickle must be complete, got 3 bytes"],
    ["a name without an end", pickled("\x80\x02cos"), "the pickle must have a name that ends"],
    [
      "a storage that is not there",
      pickled(tensor("K\0", ")", ")", storage("FloatStorage", "7", "K\x04"))),
      'number "7"',
    ],
    ["a storage outside", pickled(tensor("K\0", ")", ")", storage("FloatStorage", "/", "K\x04"))), 'number "/"'],
    [
      "a storage that says too much",
      pickled(tensor("K\0", ")", ")", storage("FloatStorage", "0", "M\xff\xff"))),
      'storage "0" must have 262140 bytes, got 16',
    ],
    [
      "a tensor beyond its storage",
      pickled(tensor("K\0", "K\x05\x85", "K\x01\x85")),
      "a tensor of [5] must lie within its 4 elements, got 4",
    ],
    [
      "a tensor from beyond its storage",
      pickled(tensor("K\x04", ")", ")")),
      "a tensor of [] must lie within its 4 elements, got 4",
    ],
    [
      "a tensor from before its storage",
      pickled(tensor("J\xff\xff\xff\xff", ")", ")")),
      "the file must call torch._utils._rebuild_tensor_v2 as PyTorch does",
    ],
    [
      "a tensor of other dimensions than strides",
      pickled(tensor("K\0", "K\x01\x85", ")")),
      "the file must call torch._utils._rebuild_tensor_v2 as PyTorch does",
    ],
    [
      "no zip archive",
      new Uint8Array(100),
      "the file must be one that torch.save wrote, got bytes that begin neither as a zip archive nor as a file of PyTorch before 1.6",
    ],
    [
      "no pickle",
      zip(new Map([["a", new Uint8Array()]])),
      "the archive must hold data.pkl, got an archive without it; save the model with torch.save(model.state_dict(), path)",
    ],
    [
      "big-endian",
      zip(
        new Map([
          ["a/data.pkl", Buffer.from("\x80\x02N.", "latin1")],
          ["a/byteorder", Buffer.from("big")],
        ]),
      ),
      "the file must be little-endian",
    ],
  ];
  test.each(table)("%s", (_, bytes, message) => {
    expect(() => readTorch(bytes)).toThrow(RangeError);
    expect(() => readTorch(bytes)).toThrow(/^readTorch: /);
    expect(() => readTorch(bytes)).toThrow(message);
  });

  test("lists that contain each other a billion times give a short error", () => {
    // Each list holds the one before it ten times; the last one replaces a group.
    const lists =
      "]q\0" +
      [1, 2, 3, 4, 5, 6, 7, 8, 9]
        .map((i) => `0](${`h${String.fromCharCode(i - 1)}`.repeat(10)}eq${String.fromCharCode(i)}`)
        .join("")
        .replaceAll("0]", "]");
    const file = pickled(`\x80\x02}(X\x05\0\0\0state}X\x0c\0\0\0param_groups${lists}u.`);
    const optimizer = adamw([small().tensor("w", [1])]);
    let message = "";
    try {
      loadOptimizer(file, optimizer);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(/^loadOptimizer: /);
    expect(message.length).toBeLessThan(10_000);
  });

  test("an archive whose files overlap", () => {
    const archive = zip(
      new Map([
        ["a", new Uint8Array(100_000)],
        ["b", new Uint8Array(1)],
      ]),
    );
    const view = new DataView(archive.buffer);
    const first = view.getUint32(archive.length - 22 + 16, true);
    const second = first + 46 + 1;
    for (const offset of [16, 20, 24, 42]) view.setUint32(second + offset, view.getUint32(first + offset, true), true);
    expect(() => readTorch(archive)).toThrow(
      "readTorch: the archive's files must not overlap, got 200000 bytes of them",
    );
  });

  test("__proto__ is a key like others", () => {
    const read = readTorch(pickled("\x80\x02}X\x09\0\0\0__proto__K\x07s.")) as Dict;
    expect(Object.getPrototypeOf(read)).toBe(null);
    expect(Object.entries(read)).toEqual([["__proto__", 7]]);
  });

  test("a tensor that repeats one number 10^12 times takes no memory, and is refused for a model", () => {
    const huge = readTorch(pickled(tensor("K\0", "\x8a\x06\0\0\0\0\0\x01\x85", "K\0\x85"))) as FileTensor;
    expect(huge.shape).toEqual([2 ** 40]);
    const dict = Object.assign(Object.create(null), { w: huge });
    expect(() => loadModel(dict, [small().tensor("w", [4])])).toThrow('tensor "w" is F32 [1099511627776] in the file');
  });

  test("a file that is cut off, or has a flipped bit, is an error or loads as it was", () => {
    const expected = JSON.stringify(plain(readTorch(valid)));
    for (let length = 0; length < valid.length; length++)
      expect(() => readTorch(valid.subarray(0, length))).toThrow(RangeError);
    let unseen = 0;
    for (let bit = 0; bit < 8 * valid.length; bit++) {
      const bytes = Uint8Array.from(valid);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      try {
        expect(JSON.stringify(plain(readTorch(bytes)))).toBe(expected);
        unseen += 1; // dates, padding, names that are not used
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
    }
    expect(unseen).toBeLessThan(8 * valid.length);
  });

  const plain = (value: any): unknown => {
    if (value && typeof value.read === "function") return [...value.read()];
    return value && typeof value === "object" ? Object.entries(value).map(([key, item]) => [key, plain(item)]) : value;
  };
});

test("an archive is read as it was written", () => {
  const files = new Map([
    ["a/ä", Uint8Array.of(1, 2, 3)],
    ["b", new Uint8Array()],
    ["c", new Uint8Array(1000).fill(7)],
  ]);
  const archive = zip(files);
  expect(unzip(archive)).toEqual(files);
  for (const content of unzip(archive).values()) expect(content.byteOffset % 64).toBe(0);
});

describe("L-BFGS", () => {
  const runs = JSON.parse(here("fixtures/lbfgs.json").toString());
  /** Rosenbrock's function in two tensors, as in scripts/pytorch.py. */
  const make = (search: string, at: { x: number[]; y: number[] }) => {
    const { x, y } = small().tensors({ x: [2], y: [2] });
    x.data.set(at.x);
    y.data.set(at.y);
    const lineSearchFn = search as "none" | "strong_wolfe";
    const optimizer = lbfgs([x, y], { lr: 7, maxIter: 3, historySize: 4, lineSearchFn });
    const closure = () => {
      let loss = 0;
      for (let i = 0; i < 2; i++) {
        const [a, b] = [1 - x.data[i]!, y.data[i]! - x.data[i]! ** 2];
        x.grad[i] = -2 * a - 400 * x.data[i]! * b;
        y.grad[i] = 200 * b;
        loss += a * a + 100 * b * b;
      }
      return loss;
    };
    return { x, y, optimizer, closure };
  };

  test.each(Object.keys(runs))("continues from PyTorch's file, and is written again: %s", (search) => {
    const { before, after } = runs[search];
    const bytes = here(`fixtures/lbfgs_${search}.pt`);
    const run = make(search, before);
    expect(loadOptimizer(bytes, run.optimizer, { steps: 3 })).toEqual({ leftOut: [] });
    expect(run.optimizer.steps).toBe(3);
    const out = saveOptimizer(run.optimizer);
    const again = make(search, before);
    loadOptimizer(out, again.optimizer);
    for (const { x, y, optimizer, closure } of [run, again]) {
      for (let i = 0; i < 3; i++) optimizer.step(closure);
      [...x.data, ...y.data].forEach((number, i) => {
        const expected = [...after.x, ...after.y][i];
        expect(Math.abs(number - expected)).toBeLessThan(1e-3 * Math.abs(expected) + 1e-6);
      });
    }
    const place = process.env.TORCH_OUT;
    if (place) writeFileSync(join(place, `lbfgs_${search}.pt`), out);
  });

  test("before the first step, and with other options", () => {
    const fresh = saveOptimizer(make("none", { x: [0, 0], y: [0, 0] }).optimizer);
    const { optimizer } = make("none", { x: [0, 0], y: [0, 0] });
    expect(loadOptimizer(fresh, optimizer)).toEqual({ leftOut: [] });
    expect(optimizer.steps).toBe(0);
    const other = make("strong_wolfe", { x: [0, 0], y: [0, 0] });
    expect(() => loadOptimizer(fresh, other.optimizer)).toThrow(
      'loadOptimizer: groups[0].line_search_fn is null in the file, "strong_wolfe" here',
    );
    const { param_groups, state } = readTorch(here("fixtures/lbfgs_none.pt")) as any;
    const wrong = (change: object) => () =>
      loadOptimizer({ param_groups, state: { 0: { ...state[0], ...change } } }, optimizer);
    expect(wrong({ ro: [] })).toThrow("old_dirs, old_stps and ro must have the same length of at most 4");
    expect(wrong({ d: null })).toThrow("d must be a tensor of 4 numbers, got null");
    expect(wrong({ n_iter: -1 })).toThrow("iterations must be a whole number in [0, ∞), got -1");
  });

  test("a function that throws while options are loaded changes nothing", () => {
    const bytes = here("fixtures/lbfgs_none.pt");
    let isBroken = false;
    const toleranceGrad = () => {
      if (isBroken) throw new Error("broken");
      return 0;
    };
    const x = small().tensor("x", [4]);
    const optimizer = lbfgs([x], { maxIter: 3, historySize: 4, toleranceGrad });
    const { param_groups, state } = readTorch(bytes) as any;
    const file = { state, param_groups: [{ ...param_groups[0], params: [0] }] };
    const before = saveOptimizer(optimizer);
    isBroken = true;
    expect(() => loadOptimizer(file, optimizer)).toThrow("broken");
    isBroken = false;
    expect(Buffer.compare(saveOptimizer(optimizer), before)).toBe(0);
    loadOptimizer(file, optimizer);
    expect(Buffer.compare(saveOptimizer(optimizer), before)).not.toBe(0);
  });

  test.each(["sgd", "adagrad", "rmsprop", "adadelta", "adamax", "nadam", "asgd", "adam", "muon", "adafactor"])(
    "refuses files of %s, which refuses those of L-BFGS",
    (name) => {
      const other = factories.find(({ rule }) => rule.name === name)!;
      for (const [from, to] of [
        [other, lbfgs],
        [lbfgs, other],
      ] as const) {
        for (const steps of [0, 1]) {
          const [one, two] = [from, to].map((make) => make([small().tensor("w", [3, 4])])) as [LBFGS, LBFGS];
          for (let i = 0; i < steps; i++) one.step(() => 1);
          expect(() => loadOptimizer(saveOptimizer(one), two)).toThrow(/ in the file, no option here/);
          expect(two.hyper).toEqual(to([small().tensor("w", [3, 4])]).hyper);
        }
      }
    },
  );

  test("maximize must be the same on both sides; files without it minimize", () => {
    const optimizerOf = (maximize: boolean) => lbfgs([small().tensor("x", [2])], { maximize });
    const fileOf = (maximize: boolean) => readTorch(saveOptimizer(optimizerOf(maximize))) as any;
    const { maximize, ...without } = fileOf(false).param_groups[0];
    expect(maximize).toBe(false);
    for (const there of [false, true]) {
      expect(loadOptimizer(fileOf(there), optimizerOf(there))).toEqual({ leftOut: [] });
      expect(() => loadOptimizer(fileOf(there), optimizerOf(!there))).toThrow(
        `groups[0].maximize is ${there} in the file, ${!there} here`,
      );
    }
    const old = { state: {}, param_groups: [without] };
    expect(loadOptimizer(old, optimizerOf(false))).toEqual({ leftOut: [] });
    expect(() => loadOptimizer(old, optimizerOf(true))).toThrow("groups[0].maximize is false in the file, true here");
  });
});

test("values of other realms and clones of tensors are accepted", () => {
  const dict = readTorch(here("fixtures/adamw.pt"));
  const run = () => {
    const model = small().tensors({ "0.weight": [7, 9], "0.bias": [7], scale: [] });
    return { model, optimizer: adamw([{ params: [model["0.weight"], model.scale] }, { params: [model["0.bias"]] }]) };
  };
  const [one, two, three] = [run(), run(), run()];
  loadOptimizer(dict, one.optimizer);
  loadOptimizer(structuredClone(dict), two.optimizer);
  const context = createContext({ bytes: [...here("fixtures/adamw.pt")] });
  loadOptimizer(runInContext("Uint8Array.from(bytes)", context), three.optimizer);
  for (const { optimizer, model } of [two, three]) {
    expect(optimizer.state(model.scale)).toEqual(one.optimizer.state(one.model.scale));
    expect(optimizer.steps).toBe(5);
  }
  const plainRealm = runInContext(
    "({ state: {}, param_groups: [{ lr: 0.5, params: [0, 1] }, { params: [2] }] })",
    context,
  );
  expect(loadOptimizer(plainRealm, one.optimizer)).toEqual({ leftOut: [] });
  expect([one.optimizer.steps, one.optimizer.groups[0]!.hyper.lr]).toEqual([0, 0.5]);
});

test("two tensors of one name are an error", () => {
  const [a, b] = [small().tensor("w", [2]), small().tensor("w", [2])];
  expect(() => saveModel([a, b])).toThrow('saveModel: names must differ, got "w" of two arenas');
  expect(() => loadModel(saveModel([a]), [a, b])).toThrow('loadModel: names must differ, got "w" of two arenas');
  expect(loadModel(saveModel([a, a]), [a, a])).toEqual({ leftOut: [] });
});

test("strict: false loads what fits, for any numbers of groups and params", () => {
  const model = small().tensors({ "0.weight": [7, 9], "0.bias": [7], scale: [] });
  const bytes = here("fixtures/adamw.pt");
  const { state } = readTorch(bytes) as any;
  const one = adamw([model["0.weight"]]);
  expect(loadOptimizer(bytes, one, { strict: false }).leftOut).toEqual([
    "there are 2 groups in the file, 1 here",
    "groups[0] has 2 params in the file, 1 here",
  ]);
  expect([...one.state(model["0.weight"]).expAvg]).toEqual([...state[0].exp_avg.read()]);
  const more = adamw([{ params: [model["0.weight"], model.scale, model["0.bias"]] }]);
  more.step();
  expect(loadOptimizer(bytes, more, { strict: false }).leftOut).toHaveLength(2);
  expect(more.steps).toBe(5);
  expect(readTorch(saveOptimizer(more))).toMatchObject({ state: { 0: {}, 1: {}, 2: {} } });
  const steps = Object.values((readTorch(saveOptimizer(more)) as any).state).map(({ step }: any) => step.item());
  expect(steps).toEqual([5, 5, 1]);
});

test("options that contradict each other are an error, and are not written", () => {
  const w = small().tensor("w", [2]);
  const file = saveOptimizer(sgd([w], { momentum: 0.9, nesterov: true }));
  const state = readTorch(file) as any;
  state.param_groups[0].dampening = 0.5;
  state.param_groups[0].lr = 0.2;
  const optimizer = sgd([w], { momentum: 0.9 });
  expect(() => loadOptimizer(state, optimizer)).toThrow("nesterov needs momentum above 0 and dampening 0");
  expect(loadOptimizer(state, optimizer, { strict: false }).leftOut).toHaveLength(1);
  expect(optimizer.hyper).toMatchObject({ lr: 0.2, dampening: 0.5, nesterov: false });
});

test("a fixed rate may be a tensor in the file, with a rounded number", () => {
  const tensors = small().tensors({ w: [2], lr: [] });
  const optimizer = rprop([tensors.w], { lr: 0.1 });
  const state = readTorch(saveOptimizer(optimizer)) as any;
  tensors.lr.data[0] = 0.1;
  state.param_groups[0].lr = (readTorch(saveModel(tensors)) as any).lr;
  expect(state.param_groups[0].lr.item()).not.toBe(0.1);
  expect(loadOptimizer(state, optimizer)).toEqual({ leftOut: [] });
  state.param_groups[0].lr = 0.2;
  expect(() => loadOptimizer(state, optimizer)).toThrow("groups[0].lr is 0.2 in the file, 0.1 here");
  Object.assign(state.param_groups[0], { lr: 0.1, maximize: 0 });
  expect(() => loadOptimizer(state, optimizer)).toThrow("groups[0].maximize is 0 in the file, false here");
});

test("strict: false: a tensor of another shape starts with its first step", () => {
  const [before, after] = [small().tensors({ a: [2], b: [2] }), small().tensors({ a: [2], b: [3] })];
  const saved = adam([before.a, before.b], { lr: 0.1 });
  for (let i = 0; i < 1000; i++) saved.step();
  const optimizer = adam([after.a, after.b], { lr: 0.1 });
  expect(loadOptimizer(saveOptimizer(saved), optimizer, { strict: false }).leftOut).toEqual([
    'tensor "b.exp_avg" is F32 [2] in the file, F32 [3] here',
    'tensor "b.exp_avg_sq" is F32 [2] in the file, F32 [3] here',
  ]);
  after.b.grad.fill(1);
  optimizer.step();
  for (const x of after.b.data) expect(x).toBeCloseTo(-0.1, 6);
});
