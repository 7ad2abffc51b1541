/** Runs plain C, compiled for this machine into a temporary folder, in a process that measures its own steps. */

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { elementsIn } from "../../ts/arena/tensor.js";
import { titleOf } from "../work.js";
import type { Peer } from "./peer.js";

/** Without `-fno-math-errno`, `sqrtf` has to set `errno`, and the loop has no SIMD. */
const FLAGS = ["-O3", "-march=native", "-fno-math-errno"];
const rules: Readonly<Record<string, string>> = {
  sgd: "sgd",
  "sgd, momentum": "momentum",
  adam: "adam",
  adamw: "adamw",
};

/** @param width the bits of a vector, 128 as in WebAssembly; by default those that the compiler prefers */
export function nativePeer(width?: number): Peer {
  const flags = width === undefined ? FLAGS : [...FLAGS, `-mprefer-vector-width=${width}`];
  let child: ChildProcess;
  let answers: AsyncIterator<string>;
  let folder: string;
  async function ask(request: string): Promise<string> {
    child.stdin!.write(`${request}\n`);
    const { value, done } = await answers.next();
    if (done) throw new Error("the C process ended without an answer");
    return value;
  }
  return {
    async start() {
      if (width !== undefined && process.arch !== "x64") throw new Error("the width of vectors can be set on x86 only");
      folder = mkdtempSync(join(tmpdir(), "downhill-bench-"));
      const [source, program] = [join(dirname(fileURLToPath(import.meta.url)), "native.c"), join(folder, "native")];
      const compiler = process.env.CC ?? "cc";
      let version: string;
      try {
        version = execFileSync(compiler, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
        execFileSync(compiler, [...flags, source, "-o", program, "-lm"], { stdio: ["ignore", "ignore", "pipe"] });
      } catch (cause) {
        throw new Error(`no C compiler: ${compiler} (or CC): ${(cause as Error).message.split("\n")[0]}`);
      }
      child = spawn(program, { stdio: ["pipe", "pipe", "ignore"] });
      answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
      return `C, ${version.split("\n")[0]} ${flags.join(" ")}`;
    },
    async arms(work) {
      const rule = rules[titleOf(work)];
      if (rule === undefined) return [];
      const sizes = work.shapes.map(elementsIn);
      await ask(`make ${rule} ${sizes.length} ${sizes.join(" ")}`);
      return [
        {
          name: `C${width === undefined ? "" : ` with vectors of ${width} bits`}, 1 thread`,
          time: async (count, pause) => Number(await ask(`time ${count} ${pause}`)),
          end: () => ask("end"),
        },
      ];
    },
    stop() {
      child.kill();
      rmSync(folder, { recursive: true });
    },
  };
}
