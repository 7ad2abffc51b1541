// Shared by scripts and tests: the project's folder, and fingerprints of its sources.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** The files from which each product is made. */
const inputs = {
  dist: [
    "ts",
    "scripts/build.mjs",
    "scripts/declarations.ts",
    "scripts/prose.ts",
    "tsconfig.json",
    "tsconfig.build.json",
    "package-lock.json",
  ],
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

/** A hash of the names and contents of a product's inputs. */
export function fingerprint(product) {
  const hash = createHash("sha256");
  for (const file of inputs[product].flatMap((path) => files(join(root, path)))) {
    hash.update(relative(root, file).replaceAll("\\", "/")).update("\0").update(readFileSync(file)).update("\0");
  }
  return hash.digest("hex").slice(0, 16);
}
