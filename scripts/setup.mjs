// Installs the packages of package-lock.json and builds dist. It skips what is up to date. It runs before anything is
// installed, so it imports no packages.
import { execSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { fingerprint, root } from "./project.mjs";

// Messages go to stderr, because programs may read the output of the commands that run this.
const changed = (file) => statSync(join(root, file), { throwIfNoEntry: false })?.mtimeMs ?? 0;
const run = (command) => execSync(command, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });

if (changed("node_modules/.package-lock.json") < changed("package-lock.json")) {
  console.error("installing (once)");
  run("npm ci --loglevel=error");
}
let built = "";
try {
  built = readFileSync(join(root, "dist/fingerprint"), "utf8");
} catch {}
if (built !== fingerprint("dist")) {
  console.error("building (once)");
  run("node scripts/build.mjs");
}
