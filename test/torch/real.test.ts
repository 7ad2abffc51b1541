/** Files as users have them: checkpoints with other values, schedulers, frozen parameters, tied weights, older formats. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { Tensor } from "../../ts/arena/tensor.js";
import { load, save } from "../../ts/checkpoint/index.js";
import { adam, adamw } from "../../ts/rules/index.js";
import {
  type Dict,
  loadModel,
  loadOptimizer,
  type LoadOptions,
  Opaque,
  readSafetensors,
  readTorch,
  saveOptimizer,
} from "../../ts/torch/index.js";
import { small } from "../small.js";

const here = (name: string) => new Uint8Array(readFileSync(new URL(`fixtures/real/${name}`, import.meta.url)));
type Numbers = Record<string, { readonly shape: readonly number[]; readonly dtype: string; readonly data: number[] }>;
const numbers = (name: string): Numbers =>
  JSON.parse(readFileSync(new URL(`fixtures/real/${name}`, import.meta.url), "utf8"));

/** A model with the floating-point tensors of a file's numbers. */
function modelOf(expected: Numbers): Record<string, Tensor> {
  const floats = Object.entries(expected).filter(([, { dtype }]) => dtype === "torch.float32");
  return small().tensors(Object.fromEntries(floats.map(([name, { shape }]) => [name, shape])));
}

function expectLoaded(model: Record<string, Tensor>, expected: Numbers): void {
  for (const [name, { data }] of Object.entries(model))
    expect([...data], name).toEqual(expected[name]!.data.map(Math.fround));
}

test.each([
  ["extra_counter.pt", "extra.json", "model"],
  ["extra_ctensor.pt", "extra.json", "model"],
  ["extra_device.pt", "extra.json", "model"],
  ["extra_nested.pt", "extra.json", "model"],
  ["extra_sets.pt", "extra.json", "model"],
  ["ckpt_multistep.pt", "ckpt_multistep.json", "model"],
  ["plain.pt", "plain.json", undefined],
  ["legacy.pt", "plain.json", undefined],
  ["tied.safetensors", "tied.json", undefined],
])("%s: the model loads, strictly", (name, json, part) => {
  const expected = numbers(json);
  const model = modelOf(expected);
  const bytes = here(name);
  expect(loadModel(part ? (readTorch(bytes) as Dict)[part]! : bytes, model)).toEqual({ leftOut: [] });
  expectLoaded(model, expected);
});

test("a part of a checkpoint that is no model is an error that names the part", () => {
  const expected = numbers("extra.json");
  expect(() => loadModel(here("extra_device.pt"), modelOf(expected))).toThrow(
    'loadModel: the file must contain a model.state_dict(), got a dictionary of "model", "extra"; read the file with readTorch(bytes), and pass its part "model"',
  );
  // Here a tensor is beside the model.
  for (const strict of [true, false]) {
    expect(() => loadModel(here("extra_ctensor.pt"), modelOf(expected), { strict })).toThrow('pass its part "model"');
  }
  const extra = (name: string) => (readTorch(here(name)) as Dict).extra!;
  expect(extra("extra_device.pt")).toBeInstanceOf(Opaque);
  expect(() => loadModel(extra("extra_device.pt"), modelOf(expected))).toThrow(
    "got torch.device; save the model with torch.save(model.state_dict(), path)",
  );
  expect(() =>
    loadModel({ "fc.bias": extra("extra_device.pt"), "fc.weight": extra("extra_ctensor.pt") }, modelOf(expected)),
  ).toThrow("torch.device");
});

test("a view with the negative bit", () => {
  const model = small().tensors({ w: [2], v: [2] });
  loadModel(here("neg.pt"), model);
  expect([[...model.w.data], [...model.v.data]]).toEqual([
    [-2, -4],
    [1, 1],
  ]);
});

test("tied weights: one name of two is enough", () => {
  const expected = numbers("tied.json");
  const { "fc.weight": _, ...rest } = modelOf(expected);
  expect(loadModel(here("tied.safetensors"), rest)).toEqual({ leftOut: [] });
  expectLoaded(rest, expected);
});

test("a tensor of another dtype beside the one that is wanted", () => {
  const { w } = small().tensors({ w: [2, 3] });
  expect(loadModel(here("st_c64.safetensors"), { w })).toEqual({ leftOut: [] });
  const { tensors } = readSafetensors(here("st_c64.safetensors"));
  expect(tensors.x!.dtype).toBe("C64");
  expect([...w.data]).toEqual([...tensors.w!.read()]);
  expect(() => tensors.x!.read()).toThrow("a tensor's numbers must be F64, F32, F16");
  const x = small().tensor("x", [2]);
  expect(() => loadModel(here("st_c64.safetensors"), [x])).toThrow(
    'loadModel: tensor "x" is C64 [2] in the file, F32 [2] here',
  );
});

describe("an optimizer's state_dict", () => {
  const net = () =>
    small().tensors({ "emb.weight": [6, 4], "fc.weight": [6, 4], "fc.bias": [6], "bn.weight": [6], "bn.bias": [6] });
  type State = Record<string, Dict>;

  test.each([
    ["oo_sched_onecycle.pt", adamw],
    ["oo_step1d.pt", adam],
    ["oo_frozen.pt", adamw],
  ])("%s", (name, factory) => {
    const model = net();
    const optimizer = factory(model);
    // State from before, which must not stay.
    for (const { grad } of Object.values(model)) grad.fill(1);
    optimizer.step();
    expect(loadOptimizer(here(name), optimizer)).toEqual({ leftOut: [] });
    const { state, param_groups } = readTorch(here(name)) as { state: any; param_groups: any[] } as any;
    Object.values(model).forEach((tensor, i) => {
      const saved = state[i] as State | undefined;
      const { expAvg, expAvgSq } = optimizer.state(tensor);
      expect([...expAvg]).toEqual(saved ? [...(saved as any).exp_avg.read()] : Array(tensor.size).fill(0));
      expect([...expAvgSq]).toEqual(saved ? [...(saved as any).exp_avg_sq.read()] : Array(tensor.size).fill(0));
    });
    expect(optimizer.groups[0]!.hyper.lr).toBe(param_groups[0].lr);
    expect(optimizer.steps).toBe(state[1].step.item());
  });

  test("names that are the same, and names that differ", () => {
    const groups = (model: ReturnType<typeof net>, bias: Tensor = model["fc.bias"]) => [
      { params: [model["emb.weight"]] },
      { params: [model["fc.weight"], bias] },
    ];
    const load = (groups: any, options?: LoadOptions) => {
      const optimizer = adamw(groups);
      return { optimizer, ...loadOptimizer(here("oo_named.pt"), optimizer, options) };
    };
    const model = net();
    const { state } = readTorch(here("oo_named.pt")) as any;
    expect(load(groups(model)).leftOut).toEqual([]);
    // Another order, which only the names tell.
    const swapped = groups(model).map(({ params }) => ({ params: [...params].reverse() }));
    const { optimizer } = load(swapped);
    expect([...optimizer.state(model["fc.bias"]).expAvg]).toEqual([...state[2].exp_avg.read()]);
    expect(() => load(groups(model, model["bn.bias"]))).toThrow(
      'loadOptimizer: groups[1] has the params ["fc.weight", "fc.bias"] in the file, and none is "bn.bias"',
    );
    const renamed = load(groups(model, model["bn.bias"]), { rename: { "fc.bias": "bn.bias" } });
    expect([...renamed.optimizer.state(model["bn.bias"]).expAvg]).toEqual([...state[2].exp_avg.read()]);
    expect(load(groups(model, model["bn.bias"]), { strict: false }).leftOut).toHaveLength(1);
  });
});

describe("parameters with different numbers of steps", () => {
  const make = () => {
    const { a, b } = small().tensors({ a: [2], b: [3] });
    a.data.set([1, 2]);
    b.data.set([3, 4, 5]);
    return { a, b, optimizer: adam([a, b]) };
  };

  test("each continues from its own count, also after a checkpoint", () => {
    const run = make();
    const { state } = readTorch(here("steps_o.pt")) as any;
    expect(loadOptimizer(here("steps_o.pt"), run.optimizer)).toEqual({ leftOut: [] });
    expect(run.optimizer.steps).toBe(4);
    const before = { a: [...run.a.data], b: [...run.b.data] };
    const go = ({ a, b, optimizer }: ReturnType<typeof make>) => {
      a.grad.fill(0.5);
      b.grad.fill(-0.25);
      optimizer.step();
    };
    go(run);
    for (const [i, tensor, grad, own] of [
      [0, run.a, 0.5, 4],
      [1, run.b, -0.25, 2],
    ] as const) {
      const { exp_avg: m, exp_avg_sq: v } = state[i];
      expect(state[i].step.item()).toBe(own);
      tensor.data.forEach((x, k) => {
        const [m1, v1] = [0.9 * m.read()[k] + 0.1 * grad, 0.999 * v.read()[k] + 0.001 * grad ** 2];
        const step = (0.001 * (m1 / (1 - 0.9 ** (own + 1)))) / (Math.sqrt(v1 / (1 - 0.999 ** (own + 1))) + 1e-8);
        expect(x).toBeCloseTo(before[i === 0 ? "a" : "b"][k]! - step, 6);
      });
    }
    const file = save([run.a, run.b], run.optimizer);
    const again = make();
    load(file, [again.a, again.b], again.optimizer);
    expect(Buffer.compare(save([again.a, again.b], again.optimizer), file)).toBe(0);
    go(run);
    go(again);
    expect([...again.a.data, ...again.b.data]).toEqual([...run.a.data, ...run.b.data]);
    const out = readTorch(saveOptimizer(run.optimizer)) as any;
    expect([out.state[0].step.item(), out.state[1].step.item()]).toEqual([6, 4]);
  });
});

test("numbers of NumPy: a rate that was computed with it, and others", () => {
  const { optimizer: saved, values } = readTorch(here("numpy.pt")) as Dict;
  const optimizer = adamw([small().tensor("w", [2])], { lr: 1 });
  expect(loadOptimizer(saved!, optimizer)).toEqual({ leftOut: [] });
  expect(optimizer.hyper.lr).toBe((0.1 * (1 + Math.cos(Math.PI / 2))) / 2);
  expect({ ...(values as Dict) }).toEqual({
    float64: 0.1,
    float32: Math.fround(0.1),
    int64: -3,
    large: 2 ** 63,
    uint32: 2 ** 32 - 1,
    int16: -2,
    bool: true,
    complex: expect.any(Opaque),
    text: expect.any(Opaque),
  });
});
