/** Tests that objects from users are read once and copied, and that users cannot change objects of the package. */

import { execFileSync } from "node:child_process";
import { createContext, runInContext } from "node:vm";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { attachArena, createArenaSync } from "../ts/arena/arena.js";
import { batches } from "../ts/batches.js";
import { load, save, saveFile } from "../ts/checkpoint/index.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { root } from "../scripts/project.mjs";
import { adamw, sgd } from "../ts/rules/index.js";
import { scheduleFrom } from "../ts/schedules/data.js";
import * as schedules from "../ts/schedules/index.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { sam } from "../ts/wrappers/sam.js";
import { factories } from "./registry.js";
import { small, smallArena } from "./small.js";

const realm = createContext({});
const foreign = (code: string): any => runInContext(`(${code})`, realm);

describe("reports", () => {
  test("a reader cannot change or freeze them", () => {
    const w = small().tensor("w", [1]);
    const optimizer = sgd([w], { clipNorm: 1 });
    const report = optimizer.step();
    Object.freeze(report);
    expect(() => Object.assign(report, { gradNorm: 5 })).toThrow(TypeError);
    w.grad.fill(3);
    expect(optimizer.step().gradNorm).toBe(3);
    expect({ ...report }).toEqual({ gradNorm: 3, skipped: false, loss: undefined });
  });

  test("the console shows their values", () => {
    const script = `
      import { createArenaSync, sgd } from "downhill";
      const w = createArenaSync({ threads: 1 }).tensor("w", [1]);
      console.log(sgd([w]).step());`;
    const printed = execFileSync(process.execPath, ["--input-type=module", "-e", script], {
      cwd: root,
      encoding: "utf8",
    });
    expect(printed.trim()).toBe("{ gradNorm: undefined, skipped: false, loss: undefined }");
  });
});

describe("options", () => {
  const { w, v } = smallArena().tensors({ w: [1], v: [1] });

  test("getters of a class are read as options, also for groups that are added later", () => {
    class Options {
      get lr() {
        return 0.25;
      }
    }
    const optimizer = adamw([w], new Options());
    expect([optimizer.hyper.lr, optimizer.addGroup({ params: [v] }).hyper.lr]).toEqual([0.25, 0.25]);
    class Group {
      params = [w];
      get lr() {
        return 0.5;
      }
    }
    expect(adamw([new Group()]).hyper.lr).toBe(0.5);
  });

  test.each(["{ lr: 0.5, betas: [0.5, 0.25] }", "Object.assign(Object.create(null), { lr: 0.5, betas: [0.5, 0.25] })"])(
    "of another realm: %s",
    (code) => {
      const { lr, betas } = adamw([w], foreign(code)).hyper;
      expect([lr, betas]).toEqual([0.5, [0.5, 0.25]]);
    },
  );

  const builtIns = ["new Date()", "Promise.resolve({})", "new Map()", "new Set()", "/x/", "new Error()", "[]"];
  const others = [...builtIns, "new Float32Array(2)", "new Number(1)", "new ArrayBuffer(1)", "new WeakMap()"];
  test.each(others)("%s is refused as options, from any realm", (code) => {
    for (const value of [(0, eval)(`(${code})`), foreign(code)]) {
      expect(() => adamw([w], value)).toThrow(/^adamw: options must be an object such as \{ lr: … \}, got /);
      expect(() => createArenaSync(value)).toThrow(/^createArenaSync: options must be an object such as /);
    }
  });

  test("an optimizer is refused as options, and as prefixes", () => {
    const other = adamw([smallArena().tensor("other", [1])]) as any;
    const message = /: options must be an object such as \{ \w+: … \}, got an object \(Optimizer\)/;
    expect(() => batches(4, 2, other)).toThrow(message);
    expect(() => createArenaSync(other)).toThrow(message);
    expect(() => lookahead(adamw([w]), other)).toThrow(message);
    expect(() => sam(adamw([w]), other)).toThrow(message);
    expect(() => load(save([w]), [w], undefined, { rename: other })).toThrow("rename must be prefixes such as");
  });

  test("a proxy that was revoked is neither options nor params, an optimizer nor a path", async () => {
    const { proxy, revoke } = Proxy.revocable<object>({}, {});
    revoke();
    const list = Proxy.revocable<object[]>([], {});
    list.revoke();
    for (const value of [proxy, list.proxy] as any[]) {
      expect(() => adamw([w], value)).toThrow("adamw: options must be an object such as { lr: … }, got an object");
      expect(() => adamw([w], { lr: value })).toThrow("adamw: lr must be a number");
      expect(() => adamw(value)).toThrow("adamw: params must be tensors, by name or in a list");
      expect(() => adamw([value])).toThrow("adamw: params must be tensors, by name or in a list");
      expect(() => createArenaSync(value)).toThrow("createArenaSync: options must be an object");
      expect(() => w.arena.tensors(value)).toThrow("tensors: expected shapes by name");
      expect(() => w.arena.tensor("x", value)).toThrow('tensor "x": shape must be a list of sizes');
      expect(() => attachArena(value)).toThrow("attachArena: expected the result of arena.share()");
      expect(() => w.grad.set(value)).toThrow("w.grad.set: values must be a list of numbers, got an object");
      expect(() => adamw([{ params: [w] }, value])).toThrow("adamw: groups[1] must be a group { params, ...options }");
      const optimizer = adamw([w], { ema: 0.9 });
      expect(() => optimizer.addGroup(value)).toThrow("adamw: groups[1] must be a group { params, ...options }");
      expect(() => optimizer.state(value)).toThrow("adamw: state: an object (no class) is not among the parameters");
      expect(() => optimizer.average(value)).toThrow(
        "adamw: average: an object (no class) is not among the parameters",
      );
      expect(() => lbfgs([w], value)).toThrow("lbfgs: options must be an object");
      expect(() => scheduleFrom(value)).toThrow("scheduleFrom: expected what a schedule's toJSON gave");
      expect(() => lookahead(value)).toThrow("lookahead: expected an optimizer that can be wrapped");
      expect(() => sam(value)).toThrow("sam: expected an optimizer that can be wrapped");
      expect(() => save([w], value)).toThrow("save: expected an optimizer");
      expect(() => save([w], optimizer, value)).toThrow("save: extra must be what JSON can hold");
      expect(() => load(save([w]), [w], value)).toThrow("load: expected an optimizer");
      expect(() => load(save([w]), [w], undefined, value)).toThrow("load: options must be an object");
      await expect(saveFile(value, [w])).rejects.toThrow("saveFile: path, the first argument, must be a path");
    }
  });

  test("a getter is read once; its later values have no effect", () => {
    fc.assert(
      fc.property(fc.constantFrom(...factories), fc.double({ min: 2, max: 9, noNaN: true }), ({ rule }, later) => {
        const reads: Record<string, number> = {};
        const given: Record<string, unknown> = {};
        for (const [name, option] of Object.entries({ ...rule.hyper, ...rule.fixed })) {
          const first = option.default;
          if (first === undefined) continue;
          Object.defineProperty(given, name, {
            enumerable: true,
            get: () => ((reads[name] = (reads[name] ?? 0) + 1) === 1 ? first : later),
          });
        }
        const shape = rule.accepts?.startsWith("matrices") ? [2, 2] : [2];
        const factory = factories.find((factory) => factory.rule === rule)!;
        const optimizer = factory([small().tensor("w", shape)], given);
        expect(new Set(Object.values(reads))).toEqual(new Set([1]));
        for (const [name, value] of Object.entries(optimizer.hyper as object)) {
          expect(value).toEqual(rule.hyper[name]!.default);
        }
      }),
    );
  });

  test("a list is copied before it is checked", () => {
    const betas = [0.9, 0.99] as [number, number];
    let reads = 0;
    Object.defineProperty(betas, 0, { get: () => (reads++ === 0 ? 0.9 : 5) });
    expect(adamw([w], { betas }).hyper.betas).toEqual([0.9, 0.99]);
    const milestones = [2, 4];
    const schedule = schedules.multiStepLR({ lr: 1, milestones });
    milestones[0] = 0;
    expect([0, 2, 4].map((step) => schedule.at(step))).toEqual([1, 0.1, 0.010000000000000002]);
    expect(schedule.options.milestones).toEqual([2, 4]);
    expect(Object.isFrozen(schedule.options.milestones)).toBe(true);
  });

  test("a class is no function to call", () => {
    const optimizer = adamw([w]);
    expect(() => optimizer.step(class {} as never)).toThrow(
      "adamw: closure must be a function that returns the loss, got a class",
    );
    expect(() => adamw([w], { lr: class {} as never })).toThrow("adamw: lr must be a number in [0, ∞), got a class");
    expect(() => schedules.multiplicativeLR({ lr: 1, lrLambda: class {} as never })).toThrow(
      "multiplicativeLR: lrLambda must be a function of the step or a schedule, got a class",
    );
    expect(() => load(save([w]), [w], undefined, { rename: class {} as never })).toThrow(
      'load: rename must be prefixes such as { "module.": "" }, or a function of a name, got a class',
    );
  });
});

test("a rule cannot be changed", () => {
  for (const { rule } of factories) {
    expect(() => Object.assign(rule.hyper, { lr: 1 }), rule.name).toThrow(TypeError);
    expect(() => Object.assign(Object.values(rule.hyper)[0]!, { default: 1 }), rule.name).toThrow(TypeError);
  }
});
