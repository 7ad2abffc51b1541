/** Files that are never half written: on disk in Node, Bun and Deno; in the origin's private file system in browsers. */

import { sum } from "../math.js";
import { encodeText, nodeModule, type NodeStats } from "../platform.js";
import { isRevoked, show, wrongKind } from "../option.js";
import { crc32, hex } from "./crc32.js";

/** A file that is open for reading. */
export interface OpenFile {
  readonly size: number;
  /** Text that differs for another file at the same path, and for the same file after a change. */
  readonly version: string;
  /** Reads the bytes from `begin` to `end`: fewer if the file has become shorter. */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/** The last save of each file that is under way. */
const saves = new Map<string, Promise<void>>();

/** Saves a file. `earlier` is fulfilled when the saves of this file that were called before have ended. */
async function inTurn(file: string, save: (earlier: Promise<void> | undefined) => Promise<void>): Promise<void> {
  const saved = save(saves.get(file)?.catch(() => {}));
  saves.set(file, saved);
  try {
    await saved;
  } finally {
    if (saves.get(file) === saved) saves.delete(file);
  }
}

/**
 * Writes parts, one after the other, and replaces the file. If several calls write the same file, the last call wins.
 * After an error or a crash, the path has either the old file or the new one. The parts may change once the promise is
 * returned, because they have been written or copied.
 * @param path what `pathOf` returned
 * @throws an Error with a `cause` if the file cannot be written.
 */
export async function writeAtomically(title: string, path: string, parts: readonly Uint8Array[]): Promise<void> {
  try {
    await (nodeModule("fs") ? writeOnDisk(path, parts) : writeInOrigin(path, parts));
  } catch (cause) {
    throw fileError(title, path, "written", cause);
  }
}

/** Concatenates parts. */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(sum(parts.map(({ length }) => length)));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * Opens a file, calls `use`, and closes the file.
 * @param path what `pathOf` returned
 * @throws an Error with a `cause` if the file cannot be read; and what `use` throws.
 */
export async function withFile<Result>(
  title: string,
  path: string,
  use: (file: OpenFile) => Promise<Result>,
): Promise<Result> {
  const attempt = async <Value>(act: () => Promise<Value>): Promise<Value> => {
    try {
      return await act();
    } catch (cause) {
      throw fileError(title, path, "read", cause);
    }
  };
  const file = await attempt(() => (nodeModule("fs") ? openOnDisk(path) : openInOrigin(path)));
  try {
    const { size, version } = file;
    return await use({ size, version, read: (begin, end) => attempt(() => file.read(begin, end)) });
  } finally {
    await file.close();
  }
}

/** The path in a URL, or the path itself. */
export function pathOf(title: string, path: unknown): string {
  if (typeof path === "string" && path !== "") return path;
  const { href } = (isRevoked(path) ? {} : Object(path)) as { href?: unknown };
  if (typeof href !== "string") {
    throw wrongKind(`${title}: path, the first argument, must be a path or a file: URL`, path);
  }
  const url = nodeModule("url");
  if (!href.startsWith("file:")) throw wrongKind(`${title}: path must be a file: URL`, href);
  try {
    return url ? url.fileURLToPath(href) : decodeURIComponent(href.slice("file://".length));
  } catch (cause) {
    throw new TypeError(`${title}: path must be the URL of a file on this machine, got ${show(href)}`, { cause });
  }
}

/** The longest path, and the longest message of the system, in an error. */
const MAX_TEXT = 300;

export const fileError = (title: string, path: string, verb: string, cause: unknown) => {
  const [file, why] = [path, (cause as Error).message].map((text) =>
    text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text,
  );
  return new Error(`${title}: ${file} cannot be ${verb}: ${why}`, { cause });
};

/** The file that a path names, with all links followed; it need not exist. */
function followLinks(path: string): string {
  const { lstatSync, readlinkSync, realpathSync } = nodeModule("fs")!;
  const { basename, dirname, join, resolve } = nodeModule("path")!;
  let target = resolve(path);
  for (let links = 0; links < MAX_LINKS; links++) {
    if (!lstatSync(target, { throwIfNoEntry: false })?.isSymbolicLink()) return target;
    const folder = realpathSync(dirname(target));
    target = resolve(folder, readlinkSync(join(folder, basename(target))));
  }
  throw new Error("its symbolic links form a loop");
}
/** The limit of Linux. */
const MAX_LINKS = 40;

/** Throws unless the path is a regular file. A device would be replaced; a pipe would never end. */
function checkRegular(stats: NodeStats): void {
  if (stats.isDirectory()) throw new Error("it is a folder");
  if (!stats.isFile())
    throw new Error("it is a device or a pipe, not a regular file; use save() and load(), which work with bytes");
}

/**
 * Writes a temporary file at once, because a copy of the data would take longer, and then waits for the disk without
 * blocking.
 */
async function writeOnDisk(path: string, parts: readonly Uint8Array[]): Promise<void> {
  if (path.endsWith("/")) throw new Error("its name ends with /, as that of a folder");
  const target = followLinks(path);
  return inTurn(target, (earlier) => replaceOnDisk(target, parts, earlier));
}

async function replaceOnDisk(target: string, parts: readonly Uint8Array[], earlier?: Promise<void>): Promise<void> {
  const fs = nodeModule("fs")!;
  const { dirname, basename, join } = nodeModule("path")!;
  const folder = dirname(target);
  if (!fs.existsSync(folder)) throw new Error(`there is no folder ${folder}; make it first`);
  const old = fs.lstatSync(target, { throwIfNoEntry: false });
  if (old) checkRegular(old);
  const prefix = temporaryPrefix(basename(target));
  removeLeftovers(folder, prefix);
  const temporary = join(folder, `${prefix}${nodeProcess().pid}-${crypto.randomUUID().slice(0, 13)}.partial`);
  try {
    // Node's permission model forbids fsync: each write reaches the disk then before it returns.
    const isRestricted = nodeProcess().permission !== undefined;
    const { O_WRONLY, O_CREAT, O_EXCL, O_SYNC = 0 } = fs.constants;
    const flags = O_WRONLY | O_CREAT | O_EXCL | (isRestricted ? O_SYNC : 0);
    const file = fs.openSync(temporary, flags, old ? old.mode & 0o777 : 0o666);
    try {
      // The mode at opening loses the bits of the umask. Node's permission model forbids to set them.
      if (old && !isRestricted) fs.fchmodSync(file, old.mode & 0o777);
      for (const part of parts) for (let at = 0; at < part.length;) at += fs.writeSync(file, part.subarray(at));
      await new Promise<void>((resolve, reject) => {
        if (isRestricted) resolve();
        else fs.fsync(file, (error) => (error ? reject(error) : resolve()));
      });
    } finally {
      fs.closeSync(file);
    }
    await earlier;
    await fs.promises.rename(temporary, target);
  } catch (cause) {
    await fs.promises.unlink(temporary).catch(() => {});
    throw cause;
  }
  // The folder is flushed so that the new name survives a power failure. Windows cannot open folders.
  const entries = await fs.promises.open(folder, "r").catch(() => undefined);
  await entries?.sync().catch(() => {});
  await entries?.close();
}

/** The part of Node's `process` that this module uses. */
interface Process {
  readonly pid: number;
  readonly permission?: object;
  kill(pid: number, signal: 0): void;
}

/** Returns Node's `process`. If the code named it directly, Parcel would add a polyfill to the user's project. */
const nodeProcess = () => (globalThis as unknown as { process: Process }).process;

/**
 * The prefix of the names of temporary files for a target. It has checksums of the target's name and of the host's
 * name, because a file name may have at most 255 bytes. The writer's process follows.
 */
function temporaryPrefix(target: string): string {
  const checksum = (text: string) => hex(crc32(encodeText(text)));
  return `.downhill-${checksum(target)}-${checksum(nodeModule("os")!.hostname())}-`;
}

/** Removes the temporary files of writers of this host that were killed. A folder that cannot be listed is left alone. */
function removeLeftovers(folder: string, prefix: string): void {
  const { readdirSync, unlinkSync } = nodeModule("fs")!;
  try {
    for (const name of readdirSync(folder)) {
      if (!name.startsWith(prefix) || !name.endsWith(".partial")) continue;
      const pid = Number.parseInt(name.slice(prefix.length));
      if (!isRunning(pid)) unlinkSync(nodeModule("path")!.join(folder, name));
    }
  } catch {
    // Files that remain take space on the disk, and do no other harm.
  }
}

function isRunning(pid: number): boolean {
  try {
    nodeProcess().kill(pid, 0);
    return true;
  } catch (error) {
    return (error as { code?: string }).code !== "ESRCH"; // another error means that the process is another user's
  }
}

/** The version of a file on disk. */
export const versionOf = ({ dev, ino, size, mtimeMs }: NodeStats): string => `${[dev, ino, size, mtimeMs]}`;

/** Bytes per read: many, because each read costs one turn of the event loop. */
const READ_BYTES = 2 ** 24;

async function openOnDisk(path: string): Promise<OpenFile & { close(): Promise<void> }> {
  const { promises } = nodeModule("fs")!;
  // Before it is opened: opening a pipe waits for a writer.
  checkRegular(await promises.stat(path));
  const file = await promises.open(path, "r");
  const stats = await file.stat();
  return {
    size: stats.size,
    version: versionOf(stats),
    async read(begin, end) {
      const bytes = new Uint8Array(end - begin);
      for (let at = 0; at < bytes.length;) {
        const { bytesRead } = await file.read(bytes, at, Math.min(READ_BYTES, bytes.length - at), begin + at);
        if (bytesRead === 0) return bytes.subarray(0, at);
        at += bytesRead;
      }
      return bytes;
    },
    close: () => file.close(),
  };
}

async function openInOrigin(path: string): Promise<OpenFile & { close(): Promise<void> }> {
  const { folder, name } = await locateInOrigin(path, false);
  const file = await (await folder.getFileHandle(name)).getFile();
  return {
    size: file.size,
    version: `${file.lastModified}`,
    read: async (begin, end) => new Uint8Array(await file.slice(begin, end).arrayBuffer()),
    close: async () => {},
  };
}

/** The browser writes to a temporary file and replaces the target when it is closed. */
function writeInOrigin(path: string, parts: readonly Uint8Array[]): Promise<void> {
  const bytes = concat(parts);
  return inTurn(path.split("/").filter(Boolean).join("/"), (earlier) => replaceInOrigin(path, bytes, earlier));
}

async function replaceInOrigin(path: string, bytes: Uint8Array<ArrayBuffer>, earlier?: Promise<void>): Promise<void> {
  const { folder, name } = await locateInOrigin(path, true);
  const handle = await folder.getFileHandle(name, { create: true });
  if (!handle.createWritable)
    throw new Error("this browser cannot write files here (Safari can from version 26 on); save() returns the bytes");
  const file = await handle.createWritable();
  try {
    await file.write(bytes);
  } catch (cause) {
    await file.abort();
    throw cause;
  }
  await earlier;
  await file.close();
}

async function locateInOrigin(path: string, create: boolean) {
  if (!globalThis.navigator?.storage?.getDirectory) {
    throw new Error("there is no file system for this page; use save() and load(), which work with bytes");
  }
  const folders = path.split("/").filter(Boolean);
  const name = folders.pop() ?? "";
  let folder = await navigator.storage.getDirectory();
  for (const name of folders) folder = await folder.getDirectoryHandle(name, { create });
  return { folder, name };
}
