import type { Tensors } from "../optimizer/params.js";
import { refuseNames } from "../option.js";
import type { Checkpointable } from "../optimizer/checkpointable.js";
import { type CheckedBytes, type Loaded, loadFrom, rangesToRead, saveParts, withChecksum } from "./checkpoint.js";
import { pathOf, withFile, writeAtomically } from "./files.js";
import { listModel, type LoadOptions, resolveLoad } from "./loading.js";
import { readHeader } from "./safetensors.js";

export { load, type Loaded, save } from "./checkpoint.js";
export type { LoadOptions } from "./loading.js";

/** The number of reads at a time: that of the threads with which Node reads files. */
const READERS = 4;

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
  const name = pathOf("saveFile", path);
  await saveParts("saveFile", model, optimizer, extra, (parts) => writeAtomically("saveFile", name, parts));
}

/**
 * Loads a file that `saveFile` wrote. Only the header and the tensors that fit are read.
 * @param path a path, or a file: URL
 * @throws as `load`; an Error if the file cannot be read.
 */
export function loadFile(
  path: string | URL,
  model: Tensors,
  optimizer?: Checkpointable,
  options: LoadOptions = {},
): Promise<Loaded> {
  const loading = loadFromFile(path, model, optimizer, options);
  const title = () => "loadFile returns a promise; await it to read";
  refuseNames(loading, title, { steps: "", extra: "", leftOut: "" });
  return loading;
}

async function loadFromFile(
  path: string | URL,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  options: LoadOptions,
): Promise<Loaded> {
  const title = "loadFile";
  const name = pathOf(title, path);
  // The caller may change them while the file is read.
  const tensors = [...listModel(title, model).values()];
  const chosen = resolveLoad(title, options);
  return withFile(title, name, async (file) => {
    const header = await readHeader(file);
    const ranges = rangesToRead(title, header, file.size, tensors, optimizer, chosen);
    const found = new Map<number, CheckedBytes>();
    const waiting = ranges.values();
    // Some ranges are read while the checksum of another is computed.
    const readAll = async () => {
      for (const { begin, end } of waiting) found.set(begin, withChecksum(await file.read(begin, end)));
    };
    await Promise.all(Array.from({ length: READERS }, readAll));
    const bytesAt = (begin: number) => {
      const bytes = found.get(begin);
      if (bytes) return bytes;
      throw new RangeError("the optimizer must stay as it is while the file is read, got other groups");
    };
    return loadFrom(title, header, file.size, bytesAt, tensors, optimizer, chosen);
  });
}
