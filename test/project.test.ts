/** What the project promises of itself: its README, its sources, its native twin. */

import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { root } from "../scripts/project.mjs";
import { readme } from "../scripts/readme.js";

test("the README's table of rules is what the literals give", () => {
  const { is, should } = readme();
  expect(is, "run `npm run readme`").toBe(should);
});

test("no function whose last bits engines may choose: powers, exponentials, logarithms, angles", () => {
  const files = readdirSync(join(root, "ts"), { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  );
  for (const file of files) {
    const source = readFileSync(join(root, "ts", file), "utf8")
      .replace(/\/\*[\s\S]*?\*\//g, "") // comments
      .replace(/\b2 \*\* \d+/g, ""); // exact
    expect(source, file).not.toMatch(/Math\.(?!(abs|ceil|floor|imul|max|min|sign|sqrt|trunc)\b)|\*\*/);
  }
});

const cargo = spawnSync("cargo", ["--version"]).status === 0;

test.skipIf(!cargo)("the kernels compiled for this machine meet the published bits", () => {
  execFileSync("cargo", ["test", "--quiet"], { cwd: root, stdio: "pipe" });
});
