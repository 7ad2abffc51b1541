// Makes dist: the package's modules, not minified, and declarations with the range and default of each option in its
// comment.
import { execFileSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import ts from "typescript";
import { fingerprint, root } from "./project.mjs";

const dist = join(root, "dist");
rmSync(dist, { recursive: true, force: true });

/** The options of all modules. */
const modules = { format: "esm", target: "es2022", charset: "utf8" };

// Threads start from text, so no bundler has to find a file. The file is for pages whose policy forbids workers from text.
const worker = {
  ...modules,
  entryPoints: [join(root, "ts/threads/worker.ts")],
  bundle: true,
  format: "iife",
  minify: true,
};
const [{ text }] = (await build({ ...worker, write: false })).outputFiles;
writeFileSync(
  join(root, "ts/threads/worker-source.ts"),
  `// Made from worker.ts by \`npm run build\`; do not edit it.

export const source: string =
  ${JSON.stringify(text)};
`,
);
// One module for each source file, so that bundlers leave out unused ones, and downhill/torch shares classes with downhill.
await build({
  ...modules,
  entryPoints: [join(root, "ts/**/*.ts")],
  outdir: dist,
});
// Few files for runtimes that load modules from a disk: there each file takes a millisecond. The entries share files, so
// that downhill/torch shares classes with downhill here, too.
await build({
  ...modules,
  entryPoints: ["index", "torch/index", "jax/index", "tfjs/index"].map((name) => join(root, `ts/${name}.ts`)),
  outdir: join(dist, "node"),
  chunkNames: "shared-[hash]",
  bundle: true,
  splitting: true,
  packages: "external",
});
// Not minified: a file of less than 4 kB becomes a data: URL in some bundlers, which the policies that need the file forbid.
await build({ ...worker, minify: false, outfile: join(dist, "worker.js") });
writeFileSync(join(dist, "worker.d.ts"), "export {};\n");
// One file, for pages without a bundler.
await build({
  ...modules,
  entryPoints: [join(root, "ts/index.ts")],
  outfile: join(dist, "downhill.min.js"),
  bundle: true,
  minify: true,
});
copyFileSync(join(root, "ts/wasm/kernels.wasm"), join(dist, "kernels.wasm"));
// As platforms that import .wasm files see it.
writeFileSync(join(dist, "kernels.wasm.d.ts"), "declare const module: WebAssembly.Module;\nexport default module;\n");
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"], {
  cwd: root,
  stdio: "inherit",
});

// An option's type has its range, or its words, and its default. An editor shows only comments.
const option =
  /\/\*\* (.+?) \*\/(\s+(?:readonly )?(\w+): import\("\.\.?\/option\.js"\)\.Option<(.+?), (?:"(.+?)"|string), (?:readonly )?(.+?)>;)/g;
const range = (interval, words) => {
  if (interval === undefined) return words.replaceAll(" | ", " or ");
  return interval === "true or false" ? "True or false" : `In ${interval}`;
};
// Infinite defaults have no literal type: one number is Infinity, and two are the bounds of all numbers.
const infinite = { number: "Infinity", "[number, number]": "[-Infinity, Infinity]" };
const shown = (value) => infinite[value] ?? value;

/** Adds ranges and defaults to the comments of a file's options, and the list of options to the comment of its export. */
function annotate(file, others = []) {
  const path = join(dist, file);
  const options = [];
  // The order of the words in the type is arbitrary.
  const source = readFileSync(join(root, "ts", file.replace(/\.d\.ts$|\.js$/, ".ts")), "utf8");
  const text = readFileSync(path, "utf8").replace(option, (_, prose, rest, name, words, interval, value) => {
    const ordered = source.match(`${name}: oneOf\\((.+?)\\)`)?.[1].replaceAll(", ", " | ") ?? words;
    const says = `${prose} ${range(interval, ordered)}; default ${shown(value)}.`;
    options.push(` * @param options.${name} ${says}\n`);
    return `/** ${says} */${rest}`;
  });
  const documented = text.replace(
    / \*\/\n(?=export declare const \w+: import)/,
    ` *\n${[...options, ...others].join("")} */\n`,
  );
  writeFileSync(path, withNames(documented));
  return options;
}

/** Gives the types of a rule's factory names, which editors show instead of all options. */
function withNames(text) {
  const factories = ts.createSourceFile("rule.d.ts", text, ts.ScriptTarget.ES2022).statements.flatMap((statement) => {
    const [declaration] = statement.declarationList?.declarations ?? [];
    return declaration?.type?.qualifier?.text === "RuleFactory" ? [declaration] : [];
  });
  for (const { name, type } of factories) {
    const textOf = ({ pos, end }) => text.slice(pos, end).trim();
    const [hyper, fixed, slots, added] = type.typeArguments.map(textOf);
    const named = (part) => `${name.text[0].toUpperCase()}${name.text.slice(1)}${part}`;
    const parts = ["Hyper", "State", "GroupOptions", "Options"].map(named);
    return `import type { AllOptions, GroupOptions, Live, OptimizerFactory, StateOf } from "../rule.js";
type Hyper = ${hyper};
type Fixed = ${fixed};
export interface ${parts[0]} extends Live<Hyper> {}
export interface ${parts[1]} extends StateOf<${slots}, ${added}> {}
export interface ${parts[2]} extends GroupOptions<Hyper, Fixed> {}
export interface ${parts[3]} extends AllOptions<Hyper, Fixed> {}
${text.slice(0, type.pos)} OptimizerFactory<${parts.join(", ")}>${text.slice(type.end)}`;
  }
  return text;
}

// Before TypeScript 5.7 a typed array has no type parameter. The type of `slice` is one over an ArrayBuffer in every version.
for (const file of readdirSync(dist, { recursive: true }).filter((name) => name.endsWith(".d.ts"))) {
  const text = readFileSync(join(dist, file), "utf8");
  const older = text
    .replace(/\b(\w+Array)<ArrayBuffer>/g, 'ReturnType<$1["slice"]>')
    .replace(/\b(\w+Array)<ArrayBufferLike>/g, "$1");
  if (older !== text) writeFileSync(join(dist, file), older);
}
const common = annotate("optimizer/definition.d.ts");
for (const file of readdirSync(join(dist, "rules"))) annotate(join("rules", file), common);
// A factory's types are exported with it.
const index = join(dist, "rules/index.d.ts");
const withTypes = readFileSync(index, "utf8").replace(/export \{ (\w)(\w*) \}/g, (_, first, rest) => {
  const types = ["Hyper", "Options", "State"].map((part) => `type ${first.toUpperCase()}${rest}${part}`);
  return `export { ${[first + rest, ...types].join(", ")} }`;
});
writeFileSync(index, withTypes);
// The factories for other libraries have the types of the rules' factories, with their names and comments.
for (const library of ["jax", "tfjs"]) {
  const path = join(dist, library, "rules.d.ts");
  const named = readFileSync(path, "utf8").replace(
    /(const (\w+): .+?<)import.+?>(?=>;)/gs,
    '$1typeof import("../rules/index.js").$2',
  );
  writeFileSync(path, named);
}
writeFileSync(join(dist, "fingerprint"), fingerprint("dist"));
