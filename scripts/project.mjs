// What the scripts and the tests share: where the project is, and what state its sources are in.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The files each product is made from. */
const inputs = {
  dist: ["ts", "scripts/build.mjs", "tsconfig.json", "tsconfig.build.json", "package-lock.json"],
  crate: [
    "crate/src",
    "crate/Cargo.toml",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    ".cargo/config.toml",
    "scripts/kernels.mjs",
  ],
};

const files = (path) => {
  try {
    return readdirSync(path)
      .sort()
      .flatMap((name) => files(join(path, name)));
  } catch {
    return [path];
  }
};

/** A hash over a product's inputs, names and contents. */
export function fingerprint(product) {
  const hash = createHash("sha256");
  for (const file of inputs[product].flatMap((path) => files(join(root, path)))) {
    hash.update(relative(root, file).replaceAll("\\", "/")).update("\0").update(readFileSync(file)).update("\0");
  }
  return hash.digest("hex").slice(0, 16);
}
