/** Malformed files: a title, the file, and a part of the error's message. Checksums are right unless the case is about them. */

import { file, type Parts, sealed } from "./files.js";

export type Malformed = readonly [title: string, make: (valid: Parts) => Uint8Array, message: string];

/** Changes the header of a valid file: as an object (`header`) or as text (`text`). */
const header =
  (change: (header: Record<string, any>) => void) =>
  ({ text, data }: Parts) => {
    const changed = JSON.parse(text);
    change(changed);
    return sealed(file(JSON.stringify(changed), data));
  };
const text =
  (from: string, to: string) =>
  ({ text, data }: Parts) => {
    if (!text.includes(from)) throw new Error(`no ${from} in ${text}`);
    return sealed(file(text.replace(from, to), data));
  };
const metadata = (key: string, value: unknown) => header(({ __metadata__ }) => void (__metadata__[key] = value));
const changed = (key: string, from: string, to: string) =>
  header(({ __metadata__ }) => {
    if (!__metadata__[key].includes(from)) throw new Error(`no ${from} in ${__metadata__[key]}`);
    __metadata__[key] = __metadata__[key].replace(from, to);
  });
const length = (length: bigint) => (valid: Parts) => file(valid.text, valid.data, length);

/** The header with a great many entries. */
const crowded = (count: number) => (valid: Parts) => {
  const entry = (name: number) => `,"${name}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`;
  const entries =
    count > 1_000_000 // they are never read
      ? Buffer.alloc(count * entry(0).length, entry(0))
      : Buffer.from(Array.from({ length: count }, (_, i) => entry(i)).join(""));
  const header = Buffer.concat([Buffer.from(valid.text.slice(0, -1)), entries, Buffer.from("}")]);
  return sealed(file(header, valid.data));
};

const b = '"b":{"dtype":"F32","shape":[4],"data_offsets":[48,64]}';

export const malformed: readonly Malformed[] = [
  ["nothing", () => new Uint8Array(), "the file must have at least 8 bytes, got 0"],
  ["seven bytes", () => new Uint8Array(7), "the file must have at least 8 bytes, got 7"],
  ["eight zeros", () => new Uint8Array(8), "the file must be a checkpoint that save() wrote"],
  ["a header longer than the file", length(5000n), "the file must hold its header of 5000 bytes"],
  ["a length past 2^53", length(2n ** 53n + 8n), "the header must have at most 16777216 bytes, got 9007199254741000"],
  ["a length of 2^63", length(2n ** 63n), "the header must have at most 16777216 bytes, got 9223372036854776000"],
  ["ten million entries", crowded(10_000_000), "the header must have at most 16777216 bytes, got 53"],
  ["250,000 entries", crowded(250_000), "a file must have at most 65536 tensors"],
  ["another's file", text('"checksum":"', '"chequesum":"'), "downhill/torch reads other models"],
  ["a list", ({ data }) => file("[]", data), "the file must be a checkpoint"],
  ["a byte order mark", ({ text, data }) => file(`\ufeff${text}`, data), "the file must be a checkpoint"],
  [
    "a wrong checksum",
    ({ text, data }) => file(text.replace(/checksum":"\w{8}/, 'checksum":"12345678'), data),
    'the header is damaged: the file says that its checksum is "12345678"',
  ],
  [
    "a checksum in capitals",
    ({ text, data }) =>
      file(
        text.replace(/checksum":"\w{8}/, (digits) => digits.slice(0, -8) + "ABCDEFAB"),
        data,
      ),
    'the header is damaged: the file says that its checksum is "ABCDEFAB"',
  ],
  [
    "no UTF-8",
    ({ text, data }) => {
      const bytes = new TextEncoder().encode(text);
      bytes[bytes.length - 5] = 0xff;
      return sealed(file(bytes, data));
    },
    "the header must be UTF-8",
  ],
  ["a comma too many", text('"},"w"', '",},"w"'), "the header must have a string at character"],
  ["no comma", text(`,${b}`, b), "the header must have } at character"],
  ["no colon", text('"b":{', '"b"{'), "the header must have : at character"],
  ["text after it", ({ text, data }) => sealed(file(`${text}{}`, data)), "the header must have its end at character"],
  [
    "a header that breaks off",
    ({ text, data }) => sealed(file(text.slice(0, -1), data)),
    "the header must have } at character",
  ],
  [
    "a string that breaks off",
    ({ text, data }) => sealed(file(`${text.slice(0, -1)},"c`, data)),
    "the header must have a string that ends",
  ],
  ["other quotes", text('"b":', "'b':"), "the header must have a string at character"],
  ["a comment", text('"b":', '/* */"b":'), "the header must have a string at character"],
  ["an escape that is none", text('"b":', '"\\x":'), "the header must have a string as JSON has them"],
  ["a line break in a string", text('"b":', '"b\n":'), "the header must have a string as JSON has them"],
  ["a number for a tensor", text(`${b}`, '"b":7'), "the header must have { at character"],
  ["null for a tensor", text(`${b}`, '"b":null'), "the header must have { at character"],
  ["a shape that is a number", text("[4]", "4"), "the header must have [ at character"],
  ["a shape of strings", text("[4]", '["4"]'), "the header must have a whole number up to 9007199254740991"],
  ["a shape of shapes", text("[4]", `[${"[".repeat(100_000)}`), "the header must have a whole number"],
  ["a size that is NaN", text("[4]", "[NaN]"), "the header must have a whole number"],
  ["a negative size", text("[4]", "[-4]"), "the header must have a whole number"],
  ["half a size", text("[4]", "[4.5]"), "the header must have a whole number"],
  ["a size with an exponent", text("[4]", "[4e0]"), "the header must have a whole number"],
  ["a size with a zero before it", text("[4]", "[04]"), "the header must have"],
  ["an offset past 2^53", text("[48,64]", `[48,${2 ** 53}]`), "the header must have a whole number"],
  ["an offset of 400 digits", text("[48,64]", `[48,${"9".repeat(400)}]`), "the header must have a whole number"],
  ["a tensor twice", text(b, `${b},${b}`), 'each tensor must appear once, got "b" twice'],
  ["metadata twice", text(b, `${b},"__metadata__":{}`), "the header must have __metadata__ once"],
  [
    "a key of the metadata twice",
    text('"format":"downhill"', '"format":"downhill","format":"downhill"'),
    '__metadata__ must have each key once, got "format" twice',
  ],
  [
    "a dtype twice",
    text(b, b.replace('"dtype":"F32"', '"dtype":"F32","dtype":"F32"')),
    'tensor "b" must have dtype, shape and data_offsets once each, got "dtype"',
  ],
  [
    "a key that is none",
    text(b, b.replace('"dtype"', '"type"')),
    'tensor "b" must have dtype, shape and data_offsets once each, got "type"',
  ],
  [
    "no dtype",
    text(b, b.replace('"dtype":"F32",', "")),
    'tensor "b" must have dtype, shape and data_offsets, got only some of them',
  ],
  [
    "no shape",
    header(({ w }) => void delete w.shape),
    'tensor "w" must have dtype, shape and data_offsets, got only some of them',
  ],
  [
    "no offsets",
    header((all) => void delete all["optimizer.w.expAvg"].data_offsets),
    'tensor "optimizer.w.expAvg" must have dtype, shape and data_offsets, got only some of them',
  ],
  [
    "a dtype that is none",
    header(({ b }) => void (b.dtype = "F31")),
    'tensor "b" is F31 [4] in the file, F32 [4] here',
  ],
  [
    "a dtype from elsewhere",
    header(({ b }) => void (b.dtype = "constructor")),
    'tensor "b": dtype must be a name such as F32, got "constructor"',
  ],
  ["a dtype that is a number", header(({ b }) => void (b.dtype = 32)), "the header must have a string at character"],
  [
    "another dtype of the size",
    header(({ b }) => void (b.dtype = "I32")),
    'tensor "b" is I32 [4] in the file, F32 [4] here',
  ],
  [
    "a hundred dimensions",
    header(({ b }) => void (b.shape = Array(100).fill(1))),
    'tensor "b": shape must have at most 64 dimensions, got 100',
  ],
  ["three offsets", header(({ b }) => b.data_offsets.push(64)), 'tensor "b": data_offsets must be two, got 3'],
  ["one offset", header(({ b }) => b.data_offsets.pop()), 'tensor "b": data_offsets must be two, got 1'],
  [
    "offsets the wrong way round",
    header(({ b }) => b.data_offsets.reverse()),
    'tensor "b": data_offsets must span the 16 bytes of F32 [4], got [64, 48]',
  ],
  [
    "too few bytes for the shape",
    header(({ b }) => void (b.shape = [5])),
    'tensor "b": data_offsets must span the 20 bytes of F32 [5], got [48, 64]',
  ],
  [
    "a shape past 2^53",
    header(({ b }) => void (b.shape = [2 ** 40, 2 ** 40])),
    'tensor "b": data_offsets must span the 4.8357',
  ],
  [
    "a shape past all numbers",
    header(({ b }) => void (b.shape = [...Array(30)].map(() => 2 ** 50))),
    'tensor "b": data_offsets must span the Infinity',
  ],
  [
    "bytes of two tensors",
    header(({ b }) => void (b.data_offsets = [44, 60])),
    'tensor "b" must begin at byte 48, got 44: it overlaps',
  ],
  [
    "bytes of none",
    header(({ b }) => void (b.data_offsets = [52, 68])),
    'tensor "b" must begin at byte 48, got 52: it leaves a hole',
  ],
  [
    "one tensor's bytes for another",
    header(({ b, w }) => void (b.data_offsets = [w.data_offsets[0], 16])),
    'tensor "w" must begin at byte 16, got 0: it overlaps',
  ],
  [
    "data beyond the end",
    ({ text, data }) => sealed(file(text, data.slice(0, -4))),
    "the tensors must fill the file's 188 bytes of data, got 192",
  ],
  [
    "data after the last tensor",
    ({ text, data }) => sealed(file(text, Buffer.concat([data, data]))),
    "the tensors must fill the file's 384 bytes of data, got 192",
  ],
  ["__proto__", text('"b":', '"__proto__":'), 'a tensor\'s name must be usable, got "__proto__", which is reserved'],
  ["NUL in a name", text('"b":', '"b\\u0000":'), 'got "b\\u0000", which has control characters'],
  ["half a character in a name", text('"b":', '"\\ud800":'), "which is no Unicode text"],
  ["a name that is longer", text('"b":', '"bb":'), 'tensor "bb" must have a checksum'],
  ["metadata that is a number", metadata("version", 1), "the header must have a string at character"],
  ["metadata that is an object", metadata("extra", {}), "the header must have a string at character"],
  [
    "metadata of __proto__",
    text('"format":"downhill"', '"format":"downhill","__proto__":""'),
    'the checkpoint must be of version 1, got metadata "__proto__"',
  ],
  [
    "a later version",
    metadata("version", "2"),
    "the checkpoint must be of version 1, got format downhill, version 2; a later version may read it",
  ],
  ["another format", metadata("format", "pt"), "the checkpoint must be of version 1, got format pt, version 1"],
  ["no checksums", metadata("crc32", undefined), "the metadata must have crc32, got none"],
  ["checksums that are no JSON", metadata("crc32", "{"), 'the metadata\'s crc32 must be JSON, got "{"'],
  ["checksums that are a list", metadata("crc32", "[]"), 'the metadata\'s crc32 must be an object, got "[]"'],
  [
    "a checksum of nothing",
    changed("crc32", "{", '{"c":"00000000",'),
    'each checksum must belong to a tensor, got one of "c"',
  ],
  ["a tensor without a checksum", changed("crc32", '"b"', '"d"'), 'tensor "b" must have a checksum'],
  [
    "a tensor's wrong checksum",
    changed("crc32", '"b":"', '"b":"f'),
    'tensor "b" is damaged: the file says that its checksum is "f',
  ],
  [
    "a checksum that is a number",
    header(({ __metadata__: all }) => void (all.crc32 = all.crc32.replace(/"b":"\w+"/, '"b":7'))),
    'tensor "b" is damaged: the file says that its checksum is 7',
  ],
  ["no rule", metadata("rule", undefined), "the file has no optimizer"],
  ["a rule that is no JSON", metadata("rule", "adamw"), 'the metadata\'s rule must be JSON, got "adamw"'],
  ["a rule that is null", metadata("rule", "null"), 'the metadata\'s rule must be an object, got "null"'],
  ["another rule", changed("rule", '"adamw"', '"adam"'), 'the optimizer is "adam" in the file, "adamw" here'],
  ["another option", changed("rule", '"lr":0.001', '"lr":0.002'), "groups[0].lr is 0.002 in the file, 0.001 here"],
  [
    "an option too many",
    changed("rule", '"lr":0.001', '"lr":0.001,"__proto__":1'),
    "groups[0].__proto__ is 1 in the file, nothing here",
  ],
  ["another group", changed("rule", '["w","b"]', '["w"]'), 'groups[0].params[1] is nothing in the file, "b" here'],
  ["no counts", metadata("counts", undefined), "the metadata must have counts, got none"],
  [
    "fewer steps than none",
    changed("counts", '"steps":1', '"steps":-1'),
    "steps must be a whole number in [0, ∞), got -1",
  ],
  ["half a step", changed("counts", '"steps":1', '"steps":1.5'), "steps must be a whole number in [0, ∞), got 1.5"],
  ["steps in words", changed("counts", '"steps":1', '"steps":"1"'), 'steps must be a whole number in [0, ∞), got "1"'],
  ["no loss scale", changed("counts", '"lossScale":1', '"lossScale":0'), "lossScale must be in (0, ∞), got 0"],
  [
    "a schedule too many",
    changed("counts", "[]", "[{}]"),
    "the file has the progress of 1 reduceLROnPlateau schedules, the program of 0",
  ],
  [
    "no schedules",
    changed("counts", "[]", "7"),
    "the file has the progress of no reduceLROnPlateau schedules, the program of 0",
  ],
  ["invalid JSON in extra", metadata("extra", "{"), 'the metadata\'s extra must be JSON, got "{"'],
];
