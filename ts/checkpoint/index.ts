import type { Tensors } from "../optimizer/params.js";
import type { Checkpointable } from "../optimizer/checkpointable.js";
import { type Loaded, loadFrom, partsToRead, saveParts } from "./checkpoint.js";
import { withFile, writeAtomically } from "./files.js";
import type { LoadOptions } from "./loading.js";
import { readHeader } from "./safetensors.js";

export { load, type Loaded, save } from "./checkpoint.js";
export type { LoadOptions } from "./loading.js";

/**
 * Saves to a file what `save` returns at the time of the call: on disk, or in browsers in the origin's private file
 * system. The file is never half written: after a crash the path has the old file or the new one.
 * @param path a path, or a file: URL
 * @throws as `save`; an Error if the file cannot be written.
 */
export async function saveFile(
  path: string | URL,
  model: Tensors,
  optimizer?: Checkpointable,
  extra?: unknown,
): Promise<void> {
  await saveParts("saveFile", model, optimizer, extra, (parts) => writeAtomically("saveFile", path, parts));
}

/**
 * Loads a file that `saveFile` wrote. Only the header and the tensors that fit are read.
 * @param path a path, or a file: URL
 * @throws as `load`; an Error if the file cannot be read.
 */
export async function loadFile(
  path: string | URL,
  model: Tensors,
  optimizer?: Checkpointable,
  options: LoadOptions = {},
): Promise<Loaded> {
  return withFile("loadFile", path, async (file) => {
    const header = await readHeader(file);
    const parts = new Map<number, Uint8Array>();
    for (const { begin, end } of partsToRead("loadFile", header, file.size, model, optimizer, options)) {
      parts.set(begin, await file.read(begin, end));
    }
    return loadFrom("loadFile", header, file.size, (begin) => parts.get(begin)!, model, optimizer, options);
  });
}
