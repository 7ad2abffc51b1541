/**
 * Tests of checkpoints: `load` restores exactly what `save` wrote. A file that does not fit is an error and changes
 * nothing.
 */

import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import { root } from "../../scripts/project.mjs";
import { type Arena, createArenaSync } from "../../ts/arena/arena.js";
import { portableCrc32 } from "../../ts/checkpoint/crc32.js";
import { load, loadFile, save, saveFile } from "../../ts/checkpoint/index.js";
import { lbfgs } from "../../ts/lbfgs/lbfgs.js";
import { adafactor, adam, adamw, madgrad, nadam, novograd, sgd } from "../../ts/rules/index.js";
import { exponentialLR, reduceLROnPlateau, sequentialLR, stepLR } from "../../ts/schedules/index.js";
import { error, memoryOf } from "../harness.js";
import { small, smallArena } from "../small.js";
import { cases } from "../registry.js";
import { file, parts, sealed } from "./files.js";
import { malformed } from "./malformed.js";
import { go, keep, resume, type Spec, start } from "./resume.js";

const folder = mkdtempSync(join(tmpdir(), "downhill-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A model and its optimizer after one step. */
function trained(shapes: Record<string, readonly number[]> = { w: [3, 4], b: [4] }, factory = adamw, options = {}) {
  const arena = small();
  const model = arena.tensors(shapes);
  Object.values(model).forEach(({ data, grad }, i) => {
    data.forEach((_, j) => {
      data[j] = Math.sin(i + j);
      grad[j] = Math.cos(i + j);
    });
  });
  const optimizer = factory(model, options);
  optimizer.step();
  return { arena, model, optimizer };
}

/** The same, before anything was loaded into it. */
function untrained(shapes: Record<string, readonly number[]> = { w: [3, 4], b: [4] }, factory = adamw, options = {}) {
  const arena = small();
  const model = arena.tensors(shapes);
  return { arena, model, optimizer: factory(model, options) };
}

test("a run that is resumed in another process gives the bits of a run that was never stopped, for every rule", () => {
  const specs: Spec[] = cases.map(({ rule, options }) => ({ rule: rule.name, options }));
  writeFileSync(join(folder, "specs.json"), JSON.stringify(specs));
  const runs = specs.map((spec, i) => {
    const run = start(spec);
    go(run, 0, 7); // in the middle of two micro-batches
    writeFileSync(join(folder, `${i}.safetensors`), keep(run));
    return run;
  });
  const later = join(root, "test/checkpoint/later.ts");
  execFileSync(process.execPath, ["--import", "tsx", later, folder, "7", "16"], { cwd: root, stdio: "pipe" });
  runs.forEach((run, i) => {
    go(run, 7, 16);
    const resumed = readFileSync(join(folder, `${i}.later.safetensors`));
    expect(Buffer.compare(keep(run), resumed), cases[i]!.name).toBe(0);
    expect(run.optimizer.steps).toBe(7);
  });
});

test.each(cases)(
  "from every step a resumed run guards state at the same steps: $name",
  ({ rule, factory, options }) => {
    const [steps, interval] = [34, 16];
    const start = () => untrained({ w: rule.program ? [5, 8] : [40] }, factory as typeof adamw, options);
    // The gradients shrink to zero, so that guards set state to zero.
    const go = ({ model: { w }, optimizer }: ReturnType<typeof start>, from: number, to: number) => {
      for (let step = from; step < to; step++) {
        w!.grad.forEach((_, i) => {
          w!.grad[i] = Math.sin(i + step) / 2 ** (step * (i % 8));
        });
        optimizer.step();
      }
    };
    const whole = start();
    const files: Uint8Array[] = [];
    for (let step = 0; step < interval; step++) {
      go(whole, step, step + 1);
      files.push(save(whole.model, whole.optimizer));
    }
    go(whole, interval, steps);
    const last = save(whole.model, whole.optimizer);
    const resumed = start();
    files.forEach((file, step) => {
      load(file, resumed.model, resumed.optimizer);
      go(resumed, step + 1, steps);
      expect(Buffer.compare(save(resumed.model, resumed.optimizer), last), `from step ${step + 1}`).toBe(0);
    });
  },
);

test("no slot has a name that averages and sums have in a file", () => {
  for (const { rule } of cases) {
    const slots = [...rule.state, ...Object.keys(rule.addedState)];
    expect(slots.filter((slot) => ["average", "gradSum"].includes(slot))).toEqual([]);
  }
});

test("a run whose state is not restored gives other results", () => {
  const spec = { rule: "adamw", options: {} };
  const run = start(spec);
  go(run, 0, 7);
  const file = keep(run);
  const again = start(spec);
  const { steps, extra, leftOut } = resume(again, file);
  expect([steps, leftOut]).toEqual([2, []]);
  expect(extra).toEqual({ batches: run.order.state });
  expect(again.optimizer.lossScale).toBe(run.optimizer.lossScale);
  expect(again.optimizer.lossScale).toBe(32768);
  expect(again.plateau.observed).toEqual(run.plateau.observed);
  expect(run.plateau.observed.rate).toBeLessThan(0.01);
  expect(Buffer.compare(keep(again), file)).toBe(0);
  go(again, 7, 9);
  expect(Buffer.compare(keep(again), file)).not.toBe(0);
});

test("the file follows the safetensors format, is aligned, and has text as metadata", () => {
  const { model, optimizer } = trained();
  const file = save(model, optimizer, { epoch: 3 });
  const { header, data } = parts(file);
  const { __metadata__: metadata, ...entries } = header;
  expect((file.length - data.length) % 8).toBe(0);
  expect(Object.keys(entries)).toEqual([
    "w",
    "b",
    "optimizer.w.expAvg",
    "optimizer.w.expAvgSq",
    "optimizer.b.expAvg",
    "optimizer.b.expAvgSq",
  ]);
  expect(entries.w).toEqual({ dtype: "F32", shape: [3, 4], data_offsets: [0, 48] });
  expect(new Float32Array(data.buffer, 0, 12)).toEqual(new Float32Array(model.w!.data));
  expect(JSON.parse(metadata.extra)).toEqual({ epoch: 3 });
  expect(JSON.parse(metadata.rule)).toMatchObject({
    rule: "adamw",
    clipNorm: "Infinity",
    groups: [{ params: ["w", "b"], lr: 1e-3 }],
  });
  for (const text of Object.values(metadata)) expect(text).toEqual(expect.any(String));
});

/** Files that earlier versions of the package wrote. Never change them. The name is the format version and the rule. */
const fixtures = readdirSync(new URL("fixtures", import.meta.url)).filter((name) => name.endsWith(".safetensors"));

test.each(fixtures)("a file of an earlier version loads, and its run continues: %s", (name) => {
  const { spec, params } = JSON.parse(fixture(name.replace(".safetensors", ".json")).toString());
  const run = start(spec);
  expect(resume(run, fixture(name)).leftOut).toEqual([]);
  go(run, 7, 16);
  // A later version may round updates differently, so this comparison has a tolerance. test/bits.json has the exact
  // results.
  for (const [name, values] of Object.entries(params)) {
    expect(error(run.model[name]!.data, values as number[]), name).toBeLessThan(1);
  }
});

const fixture = (name: string) => readFileSync(new URL(`fixtures/${name}`, import.meta.url));

test("parameters are saved and loaded without an optimizer", () => {
  const { model } = trained();
  const other = untrained();
  expect(load(save(model), other.model)).toEqual({ steps: 0, extra: undefined, leftOut: [] });
  expect(other.model.w!.data).toEqual(model.w!.data);
  const whole = save(model, adamw(model));
  expect(load(whole.buffer, other.model).leftOut).toEqual([]);
  const wrong = "load: the file has no optimizer (strict: false loads the rest); nothing was loaded";
  expect(() => load(save(model), other.model, other.optimizer)).toThrow(wrong);
});

test("loading does not change the bytes, also those of a Buffer", () => {
  const { model, optimizer } = trained();
  const file = Buffer.concat([Buffer.from("before"), save(model, optimizer)]).subarray(6);
  const before = Uint8Array.from(file);
  for (let i = 0; i < 2; i++) load(file, model, optimizer);
  expect(Buffer.compare(file, before)).toBe(0);
});

/** A file of some 4 KiB. */
function fourKiB() {
  const shapes = { w: [11, 17], b: [3] };
  const { model, optimizer } = trained(shapes);
  return { file: save(model, optimizer, { note: "4 KiB" }), ...untrained(shapes) };
}

test("a flip of any bit is detected", () => {
  const { file, arena, model, optimizer } = fourKiB();
  expect(file.length).toBeGreaterThan(3500);
  const before = memoryOf(arena);
  const passed: number[] = [];
  for (let bit = 0; bit < 8 * file.length; bit++) {
    file[bit >> 3]! ^= 1 << (bit & 7);
    try {
      load(file, model, optimizer, { strict: false });
      passed.push(bit);
    } catch (error) {
      if (!(error instanceof RangeError && error.message.startsWith("load: "))) throw error;
    }
    file[bit >> 3]! ^= 1 << (bit & 7);
  }
  expect(passed).toEqual([]);
  expect(memoryOf(arena).equals(before)).toBe(true);
  expect(load(file, model, optimizer).steps).toBe(1);
});

test("a file that is cut off at any byte is an error", () => {
  const { file, arena, model, optimizer } = fourKiB();
  const before = memoryOf(arena);
  for (let length = 0; length < file.length; length++) {
    expect(() => load(file.slice(0, length), model, optimizer, { strict: false })).toThrow(
      /^load: .*nothing was loaded$/,
    );
  }
  expect(memoryOf(arena).equals(before)).toBe(true);
});

describe("a malformed file", () => {
  const model = smallArena().tensors({ w: [3, 4], b: [4] });
  const optimizer = adamw(model);
  optimizer.step();
  const valid = parts(save(model, optimizer));
  const seen = new Map<string, string>();

  test.each(malformed)("%s", (title, make, message) => {
    const bytes = make(valid);
    const other = untrained();
    const before = memoryOf(other.arena);
    let said = "";
    try {
      load(bytes, other.model, other.optimizer);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      said = error.message;
    }
    expect(said).toContain(message);
    expect(said).toMatch(/^load: .*; nothing was loaded$/s);
    expect(memoryOf(other.arena).equals(before)).toBe(true);
    seen.set(title, said);
  });

  test("each case has its own error", () => {
    expect(malformed.length).toBeGreaterThan(60);
    expect(new Set(seen.values()).size).toBeGreaterThan(60);
  });

  test("the valid file is loaded", () => {
    const other = untrained();
    expect(load(sealed(save(model, optimizer)), other.model, other.optimizer).steps).toBe(1);
  });
});

describe("differences between the file and the program", () => {
  const model = smallArena().tensors({ w: [3, 4], b: [4] });
  model.w.data.fill(7);
  model.b.data.fill(8);
  const lr = stepLR({ lr: 0.1, stepSize: 30 });
  const optimizer = adamw([{ params: [model.w] }, { params: [model.b], lr }]);
  optimizer.step();
  const file = save(model, optimizer);
  type Made = { model: any; optimizer: any };
  const table: [title: string, make: (arena: Arena) => Made, says: string[]][] = [
    [
      "a shape",
      (arena) => {
        const model = arena.tensors({ w: [4, 3], b: [4] });
        return { model, optimizer: adamw([{ params: [model.w] }, { params: [model.b], lr }]) };
      },
      ["w", "optimizer.w.expAvg", "optimizer.w.expAvgSq"].map(
        (name) => `tensor "${name}" is F32 [3, 4] in the file, F32 [4, 3] here`,
      ),
    ],
    [
      "a name",
      (arena) => {
        const model = arena.tensors({ w: [3, 4], bias: [4] });
        return { model, optimizer: adamw([{ params: [model.w] }, { params: [model.bias], lr }]) };
      },
      [
        'groups[1].params[0] is "b" in the file, "bias" here',
        ...["bias", "optimizer.bias.expAvg", "optimizer.bias.expAvgSq"].map(
          (name) => `tensor "${name}" is missing in the file`,
        ),
        ...["b", "optimizer.b.expAvg", "optimizer.b.expAvgSq"].map(
          (name) => `tensor "${name}" is in the file, but not in the program`,
        ),
      ],
    ],
    [
      "options",
      (arena) => {
        const model = arena.tensors({ w: [3, 4], b: [4] });
        const groups = [
          { params: [model.w], betas: [0.8, 0.999] as const },
          { params: [model.b], lr: stepLR({ lr: 0.1, stepSize: 20 }) },
        ];
        return { model, optimizer: adamw(groups, { clipNorm: 1 }) };
      },
      [
        'clipNorm is "Infinity" in the file, 1 here',
        "groups[0].betas[0] is 0.9 in the file, 0.8 here",
        "groups[1].lr.stepSize is 30 in the file, 20 here",
      ],
    ],
    [
      "state that is there",
      (arena) => {
        const model = arena.tensors({ w: [3, 4], b: [4] });
        return { model, optimizer: adamw([{ params: [model.w] }, { params: [model.b], lr }], { ema: 0.9 }) };
      },
      [
        "ema is 0 in the file, 0.9 here",
        ...["w", "b"].map((name) => `tensor "optimizer.${name}.average" is missing in the file`),
      ],
    ],
    [
      "groups",
      (arena) => {
        const model = arena.tensors({ w: [3, 4], b: [4] });
        return { model, optimizer: adamw(model) };
      },
      [
        'groups[0].params[1] is nothing in the file, "b" here',
        expect.stringMatching(
          /^groups\[1\] is \{.*"params":\["b"\].*\} in the file, nothing here$/,
        ) as unknown as string,
      ],
    ],
    [
      "the rule",
      (arena) => {
        const model = arena.tensors({ w: [3, 4], b: [4] });
        return { model, optimizer: adam(model) };
      },
      ['the optimizer is "adamw" in the file, "adam" here'],
    ],
  ];

  test.each(table)("%s", (_, make, says) => {
    const arena = small();
    const other = make(arena);
    const before = memoryOf(arena);
    if (typeof says[0] === "string") {
      const message = `load: ${says[0]} (strict: false loads the rest); nothing was loaded`;
      expect(() => load(file, other.model, other.optimizer)).toThrow(message);
    }
    expect(memoryOf(arena).equals(before)).toBe(true);
    const { leftOut } = load(file, other.model, other.optimizer, { strict: false });
    expect(leftOut).toEqual(says);
    if (_ !== "a shape") expect(other.model.w.data[0]).toBe(model.w.data[0]);
    else expect(other.model.b.data[0]).toBe(model.b.data[0]);
    expect(other.optimizer.steps).toBe(_ === "the rule" ? 0 : 1);
  });

  test("a plateau within another schedule is found", () => {
    const nested = () => {
      const plateau = reduceLROnPlateau({ lr: 0.1, patience: Infinity, mode: "max" });
      return {
        plateau,
        lr: sequentialLR({ schedules: [exponentialLR({ lr: 0.1, gamma: 0.9 }), plateau], milestones: [5] }),
      };
    };
    const [one, other] = [nested(), nested()];
    one.plateau.observe(3);
    const file = save(...(Object.values(trained(undefined, sgd as any, { lr: one.lr })).slice(1) as [any, any]));
    const into = untrained(undefined, sgd as any, { lr: other.lr });
    load(file, into.model, into.optimizer);
    expect(other.plateau.observed).toEqual(one.plateau.observed);
  });
});

describe("refused", () => {
  test("arguments of wrong types", () => {
    const { model, optimizer } = trained();
    expect(() => load("run.safetensors" as never, model)).toThrow(
      new TypeError(
        'load: expected a file\'s bytes, got "run.safetensors"; read the file first, such as with readFileSync(path)',
      ),
    );
    expect(() => save(7 as never)).toThrow(new TypeError("save: model must be tensors, by name or in a list, got 7"));
    expect(() => save(model, {} as never)).toThrow(
      new TypeError("save: expected an optimizer, such as adamw(model), got an object (Object)"),
    );
    expect(() => save(model, optimizer, () => 0)).toThrow(
      new TypeError(
        "save: extra must be what JSON can hold, got a function; convert it to finite numbers, text, lists or plain objects",
      ),
    );
    expect(() => load(save(model), model, optimizer, { strictly: true } as never)).toThrow(
      'load: no option "strictly"; did you mean "strict"?',
    );
    for (const rename of [new Map([["w", "v"]]), new Date(), ["w"]]) {
      expect(() => load(save(model), model, optimizer, { rename } as never)).toThrow("rename must be prefixes such as");
    }
  });

  test("a model without a tensor of the optimizer, and equal names", () => {
    const arena = small();
    const { w, b } = arena.tensors({ w: [2], b: [2] });
    expect(() => save([w], adamw([w, b]))).toThrow(
      'save: model must hold all that the optimizer updates, got one without tensor "b"',
    );
    expect(() => save([w, small().tensor("w", [2])])).toThrow('save: names must differ, got "w" of two arenas');
  });

  test("an extra that JSON cannot hold", () => {
    const { model } = trained();
    expect(() => save(model, undefined, { big: 1n })).toThrow(/^save: extra must be what JSON can hold: /);
    const lost = [
      Infinity,
      NaN,
      new Float32Array(2),
      new Map([[1, 2]]),
      () => 1,
      Promise.resolve(),
      Symbol("s"),
      model.w,
    ];
    for (const value of lost) {
      for (const extra of [value, { best: value }, { list: [{ best: value }] }]) {
        expect(() => save(model, undefined, extra)).toThrow(
          /^save: extra must be what JSON can hold, got .*; convert it to finite numbers, text, lists or plain objects$/,
        );
      }
    }
    const kept = {
      a: [1, null, "x"],
      date: new Date(0),
      own: new (class {
        x = 1;
      })(),
      none: undefined,
    };
    expect(load(save(model, undefined, kept), model).extra).toEqual(JSON.parse(JSON.stringify(kept)));
    // `toJSON` is called before anything is read.
    const averaging = sgd(model, { ema: 0.9 });
    const toJSON = () => (averaging.swapAverages(), 1);
    expect(() => save(model, averaging, { toJSON })).toThrow("the parameters are the averages");
    const opt = sgd(model);
    expect(() => save(model, opt, opt)).toThrow("save: one optimizer at a time, got two");
    expect(() => load(save(model, opt), model, opt, opt as any)).toThrow("load: one optimizer at a time, got two");
  });

  test("calls during a step, and after free", async () => {
    const { arena, model, optimizer } = trained();
    const file = save(model, optimizer);
    const step = optimizer.stepAsync();
    expect(() => save(model, optimizer)).toThrow("save: a stepAsync() is under way in this arena; await it first");
    expect(() => load(file, model, optimizer)).toThrow(
      "load: a stepAsync() is under way in this arena; await it first",
    );
    await step;
    arena.free();
    expect(() => save(model, optimizer)).toThrow("the arena was freed");
  });
});

describe("with strict: false, state of options that differ starts at its initial values", () => {
  const train = (options: object, steps: number, grad = 1) => {
    const w = small().tensor("w", [4]);
    const optimizer = sgd([w], { lr: 1, ...options });
    for (let i = 0; i < steps; i++) {
      w.grad.fill(grad);
      optimizer.step();
    }
    return { w, optimizer };
  };
  const loaded = (from: object, steps: number, to: object) => {
    const saved = train(from, steps);
    const other = train(to, 0);
    load(save([saved.w], saved.optimizer), [other.w], other.optimizer, { strict: false });
    return { ...other, saved };
  };

  test("the scale of the loss", () => {
    const { optimizer } = loaded({ lossScale: "dynamic" }, 3, {});
    expect(optimizer.lossScale).toBe(1);
    expect(loaded({}, 3, { lossScale: "dynamic" }).optimizer.lossScale).toBe(65536);
  });

  test("averages, also those of new tensors", () => {
    const { w, optimizer, saved } = loaded({}, 3, { ema: 0.9 });
    expect([...optimizer.average(w)]).toEqual([...saved.w.data]);
    optimizer.step();
    expect([...optimizer.average(w)]).toEqual([...w.data]);

    const arena = small();
    const [a, b] = [arena.tensor("w", [4]), arena.tensor("head", [2])];
    b.data.fill(7);
    const wider = sgd([a, b], { lr: 1, ema: 0.9 });
    const before = train({ ema: 0.9 }, 5);
    load(save([before.w], before.optimizer), [a, b], wider, { strict: false });
    expect([...wider.average(b)]).toEqual([7, 7]);
    expect([...wider.average(a)]).toEqual([...before.optimizer.average(before.w)]);
  });

  test("the rule's scalars, of new groups", () => {
    const arena = small();
    const { a, b } = arena.tensors({ a: [2], b: [2] });
    const [one, two] = [nadam([a]), nadam([{ params: [a] }, { params: [b] }])];
    for (let i = 0; i < 3; i++) one.step();
    load(save([a, b], one), [a, b], two, { strict: false });
    expect(two.groups[0]!.scalars).toEqual(one.groups[0]!.scalars);
    expect([two.groups[1]!.scalars[0]!.muProduct, two.steps]).toEqual([1, 3]);
  });

  test("state that starts as the parameters, of new tensors", () => {
    const arena = small();
    const [a, b] = [arena.tensor("w", [4]), arena.tensor("head", [2])];
    const one = madgrad([a]);
    one.step();
    b.data.fill(7);
    const two = madgrad([a, b]);
    load(save([a], one), [a, b], two, { strict: false });
    expect([...two.state(b).x0]).toEqual([7, 7]);
  });

  test("each tensor's numbers are found by its name", () => {
    const arena = small();
    const { a, b, c } = arena.tensors({ a: [2], b: [2], c: [2] });
    a.grad.fill(1);
    b.grad.fill(2);
    const [one, two] = [novograd([a, b]), novograd([c, b, a])];
    for (let i = 0; i < 3; i++) one.step();
    const { leftOut } = load(save([a, b], one), [a, b, c], two, { strict: false });
    const [ofA, ofB] = one.groups[0]!.scalars;
    const [ofC] = novograd([c]).groups[0]!.scalars;
    expect(two.groups[0]!.scalars).toEqual([ofC, ofB, ofA]);
    expect(leftOut).toContain('tensor "c" is missing in the file');
    expect(leftOut.filter((what) => what.includes("numbers"))).toEqual([]);
  });

  test("the position of a matrix in a tensor is never read from the file", () => {
    const [wide, high] = [small().tensor("w", [10, 1000]), small().tensor("w", [1000, 10])];
    const [one, two] = [adafactor([wide]), adafactor([high])];
    one.step();
    load(save([wide], one), [high], two, { strict: false });
    expect(two.groups[0]!.scalars[0]).toMatchObject({ rows: 1000, columns: 10, size: 10_000 });
    const { text, data } = parts(save([wide], one));
    expect(text).toContain('\\"columns\\":1000');
    const far = sealed(file(text.replace('\\"columns\\":1000', '\\"columns\\":1e9'), data));
    load(far, [wide], one);
    expect(one.groups[0]!.scalars[0]).toMatchObject({ columns: 1000 });
  });

  test.each([2, 8])("the history of L-BFGS, if historySize is %i instead of 4", (historySize) => {
    const w = small().tensor("w", [3]);
    const closure = () => {
      w.data.forEach((x, i) => {
        w.grad[i] = (i + 1) * (x - 1);
      });
      return w.data.reduce((sum, x, i) => sum + ((i + 1) * (x - 1) ** 2) / 2, 0);
    };
    const [one, two] = [lbfgs([w], { historySize: 4, maxIter: 3 }), lbfgs([w], { historySize, maxIter: 3 })];
    one.step(closure);
    const { leftOut } = load(save([w], one), [w], two, { strict: false });
    expect(leftOut).toContainEqual(expect.stringMatching(/^groups\[0\] has the numbers .* in the file, .* here$/));
    for (let i = 0; i < 20; i++) two.step(closure);
    for (const x of w.data) expect(x).toBeCloseTo(1, 3);
  });

  test("micro-batches", () => {
    const { w, optimizer, saved } = loaded({ accumulate: 4 }, 3, { accumulate: 2 });
    const start = saved.w.data[0]!;
    w.grad.fill(1);
    optimizer.step();
    expect(w.data[0]).toBe(start);
    optimizer.step();
    expect(w.data[0]).toBe(start - 1);
  });
});

test("names may be whole numbers", () => {
  const arena = small();
  const model = arena.tensors({ 10: [3], 2: [4], a: [1] });
  for (const { data, size } of Object.values(model)) data.fill(size);
  const optimizer = adam(model);
  const file = save(model, optimizer);
  for (const { data } of Object.values(model)) data.fill(0);
  load(file, model, optimizer);
  for (const { data, size } of Object.values(model)) expect(data.every((x) => x === size)).toBe(true);
  expect(Object.values(parts(file).header).length).toBe(10);
});

test("names of any kind are restored", () => {
  const name = fc
    .string({ unit: "grapheme", minLength: 1 })
    .filter((name) => name !== "__proto__" && !/^optimizer\.|\p{Cc}/u.test(name));
  fc.assert(
    fc.property(fc.uniqueArray(name, { minLength: 1, maxLength: 5 }), (names) => {
      const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
      const tensors = names.map((name, i) => arena.tensor(name, [i + 1]));
      tensors.forEach(({ data }, i) => data.fill(i + 1));
      const file = save(tensors);
      tensors.forEach(({ data }) => data.fill(0));
      load(file, tensors);
      arena.free();
      return tensors.every((_, i) => parts(file).header[names[i]!].shape[0] === i + 1);
    }),
  );
});

test("the portable checksum is that of zlib", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => portableCrc32(bytes) === crc(bytes)));
});

describe("files", () => {
  test("are written, replaced and read, by path and by URL, and no temporary file stays", async () => {
    const place = mkdtempSync(join(folder, "files-"));
    const { model, optimizer } = trained();
    const path = join(place, "run.safetensors");
    await saveFile(path, model, optimizer, { epoch: 1 });
    await saveFile(pathToFileURL(path), model, optimizer, { epoch: 2 });
    expect(readdirSync(place)).toEqual(["run.safetensors"]);
    const other = untrained();
    expect(await loadFile(path, other.model, other.optimizer)).toEqual({ steps: 1, extra: { epoch: 2 }, leftOut: [] });
    expect((await loadFile(pathToFileURL(path), other.model)).extra).toEqual({ epoch: 2 });
    expect(other.model.w!.data).toEqual(model.w!.data);
  });

  test("have the values at the time of the call", async () => {
    const { model, optimizer } = trained();
    const path = join(folder, "then.safetensors");
    const expected = save(model, optimizer);
    const saved = saveFile(path, model, optimizer);
    optimizer.step();
    await saved;
    expect(Buffer.compare(readFileSync(path), expected)).toBe(0);
  });

  test.runIf(process.platform !== "win32")("keep their permissions", async () => {
    const path = join(mkdtempSync(join(folder, "mode-")), "run");
    for (const mode of [0o600, 0o666]) {
      writeFileSync(path, "old");
      chmodSync(path, mode);
      await saveFile(path, trained().model);
      expect(statSync(path).mode & 0o777).toBe(mode);
    }
  });

  test("several saves to one path at once leave the last one, complete", async () => {
    const path = join(mkdtempSync(join(folder, "race-")), "run");
    const runs = [1, 2, 3, 4].map((x) => {
      const w = small({ maxBytes: 2 ** 23 }).tensor("w", [600_000 / x]); // later ones are written sooner
      w.data.fill(x);
      return w;
    });
    const spelled = [path, pathToFileURL(path), join(dirname(path), ".", "run"), `${dirname(path)}/./run`];
    await Promise.all(runs.map((w, i) => saveFile(spelled[i]!, [w])));
    const w = runs.at(-1)!;
    w.data.fill(0);
    await loadFile(path, [w]);
    expect(w.data.every((x) => x === 4)).toBe(true);
  });

  test("are written through symbolic links", async () => {
    const place = mkdtempSync(join(folder, "link-"));
    const { model } = trained();
    writeFileSync(join(place, "target"), "old");
    symlinkSync("target", join(place, "link"));
    await saveFile(join(place, "link"), model);
    expect(readFileSync(join(place, "target")).length).toBeGreaterThan(3);
  });

  test("may have any name that a folder allows", async () => {
    const place = mkdtempSync(join(folder, "long-"));
    const { model } = trained();
    for (const name of ["x".repeat(255), "é".repeat(127), ".hidden", "a b\nc", "-"]) {
      await saveFile(join(place, name), model);
      expect(readdirSync(place)).toEqual([name]);
      await loadFile(join(place, name), model);
      rmSync(join(place, name));
    }
  });

  test.runIf(process.platform !== "win32")(
    "are written through links to missing files, and links in a circle are refused",
    async () => {
      const place = mkdtempSync(join(folder, "dangling-"));
      const { model } = trained();
      mkdirSync(join(place, "there"));
      symlinkSync("there", join(place, "folder"));
      symlinkSync("../first", join(place, "there", "second"));
      symlinkSync("there/target", join(place, "first"));
      await saveFile(join(place, "folder", "second"), model);
      expect(readdirSync(join(place, "there")).sort()).toEqual(["second", "target"]);
      expect(readlinkSync(join(place, "first"))).toBe("there/target");
      await loadFile(join(place, "first"), model);
      symlinkSync("circle", join(place, "circle"));
      await expect(saveFile(join(place, "circle"), model)).rejects.toThrow("its symbolic links form a loop");
      symlinkSync("none/target", join(place, "lost"));
      await expect(saveFile(join(place, "lost"), model)).rejects.toThrow(/there is no folder .*none; make it first$/);
    },
  );

  test.runIf(process.platform === "linux")("devices and pipes are neither replaced nor read", async () => {
    const place = mkdtempSync(join(folder, "device-"));
    const { model } = trained();
    execFileSync("mkfifo", [join(place, "pipe")]);
    symlinkSync("/dev/null", join(place, "null"));
    const message = "it is a device or a pipe, not a regular file; use save() and load(), which work with bytes";
    for (const path of [join(place, "pipe"), join(place, "null"), "/dev/zero"]) {
      await expect(saveFile(path, model)).rejects.toThrow(`saveFile: ${path} cannot be written: ${message}`);
      await expect(loadFile(path, model)).rejects.toThrow(`loadFile: ${path} cannot be read: ${message}`);
    }
    expect(readdirSync(place).sort()).toEqual(["null", "pipe"]);
  });

  test("temporary files of ended processes are removed, those of running processes are not", async () => {
    const place = mkdtempSync(join(folder, "left-"));
    const { model } = trained();
    const path = join(place, "run");
    await saveFile(path, model);
    // Gets the name of this process's temporary file, while `saveFile` waits for the disk.
    const saved = saveFile(path, model);
    const [temporary] = readdirSync(place).filter((name) => name !== "run");
    await saved;
    const gone = spawnSync(process.execPath, ["-e", ""]).pid;
    const of = (pid: number) => temporary!.replace(`-${process.pid}-`, `-${pid}-`);
    const others = [of(process.pid), of(process.ppid), ".downhill-00000000-1-x.partial", "run.partial"];
    for (const name of [of(gone), ...others]) writeFileSync(join(place, name), "");
    await saveFile(path, model);
    expect(readdirSync(place).sort()).toEqual([...others, "run"].sort());
  });

  test("if the header is wrong, only the header is read; otherwise only the tensors that are needed", async () => {
    const place = mkdtempSync(join(folder, "sparse-"));
    const path = join(place, "sparse");
    const arena = small();
    const w = arena.tensor("w", [3]);
    w.data.set([1, 2, 3]);
    const header = parts(save([w])).text.replace(
      '"w":{',
      `"x":{"dtype":"F32","shape":[${2 ** 33}],"data_offsets":[12,${12 + 2 ** 35}]},"w":{`,
    );
    const withSum = header.replace('{\\"w\\":', '{\\"x\\":\\"00000000\\",\\"w\\":');
    const bytes = sealed(file(withSum, parts(save([w])).data));
    writeFileSync(path, bytes);
    truncateSync(path, bytes.length + 2 ** 35);
    await expect(loadFile(path, [w])).rejects.toThrow('loadFile: tensor "x" is in the file, but not in the program');
    w.data.fill(0);
    expect((await loadFile(path, [w], undefined, { strict: false })).leftOut).toEqual([
      'tensor "x" is in the file, but not in the program',
    ]);
    expect([...w.data]).toEqual([1, 2, 3]);
    writeFileSync(join(place, "zeros"), "");
    truncateSync(join(place, "zeros"), 2 ** 35);
    await expect(loadFile(join(place, "zeros"), [w])).rejects.toThrow(
      "loadFile: the file must be a checkpoint that save() wrote",
    );
  });

  test("need no permission outside their folder under Node's permission model", () => {
    const place = mkdtempSync(join(folder, "permission-"));
    const program = `
      import { createArenaSync, loadFile, saveFile } from ${JSON.stringify(pathToFileURL(join(root, "dist/index.js")).href)};
      const w = createArenaSync({ threads: 1, maxBytes: 2 ** 20 }).tensor("w", [3]);
      for (let i = 0; i < 2; i++) await saveFile(${JSON.stringify(join(place, "run"))}, [w], undefined, i);
      const { extra } = await loadFile(${JSON.stringify(join(place, "run"))}, [w]);
      process.stdout.write(String(extra));`;
    const flag = process.allowedNodeEnvironmentFlags.has("--permission") ? "--permission" : "--experimental-permission";
    const main = join(place, "main.mjs");
    writeFileSync(main, program);
    const flags = [
      flag,
      `--allow-fs-read=${join(root, "dist")}/*`,
      `--allow-fs-read=${place}/*`,
      `--allow-fs-write=${place}/*`,
    ];
    expect(
      execFileSync(process.execPath, [...flags, main], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }),
    ).toBe("1");
    expect(readdirSync(place).sort()).toEqual(["main.mjs", "run"]);
  });

  test("need a path", async () => {
    const { model } = trained();
    for (const path of [7, "", undefined, null, {}, Symbol("x")]) {
      await expect(saveFile(path as never, model)).rejects.toThrow(
        /^saveFile: path, the first argument, must be a path or a file: URL, got /,
      );
      await expect(loadFile(path as never, model)).rejects.toThrow(
        /^loadFile: path, the first argument, must be a path or a file: URL, got /,
      );
    }
    await expect(saveFile(new URL("http://a/b"), model)).rejects.toThrow(
      'saveFile: path must be a file: URL, got "http://a/b"',
    );
    await expect(saveFile(new URL("file:///a%2Fb"), model)).rejects.toThrow(
      'saveFile: path must be the URL of a file on this machine, got "file:///a%2Fb"',
    );
    await expect(saveFile(`${folder}/a/`, model)).rejects.toThrow("its name ends with /, as that of a folder");
    const long = await saveFile("x".repeat(1e6), model).catch(({ message }: Error) => message);
    expect(long?.length).toBeLessThan(1000);
  });

  test("the arguments of loadFile may change during the call", async () => {
    const arena = small();
    const { w, v } = arena.tensors({ w: [3], v: [2] });
    const path = join(folder, "changing");
    await saveFile(path, [w, v]);
    const [model, options] = [[w], { strict: false }];
    const names: string[] = [];
    const rename = (name: string) => (names.push(name), name);
    const loaded = loadFile(path, model, undefined, Object.assign(options, { rename }));
    model.push(v);
    options.strict = true;
    expect((await loaded).leftOut).toEqual(['tensor "v" is in the file, but not in the program']);
    expect(names.toSorted()).toEqual(["v", "w"]);
  });

  test("a file that cannot be written or read is an error, and the old file stays", async () => {
    const { model } = trained();
    const place = mkdtempSync(join(folder, "bad-"));
    await expect(saveFile(join(place, "none/run"), model)).rejects.toThrow(
      /^saveFile: .*none\/run cannot be written: there is no folder .*none; make it first$/,
    );
    await expect(loadFile(join(place, "none"), model)).rejects.toThrow(/^loadFile: .*none cannot be read: ENOENT/);
    mkdirSync(join(place, "folder"));
    await expect(saveFile(join(place, "folder"), model)).rejects.toThrow("cannot be written");
    expect(readdirSync(place)).toEqual(["folder"]);
  });

  /** The number of kills: 30, or `KILLS`. Set `KILLS=1000` before a release. */
  const KILLS = Number(process.env.KILLS ?? 30);

  test(`${KILLS} kills in the middle of saving leave the old file or the new one`, async () => {
    const place = mkdtempSync(join(folder, "kill-"));
    const path = join(place, "run.safetensors");
    const program = `
      import { createArenaSync, saveFile } from ${JSON.stringify(pathToFileURL(join(root, "dist/index.js")).href)};
      const w = createArenaSync({ threads: 1, maxBytes: 2 ** 24 }).tensor("w", [50_000]);
      for (let i = ${Math.trunc(1e6 * Math.random())}; ; i++) {
        w.data.fill(i);
        await saveFile(${JSON.stringify(path)}, [w], undefined, i);
        process.stdout.write(i + "\\n");
      }`;
    const arena = small();
    const w = arena.tensor("w", [50_000]);
    let between = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let said = "";
      let first!: (value: unknown) => void;
      const begun = new Promise((resolve) => (first = resolve));
      child.stdout.on("data", (text) => {
        said += text;
        first(0);
      });
      const gone = new Promise((resolve) => child.on("exit", resolve));
      await begun;
      await new Promise((resolve) => setTimeout(resolve, 20 * Math.random()));
      child.kill("SIGKILL");
      await gone;
      const last = Number(said.trimEnd().split("\n").at(-1));
      const { extra } = await loadFile(path, [w]);
      // The file is the last save that the process reported, or the one after it.
      expect([last, last + 1]).toContain(extra);
      expect(w.data.every((x) => x === extra)).toBe(true);
      const left = readdirSync(place).filter((name) => name !== "run.safetensors");
      // The next save to the name has removed what the kill before this one left.
      expect(left.length).toBeLessThan(2);
      between += left.length;
    }
    await saveFile(path, [w]);
    expect(readdirSync(place)).toEqual(["run.safetensors"]);
    console.log(`${KILLS} kills, ${between} of them with a file half written`);
  });
});

function crc(bytes: Uint8Array): number {
  const { crc32 } = process.getBuiltinModule("node:zlib");
  return crc32(bytes);
}
