/** The second process: resumes every run in a folder, continues it, and saves it again. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { go, keep, resume, type Spec, start } from "./resume.js";

const [folder, from, to] = process.argv.slice(2) as [string, string, string];
const specs: Spec[] = JSON.parse(readFileSync(join(folder, "specs.json"), "utf8"));
specs.forEach((spec, i) => {
  const run = start(spec);
  resume(run, readFileSync(join(folder, `${i}.safetensors`)));
  go(run, Number(from), Number(to));
  writeFileSync(join(folder, `${i}.later.safetensors`), keep(run));
});
