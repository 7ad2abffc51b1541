/** Malicious files. Each gives a short error. Time and memory are proportional to the size of the file. */

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createArenaSync } from "../../ts/arena/arena.js";
import { adamw } from "../../ts/rules/index.js";
import { loadModel, loadOptimizer, readTorch, saveModel } from "../../ts/torch/index.js";
import { unpickle } from "../../ts/torch/unpickle.js";
import { unzip, zip } from "../../ts/torch/zip.js";
import { small } from "../small.js";
import { grammarPickle, pickled, storage, tensorCall } from "./pickles.js";

/** The message of the error; it has at most a few lines. */
function messageOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(RangeError);
    expect((error as Error).message.length).toBeLessThan(1000);
    return (error as Error).message;
  }
  throw new Error("there was no error");
}

/** A list nested 40 deep, where each list contains the next one twice. Written out it would have 2^40 parts. */
function nested(): unknown[] {
  let list: unknown[] = [];
  for (let i = 0; i < 40; i++) list = [list, list];
  return list;
}

describe("lists that contain each other", () => {
  const lists = `]q\0${Array.from({ length: 40 }, (_, i) => `](h${String.fromCharCode(i)}h${String.fromCharCode(i)}eq${String.fromCharCode(i + 1)}`).join("")}`;
  const text = (value: string) => `X${String.fromCharCode(value.length)}\0\0\0${value}`;
  const places: [title: string, make: (list: any) => any, file: string][] = [
    [
      "as a tensor's key",
      (list) => ({ state: {}, param_groups: [{ lr: 1, params: [list] }] }),
      `}(${text("state")}}${text("param_groups")}]}(${text("lr")}K\x01${text("params")}]${lists}aua u.`.replace(
        " ",
        "",
      ),
    ],
    [
      "as a group",
      (list) => ({ state: {}, param_groups: [list] }),
      `}(${text("state")}}${text("param_groups")}]${lists}au.`,
    ],
    [
      "as an option",
      (list) => ({ state: {}, param_groups: [{ lr: list, params: [0] }] }),
      `}(${text("state")}}${text("param_groups")}]}(${text("lr")}${lists}${text("params")}]K\0auau.`,
    ],
    [
      "as a state",
      (list) => ({ state: { 0: list }, param_groups: [{ params: [0] }] }),
      `}(${text("state")}}K\0${lists}s${text("param_groups")}]}${text("params")}]K\0asau.`,
    ],
    [
      "as a key",
      (list) => ({ state: { 0: { x: list } }, param_groups: [{ params: [0] }] }),
      `}${lists}N s.`.replace(" ", ""),
    ],
  ];
  test.each(places)("%s", (_, make, file) => {
    const optimizer = adamw([small().tensor("w", [1])]);
    messageOf(() => loadOptimizer(make(nested()), optimizer));
    messageOf(() => loadOptimizer(pickled(`\x80\x02${file}`), optimizer));
    messageOf(() => loadModel(make(nested()), [small().tensor("w", [1])]));
  });
});

describe("objects that take more memory than their bytes", () => {
  const MB = 2 ** 20;
  const many = (body: string, count: number) => `\x80\x02${body.repeat(count)}.`;
  test.each([
    ["dictionaries", many("}", 8 * MB)],
    ["lists", many("]", 8 * MB)],
    ["sets", many("\x8f", 8 * MB)],
    ["instances", `\x80\x02ca\nb\nq\0${"h\0)\x81".repeat(2 * MB)}.`],
    [
      "copies of a long text",
      `\x80\x02c_codecs\nencode\nq\0X\0\0\x10\0${"a".repeat(MB)}X\x06\0\0\0latin1\x86q\x01${"h\0h\x01R".repeat(1000)}.`,
    ],
    [
      "copies of a long list",
      `\x80\x02cbuiltins\nset\nq\0(${"K\x01".repeat(MB)}l]q\x01.`
        .replace("l]q", "t\x85q")
        .replace("\x01.", `\x01${"h\0h\x01R".repeat(1000)}.`),
    ],
    [
      "copies of a long dictionary",
      `\x80\x02ccollections\nCounter\nq\0}(${Array.from({ length: 50_000 }, (_, i) => `M${String.fromCharCode(i & 255, i >> 8)}N`).join("")}u\x85q\x01${"h\0h\x01R".repeat(1000)}.`,
    ],
  ])("%s", (_, text) => {
    const bytes = Buffer.from(text, "latin1");
    const before = process.memoryUsage().rss;
    expect(
      messageOf(() =>
        unpickle(bytes, {
          call: (_name, [items]: any) =>
            Array.isArray(items) ? [...items] : typeof items === "string" ? Buffer.from(items) : { ...items },
          persistent: () => null,
        }),
      ),
    ).toContain("the pickle must hold values of at most 24 times its size");
    expect(process.memoryUsage().rss - before).toBeLessThan(40 * bytes.length + 200 * MB);
  });

  // The arguments are in the file once. Calls that read them again and again take time, even if they make little.
  const entries = Array.from({ length: 20_000 }, (_, i) => `M${String.fromCharCode(i & 255, i >> 8)}N`).join("");
  const args = (given: string) =>
    `\x80\x02}q\0(${entries}u0(K\x01N\x86q\x01${"h\x01".repeat(20_000)}tq\x02${given}q\x03`;
  const tensorArgs = (hooks: string, metadata: string) =>
    `(${storage("FloatStorage", "0", "K\x04")}K\0))\x89${hooks}${metadata}t`;
  const calls = (callee: string, given: string, count = 20_000) =>
    `${args(given)}c${callee}\nq\x04${"h\x04h\x03R0".repeat(count)}N.`;
  test.each([
    ["a metadata", calls("torch._utils\n_rebuild_tensor_v2", tensorArgs("}", "h\0"))],
    ["hooks", calls("torch._utils\n_rebuild_tensor_v2", tensorArgs("h\0", "N"))],
    [
      "a metadata within another call",
      calls(
        "torch._tensor\n_rebuild_from_type_v2",
        `(ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n${tensorArgs("}", "h\0")}Nt`,
      ),
    ],
    ["the same pair 20,000 times", calls("collections\nOrderedDict", "h\x02\x85")],
    ["a set of the same value", calls("__builtin__\nset", "h\x02\x85")],
  ])("%s that many calls read", (_, text) => {
    const message = messageOf(() => readTorch(pickled(text)));
    expect(message).toMatch(/values of at most 24 times its size|arguments that are not understood/);
  });

  test("a dictionary that occurs many times in another one is read once", () => {
    let looks = 0;
    const shared = new Proxy({}, { ownKeys: () => (looks++, []), getPrototypeOf: () => null });
    const file = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [i, shared]));
    expect(messageOf(() => loadModel(file as never, [small().tensor("w", [1])]))).toContain("the file must contain");
    expect(looks).toBe(1);
  });

  test("a state with too many entries", () => {
    const state = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`slot${i}`, 1]));
    const file = { state: { 0: state }, param_groups: [{ params: [0] }] };
    expect(messageOf(() => loadOptimizer(file, adamw([small().tensor("w", [1])])))).toContain(
      'the state of "w" must have at most 64 entries, got 65',
    );
  });

  test("a pickle of 17 MB", () => {
    expect(messageOf(() => readTorch(pickled(`\x80\x02${"N".repeat(17 * MB)}.`)))).toContain(
      "the pickle must have at most 16777216 bytes",
    );
  });

  test("a real file is far below the bound: 10,000 tensors", () => {
    const arena = createArenaSync({ maxBytes: 2 ** 24, threads: 1 });
    const tensors = Array.from({ length: 10_000 }, (_, i) => arena.tensor(`t${i}`, [1]));
    expect(loadModel(saveModel(tensors), tensors).leftOut).toEqual([]);
    arena.free();
  });
});

test("a tensor that repeats few elements is not read as a whole", () => {
  const read = (size: string) => (readTorch(pickled(tensorCall("K\0", `${size}\x85`, "K\0\x85"))) as any).read();
  expect([...read("K\x05")]).toEqual([0, 0, 0, 0, 0]);
  for (const size of ["\x8a\x05\0\0\0\0\x01", "\x8a\x06\0\0\0\0\0\x01", "J\x01\0\0\x01"]) {
    expect(messageOf(() => read(size))).toContain("must have at most 16777216 elements to be read as a whole");
  }
});

test.each([
  [
    "a metadata of tensors that is not known",
    tensorCall("K\0", "K\x04\x85", "K\x01\x85", undefined, "}X\x04\0\0\0newsK\x01s"),
    'a tensor with "news"',
  ],
  [
    "a negative bit that is no flag",
    tensorCall("K\0", "K\x04\x85", "K\x01\x85", undefined, "}X\x03\0\0\0negK\x07s"),
    'a tensor with "neg"',
  ],
])("%s makes the tensor unavailable, and nothing else", (_, call, type) => {
  const value = readTorch(pickled(call)) as any;
  expect(value.type).toBe(type);
  expect(
    messageOf(() =>
      loadModel({ w: value, v: readTorch(saveModel([small().tensor("v", [1])])) as any }, [small().tensor("w", [4])]),
    ),
  ).toContain("the file must contain");
});

test("hooks and unknown arguments are errors", () => {
  expect(
    messageOf(() => readTorch(pickled(tensorCall("K\0", "K\x04\x85", "K\x01\x85", undefined, "}K\x01")))),
  ).toContain("got arguments that are not understood");
  expect(
    messageOf(() =>
      readTorch(
        pickled(
          `\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(${storage("FloatStorage", "0", "K\x04")}K\0))\x89}K\x01K\x02stR.`,
        ),
      ),
    ),
  ).toContain("got arguments that are not understood");
});

test("pickles of any grammar give a value, or an error of this package", () => {
  fc.assert(
    fc.property(grammarPickle, (text) => {
      const before = process.memoryUsage().rss;
      try {
        readTorch(pickled(text));
      } catch (error) {
        if (!(error instanceof RangeError) || !error.message.startsWith("readTorch: ")) throw error;
        expect(error.message.length).toBeLessThan(1000);
        expect(error.message).not.toMatch(/call stack|Invalid|Cannot|undefined/);
      }
      expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 28);
    }),
    { numRuns: 2000 },
  );
});

describe("archives", () => {
  test("of more than 65,535 files, in the zip64 format", () => {
    const files = new Map(Array.from({ length: 65_540 }, (_, i) => [`a/${i}`, Uint8Array.of(i & 255)] as const));
    const archive = zip(files);
    expect(new DataView(archive.buffer).getUint16(archive.length - 22 + 10, true)).toBe(0xffff);
    const back = unzip(archive);
    expect(back.size).toBe(65_540);
    for (const i of [0, 1000, 65_539]) expect([...back.get(`a/${i}`)!]).toEqual([i & 255]);
  });

  test("whose sizes are in the extra field", () => {
    // As PyTorch writes them where it does not know the size before.
    const archive = Uint8Array.from(zip(new Map([["a", Uint8Array.of(1, 2, 3)]])));
    const view = new DataView(archive.buffer);
    const end = archive.length - 22;
    const entry = view.getUint32(end + 16, true);
    const extra = new DataView(new ArrayBuffer(28));
    extra.setUint16(0, 1, true);
    extra.setUint16(2, 24, true);
    for (const [i, number] of [3, 3, view.getUint32(entry + 42, true)].entries())
      extra.setBigUint64(4 + 8 * i, BigInt(number), true);
    for (const offset of [20, 24, 42]) view.setUint32(entry + offset, 0xffffffff, true);
    view.setUint16(entry + 30, 28, true);
    const at = entry + 46 + 1;
    const whole = Buffer.concat([archive.subarray(0, at), new Uint8Array(extra.buffer), archive.subarray(at)]);
    expect([...unzip(whole).get("a")!]).toEqual([1, 2, 3]);
  });

  test("with an end in the zip64 format that is not there", () => {
    const archive = Uint8Array.from(
      zip(new Map(Array.from({ length: 65_540 }, (_, i) => [`${i}`, new Uint8Array()] as const))),
    );
    new DataView(archive.buffer).setBigUint64(archive.length - 22 - 20 + 8, 2n ** 63n, true);
    expect(() => unzip(archive)).toThrow("the archive's end must begin at byte");
  });

  test.each([
    [
      "a Git LFS pointer",
      "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
      "the file must be a model, got a Git LFS pointer to one; run git lfs pull",
    ],
    ["a page", "<html><body>404</body></html>", "the file must be a model, got a web page; download the file itself"],
  ])("%s", (_, text, message) => {
    const bytes = Buffer.from(text);
    expect(() => readTorch(bytes)).toThrow(`readTorch: ${message}`);
    expect(() => loadModel(bytes, [small().tensor("w", [1])])).toThrow(`loadModel: ${message}`);
    expect(() => loadOptimizer(bytes, adamw([small().tensor("w", [1])]))).toThrow(`loadOptimizer: ${message}`);
  });
});

describe("a dictionary with the key shape", () => {
  const dict = (value: string) => `ccollections\nOrderedDict\n]]X\x05\0\0\0shapea${value}aa\x85R`;

  test.each(["N", "K\x05", "]"])("is a value, and counts as one: %j", (value) => {
    expect(Object.keys(readTorch(pickled(`\x80\x02${dict(value)}.`)) as object)).toEqual(["shape"]);
    const many = `\x80\x02${dict(value)}0]${"}a".repeat(2 ** 21)}.`;
    expect(messageOf(() => readTorch(pickled(many)))).toMatch(/values of at most 24 times its size/);
  });
});

describe("the format before PyTorch 1.6", () => {
  const legacy = readFileSync(new URL("fixtures/real/legacy.pt", import.meta.url));

  test.each([3, 4, 5])("in protocol %i", (protocol) => {
    const [magic, rest] = [legacy.subarray(2, 15), legacy.subarray(15)];
    const frame = protocol > 3 ? [0x95, magic.length, 0, 0, 0, 0, 0, 0, 0] : [];
    expect(readTorch(Buffer.from([0x80, protocol, ...frame, ...magic, ...rest]))).toEqual(readTorch(legacy));
  });

  test("a file that is cut off at any byte is an error", () => {
    for (let length = 0; length < legacy.length; length++) {
      expect(() => readTorch(legacy.subarray(0, length))).toThrow(/^readTorch: /);
    }
  });

  test("a file with any byte changed gives a value, or an error of this package", () => {
    for (let at = 0; at < legacy.length; at++) {
      for (const change of [1, 0x80, 0xff]) {
        const bytes = Uint8Array.from(legacy);
        bytes[at]! ^= change;
        try {
          readTorch(bytes);
        } catch (error) {
          if (!(error instanceof RangeError) || !error.message.startsWith("readTorch: ")) throw error;
        }
      }
    }
  });
});
