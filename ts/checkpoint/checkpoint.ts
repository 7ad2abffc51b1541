/** Checkpoints: the parameters, the state and the progress of a run, written to bytes and read back. */

import { type Tensors, tensorsOf } from "../optimizer/params.js";
import { show } from "../option.js";
import { encodeText } from "../platform.js";
import type { Checkpointable } from "../optimizer/checkpointable.js";
import { STATE_PREFIX } from "../arena/names.js";
import { sameShape, type Shape, type Tensor } from "../arena/tensor.js";
import { crc32, hex } from "./crc32.js";
import { concat } from "./files.js";
import { asJson, parse, parseObject, short, toJson } from "./json.js";
import {
  betweenSteps,
  asBytes,
  bytesOf,
  checkOptimizer,
  type Loading,
  renamed,
  listModel,
  loadChecked,
  type LoadOptions,
  matchTensors,
  refuseSecond,
  shapeOf,
} from "./loading.js";
import { countsOf, progressIn, restore, settingsOf } from "./progress.js";
import { decode, encodeHeader, type TensorEntry, headerEnd } from "./safetensors.js";

/** The result of `load`. */
export interface Loaded {
  /** The number of steps that the optimizer has made; 0 without an optimizer. */
  readonly steps: number;
  /** The `extra` that was given to `save`, as `JSON.parse` returns it; undefined if there was none. */
  readonly extra: unknown;
  /** One sentence for each difference that was ignored. Empty unless `strict` is false. */
  readonly leftOut: readonly string[];
}

/** The version of the format that this module writes, in the metadata. */
const VERSION = "1";

/** The header begins with its checksum. So the position of the checksum is known before the header is parsed. */
const PREFIX = '{"__metadata__":{"checksum":"';
const CHECKSUM = 8 + PREFIX.length;
const DIGITS = 8;
const BLANK = "0".repeat(DIGITS);
const KEYS = ["checksum", "format", "version", "crc32", "rule", "counts", "extra"];

/**
 * Writes a checkpoint in the safetensors format. Parameters have their own names, the optimizer's state is
 * `optimizer.NAME.SLOT`, and everything else is metadata. Gradients are not saved.
 * @param model the tensors to save, by name or in a list
 * @param optimizer an optimizer of these tensors. Default: none; only the parameters are saved
 * @param extra anything that JSON can hold (numbers must be finite), such as `{ batches: order.state }`; `load` returns it. Default: nothing
 * @returns the bytes of the file
 * @throws a TypeError or RangeError for wrong arguments; an Error during a step.
 */
export function save(model: Tensors, optimizer?: Checkpointable, extra?: unknown): Uint8Array<ArrayBuffer> {
  return saveParts("save", model, optimizer, extra, concat);
}

/** Calls `write` with the byte arrays that make up a checkpoint. No step can run during the call. */
export function saveParts<Result>(
  title: string,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  extra: unknown,
  write: (parts: readonly Uint8Array[]) => Result,
): Result {
  refuseSecond(title, extra);
  const more = extra === undefined ? undefined : asJson(title, extra); // first, because it calls functions of the program
  const tensors = listModel(title, model);
  const arrays = arraysOf(title, tensors, optimizer);
  return betweenSteps(title, tensors.values(), () => {
    let end = 0;
    const entries = [...arrays].map(([name, { shape, view }]) => {
      const begin = end;
      end += view.byteLength;
      return [name, { dtype: "F32", shape, begin, end }] as const;
    });
    const sums = [...arrays].map(([name, { view }]) => [name, hex(crc32(bytesOf(view)))]);
    const metadata = new Map([
      ["checksum", BLANK],
      ["format", "downhill"],
      ["version", VERSION],
      ["crc32", toJson(Object.fromEntries(sums))],
    ]);
    if (optimizer) {
      metadata.set("rule", toJson(settingsOf(optimizer)));
      metadata.set("counts", toJson(countsOf(optimizer)));
    }
    if (more !== undefined) metadata.set("extra", more);
    const header = encodeHeader(title, { metadata, tensors: new Map(entries) });
    header.set(encodeText(hex(crc32(header))), CHECKSUM);

    return write([header, ...[...arrays.values()].map(({ view }) => bytesOf(view))]);
  });
}

/**
 * Loads a checkpoint that `save` wrote. All checks come first: checksums, names, shapes, the rule and its options. After
 * an error nothing has changed.
 * @param bytes the whole file
 * @param model tensors with the names and shapes of the saved ones
 * @param optimizer an optimizer made like the saved one. Default: none; only the parameters are loaded
 * @throws a RangeError for a damaged file and for a file that does not fit; an Error during a step.
 */
export function load(
  bytes: Uint8Array | ArrayBuffer,
  model: Tensors,
  optimizer?: Checkpointable,
  options: LoadOptions = {},
): Loaded {
  const file = asBytes("load", bytes);
  const read = (begin: number, end: number) => withChecksum(file.subarray(begin, end));
  return loadFrom("load", file, file.length, read, model, optimizer, options);
}

/** Bytes of a file, with their checksum. */
export interface CheckedBytes {
  readonly bytes: Uint8Array;
  readonly checksum: string;
}

export const withChecksum = (bytes: Uint8Array): CheckedBytes => ({ bytes, checksum: hex(crc32(bytes)) });

/**
 * Loads what fits from a file.
 * @param header the beginning of the file, with its whole header
 * @param size the size of the file, in bytes
 * @param read returns the bytes from `begin` to `end`
 */
export function loadFrom(
  title: string,
  header: Uint8Array,
  size: number,
  read: (begin: number, end: number) => CheckedBytes,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  options: LoadOptions,
): Loaded {
  const { tensors, check } = checkerOf(title, header, size, model, optimizer);
  return loadChecked(title, tensors.values(), options, (loading) => {
    const { pairs, progress, extra } = check(loading);
    const loads = pairs.map(([{ view }, { name, begin, end, checksum }]) => {
      const found = read(begin, end);
      if (found.bytes.length < end - begin)
        throw new RangeError(`tensor ${show(name)} is cut off: the file became shorter`);
      checkChecksum(`tensor ${show(name)}`, checksum, found.checksum);
      return [view, found.bytes] as const;
    });
    return () => {
      // Segments for single tensors reserve memory, which can fail. So they come first.
      for (const { group, isSeparate } of progress?.groups ?? [])
        if (isSeparate) optimizer!.internals.separate?.(group);
      for (const [view, bytes] of loads) bytesOf(view).set(bytes);
      if (optimizer && progress) restore(optimizer, progress, new Set(loads.map(([view]) => view)));
      return { steps: optimizer?.steps ?? 0, extra };
    };
  });
}

/**
 * The ranges of bytes that `loadFrom` will read.
 * @throws a RangeError for a file that does not fit.
 */
export function rangesToRead(
  title: string,
  header: Uint8Array,
  size: number,
  model: Tensors,
  optimizer: Checkpointable | undefined,
  options: LoadOptions,
): readonly { readonly begin: number; readonly end: number }[] {
  const { tensors, check } = checkerOf(title, header, size, model, optimizer);
  return loadChecked(title, tensors.values(), options, (loading) => {
    const { pairs } = check(loading);
    return () => ({ ranges: pairs.map(([, saved]) => saved) });
  }).ranges;
}

/** The checks of a file that need only its header. */
function checkerOf(
  title: string,
  header: Uint8Array,
  size: number,
  model: Tensors,
  optimizer: Checkpointable | undefined,
) {
  const tensors = listModel(title, model);
  const here = arraysOf(title, tensors, optimizer);
  const check = ({ report, rename }: Loading) => {
    const { metadata, tensors: there } = checkedHeader(header, size);
    const found = renamed(there, renameArray(rename));
    const fits = ({ name, shape }: Tensor) => {
      const array = found.get(name);
      return array !== undefined && sameShape(array.shape, shape);
    };
    const progress = optimizer && progressIn(metadata, optimizer, report, rename, fits);
    const meant = <Value>(map: ReadonlyMap<string, Value>) =>
      progress ? map : new Map([...map].filter(([name]) => !name.startsWith(STATE_PREFIX)));
    const pairs = matchTensors(meant(here), meant(found), ["F32"], report).filter(([{ tensor }, { name }]) => {
      const isMeant = fits(tensor);
      if (!isMeant)
        report(`tensor ${show(name)} is state of a tensor that has another shape here, or is not in the file`);
      return isMeant;
    });
    const text = metadata.get("extra");
    return { pairs, progress, extra: text === undefined ? undefined : parse(text, "extra") };
  };
  return { tensors, check };
}

/** Renames an array of a file: a parameter, or `optimizer.NAME.SLOT`. */
const renameArray = (rename: (name: string) => string) => (name: string) => {
  if (!name.startsWith(STATE_PREFIX)) return rename(name);
  const end = name.lastIndexOf(".");
  return `${STATE_PREFIX}${rename(name.slice(STATE_PREFIX.length, end))}${name.slice(end)}`;
};

/** All arrays of a checkpoint by their names in the file. */
function arraysOf(title: string, tensors: ReadonlyMap<string, Tensor>, optimizer: Checkpointable | undefined) {
  const all = new Map<string, { shape: Shape; view: Float32Array; tensor: Tensor }>();
  for (const [name, tensor] of tensors) all.set(name, { shape: tensor.shape, view: tensor.data, tensor });
  if (optimizer === undefined) return all;
  checkOptimizer(title, optimizer);
  for (const tensor of tensorsOf(optimizer.groups)) {
    if (tensors.get(tensor.name) !== tensor) {
      throw new RangeError(
        `${title}: model must hold all that the optimizer updates, got one without tensor ${show(tensor.name)}`,
      );
    }
    const { state, average, sum, added } = optimizer.internals.viewsOf(tensor);
    const views = { ...state, ...added, ...(average && { average }), ...(sum && { gradSum: sum }) };
    for (const [slot, view] of Object.entries(views)) {
      all.set(`${STATE_PREFIX}${tensor.name}.${slot}`, { shape: shapeOf(optimizer, slot, tensor), view, tensor });
    }
  }
  return all;
}

/** A tensor in a checkpoint: the place of its bytes in the file, and their checksum. */
interface SavedTensor extends TensorEntry {
  readonly name: string;
  readonly checksum: unknown;
}

/** Decodes the header of a checkpoint, and checks its checksum. */
function checkedHeader(file: Uint8Array, size: number) {
  const end = headerEnd(file, size);
  const header = file.slice(0, end);
  if (text(header.subarray(8, CHECKSUM)) !== PREFIX) {
    throw new RangeError(
      "the file must be a checkpoint that save() wrote, got another; downhill/torch reads other models",
    );
  }
  const saved = text(header.subarray(CHECKSUM, CHECKSUM + DIGITS));
  header.set(encodeText(BLANK), CHECKSUM);
  checkChecksum("the header", saved, hex(crc32(header)));
  const { metadata, tensors, start } = decode(file, size);
  const unknown = [...metadata.keys()].find((key) => !KEYS.includes(key));
  const [format, version] = [metadata.get("format"), metadata.get("version")];
  if (format !== "downhill" || version !== VERSION || unknown !== undefined) {
    const got =
      unknown === undefined
        ? `format ${format === undefined ? "none" : short(format)}, version ${version === undefined ? "none" : short(version)}`
        : `metadata ${show(unknown)}`;
    throw new RangeError(`the checkpoint must be of version ${VERSION}, got ${got}; a later version may read it`);
  }
  const sums = new Map(Object.entries(parseObject(metadata.get("crc32"), "crc32")));
  const saves = new Map<string, SavedTensor>();
  for (const [name, entry] of tensors) {
    if (!sums.has(name)) throw new RangeError(`tensor ${show(name)} must have a checksum, got none`);
    saves.set(name, { ...entry, begin: start + entry.begin, end: start + entry.end, name, checksum: sums.get(name) });
    sums.delete(name);
  }
  for (const name of sums.keys())
    throw new RangeError(`each checksum must belong to a tensor, got one of ${show(name)}`);
  return { metadata, tensors: saves };
}

function checkChecksum(what: string, saved: unknown, is: string): void {
  if (saved !== is)
    throw new RangeError(`${what} is damaged: the file says that its checksum is ${show(saved)}, but it is "${is}"`);
}

const text = (bytes: Uint8Array) => String.fromCharCode(...bytes);
