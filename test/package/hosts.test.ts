/** The packed package in fresh projects: a training loop with a checkpoint and threads, on every host that people have. */

import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { root } from "../../scripts/project.mjs";
import { documented, pack, project, report, run, visit, withServer } from "./hosts.js";

const THREADS = "trained, on several threads";
const ONE = "trained, on one thread";
const PATIENCE = 600_000; // the first run installs

let tarball: string;
beforeAll(() => {
  tarball = pack();
}, PATIENCE);

describe("runtimes", () => {
  let path: string;
  beforeAll(() => {
    path = project("runtimes", tarball);
  }, PATIENCE);
  const runtime = (name: string) => {
    const inside = name.startsWith("node") ? "bin/node" : name === "bun" ? "bin/bun.exe" : "deno";
    return join(path, "node_modules", name, inside);
  };

  test.each(["node20.19", "node20", "node22", "node24", "node26", "bun", "deno"])(
    "%s imports it and requires it",
    (name) => {
      const deno = name === "deno" ? ["run", "--allow-read", "--allow-env", "--allow-sys"] : [];
      const flags = name === "node20.19" || name === "node20" ? ["--no-warnings"] : [];
      for (const program of ["run.mjs", "run.cjs"]) {
        expect(run(path, runtime(name), ...deno, ...flags, program)).toBe(THREADS);
      }
    },
    PATIENCE,
  );

  test("Node 18 is told which versions there are", () => {
    expect(() => run(path, runtime("node18"), "run.mjs")).toThrow(
      "downhill needs Node 20.19 or newer, this is Node 18",
    );
  });
});

describe("TypeScript, without skipLibCheck", () => {
  let path: string;
  beforeAll(() => {
    path = project("typescript", tarball);
  }, PATIENCE);
  const settings = { nodenext: "nodenext", bundler: "esnext", node10: "commonjs" };
  const versions = ["typescript5.4", "typescript5.7", "typescript5.9", "typescript6"];
  const cases = versions.flatMap((version) =>
    Object.entries(settings).map((setting) => [version, ...setting] as const),
  );

  test.each(cases)(
    "%s, moduleResolution %s",
    (version, moduleResolution, module) => {
      // A module in the terms of the setting, as the package is.
      const program = moduleResolution === "nodenext" ? "program.mts" : "program.ts";
      cpSync(join(path, "program.ts"), join(path, "program.mts"));
      const compilerOptions = {
        module,
        moduleResolution,
        strict: true,
        noEmit: true,
        types: [],
        target: "es2022",
        lib: ["es2022", "dom"],
        ...(version === "typescript6" && moduleResolution === "node10" && { ignoreDeprecations: "6.0" }),
      };
      writeFileSync(join(path, "tsconfig.json"), JSON.stringify({ compilerOptions, files: [program] }));
      expect(run(path, process.execPath, join(path, "node_modules", version, "bin/tsc"), "-p", ".")).toBe("");
    },
    PATIENCE,
  );
});

/** Hosts that build a page from `main.js`, with what it reports. */
const builders = {
  esbuild: THREADS,
  rollup: THREADS,
  webpack: THREADS,
  vite: THREADS,
  parcel: THREADS,
};
describe("bundlers", () => {
  test.each(Object.entries(builders))(
    "%s",
    async (host, expected) => {
      const path = project(host, tarball);
      run(path, "npm", "run", "build");
      expect(await report(join(path, "public"), ["index.html"])).toEqual([expected]);
    },
    PATIENCE,
  );

  // Vite keeps what it made of a package's version; `--force` makes it again.
  test.each([
    ["vite's development server, without headers", ["--force"], ONE],
    ["vite's development server", ["--force", "--config", "documented.config.js"], THREADS],
    ["vite preview", ["preview", "--outDir", "public", "--config", "documented.config.js"], THREADS],
  ])(
    "%s",
    (_, args, expected) => {
      const path = project("vite", tarball);
      writeFileSync(join(path, "documented.config.js"), documented("vite.config.js"));
      return withServer(path, ["node_modules/vite/bin/vite.js", ...args, "--strictPort"], async (origin) => {
        expect(await visit([`${origin}/`])).toEqual([expected]);
      });
    },
    PATIENCE,
  );
});

test(
  "without a bundler: one file, an import map, a module compiled while it arrives; workers of three kinds",
  async () => {
    const pages = ["module.html", "map.html", "streaming.html", "workers.html"];
    const workers = `DedicatedWorker: ${THREADS}; SharedWorker: ${ONE}; ServiceWorker: ${ONE}`;
    expect(await report(project("plain", tarball), pages)).toEqual([THREADS, THREADS, ONE, workers]);
  },
  PATIENCE,
);

// Tests inside of Vitest and Jest expect several threads; `found` is what ran.
test.each([
  ["workerd", /.+/g, [ONE]],
  ["vitest", /(?<=Tests +)\d.+/g, ["1 passed (1)"]],
  ["jest", /(?<=^PASS +)\S+/gm, ["jsdom", "node", "ts-jest-jsdom", "ts-jest-node"]],
])(
  "%s",
  (host, found, expected) => {
    const output = run(project(host, tarball), "npm", "test", "--silent");
    expect(output).not.toMatch(/advice|Error/);
    expect(output.match(found)?.sort()).toEqual(expected);
  },
  PATIENCE,
);

test.each([
  ["tfjs", ["run.mjs", "run.cjs"], "trained, saved, and went on"],
  ["jax", ["run.mjs"], "trained"],
])(
  "downhill/%s with its library, in Node",
  (library, programs, expected) => {
    const path = project(library, tarball);
    for (const program of programs) expect(run(path, process.execPath, program)).toBe(expected);
  },
  PATIENCE,
);

test(
  "Next.js: a client component, an API route, an edge route; a client component without headers, on the development server",
  async () => {
    const path = project("next", tarball);
    const next = "node_modules/next/dist/bin/next";
    const config = join(path, "next.config.mjs");
    writeFileSync(config, documented("next.config.mjs"));
    run(path, "npm", "run", "build");
    await withServer(path, [next, "start"], async (origin) => {
      const text = async (route: string) => (await fetch(`${origin}/api/${route}`)).text();
      expect(await text("train")).toBe(THREADS);
      expect(await text("edge")).toBe(ONE);
      expect(await visit([`${origin}/`])).toEqual([THREADS]);
    });
    rmSync(config);
    await withServer(path, [next, "dev"], async (origin) => {
      expect(await visit([`${origin}/`])).toEqual([ONE]);
    });
  },
  PATIENCE,
);

test(
  "the page of examples/tfjs",
  () =>
    withServer(root, ["--import", "tsx", "examples/tfjs/serve.ts"], async (origin) => {
      const url = `${origin}/?samples=128&epochs=1`;
      const [text] = await visit([url], "/done/.test(document.body.innerText) && document.body.innerText");
      const losses = [...text!.matchAll(/epoch 1, loss (\S+)/g)].map(([, loss]) => loss);
      expect(losses).toHaveLength(2);
      expect(losses[1]).toBe(losses[0]); // TensorFlow.js's Adam, and downhill's
    }),
  PATIENCE,
);
