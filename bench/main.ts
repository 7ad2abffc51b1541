/** Nanoseconds a parameter and GB/s of every rule, beside its peers in the same run; and what the data does to them. */

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as downhill from "downhill";
import { copy, javascript, tfjs, type Peer } from "./peers.js";
import { decimals, machine, print } from "./print.js";
import { type Arm, compare } from "./stopwatch.js";

const { values: flags } = parseArgs({
  options: {
    sizes: { type: "string", default: "1000,65536,1048576,16777216" },
    rules: { type: "string" },
    out: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Measures every rule beside its peers.

  npm run bench -- [--sizes 1000,1048576] [--rules sgd,adamw] [--out FILE.json]`);
  process.exit();
}

type Any = downhill.Factory<any, any, any, any>;
const isFactory = (value: unknown): value is Any => typeof value === "function" && "rule" in value;

/** Every rule with its defaults, and again with each set of state that an option adds; those of matrices have a bench of their own. */
const cases = Object.values(downhill)
  .filter(isFactory)
  .filter(({ rule }) => !rule.program)
  .flatMap((factory) => {
    const { name, addedState, fixed } = factory.rule;
    const options = Object.values(addedState);
    const subsets = Array.from({ length: 2 ** options.length }, (_, bits) => options.filter((_, i) => (bits >> i) & 1));
    return subsets.map((on) => ({
      name: [name, ...on].join(", "),
      factory,
      options: { lr: 1e-3, ...Object.fromEntries(on.map((option) => [option, option in fixed ? true : 0.9])) },
    }));
  })
  .filter(({ name }) => flags.rules === undefined || flags.rules.split(",").includes(name.split(",")[0]!));

console.log(machine);
const record: object[] = [];
const sizes = flags.sizes.split(",").map(Number);
for (const size of sizes) {
  const rows: string[][] = [];
  for (const { name, factory, options } of cases) {
    const arena = downhill.createArenaSync({ threads: 1 });
    const w = arena.tensor("w", [size]);
    w.grad.fill(0.01);
    const optimizer = factory([w], options);
    const traffic = 4 * (3 + 2 * Object.keys(optimizer.state(w)).length);
    const peers: Peer[] = [
      { label: "downhill", run: () => optimizer.step() },
      copy(traffic, size),
      javascript(name, size),
      // Larger ones take minutes, and more memory than tfjs's has.
      size <= 2 ** 20 ? await tfjs("wasm", name, size) : undefined,
      size <= 2 ** 20 ? await tfjs("cpu", name, size) : undefined,
    ].filter((peer) => peer !== undefined);
    const medians = await compare(peers, { rounds: size > 2 ** 22 ? 9 : 31 });
    const times = new Map(peers.map(({ label }, i) => [label, medians[i]!]));
    for (const { end } of peers) end?.();
    arena.free();
    const own = times.get("downhill")!;
    const ratio = (label: string) => (times.has(label) ? decimals(times.get(label)! / own) : "");
    rows.push([
      name,
      decimals(own / 1000),
      (own / size).toFixed(3),
      ((traffic * size) / own).toFixed(1),
      ...["copy", "JavaScript loop", "tfjs wasm", "tfjs cpu"].map(ratio),
    ]);
    record.push({ name, size, traffic, nanoseconds: Object.fromEntries(times) });
  }
  console.log(`\n${size} parameters; peers as multiples of downhill's time`);
  print(["rule", "µs a step", "ns a parameter", "GB/s", "copy", "JavaScript", "tfjs wasm", "tfjs cpu"], rows);
}

/** Gradients of several kinds, after which a step should take no longer. */
const kinds: Record<string, number> = {
  "ordinary gradients": 0.01,
  "gradients that died": 0,
  "gradients of 1e-12": 1e-12,
  "gradients of 1e-20, whose squares are subnormal": 1e-20,
  "subnormal gradients": 1e-40,
  infinities: Infinity,
  NaN: Number.NaN,
};
const size = 65536;
const rows = cases.map(({ name }) => [name]);
for (const [index, { factory, options }] of cases.entries()) {
  const arena = downhill.createArenaSync({ threads: 1 });
  const arms = Object.entries(kinds).map(([label, grad]): Arm => {
    const w = arena.tensor(label, [size]);
    const optimizer = factory([w], options);
    w.data.fill(0.5);
    w.grad.fill(0.01);
    for (let i = 0; i < 10; i++) optimizer.step();
    w.grad.fill(grad);
    for (let i = 0; i < 3000; i++) optimizer.step(); // long enough for averages to fade
    return { run: () => optimizer.step() };
  });
  const [own, ...others] = await compare(arms);
  arena.free();
  rows[index]!.push(...others.map((time) => (time / own!).toFixed(2)));
}
console.log(`\n${size} parameters; time as a multiple of the time with ordinary gradients`);
print(["rule", ...Object.keys(kinds).slice(1)], rows);

if (flags.out) writeFileSync(flags.out, `${JSON.stringify({ machine, record }, null, 1)}\n`);
