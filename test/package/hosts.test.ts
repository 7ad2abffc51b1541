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

describe("TypeScript", () => {
  let path: string;
  beforeAll(() => {
    path = project("typescript", tarball);
    cpSync(join(path, "program.ts"), join(path, "program.mts"));
  }, PATIENCE);
  // In a project without `"type": "module"`, a `.ts` file is a CommonJS module for `nodenext`, and a `.mts` file an ES module.
  const commonJS = { moduleResolution: "nodenext", module: "nodenext", files: ["program.ts", "dynamic.ts"] };
  const settings = [
    { moduleResolution: "nodenext", module: "nodenext", files: ["program.mts"] },
    { moduleResolution: "bundler", module: "esnext", files: ["program.mts"] },
    { moduleResolution: "node10", module: "commonjs", files: ["program.ts"] },
    commonJS,
  ];
  const versions = ["5.4", "5.7", "5.9", "6"];
  const cases = versions.flatMap((version) => settings.map((setting) => ({ version, ...setting })));
  /** The errors of versions that refuse a CommonJS module that imports ES modules. */
  const refusals: Record<string, string[]> = {
    "5.4": ["program.ts: TS1479"],
    "5.7": ["program.ts: TS1479", "program.ts: TS1541"],
  };
  const printed: Record<string, string> = { program: "-0.5,-0.5,-0.5,-0.5; 8; true", dynamic: "-0.5,-0.5,-0.5" };

  test.each([...cases, { version: "5.8", ...commonJS }])(
    "$version, moduleResolution $moduleResolution, $files",
    ({ version, moduleResolution, module, files }) => {
      const isCommonJS = files === commonJS.files;
      const compilerOptions = {
        module,
        moduleResolution,
        strict: true,
        skipLibCheck: isCommonJS, // the other cases check the declarations
        outDir: "out",
        types: [],
        target: "es2022",
        lib: ["es2022", "dom"],
        ...(version === "6" && moduleResolution === "node10" && { ignoreDeprecations: "6.0" }),
      };
      writeFileSync(join(path, "tsconfig.json"), JSON.stringify({ compilerOptions, files }));
      rmSync(join(path, "out"), { recursive: true, force: true });
      // The compiler fails if there are errors, and writes the programs all the same.
      const output = run(path, "sh", "-c", `node node_modules/typescript${version}/bin/tsc -p . || true`);
      // The types of jax-js and TensorFlow.js have errors of their own: Float16Array, Long, and WebGPU's types, which TypeScript 6 also has.
      const errors = output.split("\n").filter((line) => /^(?!node_modules\/(@|typescript))\S/.test(line));
      const found = errors.map((line) => line.replace(/^(.+?)\(.+ error (TS\d+):.*/, "$1: $2"));
      expect([...new Set(found)].sort()).toEqual((isCommonJS && refusals[version]) || []);
      for (const file of files) {
        const program = file.split(".")[0]!;
        expect(run(path, process.execPath, `out/${file.replace("ts", "js")}`)).toBe(printed[program]);
      }
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

  // Vite keeps what it made of a package's version; `--force` makes it again. The preview is of what the test above built.
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

describe("without a bundler: one file, an import map, a module compiled while it arrives; workers of three kinds", () => {
  for (const browser of ["chrome", "firefox"] as const) {
    // Firefox 153 sometimes hangs when a worker starts and ends other workers, even if these do nothing.
    test(browser, { timeout: PATIENCE, retry: browser === "firefox" ? 1 : 0 }, async () => {
      const pages = ["module.html", "map.html", "streaming.html", "workers.html"];
      const workers = `DedicatedWorker: ${THREADS}; SharedWorker: ${ONE}; ServiceWorker: ${ONE}`;
      expect(await report(project("plain", tarball), pages, browser)).toEqual([THREADS, THREADS, ONE, workers]);
    });
  }
});

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
  ["jax", ["run.mjs", "run.cjs"], "trained"],
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
      const losses = [...text!.matchAll(/epoch 1, loss (\d\S+)/g)].map(([, loss]) => loss);
      expect(losses).toHaveLength(2);
      expect(losses[1]).toBe(losses[0]); // TensorFlow.js's Adam, and downhill's
    }),
  PATIENCE,
);
