/** safetensors files as data. */

import { fileError, pathOf, versionOf, withFile } from "../checkpoint/files.js";
import { asBytes } from "../checkpoint/loading.js";
import { decode, readHeader } from "../checkpoint/safetensors.js";
import { show, wrongKind, wrongValue } from "../option.js";
import { nodeModule, textDecoder } from "../platform.js";
import { FileTensor, LazyBytes } from "./tensor.js";
import { isDict, newDict } from "./unpickle.js";

/** The content of a safetensors file, or of several files with an index. */
export class Safetensors {
  /** The tensors by name, in an object without a prototype. Their elements are read when `read()` is called. */
  readonly tensors: Readonly<Record<string, FileTensor>>;
  /** The text in the file's metadata by key, in an object without a prototype; empty if there is none. */
  readonly metadata: Readonly<Record<string, string>>;

  /** @internal */
  constructor(tensors: ReadonlyMap<string, FileTensor>, metadata: ReadonlyMap<string, string>) {
    this.tensors = Object.freeze(Object.assign(newDict(), Object.fromEntries(tensors)));
    this.metadata = Object.freeze(Object.assign(newDict(), Object.fromEntries(metadata)));
    Object.freeze(this);
  }

  /** Other names of tensors: `save_model` writes tied weights once, and the other names into the metadata. @internal */
  get aliases(): ReadonlyMap<string, FileTensor> {
    const aliases = Object.entries(this.metadata).filter(
      ([alias, name]) => Object.hasOwn(this.tensors, name) && !Object.hasOwn(this.tensors, alias),
    );
    return new Map(aliases.map(([alias, name]) => [alias, this.tensors[name]!]));
  }
}

/**
 * Reads a safetensors file: names, shapes, dtypes and metadata at once, elements when they are asked for.
 * @param file the bytes of a file; or a record of the bytes of several files, by their names in the index
 * @param index the text or the data of `model.safetensors.index.json`, for several files. Default: none; there is one file
 * @throws a TypeError for wrong arguments; a RangeError for a damaged file, and for an index that does not fit.
 */
export function readSafetensors(
  file: Uint8Array | ArrayBuffer | Readonly<Record<string, Uint8Array | ArrayBuffer>>,
  index?: string | object,
): Safetensors {
  const title = "readSafetensors";
  if (index === undefined) return titled(title, () => parseSafetensors(asBytes(title, file)));
  if (!isDict(file)) throw wrongKind(`${title}: files must be bytes by the names in the index`, file);
  return titled(title, () => {
    const shards = shardsIn(index);
    return joinShards(shards, (name) => {
      if (!Object.hasOwn(file, name)) throw new RangeError(`the files must have ${show(name)}, which the index names`);
      return parseSafetensors(asBytes(title, file[name]));
    });
  });
}

/**
 * Opens a safetensors file. If the path ends with `.json`, it is an index (`model.safetensors.index.json`), and the
 * files that it names are opened. In Node, Bun and Deno only headers are read. A tensor's elements are read each time that
 * `read()` is called. In browsers, whole files are read at once.
 * @param path a path, or a file: URL; in browsers a path in the origin's private file system
 * @throws as `readSafetensors`; an Error if a file cannot be read.
 */
export async function readSafetensorsFile(path: string | URL): Promise<Safetensors> {
  const title = "readSafetensorsFile";
  const place = pathOf(title, path);
  if (!place.endsWith(".json")) return openOne(title, place);
  const text = await withFile(title, place, ({ size, read }) => {
    if (size <= MAX_INDEX_BYTES) return read(0, size);
    throw new RangeError(`${title}: an index must have at most ${MAX_INDEX_BYTES} bytes, got ${size}`);
  });
  const shards = titled(title, () => shardsIn(textDecoder().decode(text)));
  const files = new Map<string, Safetensors>();
  for (const name of new Set(shards.values())) {
    const beside = place.slice(0, place.length - baseName(place).length) + name;
    files.set(name, await openOne(title, beside));
  }
  return titled(title, () => joinShards(shards, (name) => files.get(name)!));
}

/** The limit on an index's bytes: many times the index of any model. */
const MAX_INDEX_BYTES = 2 ** 26;

const baseName = (path: string) => path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);

async function openOne(title: string, path: string): Promise<Safetensors> {
  // The program may change its folder before an element is read.
  const place = nodeModule("path")?.resolve(path) ?? path;
  return withFile(title, place, async (file) => {
    const header = await readHeader(file);
    const all = nodeModule("fs") ? undefined : await file.read(0, file.size);
    return titled(title, () =>
      parseSafetensors(header, file.size, (begin, end) =>
        all
          ? all.subarray(begin, end)
          : new LazyBytes(end - begin, () => readNow(title, place, file.version, begin, end)),
      ),
    );
  });
}

/** The most bytes in one call: Node's number of bytes is one of 31 bits. */
const MAX_READ = 2 ** 30;

/** Reads a part of a file on disk at once. The header's positions hold only for the file that was opened. */
function readNow(title: string, path: string, version: string, begin: number, end: number): Uint8Array {
  const { openSync, readSync, closeSync, fstatSync } = nodeModule("fs")!;
  const bytes = new Uint8Array(end - begin);
  let at = 0;
  try {
    const file = openSync(path, "r");
    try {
      if (versionOf(fstatSync(file)) !== version) throw new Error("it was replaced or changed; open it again");
      for (let read = -1; at < bytes.length && read !== 0; at += read) {
        read = readSync(file, bytes, at, Math.min(bytes.length - at, MAX_READ), begin + at);
      }
    } finally {
      closeSync(file);
    }
  } catch (cause) {
    throw fileError(title, path, "read", cause);
  }
  if (at < bytes.length) throw new RangeError(`${title}: ${path} must have ${end} bytes, got fewer`);
  return bytes;
}

/** Reads a header. `part` returns the bytes between two of the file's. */
export function parseSafetensors(
  header: Uint8Array,
  size = header.length,
  part: (begin: number, end: number) => Uint8Array | LazyBytes = (begin, end) => header.subarray(begin, end),
): Safetensors {
  const { tensors, metadata, start } = decode(header, size);
  const read = new Map<string, FileTensor>();
  for (const [name, { dtype, shape, begin, end }] of tensors) {
    read.set(name, new FileTensor(dtype, shape, part(start + begin, start + end)));
  }
  return new Safetensors(read, metadata);
}

/** The file of each tensor, by an index. */
function shardsIn(index: string | object): ReadonlyMap<string, string> {
  let data: unknown = index;
  if (typeof index === "string") {
    try {
      data = JSON.parse(index);
    } catch {
      throw wrongValue("the index must be JSON", index);
    }
  }
  const map: unknown = isDict(data) ? data.weight_map : undefined;
  if (!isDict(map)) throw wrongValue("the index must have weight_map, the file of each tensor", map);
  const files = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    // Files must be in the folder of the index. A name with a path is refused.
    if (typeof file !== "string" || file === "" || file.startsWith(".") || /[/\\:]/.test(file)) {
      throw wrongValue("the index must name files in its folder", file, ` for ${show(name)}`);
    }
    files.set(name, file);
  }
  return files;
}

/** The tensors that an index names, each from its file. */
function joinShards(shards: ReadonlyMap<string, string>, open: (name: string) => Safetensors): Safetensors {
  const tensors = new Map<string, FileTensor>();
  const metadata = new Map<string, string>();
  const files = new Map<string, Safetensors>();
  for (const [name, file] of shards) {
    const shard = files.get(file) ?? open(file);
    files.set(file, shard);
    if (!Object.hasOwn(shard.tensors, name)) {
      throw new RangeError(`${show(file)} must hold tensor ${show(name)}, as the index says, got a file without it`);
    }
    tensors.set(name, shard.tensors[name]!);
  }
  for (const shard of files.values()) for (const [key, text] of Object.entries(shard.metadata)) metadata.set(key, text);
  return new Safetensors(tensors, metadata);
}

/** Puts the function's name before the messages about a file. */
export function titled<Result>(title: string, act: () => Result): Result {
  try {
    return act();
  } catch (cause) {
    if (cause instanceof RangeError && !cause.message.startsWith(`${title}: `)) {
      throw new RangeError(`${title}: ${cause.message}`, { cause });
    }
    throw cause;
  }
}
