/** CRC-32, the checksum of zip files and zlib. It detects every change of up to 32 adjacent bits. */

import { nodeModule } from "../platform.js";

/** `TABLES[k][b]` is the contribution of a byte `b` that has `k` more bytes after it. */
const TABLES: readonly Uint32Array[] = /* @__PURE__ */ tables();

function tables(): readonly Uint32Array[] {
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
    return byte;
  });
  const all = [first];
  for (let i = 1; i < 8; i++) all.push(all[i - 1]!.map((crc) => (crc >>> 8) ^ first[crc & 255]!));
  return all;
}

/** The CRC-32 of some bytes, from 0 to 2^32 - 1. */
export function crc32(bytes: Uint8Array): number {
  const native = nodeModule("zlib")?.crc32;
  return native ? native(bytes) : portableCrc32(bytes);
}

/** The same without zlib, eight bytes at a time. */
export function portableCrc32(bytes: Uint8Array): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES as [Uint32Array, ...Uint32Array[]];
  const { length } = bytes;
  let crc = -1;
  let i = 0;
  for (; i + 8 <= length; i += 8) {
    crc ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    crc =
      t7![crc & 255]! ^
      t6![(crc >>> 8) & 255]! ^
      t5![(crc >>> 16) & 255]! ^
      t4![crc >>> 24]! ^
      t3![bytes[i + 4]!]! ^
      t2![bytes[i + 5]!]! ^
      t1![bytes[i + 6]!]! ^
      t0[bytes[i + 7]!]!;
  }
  for (; i < length; i++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[i]!) & 255]!;
  return ~crc >>> 0;
}

/** The eight digits of a checksum. */
export const hex = (crc: number): string => crc.toString(16).padStart(8, "0");
