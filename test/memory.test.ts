/** Tests of memory use. Each program runs in a separate process. */

import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { root } from "../scripts/project.mjs";

const MIB = 2 ** 20;

/** The numbers that a program prints, one a line. */
function run(program: string, ...flags: string[]): number[] {
  const script = `import { adamw, createArena, createArenaSync } from "downhill";\n${program}`;
  const printed = execFileSync(process.execPath, [...flags, "--input-type=module", "-e", script], {
    cwd: root,
    encoding: "utf8",
  });
  return printed.trim().split("\n").map(Number);
}

test.each([
  ["shared", "createArenaSync({ threads: 1 })"],
  ["unshared", "createArenaSync({ shared: false })"],
  ["with threads", "await createArena({ threads: 2 })"],
  ["with threads that have not started", "createArenaSync({ threads: 3 })"],
])("arenas of 160 MB that are made, filled and freed in a row do not pile up: %s", (_, make) => {
  const resident = run(`
    const use = (arena) => {
      const { w } = arena.tensors({ w: [10_000_000] });
      w.data.fill(1);
      w.grad.fill(1);
      adamw([w]).step();
      return arena;
    };
    for (let i = 0; i < 6; i++) {
      use(${make}).free();
      console.log(process.memoryUsage.rss());
    }`);
  expect(Math.max(...resident) / MIB).toBeLessThan(600);
  expect(resident.at(-1)! - resident[0]!).toBeLessThan(200 * MIB);
});

test("memory is linear in the number of groups that are added", () => {
  const [few, many] = run(`
    for (const count of [250, 1000]) {
      const arena = createArenaSync({ threads: 1 });
      const tensors = Object.values(arena.tensors(Object.fromEntries(Array.from({ length: count }, (_, i) => ["w" + i, [1]]))));
      const before = arena.bytesLeft;
      const optimizer = adamw([tensors[0]]);
      for (const tensor of tensors.slice(1)) optimizer.addGroup({ params: [tensor] });
      optimizer.step();
      console.log(before - arena.bytesLeft);
    }`) as [number, number];
  expect(many / few).toBeLessThan(6);
});

test("memory is linear in the number of groups in which a tensor has no gradient", () => {
  const [few, many] = run(`
    for (const count of [250, 1000]) {
      const arena = createArenaSync({ threads: 1 });
      const tensors = Object.values(arena.tensors(Object.fromEntries(Array.from({ length: 2 * count }, (_, i) => ["w" + i, [1]]))));
      const optimizer = adamw(Array.from({ length: count }, (_, i) => ({ params: tensors.slice(2 * i, 2 * i + 2) })));
      const before = arena.bytesLeft;
      for (let i = 0; i < count; i++) tensors[2 * i].requiresGrad = false;
      optimizer.step();
      console.log(before - arena.bytesLeft);
    }`) as [number, number];
  expect(many / few).toBeLessThan(6);
});

test("without WebAssembly, the error names it", () => {
  const program = `try { createArenaSync() } catch ({ message }) { console.log(message) }`;
  const script = `import { createArenaSync } from "downhill"; ${program}`;
  const printed = execFileSync(process.execPath, ["--jitless", "--input-type=module", "-e", script], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  expect(printed).toContain("createArenaSync: WebAssembly is not available here");
});
