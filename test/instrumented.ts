/** A WebAssembly module that counts what it executes. */

import wabt from "wabt"; // the WebAssembly group's own tools: binary to text and back

/** The names of the counters, which the module exports as globals. */
export const INSTRUCTIONS = "counted_instructions";
export const BYTES = "counted_bytes";

/** Instructions that end a straight run of instructions. */
const CONTROL = /^(block|loop|if|else|end|br|br_if|br_table|return|call|unreachable)$/;
/** Instructions that read or write memory. Their width is in their name, or that of their type. */
const ACCESS = /^(i32|i64|f32|f64|v128)\.(?:load|store)(\d+)?/;
const WIDTH: Readonly<Record<string, number>> = { i32: 4, i64: 8, f32: 4, f64: 8, v128: 16 };

/**
 * Returns the module with two counters: of executed instructions, where a SIMD instruction counts as one, and of bytes
 * that were read and written. A straight run of instructions is added to the counters at its end.
 */
export async function instrumented(binary: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  const features = { simd: true, bulk_memory: true, sat_float_to_int: true, sign_extension: true };
  const tools = await wabt();
  const lines = tools.readWasm(binary, features).toText({ foldExprs: false, inlineExport: false }).split("\n");
  const out: string[] = [];
  let run = { instructions: 0, bytes: 0 };
  let inside = false;
  const add = (name: string, count: number) =>
    count === 0 ? [] : [`global.get $${name}`, `i64.const ${count}`, "i64.add", `global.set $${name}`];
  function flush() {
    out.push(...add("instructions", run.instructions), ...add("bytes", run.bytes));
    run = { instructions: 0, bytes: 0 };
  }
  for (const line of lines) {
    const word = line.trim().match(/^[a-z][\w.]*/)?.[0];
    if (word === undefined || !inside) {
      if (line.trim().startsWith("(func")) inside = true;
      out.push(line);
      continue;
    }
    run.instructions++;
    const access = word.match(ACCESS);
    if (access !== null) run.bytes += access[2] === undefined ? WIDTH[access[1]!]! : Number(access[2]) / 8;
    if (CONTROL.test(word)) flush();
    // The last instruction of a function has the function's closing parenthesis.
    const text = line.replace(/\(;.*?;\)|;;.*/g, "");
    const closes = text.split(")").length > text.split("(").length;
    if (!closes) {
      out.push(text);
      continue;
    }
    out.push(text.replace(/\)\s*$/, ""));
    flush();
    out.push(")");
    inside = false;
  }
  const end = out.findLastIndex((line) => line.trimEnd().endsWith(")"));
  out[end] = out[end]!.replace(/\)\s*$/, "");
  out.push(
    `(global $instructions (export "${INSTRUCTIONS}") (mut i64) (i64.const 0))`,
    `(global $bytes (export "${BYTES}") (mut i64) (i64.const 0)))`,
  );
  const module = tools.parseWat("instrumented.wat", out.join("\n"), features);
  return Uint8Array.from([...module.toBinary({}).buffer, ...customSection(binary)]);
}

/** The package's section, by which it knows its own modules: the last one. The text format has no place for it. */
const customSection = (binary: Uint8Array) => binary.subarray(Buffer.from(binary).lastIndexOf("\bdownhill") - 2);
