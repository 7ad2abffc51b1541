/** Files that are never half written: on disk in Node, Bun and Deno; in the origin's private file system in browsers. */

import { nodeModule } from "../platform.js";

/**
 * Writes parts, one after the other, and replaces the file. Whatever happens on the way, the path has either the old
 * file or the new one. The parts may change as soon as this returns its promise.
 * @throws an Error with a `cause` if the file cannot be written.
 */
export async function writeAtomically(path: string | URL, parts: readonly Uint8Array[]): Promise<void> {
  try {
    await (nodeModule("fs") ? writeOnDisk(path, parts) : writeInOrigin(path, parts));
  } catch (cause) {
    throw fileError("saveFile", path, "written", cause);
  }
}

/** Concatenates parts. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * Reads a file.
 * @throws an Error with a `cause` if the file cannot be read.
 */
export async function readFile(path: string | URL): Promise<Uint8Array> {
  try {
    if (nodeModule("fs")) return await readFromDisk(path);
    const { folder, name } = await locateInOrigin(path, false);
    return new Uint8Array(await (await (await folder.getFileHandle(name)).getFile()).arrayBuffer());
  } catch (cause) {
    throw fileError("loadFile", path, "read", cause);
  }
}

const fileError = (title: string, path: string | URL, verb: string, cause: unknown) =>
  new Error(`${title}: ${path} cannot be ${verb}: ${(cause as Error).message}`, { cause });

const pathOf = (path: string | URL) => (path instanceof URL ? nodeModule("url")!.fileURLToPath(path) : path);

/** Writes a temporary file at once, because a copy would cost more, and then waits for the disk without blocking. */
async function writeOnDisk(path: string | URL, parts: readonly Uint8Array[]): Promise<void> {
  const fs = nodeModule("fs")!;
  const old = fs.existsSync(path);
  const target = old ? fs.realpathSync(path) : pathOf(path);
  const folder = nodeModule("path")!.dirname(target);
  if (!fs.existsSync(folder)) throw new Error(`there is no folder ${folder}; make it first`);
  const mode = old ? fs.statSync(path).mode & 0o777 : 0o666;
  const partial = `${target}.${crypto.randomUUID()}.partial`;
  try {
    const file = fs.openSync(partial, "wx", mode);
    try {
      for (const part of parts) for (let at = 0; at < part.length;) at += fs.writeSync(file, part.subarray(at));
      await new Promise<void>((resolve, reject) => fs.fsync(file, (error) => (error ? reject(error) : resolve())));
    } finally {
      fs.closeSync(file);
    }
    await fs.promises.rename(partial, target);
  } catch (cause) {
    await fs.promises.unlink(partial).catch(() => {});
    throw cause;
  }
  // The folder is flushed so that the new name survives a power failure. Windows cannot open folders.
  const entries = await fs.promises.open(folder, "r").catch(() => undefined);
  await entries?.sync().catch(() => {});
  await entries?.close();
}

/** Bytes per read: many, because each read costs one turn of the event loop. */
const READ_BYTES = 2 ** 24;

async function readFromDisk(path: string | URL): Promise<Uint8Array> {
  const file = await nodeModule("fs")!.promises.open(path, "r");
  try {
    const { size } = await file.stat();
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size;) {
      const { bytesRead } = await file.read(bytes, at, Math.min(READ_BYTES, size - at), at);
      if (bytesRead === 0) return bytes.subarray(0, at);
      at += bytesRead;
    }
    return bytes;
  } finally {
    await file.close();
  }
}

/** The browser writes to a temporary file and replaces the target when it is closed. */
async function writeInOrigin(path: string | URL, parts: readonly Uint8Array[]): Promise<void> {
  const bytes = concat(parts);
  const { folder, name } = await locateInOrigin(path, true);
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

async function locateInOrigin(path: string | URL, create: boolean) {
  if (!globalThis.navigator?.storage?.getDirectory) {
    throw new Error("there is no file system for this page; save() and load() have the bytes");
  }
  const folders = String(path).split("/").filter(Boolean);
  const name = folders.pop() ?? "";
  let folder = await navigator.storage.getDirectory();
  for (const name of folders) folder = await folder.getDirectoryHandle(name, { create });
  return { folder, name };
}
