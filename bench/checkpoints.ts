/** Measures checkpoints of AdamW, and plain copies of the same file and bytes for comparison. */

import { closeSync, copyFileSync, fsyncSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as downhill from "downhill";
import { setUp } from "./peers/downhill.js";
import { type Arm, arm, asyncArm, compare, type Timing } from "./stopwatch.js";
import type { Work } from "./work.js";

/** Times by name, and the size of the file. */
export async function checkpoints(work: Work): Promise<{ bytes: number; arms: Record<string, Timing> }> {
  const folder = mkdtempSync(join(tmpdir(), "downhill-bench-"));
  const [path, copied] = [join(folder, "run.safetensors"), join(folder, "copied")];
  const { arena, model, optimizer } = await setUp(downhill, work, 1);
  optimizer.step();
  const bytes = downhill.save(model, optimizer);
  await downhill.saveFile(path, model, optimizer);

  /**
   * Copies the file in the way `saveFile` writes it: to a temporary file in the same folder, flushed to disk, then
   * renamed.
   */
  function copyFile() {
    copyFileSync(path, `${copied}.partial`);
    const file = openSync(`${copied}.partial`, "r+");
    fsyncSync(file);
    closeSync(file);
    renameSync(`${copied}.partial`, copied);
  }
  // The arms of a group are measured in turns, the groups one after another: memory that one group has freed slows down
  // the files of the next.
  const groups: Arm[][] = [
    [asyncArm("saveFile", () => downhill.saveFile(path, model, optimizer)), arm("copy of the file", copyFile)],
    [
      asyncArm("loadFile", () => downhill.loadFile(path, model, optimizer)),
      arm("read of the file", () => readFileSync(path)),
    ],
    [
      arm("save", () => downhill.save(model, optimizer)),
      arm("load", () => downhill.load(bytes, model, optimizer)),
      arm("copy of the bytes", () => bytes.slice()),
    ],
  ];
  const arms: Record<string, Timing> = {};
  for (const group of groups) {
    const timings = await compare(group, { milliseconds: 3000 });
    for (const [i, { name }] of group.entries()) arms[name] = timings[i]!;
  }
  arena.free();
  rmSync(folder, { recursive: true });
  return { bytes: bytes.length, arms };
}
