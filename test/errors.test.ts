/** Tests of invalid input: the messages, and that nothing has changed afterwards. */

import { describe, expect, test } from "vitest";
import { type Arena, createArena, createArenaSync } from "../ts/arena/arena.js";
import { batches } from "../ts/batches.js";
import { defaults } from "../ts/option.js";
import { lbfgs } from "../ts/lbfgs/lbfgs.js";
import { adam, adamw, rmsprop, rprop, sgd } from "../ts/rules/index.js";
import { memoryOf } from "./harness.js";
import { another, factories, fitting } from "./registry.js";
import { smallArena } from "./small.js";

/** Expects `act` to throw this error and to leave the memory of the arena unchanged. */
function refuses(arena: Arena, act: () => unknown, type: new (...args: never) => Error, message: string) {
  const [bytes, left] = [memoryOf(arena), arena.bytesLeft];
  expect(act).toThrow(type);
  expect(act).toThrow(message);
  expect(arena.bytesLeft).toBe(left);
  expect(memoryOf(arena).equals(bytes)).toBe(true);
}

/** Returns numbers outside an interval. */
function outside(range: string): number[] {
  const [, open, low, high, close] = range.match(/^([[(])(.+), (.+)([\])])$/)!;
  const [least, most] = [low, high].map((bound) => Number(bound!.replace("∞", "Infinity"))) as [number, number];
  return [
    Number.NaN,
    ...(least === -Infinity ? [] : [least - 0.1, -Infinity]),
    ...(open === "(" ? [least] : []),
    ...(most === Infinity ? [] : [most + 0.1, Infinity]),
    ...(close === ")" ? [most] : []),
  ];
}

describe.each(factories)("$rule.name", (factory) => {
  const { name } = factory.rule;
  const arena = smallArena();
  const w = arena.tensor("w", fitting(factory.rule, [20]));
  w.data.fill(0.5);
  const options = Object.entries({ ...factory.rule.hyper, ...factory.rule.fixed });

  test.each(options)("%s", (option, { range, default: value }) => {
    const title = `${name}: ${option}`;
    const bad = (given: unknown, type: new (...args: never) => Error, message: string) =>
      refuses(arena, () => factory([w], { [option]: given }), type, message);
    if (range === "true or false") {
      for (const [given, shown] of [
        [1, "1"],
        ["true", '"true"'],
        [null, "null"],
      ] as const) {
        bad(given, TypeError, `${title} must be true or false, got ${shown}`);
      }
    } else if (typeof value === "string") {
      bad(1, TypeError, `${title} must be ${range}, got 1`);
      bad("other", RangeError, `${title} must be ${range}, got "other"`);
    } else if (Array.isArray(value)) {
      const [, ...rest] = value as number[];
      bad(0.5, TypeError, `${title} must be a list of ${value.length} numbers, got 0.5`);
      bad(rest, RangeError, `${title} must have ${value.length} numbers, got ${rest.length}`);
      bad(["0.5", ...rest], TypeError, `${title}[0] must be a number in ${range}, got "0.5"`);
      for (const wrong of outside(range)) {
        bad([wrong, ...rest], RangeError, `${title}[0] must be in ${range}, got ${wrong}`);
      }
    } else {
      const whole = ["seed", "nsSteps", "preconditionFrequency"].includes(option) ? "a whole number" : undefined;
      const kind = `${title} must be ${whole ?? "a number"} in ${range}`;
      bad("0.1", TypeError, `${kind}, got "0.1"`);
      bad(null, TypeError, `${kind}, got null`);
      bad([0.1], TypeError, `${kind}, got [0.1]`);
      for (const wrong of [...outside(range), ...(whole ? [0.5] : [])]) {
        bad(wrong, RangeError, `${whole ? kind : `${title} must be in ${range}`}, got ${wrong}`);
      }
    }
  });

  test("an option that the rule does not have", () => {
    const names = options.map(([option]) => option).join(", ");
    refuses(
      arena,
      () => factory([w], { learningRate: 1 }),
      TypeError,
      `${name}: no option "learningRate"; did you mean "lr"? There are ${names}`,
    );
    refuses(arena, () => factory([w], { zzz: 1 }), TypeError, `${name}: no option "zzz"; there are ${names}`);
    refuses(
      arena,
      () => factory([{ params: [w], LR: 1 }]),
      TypeError,
      `${name}: no option "groups[0].LR"; did you mean "lr"?`,
    );
  });

  test("a number instead of options", () => {
    const message = `${name}: options must be an object such as { ${options[0]![0]}: … }, got`;
    refuses(arena, () => factory([w], 0.1), TypeError, `${message} 0.1`);
    refuses(arena, () => factory([w], null), TypeError, `${message} null`);
    refuses(arena, () => factory([w], []), TypeError, `${message} []`);
    refuses(arena, () => factory([w], new Map()), TypeError, `${message} an object (Map)`);
  });

  test("holes in lists", () => {
    for (const [option, { default: value }] of options) {
      if (Array.isArray(value)) {
        refuses(
          arena,
          () => factory([w], { [option]: new Array(value.length) }),
          TypeError,
          `${name}: ${option}[0] must be`,
        );
      }
    }
  });

  test("the error for an option of a group names the group", () => {
    refuses(
      arena,
      () => factory([{ params: [w], lr: -1 }]),
      RangeError,
      `${name}: groups[0].lr must be in ${{ ...factory.rule.hyper, ...factory.rule.fixed }.lr!.range}, got -1`,
    );
  });

  test("an option that is undefined has its default", () => {
    const [option, given] = [options[0]![0], another(options[0]![1])];
    const [group] = factory([{ params: [w], [option]: undefined }], { [option]: given }).groups;
    expect(group.hyper[option]).toEqual(given);
  });

  test("options that are read once", () => {
    const optimizer = factory([w]);
    for (const option of Object.keys(factory.rule.fixed)) {
      const write = () => {
        optimizer.hyper[option] = another(factory.rule.fixed[option]!);
      };
      refuses(
        arena,
        write,
        TypeError,
        `${name}: ${option} is fixed when the optimizer is made; make a new optimizer to change it`,
      );
    }
  });
});

describe("hyper", () => {
  const arena = smallArena();
  const { w, b } = arena.tensors({ w: [4], b: [4] });

  test("names are not added or deleted, and elements of lists are not assigned", () => {
    const optimizer = adamw([w]);
    const hyper = optimizer.hyper as any;
    const write = () => {
      hyper.weight_decay = 1;
    };
    refuses(arena, write, TypeError, `adamw: no option "weight_decay"; did you mean "weightDecay"?`);
    const clip = () => {
      hyper.clipNorm = 1;
    };
    refuses(
      arena,
      clip,
      TypeError,
      "adamw: clipNorm is fixed when the optimizer is made; make a new optimizer to change it",
    );
    for (const key of ["toString", "__proto__", "constructor"]) {
      const overwrite = () => {
        hyper[key] = 1;
      };
      refuses(arena, overwrite, TypeError, `adamw: no option "${key}"`);
    }
    refuses(arena, () => delete hyper.lr, TypeError, "Cannot delete");
    refuses(arena, () => Object.defineProperty(hyper, "lr", { value: 1 }), TypeError, "defineProperty");
    refuses(arena, () => hyper.betas.fill(2), TypeError, "read only");
    expect({ ...hyper }).toEqual(defaults(adamw.rule.hyper));
  });

  test.each([
    [adamw([w]), "lr"],
    [adamw([w]).groups[0]!, "lr"],
    [adamw([{ params: [w] }, { params: [b] }]), "lr", "adamw: there are 2 groups, each with its own groups[i].hyper"],
    [rprop([w]), "etas"],
    [lbfgs([w], { historySize: 2 }), "lr"],
  ])("%# is always the same object", (owner, option, severalGroups?: string) => {
    const name = "internals" in owner ? owner.internals.rule.name : "adamw";
    const replace = () => ((owner as any).hyper = { lr: 1 });
    const message = `${name}: hyper is always the same object; write its properties, such as hyper.${option}`;
    refuses(arena, replace, TypeError, severalGroups ?? message);
    const group = "internals" in owner ? owner.groups[0] : owner;
    refuses(arena, () => ((group as any).hyper = { lr: 1 }), TypeError, message);
    refuses(arena, () => ((group as any)[option] = 1), TypeError, `write group.hyper.${option}`);
    refuses(arena, () => ((group as any).params = [w]), TypeError, "params");
  });

  test("momentum cannot be switched on or off later", () => {
    const [without, having] = [sgd([w]), rmsprop([w], { momentum: 0.9 })];
    refuses(
      arena,
      () => {
        without.hyper.momentum = 0.9;
      },
      TypeError,
      "sgd: momentum must stay 0, because the optimizer was made without momentumBuffer, got 0.9; make a new optimizer to change it",
    );
    refuses(
      arena,
      () => {
        having.hyper.momentum = 0;
      },
      TypeError,
      "rmsprop: momentum must not be 0, because the optimizer was made with momentumBuffer, got 0; make a new optimizer to change it",
    );
    having.hyper.momentum = 0.5;
    expect(having.hyper.momentum).toBe(0.5);
  });

  test("nesterov needs momentum and no dampening", () => {
    const needs = "sgd: nesterov needs momentum above 0 and dampening 0, got momentum";
    refuses(arena, () => sgd([w], { nesterov: true }), RangeError, `${needs} 0 and dampening 0`);
    refuses(
      arena,
      () => sgd([w], { nesterov: true, momentum: 0.9, dampening: 0.1 }),
      RangeError,
      `${needs} 0.9 and dampening 0.1`,
    );
    const optimizer = sgd([w], { momentum: 0.9, nesterov: true });
    refuses(
      arena,
      () => {
        optimizer.hyper.dampening = 0.1;
      },
      RangeError,
      `${needs} 0.9 and dampening 0.1`,
    );
    expect(optimizer.hyper.dampening).toBe(0);
  });

  test("with several groups, opt.hyper is an error", () => {
    const optimizer = sgd([{ params: [w] }, { params: [b], lr: 1 }]);
    refuses(arena, () => optimizer.hyper, TypeError, "sgd: there are 2 groups, each with its own groups[i].hyper");
    expect(optimizer.groups.map(({ hyper }) => hyper.lr)).toEqual([1e-3, 1]);
  });
});

describe("params", () => {
  const arena = smallArena();
  const { w, b } = arena.tensors({ w: [4], b: [4] });
  const other = smallArena().tensor("other", [4]);
  const expected = "must be tensors, by name or in a list, or a list of groups { params, ...options }";

  test.each<[string, unknown, new (...args: never) => Error, string]>([
    ["none", [], RangeError, `adam: params ${expected}, got none`],
    ["none by name", {}, RangeError, `adam: params ${expected}, got none`],
    ["none in any group", [{ params: [] }, { params: {} }], RangeError, `adam: params ${expected}, got none`],
    ["nothing", undefined, TypeError, `adam: params ${expected}, got undefined`],
    ["one bare tensor", w, TypeError, `adam: params ${expected}, got one tensor; write [w]`],
    ["an array itself", w.grad, TypeError, `adam: params ${expected}, got an object (Float32Array)`],
    ["an optimizer", adam([w]), RangeError, `adam: params ${expected}, got an object (Optimizer) without any`],
    ["a map", new Map([["w", w]]), TypeError, `adam: params ${expected}, got an object (Map)`],
    ["a hole", [w, , b], TypeError, `adam: params ${expected}, got undefined among them`],
    ["4 billion holes", new Array(2 ** 32 - 1), TypeError, `adam: params ${expected}, got undefined among them`],
    [
      "4 billion holes after a tensor",
      Object.assign([w], { length: 2 ** 32 - 1 }),
      TypeError,
      `adam: params ${expected}, got undefined among them`,
    ],
    ["an array", [new Float32Array(4)], TypeError, `adam: params ${expected}, got an object (Float32Array) among them`],
    [
      "a group among tensors",
      [w, { params: [b] }],
      TypeError,
      `adam: groups[0] must be a group { params, ...options }, got tensor "w"`,
    ],
    [
      "a group alone",
      { params: [w] },
      TypeError,
      "adam: groups must be a list, [{ params, ...options }], got one group outside of a list",
    ],
    [
      "a wrong name in the first group",
      [{ parms: [w], lr: 1 }, { params: [b] }],
      TypeError,
      "adam: groups[0] must be a group { params, ...options }, got an object (Object)",
    ],
    [
      "nothing among groups",
      [{ params: [w] }, null],
      TypeError,
      "adam: groups[1] must be a group { params, ...options }, got null",
    ],
    ["one twice", [w, b, w], RangeError, `adam: params must be different tensors, but tensor "w" is there twice`],
    ["one in two groups", [{ params: [w] }, { params: { b, w } }], RangeError, `but tensor "w" is there twice`],
    [
      "two arenas",
      [w, other],
      RangeError,
      `adam: params must be from one arena, but tensor "other" is in another arena than tensor "w"`,
    ],
  ])("%s", (_, params, type, message) => {
    refuses(arena, () => adam(params as any), type, message);
  });

  test("state of another tensor", () => {
    const optimizer = adam([w]);
    refuses(
      arena,
      () => optimizer.state(b),
      RangeError,
      `adam: state: tensor "b" is not among the parameters of this optimizer`,
    );
  });
});

test("a group is added by addGroup, not by push", () => {
  const arena = smallArena();
  const { w, b } = arena.tensors({ w: [4], b: [4] });
  const optimizer = adam([w]);
  for (let groups = 1; groups <= 2; groups++) {
    const push = () => (optimizer.groups as unknown[]).push({ params: [b] });
    refuses(arena, push, TypeError, "adam: groups has no push(); call addGroup(group)");
    expect(optimizer.groups).toHaveLength(groups);
    if (groups === 1) optimizer.addGroup({ params: [b] });
  }
});

test("properties that are readonly in types are also read-only at run time", () => {
  const arena = smallArena();
  const w = arena.tensor("w", [4]);
  const optimizer = adam([w]);
  const [group] = optimizer.groups;
  for (const [owner, name] of [
    [optimizer, "groups"],
    [optimizer, "lr"],
    [group, "hyper"],
    [group, "params"],
    [group, "lr"],
    [optimizer.groups, "0"],
    [lbfgs([w]).groups, "0"],
    [w, "size"],
    [w, "arena"],
    [w, "shape"],
    [arena, "shared"],
  ] as const) {
    const write = () => {
      (owner as unknown as Record<string, unknown>)[name] = 1;
    };
    refuses(arena, write, TypeError, name);
  }
});

describe("tensors", () => {
  const arena = smallArena();
  arena.tensor("taken", [1]);

  test.each<[string, () => unknown, new (...args: never) => Error, string]>([
    [
      "a zero",
      () => arena.tensor("x", [2, 0]),
      RangeError,
      `tensor "x": shape[1] must be a positive whole number, got 0`,
    ],
    [
      "a fraction",
      () => arena.tensor("x", [1.5]),
      RangeError,
      `tensor "x": shape[0] must be a positive whole number, got 1.5`,
    ],
    [
      "a negative",
      () => arena.tensor("x", [-3]),
      RangeError,
      `tensor "x": shape[0] must be a positive whole number, got -3`,
    ],
    ["a string", () => arena.tensor("x", ["3"] as never), TypeError, `tensor "x": shape[0] must be a number, got "3"`],
    [
      "a number",
      () => arena.tensor("x", 3 as never),
      TypeError,
      `tensor "x": shape must be a list of sizes such as [784, 128], got 3`,
    ],
    [
      "2^40",
      () => arena.tensor("x", [2 ** 40]),
      RangeError,
      "out of memory: 8796093229056 bytes for tensors x, 1047232 of 1048576 are left; no arena is that large (4294967296 at most)",
    ],
    ["more than any number", () => arena.tensor("x", [1e200, 1e200]), RangeError, "no arena is that large"],
    ["2^40 in two", () => arena.tensor("x", [2 ** 20, 2 ** 20]), RangeError, "8796093229056 bytes for tensors x"],
    [
      "a name that is taken",
      () => arena.tensor("taken", [1]),
      RangeError,
      `tensor "taken": the arena already has a tensor of this name; choose another`,
    ],
    ["one taken among several", () => arena.tensors({ free: [1], taken: [1] }), RangeError, `tensor "taken"`],
    ["none", () => arena.tensors({}), RangeError, "tensors: expected at least one name and shape, got none"],
    [
      "more than there is",
      () => arena.tensors({ w: [1000, 1000], b: [10] }),
      RangeError,
      `out of memory: 8005632 bytes for tensors w, b, 1047232 of 1048576 are left; make the arena with a larger maxBytes (4294967296 at most)`,
    ],
    [
      "100,000 names",
      () =>
        arena.tensors(Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => [`n${i}`, i === 0 ? [2 ** 31] : [1]]))),
      RangeError,
      " bytes for tensors n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11, n12, n13, n14, n15, …,",
    ],
    [
      "65 dimensions",
      () => arena.tensor("x", Array(65).fill(1)),
      RangeError,
      `tensor "x": shape must have at most 64 dimensions, got 65`,
    ],
    [
      "more dimensions than fit a list",
      () => arena.tensor("x", new Array(2 ** 32 - 1)),
      RangeError,
      `tensor "x": shape must have at most 64 dimensions, got 4294967295`,
    ],
  ])("%s", (_, act, type, message) => {
    refuses(arena, act, type, message);
  });

  test.each([
    ["__metadata__", "is reserved"],
    ["__proto__", "is reserved"],
    ["a\u0000", "has control characters"],
    ["\ud800", "is no Unicode text"],
    ["optimizer.w.expAvg", 'begins with "optimizer.", the prefix of state'],
  ])("the name %j", (name, why) => {
    const message = `tensor ${JSON.stringify(name)}: a checkpoint cannot have this name, which ${why}; choose another`;
    refuses(arena, () => arena.tensors({ other: [1], [name]: [1] }), RangeError, message);
  });

  test("a shape is read once", () => {
    let reads = 0;
    const shape = Object.defineProperty([0, 3], 0, { get: () => 2 * ++reads });
    const { shape: read, size } = arena.tensor("read once", shape);
    expect([read, size]).toEqual([[2, 3], 6]);
  });

  test("after an error, the name of a tensor is still free", () => {
    expect(() => arena.tensors({ free: [1], taken: [1] })).toThrow();
    expect(arena.tensor("free", [1]).name).toBe("free");
  });
});

test("scales whose quotient is no float32 number", () => {
  const { w } = smallArena().tensors({ w: [1] });
  for (const options of [{ gradScale: 1e300 }, { gradScale: 1e30, lossScale: 1e-30 }]) {
    expect(() => sgd([w], options)).toThrow(
      "sgd: gradScale / lossScale must be in the range of float32 (at most 3.4e38), got ",
    );
  }
  sgd([w], { gradScale: 1e300, lossScale: 1e300 });
});

test("an optimizer whose state does not fit", () => {
  const arena = smallArena();
  const w = arena.tensor("w", [100_000]);
  refuses(arena, () => adam([w]), RangeError, " bytes for adam's state,");
  expect(sgd([w]).steps).toBe(0); // SGD has no state, so it fits
});

describe("arenas", () => {
  test.each<[string, any, new (...args: never) => Error, string]>([
    [
      "an unknown option",
      { maxbytes: 1 },
      TypeError,
      `createArena: no option "maxbytes"; did you mean "maxBytes"? There are threads, shared, maxBytes, workerUrl`,
    ],
    [
      "a string",
      { maxBytes: "1" },
      TypeError,
      `createArena: maxBytes must be a whole number in [65536, 4294967296], got "1"`,
    ],
    [
      "too little",
      { maxBytes: 1000 },
      RangeError,
      "createArena: maxBytes must be a whole number in [65536, 4294967296], got 1000",
    ],
    [
      "too much",
      { maxBytes: 2 ** 33 },
      RangeError,
      "createArena: maxBytes must be a whole number in [65536, 4294967296], got 8589934592",
    ],
    [
      "a size where options belong",
      2 ** 20,
      TypeError,
      "createArena: options must be an object such as { threads: … }, got 1048576",
    ],
    ["null", null, TypeError, "createArena: options must be an object such as { threads: … }, got null"],
    ["a word for shared", { shared: "yes" }, TypeError, `createArena: shared must be true or false, got "yes"`],
  ])("%s", async (_, options, type, message) => {
    expect(() => createArenaSync(options)).toThrow(type);
    expect(() => createArenaSync(options)).toThrow(message.replace("createArena", "createArenaSync"));
    await expect(createArena(options)).rejects.toThrow(message);
  });

  test("after free", () => {
    const arena = smallArena();
    const model = arena.tensors({ w: [4] });
    const optimizer = adam(model);
    arena.free();
    arena.free();
    for (const [act, title] of [
      [() => model.w.data, "w"],
      [() => model.w.grad, "w"],
      [() => optimizer.step(), "adam"],
      [() => optimizer.state(model.w), "adam"],
      [() => adam(model), "adam"],
      [
        () => {
          optimizer.hyper.lr = 1;
        },
        "adam",
      ],
      [() => arena.bytesLeft, "bytesLeft"],
      [() => arena.tensor("v", [1]), "tensors"],
      [() => arena.tensor("w"), "tensor"],
      [() => arena.tensors(), "tensors"],
    ] as const) {
      expect(act).toThrow(`${title}: the arena was freed; make a new one with createArena()`);
    }
    expect(optimizer.steps).toBe(0);
    expect(optimizer.hyper.lr).toBe(1e-3);
  });
});

test.each([
  ["learning_rate", "lr"],
  ["learningRate", "lr"],
  ["beta1", "betas"],
  ["b2", "betas"],
  ["epsilon", "eps"],
  ["weight_decay", "weightDecay"],
  ["wieghtDecay", "weightDecay"],
  ["maxGradNorm", "clipNorm"],
  ["gradClip", "clipNorm"],
  ["emaDecay", "ema"],
  ["warm", undefined],
  ["epochs", undefined],
])("for %s the hint is %s", (given, hint) => {
  const arena = smallArena();
  const act = () => adam([arena.tensor("w", [1])], { [given]: 1 });
  expect(act).toThrow(hint === undefined ? `no option "${given}"; there are` : `did you mean "${hint}"?`);
});

test.each<[string, unknown[], new (...args: never) => Error, string]>([
  ["no size", [10], TypeError, "batches: size must be a whole number in [1, 10], got undefined"],
  ["nothing", [], TypeError, "batches: samples must be a whole number in [1, 4294967295], got undefined"],
  ["no samples", [0, 1], RangeError, "batches: samples must be a whole number in [1, 4294967295], got 0"],
  ["more than all", [10, 11], RangeError, "batches: size must be a whole number in [1, 10], got 11"],
  ["half a batch", [10, 2.5], RangeError, "batches: size must be a whole number in [1, 10], got 2.5"],
  ["a string", ["10", 2], TypeError, `batches: samples must be a whole number in [1, 4294967295], got "10"`],
  [
    "a seed below 0",
    [10, 2, { seed: -1 }],
    RangeError,
    "batches: seed must be a whole number in [0, 4294967295], got -1",
  ],
  ["no epochs", [10, 2, { epochs: 0 }], RangeError, "batches: epochs must be a whole number in [1, ∞], got 0"],
  ["a number for dropLast", [10, 2, { dropLast: 1 }], TypeError, "batches: dropLast must be true or false, got 1"],
  [
    "an unknown option",
    [10, 2, { sed: 1 }],
    TypeError,
    `batches: no option "sed"; did you mean "seed"? There are seed, epochs, dropLast`,
  ],
])("batches: %s", (_, args, type, message) => {
  const act = () => batches(...(args as Parameters<typeof batches>));
  expect(act).toThrow(type);
  expect(act).toThrow(message);
});
