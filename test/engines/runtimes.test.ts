/** The published bits, on every runtime outside browsers. */

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { writeFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import published from "../bits.json" with { type: "json" };
import { hashesOf, THREAD_COUNTS } from "../conformance.js";
import { bundle, runtimes } from "./setup.js";

/** The time limit of a runtime in milliseconds. On an idle machine a runtime takes a minute. */
const PATIENCE = 400_000;
const engines = runtimes();
let program: string;

beforeAll(async () => {
  const module = await bundle();
  program = join(module, "../run.mjs");
  writeFileSync(
    program,
    `import { all } from "./page.mjs"; console.log(JSON.stringify(await all([${THREAD_COUNTS}])));`,
  );
});

test.each(Object.entries(engines))(
  "%s gives the published bits on 1, 2, 3, 4, 8 and 16 threads, and ends",
  (name, command) => {
    const report = execFileSync(command, [...(name === "deno" ? ["run"] : []), program], {
      encoding: "utf8",
      timeout: PATIENCE,
    });
    expect(JSON.parse(report)).toEqual({
      failures: [],
      compared: hashesOf(published, THREAD_COUNTS.length),
      shared: true,
      threads: expect.any(Number),
    });
  },
  PATIENCE,
);
