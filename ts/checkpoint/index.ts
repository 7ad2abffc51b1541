import type { Tensors } from "../optimizer/params.js";
import type { Resumable } from "../optimizer/checkpointable.js";
import { load, type Loaded, saving } from "./checkpoint.js";
import { readWhole, writeWhole } from "./files.js";
import type { LoadOptions } from "./loading.js";

export { load, type Loaded, save } from "./checkpoint.js";
export type { LoadOptions } from "./loading.js";

/**
 * Saves to a file, as it is when called: on disk, where it is whole or the one before whatever happens, or in browsers in
 * the origin's private file system. As `save`; an Error if the file cannot be written.
 */
export async function saveFile(
  path: string | URL,
  model: Tensors,
  optimizer?: Resumable,
  extra?: unknown,
): Promise<void> {
  await saving("saveFile", model, optimizer, extra, (parts) => writeWhole(path, parts));
}

/** Loads a file that `saveFile` wrote. As `load`; an Error if the file cannot be read. */
export async function loadFile(
  path: string | URL,
  model: Tensors,
  optimizer?: Resumable,
  options?: LoadOptions,
): Promise<Loaded> {
  return load(await readWhole(path), model, optimizer, options);
}
