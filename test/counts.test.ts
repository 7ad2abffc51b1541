/**
 * The cost of a step in numbers that do not depend on the machine: instructions and bytes of memory per parameter, and
 * bytes of JavaScript objects. After an intended change, run `npm test -- counts -u` to update test/counts.txt.
 */

import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { describe, expect, it } from "vitest";
import type { Shape } from "../ts/arena/tensor.js";
import { variants } from "../bench/work.js";
import { kernelIn } from "./harness.js";
import { factories } from "./registry.js";
import { BYTES, INSTRUCTIONS, instrumented } from "./instrumented.js";
import { small } from "./small.js";

const counted = new WebAssembly.Module(
  await instrumented(readFileSync(new URL("../ts/wasm/kernels.wasm", import.meta.url))),
);

const named = new Map(factories.map((factory) => [factory.rule.name, factory]));
const SHAPES = { vectors: [128 * 128], matrices: [32, 32] };

/** An optimizer that has made its first steps, with the kernels of this module, or its own. */
function setUp(rule: string, options: object, shape: Shape, module?: WebAssembly.Module) {
  const arena = small({ shared: false, maxBytes: 2 ** 24, module });
  const w = arena.tensor("w", shape);
  w.data.fill(0.5);
  w.grad.forEach((_, i) => (w.grad[i] = (i % 251) / 1000 - 0.1));
  const optimizer = named.get(rule)!([w], options);
  optimizer.step();
  return { arena, w, step: () => optimizer.step() };
}

/** The number of measured steps: a multiple of 16, the interval of guards. */
const STEPS = 64;
const whole = { rule: "adamw", options: { clipNorm: 1, ema: 0.999 }, matrices: false };

describe("instructions and bytes per parameter", () => {
  const lines: string[] = [];
  it.each([...variants, whole])("$rule $options", ({ rule, options, matrices }) => {
    const { arena, w, step } = setUp(rule, options, matrices ? SHAPES.matrices : SHAPES.vectors, counted);
    const counters = [INSTRUCTIONS, BYTES].map((name) => kernelIn(arena, name) as unknown as WebAssembly.Global);
    const counts = () => counters.map(({ value }) => Number(value));
    const before = counts();
    for (let i = 0; i < STEPS; i++) step();
    const each = counts().map((count, i) => (count - before[i]!) / STEPS / w.data.length);
    expect(each[1]).toBeGreaterThanOrEqual(12); // the parameter and the gradient are read, the parameter is written
    const on = Object.keys(options).filter((name) => name !== "lr");
    lines.push([[rule, ...on].join(", ").padEnd(34), ...each.map((count) => count.toFixed(2).padStart(10))].join(""));
  });
  it("are those of test/counts.txt", async () => {
    const head = `${"".padEnd(34)}instructions   bytes\n`;
    await expect(`${head}${lines.join("\n")}\n`).toMatchFileSnapshot("counts.txt");
  });
});

/**
 * Bytes of short-lived objects that a step may make. Rules with scalars allocate an object for them in each step, and code that V8 has not
 * optimized allocates numbers.
 */
const MAX_ALLOCATED = 4096;

/** So few steps that V8 collects nothing between them. */
const FEW = 100;

describe("allocations", () => {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void;
  const stepped = [...variants.filter(({ matrices }) => !matrices), whole];

  it.each(stepped)("$rule $options: a step allocates a constant number of bytes", ({ rule, options }) => {
    const { step } = setUp(rule, options, [16]);
    for (let i = 0; i < 10_000; i++) step(); // compiles
    // V8 sometimes allocates for itself, for example when it compiles.
    const allocated = Array.from({ length: 10 }, () => {
      collect();
      const before = process.memoryUsage().heapUsed;
      for (let i = 0; i < FEW; i++) step();
      return (process.memoryUsage().heapUsed - before) / FEW;
    });
    expect(Math.min(...allocated)).toBeLessThan(MAX_ALLOCATED);
  });
});
