/** Makes files by hand: a second, independent writer of the format. */

import { crc32 } from "node:zlib";

const encode = (text: string) => new TextEncoder().encode(text);

/** Makes a file from a header and data. `length` replaces the header's length field. Default: the right one. */
export function file(header: string | Uint8Array, data: Uint8Array, length?: bigint): Uint8Array {
  const bytes = typeof header === "string" ? encode(header) : header;
  const before = new Uint8Array(8);
  new DataView(before.buffer).setBigUint64(0, length ?? BigInt(bytes.length), true);
  return Buffer.concat([before, bytes, data]);
}

const CHECKSUM = 8 + '{"__metadata__":{"checksum":"'.length;

/** The file with the right checksum for its header. */
export function sealed(bytes: Uint8Array): Uint8Array {
  const end = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const copy = Uint8Array.from(bytes);
  copy.set(encode("00000000"), CHECKSUM);
  copy.set(encode(crc32(copy.subarray(0, end)).toString(16).padStart(8, "0")), CHECKSUM);
  return copy;
}

export interface Parts {
  readonly text: string;
  readonly header: Record<string, any>;
  readonly data: Uint8Array;
}

/** The header as text and parsed, and the data. */
export function parts(bytes: Uint8Array): Parts {
  const end = 8 + Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const text = new TextDecoder().decode(bytes.slice(8, end)).trimEnd();
  return { text, header: JSON.parse(text), data: bytes.slice(end) };
}
