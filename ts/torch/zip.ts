/** Zip archives as `torch.save` writes them: not compressed. */

import { crc32 } from "../checkpoint/crc32.js";
import { concat } from "../checkpoint/files.js";
import { show } from "../option.js";

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const [LOCAL_BYTES, CENTRAL_BYTES, END_BYTES] = [30, 46, 22];
const LONGEST_COMMENT = 65535;

/** The files in an archive by name: views. A RangeError for a damaged or compressed archive. */
export function unzip(bytes: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const within = (at: number, length: number, what: string) => {
    if (at + length > bytes.length) throw new RangeError(`the archive must hold ${what}, got ${bytes.length} bytes`);
  };
  let end = bytes.length - END_BYTES;
  const last = Math.max(0, end - LONGEST_COMMENT);
  while (end >= last && view.getUint32(end, true) !== END) end--;
  if (end < last) throw new RangeError("the file must be a zip archive, got no end of one");
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if (count === 0xffff || at === 0xffffffff) {
    throw new RangeError("the archive must be smaller than 4 GiB, got one in the format for larger ones");
  }

  const files = new Map<string, Uint8Array>();
  let total = 0;
  for (let i = 0; i < count; i++) {
    within(at, CENTRAL_BYTES, "its directory");
    if (view.getUint32(at, true) !== CENTRAL) throw new RangeError(`the archive's directory is damaged at byte ${at}`);
    const [method, crc, size] = [
      view.getUint16(at + 10, true),
      view.getUint32(at + 16, true),
      view.getUint32(at + 24, true),
    ];
    const [nameLength, extra, comment] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true)) as [
      number,
      number,
      number,
    ];
    const local = view.getUint32(at + 42, true);
    within(at + CENTRAL_BYTES, nameLength, "its directory");
    const name = new TextDecoder().decode(bytes.slice(at + CENTRAL_BYTES, at + CENTRAL_BYTES + nameLength));
    if (method !== 0) throw new RangeError(`${show(name)} must be stored as it is, got it compressed`);
    within(local, LOCAL_BYTES, show(name));
    if (view.getUint32(local, true) !== LOCAL)
      throw new RangeError(`${show(name)} must begin at byte ${local}, got something else there`);
    const start = local + LOCAL_BYTES + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    within(start, size, show(name));
    total += size;
    if (total > bytes.length) throw new RangeError(`the archive's files must not overlap, got ${total} bytes of them`);
    const content = bytes.subarray(start, start + size);
    if (files.has(name)) throw new RangeError(`the archive must hold each file once, got ${show(name)} twice`);
    if (crc32(content) !== crc)
      throw new RangeError(`${show(name)} is damaged: its checksum is not the one in the archive`);
    files.set(name, content);
    at += CENTRAL_BYTES + nameLength + extra + comment;
  }
  return files;
}

/** The flag for names in UTF-8. */
const UTF8 = 0x800;

/** PyTorch aligns data to so many bytes, so that it can map a file into memory. */
const ALIGNMENT = 64;

/** The 1st of January 1980, the earliest date of a zip file: archives of the same data are the same bytes. */
const DATE = 0x21;

/** Writes an archive. */
export function zip(files: ReadonlyMap<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  const add = (part: Uint8Array) => {
    parts.push(part);
    at += part.length;
  };
  for (const [name, content] of files) {
    const title = new TextEncoder().encode(name);
    const unaligned = at + LOCAL_BYTES + title.length + 4;
    const padding = 4 + (Math.ceil(unaligned / ALIGNMENT) * ALIGNMENT - unaligned);
    // Flags, method, time, date, checksum, sizes as stored and as they are, the name's length.
    const both = [short(UTF8), short(0), short(0), short(DATE), long(crc32(content))];
    both.push(long(content.length), long(content.length), short(title.length));
    const nothing = [0, 0, 0, 0].map(short); // no extra field, no comment, one disk, no attributes
    directory.push(record(long(CENTRAL), short(0), short(0), ...both, ...nothing, long(0), long(at)), title);
    add(record(long(LOCAL), short(0), ...both, short(padding)));
    add(title);
    add(record(short(0x4246), short(padding - 4))); // "FB", as PyTorch marks it
    add(new Uint8Array(padding - 4));
    add(content);
  }
  const start = at;
  directory.forEach(add);
  if (at > 0xffffffff || files.size >= 0xffff) {
    throw new RangeError(`the archive must have less than 4 GiB and 65535 files, got ${at} bytes, ${files.size} files`);
  }
  const count = short(files.size);
  add(record(long(END), short(0), short(0), count, count, long(at - start), long(start), short(0)));
  return concat(parts);
}

type Field = readonly [bytes: 2 | 4, value: number];
const short = (value: number): Field => [2, value];
const long = (value: number): Field => [4, value];

/** Concatenates numbers in little-endian order. */
function record(...fields: readonly Field[]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}
