/** Pickles made by hand and at random, in archives as `torch.save` writes them. Text has one byte per character. */

import fc from "fast-check";
import { zip } from "../../ts/torch/zip.js";

/** An archive with this pickle, and a storage "0" of 16 bytes. */
export const pickled = (text: string): Uint8Array =>
  zip(
    new Map([
      ["a/data.pkl", Buffer.from(text, "latin1")],
      ["a/data/0", new Uint8Array(16)],
    ]),
  );

/** The persistent identity of a storage. */
export const storage = (type: string, key: string, size: string): string =>
  `(X\x07\0\0\0storagectorch\n${type}\nX\x01\0\0\0${key}X\x03\0\0\0cpu${size}tQ`;

/** A pickle of one tensor. */
export const tensorCall = (
  offset: string,
  shape: string,
  strides: string,
  of = storage("FloatStorage", "0", "K\x04"),
  metadata = "",
): string =>
  `\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(${of}${offset}${shape}${strides}\x89${metadata === "" ? ")" : `}${metadata}`}tR.`;

const text = (value: string) => `X${String.fromCharCode(value.length, 0, 0, 0)}${value}`;

const names = fc.constantFrom(
  ..."collections OrderedDict,collections Counter,__builtin__ set,torch Size,_codecs encode,__builtin__ bytearray".split(
    ",",
  ),
  ..."torch._utils _rebuild_tensor,torch._utils _rebuild_tensor_v2,torch._utils _rebuild_tensor_v3".split(","),
  ..."torch._utils _rebuild_parameter,torch._tensor _rebuild_from_type_v2,torch Tensor,torch float32".split(","),
  ..."torch FloatStorage,torch.storage UntypedStorage,datetime datetime,numpy ndarray".split(","),
);

/** Instructions of the format: most leave one value more on the stack, some use values, some are wrong. */
const instruction = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom("N", "\x88", "K\x04", "K\0", "G\x7f\xf8\0\0\0\0\0\0", "}", "]", ")", "\x8f", "("),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      "t",
      "\x85",
      "\x86",
      "\x87",
      "a",
      "e",
      "s",
      "u",
      "R",
      "\x81",
      "b",
      "Q",
      "0",
      "\x90",
      "\x93",
      "\x94",
    ),
  },
  { weight: 2, arbitrary: fc.constantFrom("q\0", "q\x01", "h\0", "h\x01", "r\xff\xff\xff\xff", "j\0\0\0\0") },
  { weight: 2, arbitrary: fc.constantFrom("state", "params", "storage", "0", "latin1", "__proto__", "é").map(text) },
  { weight: 2, arbitrary: names.map((name) => `c${name.replace(" ", "\n")}\n`) },
  { weight: 1, arbitrary: fc.constant(storage("FloatStorage", "0", "K\x04")) },
  {
    weight: 1,
    arbitrary: fc.constantFrom("\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "J\xff\xff\xff\xff", "M\xff\xff"),
  },
);

/** Repeats a part many times: objects that are nested, or a long list. */
const repeated = fc
  .tuple(fc.array(instruction, { minLength: 1, maxLength: 4 }), fc.integer({ min: 2, max: 5000 }))
  .map(([parts, times]) => parts.join("").repeat(times));

export const grammarPickle: fc.Arbitrary<string> = fc
  .array(fc.oneof({ weight: 9, arbitrary: instruction }, { weight: 1, arbitrary: repeated }), { maxLength: 30 })
  .map((parts) => `\x80\x02${parts.join("")}.`);
