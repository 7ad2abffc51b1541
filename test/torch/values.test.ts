/** Every value that `torch.load(weights_only=True)` reads, and those that it does not, beside a model that loads. */

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createArenaSync } from "../../ts/arena/arena.js";
import { type Dict, type FileTensor, loadModel, Opaque, readTorch } from "../../ts/torch/index.js";
import { small } from "../small.js";

const here = (name: string) => new Uint8Array(readFileSync(new URL(`fixtures/${name}`, import.meta.url)));

/** A tensor's dtype, shape and elements. */
const tensor = (dtype: string, shape: readonly number[], ...numbers: number[]) => ({ dtype, shape, numbers });
const opaque = (type: string) => ({ type });

const values: Record<string, unknown> = {
  none: null,
  true: true,
  int: 7,
  negative: -7,
  long: 2 ** 40,
  seed: 2n ** 64n - 1n,
  huge: 10n ** 30n,
  float: 0.1,
  nan: Number.NaN,
  text: "ä",
  bytes: Uint8Array.of(0, 255),
  no_bytes: new Uint8Array(),
  bytearray: Uint8Array.of(97, 98),
  complex: opaque("__builtin__.complex"),
  list: [1, [2]],
  tuple: [1, [2, 3], [4, 5, 6], [7, 8, 9, 10]],
  dict: { 1: 4, two: 2, None: 3, "(1, 2)": 5, "1.5": 6 }, // to Python, True is the key 1
  ambiguous: { 2: opaque('two values under the key "2"') },
  set: new Set([1, 2]),
  ordered: { a: 1 },
  counter: { 2: 1, 4: 3 },
  size: [2, 3],
  device: opaque("torch.device"),
  dtype: opaque("torch.float16"),
  layout: opaque("torch.serialization._get_layout"),
  f64: tensor("F64", [1], Math.fround(0.1)),
  f16: tensor("F16", [1], 0.5),
  bf16: tensor("BF16", [1], 0.5),
  f8_e4m3: tensor("F8_E4M3", [3], 0.5, 448, -0.015625),
  f8_e5m2: tensor("F8_E5M2", [3], 0.5, 57344, Infinity),
  i64: tensor("I64", [1], 2 ** 40),
  u16: tensor("U16", [1], 65535),
  bool: tensor("BOOL", [2], 1, 0),
  c64: tensor("C64", [2]),
  conj: tensor("C64", [2]),
  conj_imag: tensor("F32", [2], -2, 4),
  neg: tensor("F32", [2], -1, 2),
  expanded: tensor("F32", [3], 5, 5, 5),
  empty: tensor("F32", [0, 3]),
  parameter: tensor("F32", [1], 4),
  parameter_with_attribute: tensor("F32", [2], 1, 2),
  tensor_with_attribute: tensor("F32", [2], 3, 4),
  buffer: tensor("F32", [1], 6),
  sparse_coo: opaque("a sparse tensor"),
  sparse_csr: opaque("a sparse tensor"),
  quantized: opaque("a quantized tensor"),
  meta: opaque("a meta tensor, which has no numbers"),
  typed_storage: opaque("torch.storage.UntypedStorage"),
};

const allowed: Record<string, unknown> = {
  frozenset: new Set([1]),
  namespace: opaque("argparse.Namespace"),
  date: opaque("datetime.datetime"),
  decimal: opaque("decimal.Decimal"),
  fraction: opaque("fractions.Fraction"),
  path: opaque("pathlib.PurePosixPath"),
  defaultdict: { a: [1] },
  deque: opaque("collections.deque"),
  numpy_scalar: 0.5,
  numpy_array: opaque("numpy._core.multiarray._reconstruct"),
  range: opaque("__builtin__.xrange"),
  slice: opaque("__builtin__.slice"),
  class: opaque("argparse.Namespace"),
  function: opaque("torch.nn.functional.relu"),
  module: opaque("torch.nn.modules.linear.Linear"),
  subclass: opaque("a tensor of __main__.Attributed"),
};

/** A value with tensors and opaque values as the tables have them. */
function plain(value: any): unknown {
  if (value instanceof Opaque) return opaque(value.type);
  if (typeof value?.read === "function") {
    const { dtype, shape } = value as FileTensor;
    return tensor(dtype, shape, ...(dtype.startsWith("C") ? [] : value.read()));
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  if (value instanceof Set || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

describe.each([
  ["values.pt", values],
  ["allowed.pt", allowed],
  ["protocol4.pt", values],
  ["legacy_values.pt", values],
])("%s", (name, expected) => {
  const { model, extra } = readTorch(here(name)) as { model: Dict; extra: Dict };

  test("the model beside the values loads", () => {
    const { w } = small().tensors({ w: [3] });
    expect(loadModel(model, { w })).toEqual({ leftOut: [] });
    expect([...w.data]).toEqual([1, 2, 3]);
  });

  const known = Object.keys(extra).filter((key) => key !== "state_dict" && key !== "random");
  test.each(known)("%s", (key) => {
    // Protocol 4 has opcodes for sets and bytes, and another name for complex numbers.
    const there = key === "complex" && name === "protocol4.pt" ? opaque("builtins.complex") : expected[key];
    expect(plain(extra[key])).toEqual(there);
  });

  test("none of them is a model, and each instead of a tensor is a short error", () => {
    const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
    const w = arena.tensor("w", [77]);
    for (const [key, value] of Object.entries(extra)) {
      for (const act of [() => loadModel(value, [w]), () => loadModel({ w: value }, [w])]) {
        expect(act, key).toThrow(/^loadModel: .*nothing was loaded$/);
        expect(act, key).not.toThrow(/.{600}/);
      }
    }
    arena.free();
  });
});
