// Makes from crate/: ts/kernels, a WebAssembly module for each kernel, as text; ts/wasm/kernels.wasm, all of them in one; and
// test/kernels.txt, their metadata. Installs the tools that it needs.
// `--check` changes nothing: it fails if compiling the sources does not give exactly the committed files.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { pathToFileURL } from "node:url";
import { fingerprint, root } from "./project.mjs";

const WASM_PACK = "0.15.1";
const BINARYEN = "132.0.0";
const WASM_BINDGEN = readFileSync(join(root, "crate/Cargo.toml"), "utf8").match(
  /wasm-bindgen = { version = "=([^"]+)"/,
)[1];

const tools = join(root, "target/tools");
const work = join(root, "target/pkg");
const binaryenFolder = join(tools, "node_modules/binaryen");
const env = {
  ...process.env,
  PATH: [join(tools, "bin"), join(tools, "node_modules/.bin"), process.env.PATH].join(delimiter),
};
const run = (command, ...args) =>
  execFileSync(command, args, { cwd: root, env, stdio: ["ignore", "ignore", "inherit"] });
const has = (command, version) => {
  try {
    return execFileSync(command, ["--version"], {
      cwd: root,
      env,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).includes(version);
  } catch {
    return false;
  }
};

function install() {
  if (!has("rustup", "rustup")) {
    throw new Error("rustup is not installed: get it from https://rustup.rs (the toolchain itself is installed here)");
  }
  run("rustup", "toolchain", "install"); // as rust-toolchain.toml says
  for (const [crate, command, version] of [
    ["wasm-bindgen-cli", "wasm-bindgen", WASM_BINDGEN],
    ["wasm-pack", "wasm-pack", WASM_PACK],
  ]) {
    if (has(command, version)) continue;
    console.log(`installing ${crate} ${version} into target/tools`);
    run("cargo", "install", "--quiet", crate, "--version", version, "--root", tools);
  }
  const installed = join(binaryenFolder, "package.json");
  if (!existsSync(installed) || JSON.parse(readFileSync(installed, "utf8")).version !== BINARYEN) {
    console.log(`installing binaryen ${BINARYEN} into target/tools`);
    run("npm", "install", "--silent", "--no-save", "--prefix", tools, `binaryen@${BINARYEN}`);
  }
}

function build() {
  run(
    "wasm-pack",
    "--log-level",
    "error",
    "build",
    "crate",
    "--target",
    "web",
    "--out-dir",
    work,
    "--no-pack",
    "--no-opt",
    "--mode",
    "no-install",
  );
  // Removes wasm-bindgen's own exports, which nothing here calls.
  const declarations = readFileSync(join(work, "downhill_bg.wasm.d.ts"), "utf8");
  const kernels = [
    ...declarations.matchAll(
      /export const (\w+): \(a: number, b: number, c: number, d: number(?:, e: number)?\) => void/g,
    ),
  ].map((match) => match[1]);
  const graph = kernels.map((name) => ({ name, export: name, root: true }));
  writeFileSync(join(work, "graph.json"), JSON.stringify(graph));
  const features = [
    "simd",
    "bulk-memory",
    "nontrapping-float-to-int",
    "sign-ext",
    "mutable-globals",
    "reference-types",
    "multivalue",
  ];
  const flags = features.map((feature) => `--enable-${feature}`);
  const [bare, optimized] = [join(work, "bare.wasm"), join(work, "kernels.wasm")];
  run("wasm-metadce", join(work, "downhill_bg.wasm"), "--graph-file", join(work, "graph.json"), ...flags, "-o", bare);
  run(
    "wasm-opt",
    "-O3",
    "--low-memory-unused", // below 1,024, as ts/threads/control.ts says; so an offset of a load takes no instruction
    ...flags,
    "--strip-debug",
    "--strip-producers",
    "--strip-target-features",
    bare,
    "-o",
    optimized,
  );
  return splitMetadata(readFileSync(optimized));
}

/** The binary, and its metadata: its last section, which only tests need. */
function splitMetadata(whole) {
  const name = "downhill";
  const [metadata] = WebAssembly.Module.customSections(new WebAssembly.Module(whole), name);
  const contents = 1 + name.length + metadata.byteLength;
  const size = Math.ceil(Math.log2(contents + 1) / 7); // as LEB128
  const bytes = whole.subarray(0, whole.length - contents - size - 1);
  new WebAssembly.Module(bytes); // throws if it was not the last section
  return { bytes, metadata: Buffer.from(metadata) };
}

/** The binary with the fingerprint of its sources as a section, by which the package recognizes it. */
function withFingerprint(bytes) {
  const contents = Buffer.from(`\u0008downhill${fingerprint("crate")}`); // shorter than 128 bytes
  return Buffer.concat([bytes, Buffer.from([0, contents.length]), contents]);
}

/** A module without its data, which is wasm-bindgen's own; no kernel reads it. */
function withoutData(bytes) {
  let at = 8; // after the magic number and the version
  const kept = [bytes.subarray(0, at)];
  while (at < bytes.length) {
    const begin = at;
    const id = bytes[at++];
    let [size, shift, byte] = [0, 0, 0];
    do {
      byte = bytes[at++];
      size |= (byte & 0x7f) << shift;
      shift += 7;
    } while (byte & 0x80);
    at += size;
    if (id !== DATA && id !== DATA_COUNT) kept.push(bytes.subarray(begin, at));
  }
  return Buffer.concat(kept);
}
const [DATA, DATA_COUNT] = [11, 12]; // ids of sections

/** A module for each kernel, by its name. */
async function splitKernels(whole) {
  const { default: binaryen } = await import(pathToFileURL(join(binaryenFolder, "index.js")).href);
  const names = WebAssembly.Module.exports(new WebAssembly.Module(whole)).map(({ name }) => name);
  return names.map((name) => {
    const module = binaryen.readBinary(whole);
    module.setFeatures(binaryen.Features.All);
    for (const other of names) if (other !== name) module.removeExport(other);
    module.runPasses(["remove-unused-module-elements"]);
    const bytes = withoutData(module.emitBinary());
    module.dispose();
    return [name, bytes];
  });
}

// The characters that need no escape in a string literal. Bytes below `alphabet.length - 2` are one character, others
// two. A byte always looks the same, unlike in base64, so compression of the package finds repetitions.
const alphabet = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))
  .filter((character) => !'"\\`$'.includes(character))
  .join("");
function encode(byte) {
  const { length } = alphabet;
  const rest = byte - (length - 2);
  return rest < 0 ? alphabet[byte] : alphabet[length - 2 + Math.floor(rest / length)] + alphabet[rest % length];
}

const rules = readdirSync(join(root, "crate/src/rules")).map((file) => file.replace(".rs", ""));
const exported = readFileSync(join(root, "crate/src/exports.rs"), "utf8");

/** The Rust module that a kernel is from: a rule's, or the one that exports.rs names. */
function moduleOf(kernel) {
  const [, other] = exported.match(new RegExp(`\\b(\\w+)::${kernel}\\b`)) ?? [];
  if (other !== undefined) return other;
  const fits = rules.filter((rule) => `${kernel}_`.startsWith(`${rule}_`));
  return fits.sort((a, b) => b.length - a.length)[0];
}

const header = "// Made from crate/ by `npm run kernels`; do not edit it.\n";

/** The modules of TypeScript: one for each of Rust that has kernels. A rule's kernels are also in a record, for its literal. */
function texts(kernels) {
  const modules = [...new Set(kernels.map(([name]) => moduleOf(name)))];
  return modules.map((module) => {
    const own = kernels
      .filter(([name]) => moduleOf(name) === module)
      .map(([name, bytes]) => [name, `"${name} ${[...bytes].map(encode).join("")}"`]);
    const record = rules.includes(module)
      ? `\nexport const kernels = { ${own.map(([name]) => name).join(", ")} };\n`
      : "";
    const text = own.map(([name, text]) => `export const ${name}: string = ${text};\n`).join("") + record;
    return [`ts/kernels/${module}.ts`, `${header}\n${text}`];
  });
}

const facts = `${header}
/** The fingerprint of the sources, by scripts/project.mjs. */
export const sources = "${fingerprint("crate")}";

/** The alphabet of the kernels' texts. A byte is an index in it; larger ones are one of the last two characters and another. */
export const alphabet =
  "${alphabet}";
`;

let made;
try {
  install();
  const { bytes, metadata } = build();
  console.log(`${bytes.length} bytes of WebAssembly`);
  made = [
    ...texts(await splitKernels(bytes)),
    ["ts/wasm/facts.ts", Buffer.from(facts)],
    ["ts/wasm/kernels.wasm", withFingerprint(bytes)],
    ["test/kernels.txt", metadata],
  ];
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
const folder = "ts/kernels";
const names = made.map(([name]) => name);
const stale = existsSync(join(root, folder))
  ? readdirSync(join(root, folder)).filter((file) => !names.includes(`${folder}/${file}`))
  : [];
const check = process.argv.includes("--check");
if (!check) {
  mkdirSync(join(root, folder), { recursive: true });
  for (const file of stale) rmSync(join(root, folder, file));
  for (const [name, content] of made) writeFileSync(join(root, name), content);
}
const differing = made.filter(([name, content]) => {
  const file = join(root, name);
  return !existsSync(file) || !readFileSync(file).equals(Buffer.from(content));
});
if (differing.length > 0 || (check && stale.length > 0)) {
  const wrong = [...differing.map(([name]) => name), ...stale.map((file) => `${folder}/${file}`)];
  console.error(`${wrong.join(", ")}: not what crate/ gives; run \`npm run kernels\` and commit it`);
  process.exit(1);
}
console.log("ts/kernels, ts/wasm/kernels.wasm and test/kernels.txt come out of crate/ byte for byte");
