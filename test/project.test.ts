/** Tests of the project: generated documents, rules for the sources, and the Rust tests. */

import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { documents } from "../scripts/docs.js";
import { ruleProse } from "../scripts/prose.js";
import { root } from "../scripts/project.mjs";
import { createArenaSync } from "../ts/arena/arena.js";
import type { Definition } from "../ts/optimizer/definition.js";
import { nonNegative } from "../ts/option.js";
import { rule } from "../ts/rule.js";
import * as rules from "../ts/rules/index.js";
import { factories } from "./registry.js";

test.each(documents())("$path is what the literals give", ({ is, should }) => {
  expect(is, "run `npm run docs`").toBe(should);
});

test("every file in ts/rules is exported, under its own name", () => {
  const files = readdirSync(join(root, "ts/rules")).flatMap((file) => file.match(/^(?!index)(\w+)\.ts$/)?.[1] ?? []);
  const exported = factories.map(({ rule }) => rule.name);
  expect(exported.toSorted(), 'add `export { NAME } from "./NAME.js";` to ts/rules/index.ts').toEqual(files.sort());
  for (const [name, factory] of Object.entries(rules)) expect(factory.rule.name, "the rule's name").toBe(name);
});

test("a folder of ts imports only from folders above it in CONTRIBUTING.md, and from the files at the top", () => {
  const map = readFileSync(join(root, "CONTRIBUTING.md"), "utf8").match(/^ts\/ [^]*?(?=^crate)/m)![0];
  const order = [...map.matchAll(/^  (\w+)\/(?: (\w+)\/)?/gm)].flatMap(([, ...names]) => names.filter(Boolean));
  const files = readdirSync(join(root, "ts"), { recursive: true, encoding: "utf8" }).filter((path) =>
    /\/.*\.ts$/.test(path),
  );
  expect(new Set(files.map((path) => path.split("/")[0]))).toEqual(new Set(order));
  const wrong = files.flatMap((path) => {
    const [folder] = path.split("/") as [string];
    const text = readFileSync(join(root, "ts", path), "utf8");
    const targets = [...text.matchAll(/ from "\.\.\/(\w+)\//g)].map(([, name]) => name!);
    return targets
      .filter((name) => order.indexOf(name) > order.indexOf(folder))
      .map((name) => `${path} imports ${name}/`);
  });
  expect(wrong).toEqual([]);
});

test("a rule without its kernel fails when it is made, before anything has changed, with the line that is missing", () => {
  const arena = createArenaSync({ maxBytes: 2 ** 17, threads: 1 });
  const model = arena.tensors({ w: [3] });
  const before = arena.bytesLeft;
  const literal: Definition = { kernels: {}, hyper: { lr: nonNegative(1e-3) }, state: ["expAvg", "expAvgSq"] };
  const plain = rule("unheardOf", literal);
  const measuring = rule("unheardOf", { ...literal, sums: ["first", "second"], perTensor: true });
  expect(() => plain(model)).toThrow(
    'unheardOf: the binary must have a kernel "unheard_of", got none; add the line "unheard_of: MODULE::STRUCT, 2;" to the list in crate/src/lib.rs, then run "npm run kernels"',
  );
  expect(() => measuring(model)).toThrow('"unheard_of: MODULE::STRUCT, 2, by unheard_of_measure: 2;"');
  expect(arena.bytesLeft).toBe(before);
  arena.free();
});

const pages = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));

test.each(["README.md", "package.json", ...pages.map((name) => `docs/${name}`)])(
  "%s does not count optimizers or schedules: a new one would make it wrong",
  (path) => {
    const count =
      /\b(\d{2,}|(twenty|thirty|forty|fifty|sixty)(-\w+)?) (other |more )?(optimizers|rules|schedules|others)\b/i;
    expect(readFileSync(join(root, path), "utf8")).not.toMatch(count);
  },
);

test("if a rule's comment lacks a paragraph, the error says which one and what to write", () => {
  const paragraphs = [
    "It moves: `p = p - g`.",
    "Someone, https://example.org",
    "Use it for tests.",
    "Elsewhere: none.",
  ];
  const prose = (texts: string[]) => ruleProse("rule", `/**\n${texts.join("\n\n")}\n*/\nexport const rule = {};`);
  expect(Object.values(prose(paragraphs))).toEqual(paragraphs);
  for (const [i, remedy] of ["the formula in code", "with a link", '"Use it for …"', '"Elsewhere: …"'].entries()) {
    const message = `ts/rules/rule.ts: paragraph ${i + 1} of the rule's comment must`;
    expect(() => prose(paragraphs.toSpliced(i, 1, "Words."))).toThrow(message);
    expect(() => prose(paragraphs.toSpliced(i, 1, "Words."))).toThrow(remedy);
  }
  expect(() => prose([...paragraphs, "More."])).toThrow('must end with "Elsewhere: …"');
});

test("ts/ calls no function whose last bits depend on the engine: powers, exponentials, logarithms, angles", () => {
  const files = readdirSync(join(root, "ts"), { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".ts") && !name.startsWith("kernels/"), // which are text
  );
  for (const file of files) {
    const source = readFileSync(join(root, "ts", file), "utf8")
      .replace(/\/\*[\s\S]*?\*\//g, "") // comments
      .replace(/\b2 \*\* \d+/g, ""); // exact
    expect(source, file).not.toMatch(/Math\.(?!(abs|ceil|floor|fround|imul|max|min|sign|sqrt|trunc)\b)|\*\*/);
  }
});

const cargo = spawnSync("cargo", ["--version"]).status === 0;

test.skipIf(!cargo)("the kernels compiled for the host CPU give the published results", () => {
  execFileSync("cargo", ["test", "--quiet"], { cwd: root, stdio: "pipe" });
});

/** Openings and words that comments and documents do not use, and the plain ones. */
const refused: Readonly<Record<string, RegExp>> = {
  "begin a comment with a noun or a verb": /(?<=^\s*(?:\/\*\*|\/\/[/!]?|# ) ?)(?:What|How|Where|Why) /,
  "Optax's, Keras's, TensorFlow.js's": /\b(?:Optax|Keras|TensorFlow\.js|Linux)'(?!s)/,
  "is unavailable": /\bcannot be had\b/,
  "instead of": /\bin (?:the )?place of\b/,
  "starts at its initial values": /\b(?:begins?|starts?) anew\b/,
  "with the functions of": /\bin the manner of\b/,
  with: /\brides? along\b/,
  requires: /\bis had by\b/,
};

test("comments and documents are plain English", () => {
  const folders = ["ts", "crate", "test", "bench", "scripts", "examples", "docs"];
  const all = folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).map((name) => `${folder}/${name}`),
  );
  const sources = all.filter(
    (path) =>
      /\.(ts|mjs|rs|py|c|md)$/.test(path) && !/worker-source|ts\/kernels\/|project\.test\.ts|node_modules/.test(path),
  );
  const wrong: string[] = [];
  for (const path of [...sources, "README.md", "CHANGELOG.md"]) {
    const lines = readFileSync(join(root, path), "utf8").split("\n");
    for (const [i, line] of lines.entries()) {
      // The first words of a comment of several lines are on its second line.
      const opening = /^\s*\/\*\*$/.test(lines[i - 1] ?? "") ? line.replace(/^\s*\* /, "/** ") : line;
      for (const [instead, words] of Object.entries(refused)) {
        const isComment = path.endsWith(".md") || /^\s*(\/\*\*|\/\/|\*|#)|\/\/ /.test(line);
        const isHeading = path.endsWith(".md") && words.source.includes("What");
        if (isComment && !isHeading && words.test(opening)) wrong.push(`${path}:${i + 1}: ${line.trim()} (${instead})`);
      }
    }
  }
  expect(wrong).toEqual([]);
});
