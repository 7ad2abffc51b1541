/** Files that are always whole: in Node (Bun, Deno) on disk, in browsers in the origin's private file system. */

import { nodeModule } from "../platform.js";

/** How many files this process has begun. */
let begun = 0;

/**
 * Writes a file in the place of another: whatever happens on the way, either the old one is there or the new one.
 * An Error, whose cause tells more, if it cannot be written.
 */
export async function writeWhole(path: string | URL, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  try {
    await (nodeModule("fs") ? writeOnDisk(path, bytes) : writeInOrigin(path, bytes));
  } catch (cause) {
    throw failed("saveFile", path, "written", cause);
  }
}

/** A file's bytes. An Error, whose cause tells more, if it cannot be read. */
export async function readWhole(path: string | URL): Promise<Uint8Array> {
  try {
    const fs = nodeModule("fs");
    if (fs) return await fs.promises.readFile(path);
    const { folder, name } = await inOrigin(path, false);
    return new Uint8Array(await (await (await folder.getFileHandle(name)).getFile()).arrayBuffer());
  } catch (cause) {
    throw failed("loadFile", path, "read", cause);
  }
}

const failed = (title: string, path: string | URL, verb: string, cause: unknown) =>
  new Error(`${title}: ${path} cannot be ${verb}: ${(cause as Error).message}`, { cause });

async function writeOnDisk(path: string | URL, bytes: Uint8Array): Promise<void> {
  const { open, realpath, rename, unlink } = nodeModule("fs")!.promises;
  const named = path instanceof URL ? nodeModule("url")!.fileURLToPath(path) : path;
  const target = await realpath(named).catch(() => named);
  const partial = `${target}.${nodeModule("process")!.pid}-${begun++}.partial`;
  try {
    const file = await open(partial, "w");
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, target);
  } catch (cause) {
    await unlink(partial).catch(() => {});
    throw cause;
  }
  // The new name, too, must be there after a power failure. Windows has no folders to open.
  const folder = await open(nodeModule("path")!.dirname(target), "r").catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

/** What is written to a file there stands beside it, and takes its place when it is closed. */
async function writeInOrigin(path: string | URL, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const { folder, name } = await inOrigin(path, true);
  const handle = await folder.getFileHandle(name, { create: true });
  if (!handle.createWritable)
    throw new Error("this browser cannot write one here (Safari can from 26 on); save() has the bytes");
  const file = await handle.createWritable();
  try {
    await file.write(bytes);
  } catch (cause) {
    await file.abort();
    throw cause;
  }
  await file.close();
}

async function inOrigin(path: string | URL, create: boolean) {
  if (!globalThis.navigator?.storage?.getDirectory) {
    throw new Error("there is no file system for this page; save() and load() have the bytes");
  }
  const folders = String(path).split("/").filter(Boolean);
  const name = folders.pop() ?? "";
  let folder = await navigator.storage.getDirectory();
  for (const name of folders) folder = await folder.getDirectoryHandle(name, { create });
  return { folder, name };
}
