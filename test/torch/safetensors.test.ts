/** safetensors files as data: names, shapes, metadata, shards; tensors are read when they are asked for. */

import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { loadModel, readSafetensors, readSafetensorsFile } from "../../ts/torch/index.js";
import { saveFile } from "../../ts/checkpoint/index.js";
import { file } from "../checkpoint/files.js";
import { small } from "../small.js";

const folder = mkdtempSync(join(tmpdir(), "downhill-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** A file of vectors of single precision. */
function vectors(all: Record<string, readonly number[]>, metadata?: Record<string, string>): Uint8Array {
  let end = 0;
  const entries = Object.entries(all).map(([name, numbers]) => {
    const begin = end;
    end += 4 * numbers.length;
    return [name, { dtype: "F32", shape: [numbers.length], data_offsets: [begin, end] }];
  });
  const header = { ...(metadata && { __metadata__: metadata }), ...Object.fromEntries(entries) };
  return file(JSON.stringify(header), new Uint8Array(Float32Array.from(Object.values(all).flat()).buffer));
}

const shards = { "one.safetensors": vectors({ a: [1, 2] }, { format: "pt" }), "two.safetensors": vectors({ b: [3] }) };
const index = { metadata: { total_size: 12 }, weight_map: { a: "one.safetensors", b: "two.safetensors" } };

test("names, shapes, dtypes, metadata, elements", () => {
  const { tensors, metadata } = readSafetensors(vectors({ a: [1, 2], b: [3] }, { format: "pt" }));
  expect(Object.entries(tensors).map(([name, { dtype, shape }]) => [name, dtype, shape])).toEqual([
    ["a", "F32", [2]],
    ["b", "F32", [1]],
  ]);
  expect([...tensors.a!.read()]).toEqual([1, 2]);
  expect({ ...metadata }).toEqual({ format: "pt" });
  expect(tensors.b!.item()).toBe(3);
  expect(() => tensors.a!.item()).toThrow("a number must be one element, got a tensor of [2]");
});

test("shards, as bytes and on disk", async () => {
  const read = readSafetensors(shards, JSON.stringify(index));
  for (const [name, bytes] of Object.entries(shards)) writeFileSync(join(folder, name), bytes);
  const path = join(folder, "model.safetensors.index.json");
  writeFileSync(path, JSON.stringify(index));
  for (const all of [read, await readSafetensorsFile(path), await readSafetensorsFile(pathToFileURL(path))]) {
    expect(Object.keys(all.tensors)).toEqual(["a", "b"]);
    const model = small().tensors({ a: [2], b: [1] });
    expect(loadModel(all, model)).toEqual({ leftOut: [] });
    expect([...model.a.data, ...model.b.data]).toEqual([1, 2, 3]);
  }
});

test("only the requested part of a file on disk is read", async () => {
  const path = join(folder, "sparse.safetensors");
  const header = JSON.stringify({
    big: { dtype: "F32", shape: [2 ** 33], data_offsets: [0, 2 ** 35] },
    w: { dtype: "F32", shape: [1], data_offsets: [2 ** 35, 2 ** 35 + 4] },
  });
  writeFileSync(path, file(header, new Uint8Array()));
  truncateSync(path, 8 + header.length + 2 ** 35 + 4);
  const { tensors } = await readSafetensorsFile(path);
  expect(tensors.w!.item()).toBe(0);
  expect(loadModel({ w: tensors.w! }, [small().tensor("w", [1])])).toEqual({ leftOut: [] });
  truncateSync(path, 100);
  expect(() => tensors.w!.read()).toThrow(
    /^readSafetensorsFile: .*sparse.safetensors cannot be read: it was replaced or changed; open it again$/,
  );
  rmSync(path);
  expect(() => tensors.w!.read()).toThrow(/^readSafetensorsFile: .*sparse.safetensors cannot be read: ENOENT/);
});

test("a file that was replaced is an error, and a model keeps all its values", async () => {
  for (const [name, bytes] of Object.entries(shards)) writeFileSync(join(folder, name), bytes);
  const path = join(folder, "replaced.json");
  writeFileSync(path, JSON.stringify(index));
  const read = await readSafetensorsFile(path);
  const model = small().tensors({ a: [2], b: [1] });
  await saveFile(join(folder, "two.safetensors"), model);
  expect(() => loadModel(read, model)).toThrow("two.safetensors cannot be read: it was replaced or changed");
  expect([...model.a.data, ...model.b.data]).toEqual([0, 0, 0]);
});

test("a relative path is resolved at the time of the call, and a URL may be of another realm", async () => {
  const bytes = shards["one.safetensors"];
  writeFileSync(join(folder, "relative.safetensors"), bytes);
  const before = process.cwd();
  process.chdir(folder);
  const read = await readSafetensorsFile("relative.safetensors").finally(() => process.chdir(before));
  expect([...read.tensors.a!.read()]).toEqual([1, 2]);
  const { href } = pathToFileURL(join(folder, "relative.safetensors"));
  const url = { href, toString: () => href } as URL;
  expect([...(await readSafetensorsFile(url)).tensors.a!.read()]).toEqual([1, 2]);
  await expect(readSafetensorsFile(Object.create(null))).rejects.toThrow(
    "readSafetensorsFile: path, the first argument, must be a path",
  );
});

test("an index above the limit is not read", async () => {
  const path = join(folder, "large.json");
  writeFileSync(path, "");
  truncateSync(path, 2 ** 33);
  await expect(readSafetensorsFile(path)).rejects.toThrow(
    "readSafetensorsFile: an index must have at most 67108864 bytes, got 8589934592",
  );
});

test("prefixes", () => {
  const bytes = vectors({ "module.encoder.w": [1], "module.b": [2] });
  const model = small().tensors({ "enc.w": [1], b: [1] });
  loadModel(bytes, model, { rename: { "module.": "", "module.encoder.": "enc." } });
  expect([model["enc.w"].data[0], model.b.data[0]]).toEqual([1, 2]);
  loadModel(bytes, model, { rename: (name) => name.replace("module.", "").replace("encoder", "enc") });
  expect(() => loadModel(bytes, model, { rename: () => "w" })).toThrow(
    'loadModel: rename must return different names, got "w" for "module.encoder.w" and "module.b"; nothing was loaded',
  );
  for (const rename of [7, "module.", { "module.": 7 }, []]) {
    expect(() => loadModel(bytes, model, { rename: rename as never })).toThrow(
      /^loadModel: rename must be prefixes such as \{ "module\.": "" \}, or a function of a name, got /,
    );
  }
  expect(() => loadModel(bytes, model, { rename: () => 7 as never })).toThrow(
    'rename must return a name for "module.encoder.w", got 7',
  );
});

describe("wrong", () => {
  const table: [title: string, act: () => unknown, message: string][] = [
    ["no bytes", () => readSafetensors("model.safetensors" as never), "readSafetensors: expected a file's bytes, got"],
    [
      "no files",
      () => readSafetensors(shards["one.safetensors"], index),
      "readSafetensors: files must be bytes by the names in the index",
    ],
    ["no JSON", () => readSafetensors(shards, "{"), 'readSafetensors: the index must be JSON, got "{"'],
    ["no map", () => readSafetensors(shards, {}), "readSafetensors: the index must have weight_map"],
    [
      "a path",
      () => readSafetensors(shards, { weight_map: { a: "../one.safetensors" } }),
      'the index must name files in its folder, got "../one.safetensors" for "a"',
    ],
    [
      "a file that is not there",
      () => readSafetensors(shards, { weight_map: { a: "x" } }),
      'the files must have "x", which the index names',
    ],
    [
      "a tensor that is not there",
      () => readSafetensors(shards, { weight_map: { c: "one.safetensors" } }),
      '"one.safetensors" must hold tensor "c", as the index says',
    ],
    [
      "a Git LFS pointer",
      () => readSafetensors(Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")),
      "readSafetensors: the file must be a model, got a Git LFS pointer to one; run git lfs pull",
    ],
    [
      "a page",
      () => readSafetensors(Buffer.from("\n<!DOCTYPE html><html>")),
      "readSafetensors: the file must be a model, got a web page",
    ],
  ];
  test.each(table)("%s", (_, act, message) => expect(act).toThrow(message));
});

test("a model that PyTorch's safetensors wrote", () => {
  const bytes = readFileSync(new URL("fixtures/real/tied.safetensors", import.meta.url));
  const { tensors, metadata } = readSafetensors(bytes);
  expect(metadata["fc.weight"]).toBe("emb.weight");
  expect(Object.keys(tensors)).not.toContain("fc.weight");
});
