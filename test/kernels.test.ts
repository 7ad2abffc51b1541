/**
 * Reads the binary: its parts are allowed, its metadata agrees with the literals, it was compiled from the current
 * sources, and the modules of single kernels are parts of it.
 */

import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import wabt from "wabt";
import { fingerprint } from "../scripts/project.mjs";
import { createArenaSync } from "../ts/arena/arena.js";
import { snake } from "../ts/option.js";
import { sources } from "../ts/wasm/facts.js";
import { fields, variantOf } from "../ts/optimizer/hyper.js";
import { FIRST_SLOT, POINTERS_OFFSET, STRUCT_BYTES } from "../ts/optimizer/segment.js";
import { encode, forMemory, type Kernel } from "../ts/wasm/kernels.js";
import { bits, inputs, kernelRun } from "./harness.js";
import { cases, kernelNames } from "./registry.js";

const measures = cases.flatMap(({ rule, values }) => variantOf(rule, values).measure ?? []);

const whole = new Uint8Array(readFileSync(new URL("../ts/wasm/kernels.wasm", import.meta.url)));
const module = new WebAssembly.Module(whole);
const text = (await wabt()).readWasm(whole, { readDebugNames: false }).toText({});

test("the binary was compiled from the present sources", () => {
  expect(sources, "crate/ has changed since the binary was made: run `npm run kernels`").toBe(fingerprint("crate"));
});

/** Kernels that do not belong to a rule. */
const others = [
  ...["add_squares", "arrange", "average", "clip_units", "sum_units", "combine", "dot", "magnitude", "multiply"],
  ...["average_rows", "average_columns", "cover_rows", "cover_columns", "invert_means", "divide_rows"],
  ...["find_reflections", "reflect", "column_dots", "rank", "reorder", "adapt"],
];

describe("kernels own nothing", () => {
  test("the only import is the memory, of any size", () => {
    expect(WebAssembly.Module.imports(module).map(({ kind }) => kind)).toEqual(["memory"]);
    expect(text).toMatch(/\(import [^)]+\(memory \(;0;\) 1 65536\)\)/);
  });

  test("the exports are the kernels", () => {
    expect(
      WebAssembly.Module.exports(module)
        .map(({ name }) => name)
        .sort(),
    ).toEqual([...kernelNames, ...new Set(measures), ...others].sort());
  });

  test("no stack pointer, no table, no atomics, no growth, nothing at the start", () => {
    expect(text).not.toMatch(
      /^ *\((global|table|elem|start|memory) |atomic|memory\.(grow|init|copy|fill)|call_indirect/m,
    );
  });

  // WebKit 2.50 sometimes goes on with wrong values after such a call, in one of a hundred runs with normal numbers.
  test("no function takes or returns a vector", () => {
    const types = text.match(/^ *\(type \(;\d+;\) \(func.*/gm)!;
    expect(types.length).toBeGreaterThan(1);
    expect(types.filter((type) => type.includes("v128"))).toEqual([]);
  });

  test("data, if any, lies below address 1024", () => {
    for (const [, offset, data] of text.matchAll(/\(data \(;\d+;\) \(i32\.const (\d+)\) "([^"]*)"/g)) {
      expect(Number(offset) + data!.replace(/\\../g, ".").length).toBeLessThanOrEqual(1024);
    }
  });
});

describe("each kernel as a module of its own", async () => {
  const folder = new URL("../ts/kernels/", import.meta.url);
  const files = await Promise.all(readdirSync(folder).map((file) => import(new URL(file, folder).href)));
  const kernels = files.flatMap(({ kernels: _, ...file }) => Object.entries<Kernel>(file));

  test("there is a module for each kernel of the binary", () => {
    const names = WebAssembly.Module.exports(module).map(({ name }) => name);
    expect(kernels.map(([name]) => name).sort()).toEqual(names.sort());
  });

  test.each(kernels)(
    "%s: one import, one export, at most 3.5 kB; one byte tells the module for shared memory from the other",
    (name, kernel) => {
      const [unshared, shared] = [false, true].map((shared) => encode(kernel, shared, false).slice(4));
      expect(unshared!.length).toBeLessThanOrEqual(3584);
      const alone = new WebAssembly.Module(unshared!);
      expect(WebAssembly.Module.imports(alone)).toEqual(WebAssembly.Module.imports(module));
      expect(WebAssembly.Module.exports(alone)).toEqual([{ name, kind: "function" }]);
      expect([...unshared!].flatMap((byte, at) => (byte === shared![at] ? [] : [[byte, shared![at]]]))).toEqual([
        [1, 3],
      ]);
    },
  );

  test("the bytes of the binary, and its module, give the same bits", () => {
    const bytes = createArenaSync({ maxBytes: 2 ** 28, shared: true, threads: 1, module: whole });
    const compiled = createArenaSync({ maxBytes: 2 ** 28, module });
    expect([bytes.shared, compiled.shared]).toEqual([true, false]);
    const run = inputs(83, 3);
    for (const { rule, values, name } of cases) {
      const result = bits(kernelRun(rule, values, run));
      for (const into of [bytes, compiled])
        expect(bits(kernelRun(rule, values, run, { into })).equals(result), name).toBe(true);
    }
  });

  test("a module for unshared memory is not for threads, and another module is refused", () => {
    expect(() => createArenaSync({ module, threads: 2 })).toThrow("pass the bytes of kernels.wasm");
    const other = new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
    expect(() => createArenaSync({ module: other })).toThrow("module must be the kernels.wasm of this version");
    expect(() => createArenaSync({ module: forMemory(whole.slice(), true) })).not.toThrow();
    expect(() => createArenaSync({ module: Uint8Array.of(1, 2, 3) })).toThrow("WebAssembly does not compile here");
    expect(() => createArenaSync({ module: "kernels.wasm" as never })).toThrow(TypeError);
    const sent = new Uint8Array(8);
    const view = new DataView(sent.buffer);
    structuredClone(sent, { transfer: [sent.buffer] });
    for (const module of [sent, sent.buffer, view]) {
      expect(() => createArenaSync({ module })).toThrow("kernels.wasm, got an empty or transferred buffer");
    }
  });
});

describe("the metadata of the binary agrees with the literals", () => {
  // Of a struct with hyper-parameters and scalars, and of a `Segment`.
  const [maxNumbers, maxSlots] = [STRUCT_BYTES / 8, (STRUCT_BYTES - POINTERS_OFFSET) / 4 - FIRST_SLOT];
  const metadata = new Map(
    readFileSync(new URL("kernels.txt", import.meta.url), "utf8")
      .trim()
      .split("\n")
      .map((line) => {
        const [, name, slots, sums = 0, fields] = line.match(/^(\w+) (\d+)(?: by (\d+))? (.*?) *$/)!;
        const split = fields!.split(/ (?!\d\])/).map((field) => field.split(":"));
        return [name!, { slots: Number(slots), sums: Number(sums), fields: split }] as const;
      }),
  );

  test.each(cases)("$name", ({ rule, values }) => {
    const { kernel, kernelSlots } = variantOf(rule, values);
    const type = (value: unknown) => (Array.isArray(value) ? `[f64; ${value.length}]` : "f64");
    expect(metadata.get(kernel)).toEqual({
      slots: kernelSlots.length,
      sums: rule.sums.length,
      fields: [
        ...Object.entries(rule.hyper).map(([name, option]) => [snake(name), type(option.default)]),
        ...Object.keys(rule.scalars).map((name) => [snake(name), "f64"]),
      ],
    });
    const doubles = fields(rule, values).length + Object.keys(rule.scalars).length;
    expect(doubles, "numbers of a group").toBeLessThanOrEqual(maxNumbers);
    expect(kernelSlots.length, "slots").toBeLessThanOrEqual(maxSlots);
  });

  test("CONTRIBUTING.md has the limits", () => {
    const limits = `at most ${maxNumbers} numbers, where a list counts its elements. Slots are at most ${maxSlots}.`;
    expect(readFileSync(new URL("../CONTRIBUTING.md", import.meta.url), "utf8")).toContain(limits);
  });
});

test.each([0x7fffff00, 0xfff00000])("kernels work at addresses around and above %i", (address) => {
  const run = inputs(83, 3);
  for (const rule of new Set(cases.map(({ rule }) => rule))) {
    const into = createArenaSync({ maxBytes: 2 ** 32, shared: true, threads: 1 });
    into.reserve(address - 1024 - 192, "memory before the kernel's");
    for (const { values, name } of cases.filter((one) => one.rule === rule)) {
      expect(bits(kernelRun(rule, values, run, { into })).equals(bits(kernelRun(rule, values, run))), name).toBe(true);
    }
    into.free();
  }
});
