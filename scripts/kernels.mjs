// Makes ts/wasm/binary.ts and test/kernels.txt (the binary's metadata) from crate/. Installs the tools that it needs.
// `--check` changes nothing: it fails if compiling the sources does not give exactly the committed files.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fingerprint, root } from "./project.mjs";

const WASM_PACK = "0.15.1";
const BINARYEN = "132.0.0";
const WASM_BINDGEN = readFileSync(join(root, "crate/Cargo.toml"), "utf8").match(
  /wasm-bindgen = { version = "=([^"]+)"/,
)[1];

const tools = join(root, "target/tools");
const work = join(root, "target/pkg");
const env = {
  ...process.env,
  PATH: [join(tools, "bin"), join(tools, "node_modules/.bin"), process.env.PATH].join(
    process.platform === "win32" ? ";" : ":",
  ),
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
  if (!has("wasm-opt", BINARYEN.split(".")[0])) {
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

// The characters that need no escape in a string literal. Bytes below `alphabet.length - 2` are one character, others
// two. A byte always looks the same, unlike in base64, so compression of the package finds repetitions.
const alphabet = Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))
  .filter((character) => !'"\\\`$'.includes(character))
  .join("");
function encode(byte) {
  const { length } = alphabet;
  const rest = byte - (length - 2);
  return rest < 0 ? alphabet[byte] : alphabet[length - 2 + Math.floor(rest / length)] + alphabet[rest % length];
}

const text = (bytes) => `// Made from crate/ by \`npm run kernels\`; do not edit it.

/** The fingerprint of the sources, by scripts/project.mjs. */
export const sources = "${fingerprint("crate")}";

/** The WebAssembly module. A byte is an index in the alphabet; larger ones are one of the last two characters and another. */
export const alphabet: string =
  "${alphabet}";
export const binary: string =
  "${[...bytes].map(encode).join("")}";
`;

let made;
try {
  install();
  const { bytes, metadata } = build();
  console.log(`${bytes.length} bytes of WebAssembly`);
  made = [
    ["ts/wasm/binary.ts", text(bytes)],
    ["test/kernels.txt", metadata.toString()],
  ];
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
for (const [name, content] of made) {
  const file = join(root, name);
  if (!process.argv.includes("--check")) {
    writeFileSync(file, content);
  } else if (!existsSync(file) || readFileSync(file, "utf8") !== content) {
    console.error(`${name} is not what crate/ gives; run \`npm run kernels\` and commit it`);
    process.exit(1);
  }
}
console.log("ts/wasm/binary.ts and test/kernels.txt come out of crate/ byte for byte");
