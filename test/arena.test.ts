/** Tests of memory: the addresses of tensors, views that stay valid, and steps that allocate nothing. */

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterEach, describe, expect, test, vi } from "vitest";
import { createArena, createArenaSync } from "../ts/arena/arena.js";
import { adam, muon, sgd } from "../ts/rules/index.js";
import { cases, fitting } from "./registry.js";

describe.each([true, false])("shared: %s", (shared) => {
  test("tensors that are made together are adjacent, aligned to cache lines, and zero", async () => {
    const arena = await createArena({ maxBytes: 2 ** 20, shared });
    const { w, b, s } = arena.tensors({ w: [3, 5], b: [16], s: [] });
    expect(arena.shared).toBe(shared);
    expect([w, b, s].map(({ size }) => size)).toEqual([15, 16, 1]);
    expect([w.shape, s.shape]).toEqual([[3, 5], []]);
    expect(b.data.byteOffset - w.data.byteOffset).toBe(64);
    expect(s.data.byteOffset - b.data.byteOffset).toBe(64);
    expect(b.grad.byteOffset - w.grad.byteOffset).toBe(64);
    for (const { data, grad } of [w, b, s]) {
      expect([data.byteOffset % 64, grad.byteOffset % 64]).toEqual([0, 0]);
      expect([...data, ...grad].every((x) => x === 0)).toBe(true);
    }
  });

  test("views stay valid while the arena fills up", () => {
    const arena = createArenaSync({ maxBytes: 2 ** 26, shared });
    const w = arena.tensor("w", [8]);
    const [data, grad] = [w.data, w.grad];
    const optimizer = adam([w]);
    const { expAvg } = optimizer.state(w);
    for (let i = 0; i < 7; i++) arena.tensor(`filler ${i}`, [2 ** 20]);
    data.fill(1);
    grad.fill(1);
    optimizer.step();
    expect(w.data).toBe(data);
    expect(optimizer.state(w).expAvg).toBe(expAvg);
    expect(data[0]).toBeCloseTo(1 - 1e-3);
    expect(expAvg[0]).toBeCloseTo(0.1);
  });
});

test("the default size is more than a gigabyte", () => {
  const arena = createArenaSync();
  expect(arena.tensor("w", [2 ** 27]).size).toBe(2 ** 27);
  arena.free();
});

describe("if the platform refuses", () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  /** Replaces `WebAssembly.Memory` by one that refuses more than `bytes`. */
  function grant(bytes: number) {
    const { Memory } = WebAssembly;
    const Limited = class extends Memory {
      constructor(descriptor: WebAssembly.MemoryDescriptor) {
        if (descriptor.initial * 65536 > bytes) throw new RangeError("could not allocate memory");
        super(descriptor);
      }
    };
    vi.stubGlobal("WebAssembly", Object.create(WebAssembly, { Memory: { value: Limited } }));
  }

  test("4 GiB, the arena has half of that, or a quarter", () => {
    grant(2 ** 30);
    const { bytesLeft } = createArenaSync();
    expect(bytesLeft).toBe(2 ** 30 - 1024 - 192);
  });

  test("the requested size, the error names the remedy", () => {
    grant(2 ** 30);
    const message = "createArenaSync: there are no 2147483648 bytes of address space left; ";
    expect(() => createArenaSync({ maxBytes: 2 ** 31 })).toThrow(message);
  });

  test("every size, the error names the smallest one", () => {
    grant(0);
    expect(() => createArenaSync()).toThrow("createArenaSync: there are no 67108864 bytes of address space left");
  });

  test.each(["there is no SharedArrayBuffer", "the page is not isolated"])("shared memory, because %s", (why) => {
    if (why.includes("isolated")) vi.stubGlobal("crossOriginIsolated", false);
    else vi.stubGlobal("SharedArrayBuffer", undefined);
    expect(createArenaSync({ maxBytes: 2 ** 20 }).shared).toBe(false);
    expect(() => createArenaSync({ shared: true })).toThrow("Cross-Origin-Opener-Policy: same-origin");
  });
});

const zeroed = (value: unknown) => (Array.isArray(value) ? value.map(() => 0) : 0);

test.each(cases)(
  "a step reads the gradient and leaves it, and leaves the padding zero: $name",
  ({ factory, options }) => {
    const arena = createArenaSync({ maxBytes: 2 ** 20 });
    const { w } = arena.tensors({ w: fitting(factory.rule, [5]), b: [5] });
    w.grad.set([1, 2, 3, 4, 5]);
    const optimizer = factory([w], {
      ...options,
      ...(factory.rule.hyper.eps?.range.startsWith("[0") && { eps: zeroed(factory.rule.hyper.eps.default) }),
    });
    for (let step = 0; step < 5; step++) optimizer.step();
    expect([...w.grad]).toEqual([1, 2, 3, 4, 5]);
    expect(w.data.every(Number.isFinite)).toBe(true);
    const { buffer, byteOffset } = w.data;
    expect([...new Float32Array(buffer, byteOffset + 5 * 4, 11)]).toEqual(new Array(11).fill(0));
  },
);

test("a step does not change tensors that the optimizer does not have", () => {
  const arena = createArenaSync({ maxBytes: 2 ** 20 });
  const { a, b, c } = arena.tensors({ a: [5], b: [5], c: [5] });
  for (const tensor of [a, b, c]) tensor.grad.fill(1);
  sgd([c, a], { lr: 1 }).step();
  expect([a, b, c].map(({ data }) => data[4])).toEqual([-1, 0, -1]);
});

test("a hundred thousand steps allocate nothing in the arena", () => {
  const arena = createArenaSync({ maxBytes: 2 ** 20 });
  const optimizer = adam([arena.tensor("w", [100])]);
  const { bytesLeft } = arena;
  for (let i = 0; i < 100_000; i++) optimizer.step();
  expect(arena.bytesLeft).toBe(bytesLeft);
});

test("a freed arena's memory is released while its tensors and optimizers are still referenced", async () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const kept: unknown[] = [];
  const memories = [true, false].map((shared) => {
    const arena = createArenaSync({ maxBytes: 2 ** 24, shared });
    const memory = new WeakRef(arena.internals("test").space.memory.buffer);
    const model = arena.tensors({ w: [4], b: [4] });
    const optimizers = [adam(model), muon([arena.tensor("m", [2, 2])])];
    for (const optimizer of optimizers) optimizer.step();
    arena.free();
    kept.push(arena, model, optimizers, optimizers[0]!.hyper);
    return memory;
  });
  await vi.waitFor(() => {
    collect();
    expect(memories.map((memory) => memory.deref() === undefined)).toEqual([true, true]);
  });
  expect(kept).toHaveLength(8);
});

test("large arrays have a distance at which loads do not wait for stores", () => {
  const arena = createArenaSync({ maxBytes: 2 ** 23, threads: 1 });
  for (const [name, size] of Object.entries({ small: 1000, exact: 2 ** 14, odd: 50_021, large: 2 ** 18 })) {
    const tensor = arena.tensor(name, [size]);
    const { expAvg, expAvgSq } = adam([tensor]).state(tensor);
    const places = [tensor.grad, expAvg, expAvgSq].map(
      ({ byteOffset }) => (byteOffset - tensor.data.byteOffset) % 4096,
    );
    if (size >= 2 ** 14) expect(places).toEqual([1024, 2048, 3072]);
  }
});
