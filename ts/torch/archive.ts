/** Files that `torch.save` writes: zip archives, or before PyTorch 1.6 a sequence of pickles. */

import type { Shape } from "../arena/tensor.js";
import { bytesOf } from "../checkpoint/loading.js";
import { isTorchFile, isZip, refuseOtherFiles } from "../checkpoint/safetensors.js";
import { show, wrongValue } from "../option.js";
import { encodeText } from "../platform.js";
import { pickle, Stored, type Writable } from "./pickle.js";
import { storageBytes, storageDtype, torchResolver } from "./rebuild.js";
import { isDict, MAX_PICKLE_BYTES, unpickle, type Value } from "./unpickle.js";
import { SAVE_STATE_DICT, unzip, zip } from "./zip.js";

/**
 * Reads a file that `torch.save` wrote.
 * @throws a RangeError for others.
 */
export function readArchive(bytes: Uint8Array): Value {
  if (isZip(bytes)) return readZip(bytes);
  if (isTorchFile(bytes)) return readLegacy(bytes);
  refuseOtherFiles(bytes);
  throw new RangeError(
    "the file must be one that torch.save wrote, got bytes that begin neither as a zip archive nor as a file of PyTorch before 1.6; for a safetensors file, call readSafetensors",
  );
}

function readZip(bytes: Uint8Array): Value {
  const files = unzip(bytes);
  const pickled = [...files.keys()].find((name) => name === "data.pkl" || name.endsWith("/data.pkl"));
  if (pickled === undefined) {
    throw new RangeError(`the archive must hold data.pkl, got an archive without it; ${SAVE_STATE_DICT}`);
  }
  const folder = pickled.slice(0, -"data.pkl".length);
  const order = files.get(`${folder}byteorder`);
  if (order && !(order.length === 6 && String.fromCharCode(...order) === "little")) throw notLittleEndian();
  return unpickle(
    files.get(pickled)!,
    torchResolver((key) => files.get(`${folder}data/${key}`)),
  ).value;
}

const notLittleEndian = () => new RangeError("the file must be little-endian, got another");

/** Pickles of a number, a version, the machine, the value, and the keys of storages; then each storage with its length. */
function readLegacy(bytes: Uint8Array): Value {
  const nothing = { call: () => undefined, persistent: () => null };
  const number = unpickle(bytes, nothing);
  const version = unpickle(bytes, nothing, number.end);
  const machine = unpickle(bytes, nothing, version.end);
  if (version.value !== 1001) throw wrongValue("the file must be of version 1001", version.value);
  if (!isDict(machine.value) || machine.value.little_endian !== true) throw notLittleEndian();

  // The value precedes the storages. So it is read twice: once to find the sizes of the storages, and again with their
  // bytes.
  const sizes = new Map<string, number>();
  const value = unpickle(
    bytes,
    {
      call: () => undefined,
      persistent(id) {
        const [, type, key] = Array.isArray(id) ? id : [];
        const dtype = storageDtype(type);
        const size = dtype === undefined ? 1 : storageBytes(dtype);
        if (typeof key === "string" && size !== undefined) sizes.set(key, size);
        return null;
      },
    },
    machine.end,
  );
  const keys = unpickle(bytes, nothing, value.end);
  if (!Array.isArray(keys.value)) throw wrongValue("the file must list its storages", keys.value);
  const storages = new Map<string, Uint8Array>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = keys.end;
  for (const key of keys.value) {
    const size = typeof key === "string" ? sizes.get(key) : undefined;
    if (size === undefined) throw new RangeError(`storage ${show(key)} must be of a known type, got another`);
    const length = at + 8 <= bytes.length ? Number(view.getBigUint64(at, true)) * size : Infinity;
    if (at + 8 + length > bytes.length) {
      throw new RangeError(
        `storage ${show(key)} must lie within the file's ${bytes.length} bytes, got an end beyond them`,
      );
    }
    storages.set(key as string, bytes.subarray(at + 8, at + 8 + length));
    at += 8 + length;
  }
  return unpickle(
    bytes,
    torchResolver((key) => storages.get(key)),
    machine.end,
  ).value;
}

/** Writes an archive for `torch.load`: a pickle, and one entry for each tensor's elements. */
export function writeArchive(
  content: (store: (numbers: Float32Array, shape: Shape) => Stored) => Writable,
): Uint8Array<ArrayBuffer> {
  const numbers: Uint8Array[] = [];
  const value = content((view, shape) => {
    numbers.push(bytesOf(view));
    return new Stored(String(numbers.length - 1), shape);
  });
  const data = pickle(value);
  if (data.length > MAX_PICKLE_BYTES) {
    throw new RangeError(
      `the names and shapes of the tensors must take at most ${MAX_PICKLE_BYTES} bytes, got ${data.length}; save fewer tensors in one file`,
    );
  }
  return zip(
    new Map([
      ["archive/data.pkl", data],
      ["archive/byteorder", encodeText("little")],
      ...numbers.map((bytes, i) => [`archive/data/${i}`, bytes] as const),
      ["archive/version", encodeText("3\n")],
    ]),
  );
}
