// Makes dist: the package's modules, not minified, and their declarations.
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { tsImport } from "tsx/esm/api";
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
// that downhill/torch shares classes with downhill.
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
const { makeDeclarations } = await tsImport("./declarations.ts", import.meta.url);
makeDeclarations();
writeFileSync(join(dist, "fingerprint"), fingerprint("dist"));
