/** Writes Python's pickle format (protocol 2), as `torch.load(weights_only=True)` reads it. */

import { elementsIn } from "../arena/tensor.js";
import { stridesOf } from "./tensor.js";
import { encodeText } from "../platform.js";

/** A tensor to write: its storage's key, and its shape. */
export class Stored {
  constructor(
    readonly key: string,
    readonly shape: readonly number[],
  ) {}
}

/** A tuple, where Python distinguishes it from a list. */
export class Tuple {
  constructor(readonly items: readonly Writable[]) {}
}

/** A value that `pickle` can write. */
export type Writable =
  null | boolean | number | string | readonly Writable[] | ReadonlyMap<string | number, Writable> | Tuple | Stored;

/** Writes a pickle for `torch.load(weights_only=True)`. Whole numbers become ints, which PyTorch accepts as floats. */
export function pickle(value: Writable): Uint8Array {
  const parts: number[] = [0x80, 2];
  write(value, parts);
  parts.push(0x2e);
  return Uint8Array.from(parts);
}

const code = (character: string) => character.charCodeAt(0);

function write(value: Writable, out: number[]): void {
  const op = (character: string) => void out.push(code(character));
  const bytes = (length: number, set: (view: DataView) => void) => {
    const view = new DataView(new ArrayBuffer(length));
    set(view);
    out.push(...new Uint8Array(view.buffer));
  };
  const name = (module: string, name: string) => out.push(code("c"), ...encodeText(`${module}\n${name}\n`));
  if (value === null) op("N");
  else if (typeof value === "boolean") out.push(value ? 0x88 : 0x89);
  else if (typeof value === "string") {
    const text = encodeText(value);
    op("X");
    bytes(4, (view) => view.setUint32(0, text.length, true));
    for (const byte of text) out.push(byte);
  } else if (typeof value === "number") {
    const whole = Number.isInteger(value) && Math.abs(value) < 2 ** 31 && !Object.is(value, -0);
    op(whole ? "J" : "G");
    if (whole) bytes(4, (view) => view.setInt32(0, value, true));
    else bytes(8, (view) => view.setFloat64(0, value));
  } else if (value instanceof Tuple) {
    op("(");
    for (const item of value.items) write(item, out);
    op("t");
  } else if (value instanceof Stored) {
    const { key, shape } = value;
    const size = elementsIn(shape);
    name("torch._utils", "_rebuild_tensor_v2");
    op("(");
    op("(");
    write("storage", out);
    name("torch", "FloatStorage");
    for (const item of [key, "cpu", size]) write(item, out);
    op("t");
    op("Q");
    write(0, out);
    write(new Tuple(shape), out);
    write(new Tuple(stridesOf(shape)), out);
    write(false, out);
    name("collections", "OrderedDict");
    for (const character of [")", "R", "t", "R"]) op(character);
  } else if (value instanceof Map) {
    op("}");
    op("(");
    for (const [key, item] of value) {
      write(key, out);
      write(item, out);
    }
    op("u");
  } else {
    op("]");
    op("(");
    for (const item of value as readonly Writable[]) write(item, out);
    op("e");
  }
}
