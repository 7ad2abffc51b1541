/** The package as users get it: packed, installed in an empty project, imported, hovered over, bundled. */

import { gzipSync } from "node:zlib";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { build } from "esbuild";
import { publint } from "publint";
import ts from "typescript";
import { afterAll, beforeAll, expect, test } from "vitest";
import { root } from "../scripts/project.mjs";
import { sharedOptions } from "../ts/optimizer/definition.js";
import { type Options, show } from "../ts/option.js";
import * as schedules from "../ts/schedules/index.js";
import { factories } from "./registry.js";

const project = mkdtempSync(join(tmpdir(), "downhill-"));
afterAll(() => rmSync(project, { recursive: true }));

const npm = (...args: string[]) =>
  execFileSync("npm", [...args, "--loglevel=error"], { cwd: project, encoding: "utf8" });
const node = (...args: string[]) => execFileSync(process.execPath, args, { cwd: project, encoding: "utf8" }).trim();

let packed: string[];
let tarball: string;

beforeAll(() => {
  const [{ filename, files }] = JSON.parse(npm("pack", root, "--json"));
  tarball = join(project, filename);
  packed = files.map(({ path }: { path: string }) => path);
  npm("init", "--yes");
  npm("install", filename);
});

test("it holds what it needs and nothing else, and depends on nothing", () => {
  expect(packed.filter((path) => !/^(dist|docs)\//.test(path)).sort()).toEqual([
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "package.json",
  ]);
  expect(packed).toContain("dist/index.js");
  expect(packed).not.toContain("dist/fingerprint");
  for (const module of ["worker", "torch/index"]) expect(packed).toContain(`dist/${module}.js`);
  const { dependencies, scripts } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  expect(dependencies).toBeUndefined();
  expect(Object.keys(scripts).filter((name) => /install/.test(name))).toEqual([]);
});

test("publint finds nothing", async () => {
  const { messages } = await publint({ pkgDir: join(project, "node_modules/downhill"), pack: false, strict: true });
  expect(messages).toEqual([]);
});

test("attw finds that CommonJS gets ES modules, and nothing else", async () => {
  const result = await checkPackage(createPackageFromTarballData(readFileSync(tarball)));
  // ES modules are on purpose: `require` loads them from Node 20.19 on.
  const problems = result.types && result.problems.filter(({ kind }) => kind !== "CJSResolvesToESM");
  expect(problems).toEqual([]);
});

const program = `
  const arena = downhill.createArenaSync({ maxBytes: 2 ** 20 });
  const w = arena.tensor("w", [3]);
  w.grad.fill(1);
  downhill.adamw([w], { lr: 0.5 }).step();
  console.log(String(w.data));`;

test("a fresh project imports it, and requires it", () => {
  writeFileSync(join(project, "run.mjs"), `import * as downhill from "downhill";${program}`);
  expect(node("run.mjs")).toBe("-0.5,-0.5,-0.5");
  // From Node 22.12 on, `require` loads ES modules without a flag.
  const [major] = process.versions.node.split(".").map(Number) as [number];
  writeFileSync(join(project, "run.cjs"), `const downhill = require("downhill");${program}`);
  expect(node(...(major < 22 ? ["--experimental-require-module", "--no-warnings"] : []), "run.cjs")).toBe(
    "-0.5,-0.5,-0.5",
  );
});

test("Node loads a few files, which all entries share", () => {
  const entries = ["downhill", "downhill/torch", "downhill/jax", "downhill/tfjs"];
  writeFileSync(
    join(project, "resolve.mjs"),
    `console.log(JSON.stringify(${JSON.stringify(entries)}.map((entry) => import.meta.resolve(entry))));`,
  );
  const files = JSON.parse(node("resolve.mjs")) as string[];
  const shared = files.map((file) =>
    [...readFileSync(new URL(file), "utf8").matchAll(/shared-\w+\.js/g)].map(([name]) => name),
  );
  expect(files.every((file) => file.includes("/dist/node/"))).toBe(true);
  for (const names of shared) {
    expect(names.length).toBeLessThan(8);
    expect(names.some((name) => shared[0]!.includes(name))).toBe(true);
  }
});

test("downhill/torch writes files for PyTorch, and shares classes with downhill", () => {
  const torch = `
    import { adamw, createArenaSync, loadFile, saveFile } from "downhill";
    import { loadOptimizer, saveOptimizer } from "downhill/torch";
    const make = () => {
      const w = createArenaSync({ maxBytes: 2 ** 20, threads: 1 }).tensor("w", [3]);
      w.grad.fill(1);
      return { w, optimizer: adamw([w], { lr: 0.5 }) };
    };
    const [one, two, three] = [make(), make(), make()];
    one.optimizer.step();
    loadOptimizer(saveOptimizer(one.optimizer), two.optimizer);
    await saveFile("run.safetensors", [one.w], one.optimizer);
    await loadFile("run.safetensors", [three.w], three.optimizer);
    console.log(two.optimizer.steps, String(two.optimizer.state(two.w).expAvg), String(three.w.data));`;
  writeFileSync(join(project, "torch.mjs"), torch);
  expect(node("torch.mjs")).toBe(`1 ${Float32Array.of(0.1, 0.1, 0.1)} -0.5,-0.5,-0.5`);
});

test("its threads start from text, and from the file that it exports", () => {
  const threaded = `
    import { createArena, sgd } from "downhill";
    for (const workerUrl of [undefined, new URL(import.meta.resolve("downhill/worker"))]) {
      const arena = await createArena({ threads: 3, workerUrl });
      const w = arena.tensor("w", [2 ** 20]);
      w.grad.fill(1);
      sgd([w], { lr: 1 }).step();
      console.log(arena.threads, w.data.every((x) => x === -1));
      arena.free();
    }`;
  writeFileSync(join(project, "threads.mjs"), threaded);
  expect(node("threads.mjs")).toBe("3 true\n3 true");
});

/** The minified code of a page with this program, without TensorFlow.js and jax-js. */
async function bundled(contents: string, type: "module" | "commonjs" = "module"): Promise<string> {
  const folder = join(project, type);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), JSON.stringify({ type }));
  writeFileSync(join(folder, "page.js"), contents);
  const entryPoints = [join(folder, "page.js")];
  const external = ["@*"];
  const { outputFiles } = await build({
    entryPoints,
    external,
    bundle: true,
    format: "esm",
    minify: true,
    write: false,
  });
  return outputFiles[0]!.text;
}

/** The bytes that rules may take, gzipped: a simple one takes fewer, so that a larger one may take more. */
const RULES = 450 * factories.length;
const EVERYTHING = 65_550 + RULES;

test.each([
  ["adamw and an arena", `export { adamw, createArena } from "downhill"`, 28_500],
  ["sgd and an arena", `export { sgd, createArena } from "downhill"`, 28_100],
  ["everything", `export * from "downhill"`, EVERYTHING],
  ["everything, and PyTorch's files", `export * from "downhill"; export * from "downhill/torch"`, 80_000 + RULES],
  ["everything for TensorFlow.js", `export * from "downhill/tfjs"`, 58_700 + RULES],
  ["adamw for jax-js", `export { adamw } from "downhill/jax"`, 31_050],
  ["everything for jax-js", `export * from "downhill/jax"`, 47_450 + RULES],
])("%s: its size, gzipped, is within its budget", async (_, program, budget) => {
  expect(gzipSync(await bundled(program)).length).toBeLessThan(budget);
});

test("the file for pages without a bundler, gzipped, and the packed package are within their budgets", () => {
  const file = readFileSync(join(project, "node_modules/downhill/dist/downhill.min.js"));
  expect(gzipSync(file).length).toBeLessThan(EVERYTHING);
  expect(readFileSync(tarball).length).toBeLessThan(507_000 + 5000 * factories.length);
});

test("a bundler keeps only the code that is used", async () => {
  const bundle = (name: string, type?: "commonjs") =>
    bundled(`import { ${name} } from "downhill"; console.log(${name});`, type);
  const [adamw, adagrad] = [await bundle("adamw"), await bundle("adagrad")];
  expect(adamw).toContain("biasCorrection");
  expect(adamw).not.toMatch(/initialAccumulatorValue|centered|trustCoefficient/);
  expect(adagrad).toContain("initialAccumulatorValue");
  expect(adagrad).not.toMatch(/biasCorrection|centered|trustCoefficient/);
  // In a project of CommonJS modules, esbuild keeps all modules that `export *` names.
  for (const code of [adamw, adagrad, await bundle("adamw", "commonjs")]) {
    expect(code).not.toMatch(/stepLR|warmupCosineDecay|safetensors|checksum|torch\.save/);
  }
  // The words are in the code that a bundle leaves out.
  const everything = await bundled(`export * from "downhill"; export * from "downhill/torch"`);
  for (const word of [
    "centered",
    "trustCoefficient",
    "stepLR",
    "warmupCosineDecay",
    "safetensors",
    "checksum",
    "torch.save",
  ]) {
    expect(everything).toContain(word);
  }
});

test("the declarations have no errors of their own, which `skipLibCheck` would hide", () => {
  const file = join(project, "declarations.ts");
  writeFileSync(file, `export * from "downhill"; export * as torch from "downhill/torch";`);
  const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true, skipLibCheck: false };
  const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([file], { ...options, noEmit: true, types: [] }));
  expect(diagnostics.map(({ file, messageText }) => `${file?.fileName}: ${messageText}`)).toEqual([]);
});

test("programs can export optimizers and factories, because `declaration` finds the names of their types", () => {
  const file = join(project, "exports.ts");
  const made = factories.map(
    ({
      rule: { name },
    }) => `export const ${name} = downhill.${name}([], { clipNorm: 1 }), ${name}Factory = downhill.${name};
     export const ${name}Layers = tfjs.${name}(), ${name}Solver = jax.${name};`,
  );
  writeFileSync(
    file,
    `import * as downhill from "downhill"; import * as jax from "downhill/jax"; import * as tfjs from "downhill/tfjs";
     ${made.join("\n")}
     export const wrapped = downhill.lookahead(downhill.sam(adamw)), { addGroup, groups } = adamw, schedule = downhill.stepLR;`,
  );
  const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true, declaration: true };
  const program = ts.createProgram([file], { ...options, types: [] });
  const messages = [
    ...program.getSemanticDiagnostics(program.getSourceFile(file)),
    ...program.getDeclarationDiagnostics(),
  ];
  expect(messages.map(({ messageText }) => messageText)).toEqual([]);
});

test("TypeScript's errors are short, and about the wrong value", () => {
  const expected = [
    ["adamw(model, { learningRate: 1 })", "'learningRate' does not exist in type 'Readonly<AdamwOptions>'"],
    [
      "adamw(model, { clipNorm: 1, learningRate: 1 })",
      "'learningRate' does not exist in type 'Readonly<AdamwOptions>'",
    ],
    ["adamw(model, 0.1)", "Type '0.1' has no properties in common with type 'Readonly<AdamwOptions>'"],
    ["adamw(model, other)", "has no properties in common with type 'Readonly<AdamwOptions>'"],
    ["adamw([{ params: [model.w], learningRate: 1 }])", "'learningRate' does not exist in type 'Tensor<"],
    ["adamw([{ params: [model.w] }, { params: model, clipNorm: 1 }])", "'clipNorm' does not exist in type 'Tensor<"],
    ["adamw([{ params: [model.w], lr: '1' }])", "Type 'string' is not assignable to type 'number | Schedule |"],
    ["adamw([{ params: model.w }])", "is not assignable to type 'Tensors'"],
    [
      "optimizer.addGroup({ params: model, rate: 1 })",
      "'rate' does not exist in type 'TensorGroup<AdamwGroupOptions>'",
    ],
    [
      "tfjs.adamw({ groups: [{ variables: /w/, clipNorm: 1 }] })",
      "not exist in type 'VariableGroup & AdamwGroupOptions'",
    ],
  ] as const;
  const file = join(project, "errors.ts");
  writeFileSync(
    file,
    `import { adamw, createArenaSync } from "downhill";
     import * as tfjs from "downhill/tfjs";
     const model = createArenaSync().tensors({ w: [2], b: [3] });
     const optimizer = adamw(model);
     const other = { learningRate: 1 };
     ${expected.map(([call]) => call).join(";\n")}`,
  );
  const options = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true, skipLibCheck: true };
  const program = ts.createProgram([file], { ...options, noEmit: true, types: [] });
  const messages = program
    .getSemanticDiagnostics()
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
  expect(messages).toEqual(expected.map(([, message]) => expect.stringContaining(message)));
  for (const message of messages) expect(message.length, message).toBeLessThan(300);
});

test("an editor shows the options of each rule and schedule with their ranges and defaults", () => {
  const described: { call: string; options: Options; inComment?: boolean }[] = [
    ...factories.flatMap(({ rule }) => {
      const own = { ...rule.hyper, ...rule.fixed };
      return [
        { call: ` ${rule.name}(model, {`, options: { ...own, ...sharedOptions }, inComment: true },
        { call: `tfjs.${rule.name}({`, options: own },
        { call: `jax.${rule.name}({`, options: own },
      ];
    }),
    ...Object.entries(schedules).map(([name, { options }]) => ({ call: ` ${name}({`, options })),
  ];
  const slots = factories.flatMap(({ rule }) =>
    [...rule.state, ...Object.keys(rule.addedState)].map((slot) => `${rule.name}(model).state(model.w).${slot};`),
  );
  const calls = [...described.map(({ call }) => call), " sam(optimizer, {", " lookahead(optimizer, {"];
  const file = join(project, "hover.ts");
  writeFileSync(
    file,
    `import { ${[...factories.map(({ rule }) => rule.name), ...Object.keys(schedules)]}, lookahead, sam, type Tensor } from "downhill";
     import * as jax from "downhill/jax";
     import * as tfjs from "downhill/tfjs";
     declare const model: Record<string, Tensor>;
     declare const required: any;
     const optimizer = adamw(model);
     ${calls.map((call, i) => `const value${i} = ${call} ...required });`).join("\n")}
     adamw([{ params: model }], { clipNorm: 1, clipTensorNorm: 1, nonFinite: "skip", lossScale: "dynamic", accumulate: 2 });
     tfjs.adamw({ groups: [] });
     lookahead(optimizer).state(model.w).slow;
     [model.w.arena, model.w.name, model.w.shape, optimizer.groups[0].params];
     ${slots.join("\n")}`,
  );
  const options: ts.CompilerOptions = { module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, strict: true };
  const { readFile, fileExists, directoryExists, getDirectories, realpath } = ts.sys;
  const service = ts.createLanguageService({
    readFile,
    fileExists,
    directoryExists,
    getDirectories,
    realpath,
    getCompilationSettings: () => options,
    getScriptFileNames: () => [file],
    getScriptVersion: () => "1",
    getScriptSnapshot: (name) => (fileExists(name) ? ts.ScriptSnapshot.fromString(readFile(name)!) : undefined),
    getCurrentDirectory: () => project,
    getDefaultLibFileName: ts.getDefaultLibFilePath,
  });
  expect(service.getSemanticDiagnostics(file).map(({ messageText }) => messageText)).toEqual([]);
  const source = readFileSync(file, "utf8");
  const hoverOf = (text: string) =>
    service.getQuickInfoAtPosition(file, source.indexOf(text) + text.search(/\w+[ (]/))!;
  calls.forEach((call, i) => {
    for (const text of [call, `value${i} =`]) {
      expect(ts.displayPartsToString(hoverOf(text).displayParts).length, `${call} ${text}`).toBeLessThan(330);
    }
  });
  const written = ["params", "groups", "clipNorm", "clipTensorNorm", "nonFinite", "lossScale", "accumulate"];
  const properties = [...slots, ".slow;", ".arena,", ".name,", ".shape,", ".params]"];
  for (const text of [...written.map((name) => ` ${name}: `), ...properties]) {
    const at = source.indexOf(text) + text.search(/\w+\W*$/);
    const { documentation } = service.getQuickInfoAtPosition(file, at)!;
    expect(ts.displayPartsToString(documentation), text).not.toBe("");
  }
  for (const { call, options, inComment = false } of described) {
    const { documentation = [], tags = [] } = hoverOf(call);
    const hover = ts.displayPartsToString([...documentation, ...tags.flatMap(({ text = [] }) => text)]);
    const inside = source.indexOf(call) + call.length;
    for (const [name, { range, default: value }] of Object.entries(options)) {
      const within = /^[[(]/.test(range) ? `In ${range}` : range.slice(1);
      const says = `${within}${value === undefined ? "" : `; default ${show(value)}`}.`;
      const details = service.getCompletionEntryDetails(file, inside, name, {}, undefined, {}, undefined)!;
      expect(ts.displayPartsToString(details.documentation), `${call} ${name}`).toContain(says);
      if (!inComment) continue;
      expect(hover, call).toContain(`options.${name}`);
      expect(hover, call).toContain(says);
    }
  }
});
