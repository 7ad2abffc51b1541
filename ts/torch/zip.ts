/** Zip archives as `torch.save` writes them: not compressed, in the zip64 format where they are large. */

import { crc32 } from "../checkpoint/crc32.js";
import { concat } from "../checkpoint/files.js";
import { roundUp, sum } from "../math.js";
import { show, wrongValue } from "../option.js";
import { encodeText, textDecoder } from "../platform.js";

/** The remedy for a file that holds another form of a model. */
export const SAVE_STATE_DICT = "save the model with torch.save(model.state_dict(), path)";

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const [LOCAL_BYTES, CENTRAL_BYTES, END_BYTES, END64_BYTES, LOCATOR64_BYTES] = [30, 46, 22, 56, 20];
const LONGEST_COMMENT = 65535;

/** The values which mean that the real value is in the zip64 extra field. */
const [MANY, LARGE] = [0xffff, 0xffffffff];
/** The identifier of the zip64 extra field. */
const EXTRA64 = 1;

/**
 * The files in an archive by name: views.
 * @throws a RangeError for a damaged or compressed archive.
 */
export function unzip(bytes: Uint8Array): ReadonlyMap<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const within = (at: number, length: number, what: string) => {
    if (at + length > bytes.length) throw new RangeError(`the archive must hold ${what}, got ${bytes.length} bytes`);
  };
  const long64 = (at: number) => Number(view.getBigUint64(at, true));
  let { count, at } = directory(view);

  const files = new Map<string, Uint8Array>();
  let total = 0;
  for (let i = 0; i < count; i++) {
    within(at, CENTRAL_BYTES, "its directory");
    if (view.getUint32(at, true) !== CENTRAL) throw new RangeError(`the archive's directory is damaged at byte ${at}`);
    const [method, crc] = [view.getUint16(at + 10, true), view.getUint32(at + 16, true)];
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) =>
      view.getUint16(at + offset, true),
    ) as [number, number, number];
    const nameAt = at + CENTRAL_BYTES;
    within(nameAt, nameLength + extraLength, "its directory");
    const name = textDecoder().decode(bytes.slice(nameAt, nameAt + nameLength));
    if (method !== 0) {
      throw new RangeError(
        `${show(name)} must be stored without compression, as torch.save stores it, got a compressed file; ${SAVE_STATE_DICT}`,
      );
    }
    // In zip64, the sizes and the place that are too large are in the extra field, in this order.
    let more = extra64(view, nameAt + nameLength, extraLength);
    const [size, , local] = [24, 20, 42].map((offset) => {
      const short = view.getUint32(at + offset, true);
      if (short !== LARGE || more === undefined || more.at + 8 > more.end) return short;
      more = { at: more.at + 8, end: more.end };
      return long64(more.at - 8);
    }) as [number, number, number];
    within(local, LOCAL_BYTES, show(name));
    if (view.getUint32(local, true) !== LOCAL)
      throw new RangeError(`${show(name)} must begin at byte ${local}, got something else there`);
    const start = local + LOCAL_BYTES + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    within(start, size, show(name));
    total += size;
    if (total > bytes.length) throw new RangeError(`the archive's files must not overlap, got ${total} bytes of them`);
    const content = bytes.subarray(start, start + size);
    if (files.has(name)) throw wrongValue("the archive must hold each file once", name, " twice");
    if (crc32(content) !== crc)
      throw new RangeError(`${show(name)} is damaged: its checksum is not the one in the archive`);
    files.set(name, content);
    at = nameAt + nameLength + extraLength + commentLength;
  }
  return files;
}

/** The number of files, and the byte at which the directory begins. */
function directory(view: DataView): { count: number; at: number } {
  let end = view.byteLength - END_BYTES;
  const last = Math.max(0, end - LONGEST_COMMENT);
  while (end >= last && view.getUint32(end, true) !== END) end--;
  if (end < last)
    throw new RangeError(
      "the file must be a complete zip archive, got one without its directory at the end; it may be cut off, so copy or download it again",
    );
  const [count, at] = [view.getUint16(end + 10, true), view.getUint32(end + 16, true)];
  const locator = end - LOCATOR64_BYTES;
  if ((count !== MANY && at !== LARGE) || locator < 0 || view.getUint32(locator, true) !== LOCATOR64)
    return { count, at };
  const end64 = Number(view.getBigUint64(locator + 8, true));
  if (end64 + END64_BYTES > view.byteLength || view.getUint32(end64, true) !== END64) {
    throw new RangeError(`the archive's end must begin at byte ${end64}, got something else there`);
  }
  return { count: Number(view.getBigUint64(end64 + 32, true)), at: Number(view.getBigUint64(end64 + 48, true)) };
}

/** The place of a directory entry's numbers in the zip64 format, if it has some. */
function extra64(view: DataView, at: number, length: number): { at: number; end: number } | undefined {
  const end = at + length;
  for (let field = at; field + 4 <= end;) {
    const next = field + 4 + view.getUint16(field + 2, true);
    if (view.getUint16(field, true) === EXTRA64) return { at: field + 4, end: Math.min(next, end) };
    field = next;
  }
  return undefined;
}

/** The flag for names in UTF-8. */
const UTF8 = 0x800;

/** PyTorch aligns data to so many bytes, so that it can map a file into memory. */
const ALIGNMENT = 64;

/** The 1st of January 1980, the earliest date of a zip file: archives of the same data are the same bytes. */
const DATE = 0x21;

/** Writes an archive, in the zip64 format if it has at least 65,535 files or 4 GiB. */
export function zip(files: ReadonlyMap<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  const add = (part: Uint8Array) => {
    parts.push(part);
    at += part.length;
  };
  for (const [name, content] of files) {
    const title = encodeText(name);
    const { length } = content;
    // zip64 fields: the sizes of a file of 4 GiB or more, and in the directory the offset of a file that begins beyond
    // 4 GiB.
    const sizes64 = length >= LARGE ? [double(length), double(length)] : [];
    const places64 = [...sizes64, ...(at >= LARGE ? [double(at)] : [])];
    const field64 = (numbers: readonly Field[]) =>
      numbers.length === 0 ? new Uint8Array() : record(short(EXTRA64), short(8 * numbers.length), ...numbers);
    const [inFile, inDirectory] = [field64(sizes64), field64(places64)];
    const unaligned = at + LOCAL_BYTES + title.length + inFile.length + 4;
    const padding = 4 + roundUp(unaligned, ALIGNMENT) - unaligned;
    // Flags, method, time, date, checksum, sizes as stored and as they are, the name's length.
    const stored = long(Math.min(length, LARGE));
    const both = [
      short(UTF8),
      short(0),
      short(0),
      short(DATE),
      long(crc32(content)),
      stored,
      stored,
      short(title.length),
    ];
    const nothing = [0, 0, 0].map(short); // no comment, one disk, no attributes
    directory.push(
      record(
        ...[long(CENTRAL), short(0), short(0), ...both, short(inDirectory.length), ...nothing, long(0)],
        long(Math.min(at, LARGE)),
      ),
      title,
      inDirectory,
    );
    add(record(long(LOCAL), short(0), ...both, short(inFile.length + padding)));
    add(title);
    add(inFile);
    add(record(short(0x4246), short(padding - 4))); // "FB", as PyTorch marks it
    add(new Uint8Array(padding - 4));
    add(content);
  }
  const start = at;
  directory.forEach(add);
  const end = at;
  if (files.size >= MANY || end >= LARGE) {
    const count = double(files.size);
    add(record(long(END64), double(END64_BYTES - 12), short(45), short(45), long(0), long(0), count, count));
    add(record(double(end - start), double(start)));
    add(record(long(LOCATOR64), long(0), double(end), long(1)));
  }
  const count = short(Math.min(files.size, MANY));
  const [size, place] = [end - start, start].map((number) => long(Math.min(number, LARGE))) as [Field, Field];
  add(record(long(END), short(0), short(0), count, count, size, place, short(0)));
  return concat(parts);
}

type Field = readonly [bytes: 2 | 4 | 8, value: number];
const short = (value: number): Field => [2, value];
const long = (value: number): Field => [4, value];
const double = (value: number): Field => [8, value];

/** Concatenates numbers in little-endian order. */
function record(...fields: readonly Field[]): Uint8Array {
  const bytes = new Uint8Array(sum(fields.map(([size]) => size)));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else if (size === 4) view.setUint32(at, value, true);
    else view.setBigUint64(at, BigInt(value), true);
    at += size;
  }
  return bytes;
}
