/** Tests of the documents: programs run, commands exist, and links have targets, also in the package. */

import { execFile, execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { build, transformSync } from "esbuild";
import GithubSlugger from "github-slugger"; // the anchors that GitHub gives to headings, by the authors of remark
import { marked, type Token, type Tokens } from "marked"; // a small, well-kept Markdown parser without dependencies
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { root } from "../scripts/project.mjs";
import * as downhill from "../ts/index.js";

const files = (folder: string): string[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => `${folder}/${name.replaceAll("\\", "/")}`);

const documents = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...files("docs")].map((path) => ({
  path,
  tokens: marked.lexer(readFileSync(join(root, path), "utf8")),
}));

/** Returns all tokens of a document, including nested ones. */
function all(tokens: readonly Token[]): Token[] {
  const found: Token[] = [];
  marked.walkTokens(tokens as Token[], (token) => void found.push(token));
  return found;
}

interface Program {
  /** The name of the document and the number of the program in it, counted from 1. */
  readonly name: string;
  text: string;
  /** The reason why it is type-checked but not run; undefined if it is run. */
  readonly onlyChecked: string | undefined;
  /** The output that the document shows. */
  output?: string;
}

/**
 * Returns the fenced code blocks, grouped by language. `ts continues` joins the program before; `ts check-only REASON`
 * is not run.
 */
function blocksOf({ path, tokens }: (typeof documents)[number]) {
  const programs: Program[] = [];
  const others: { readonly language: string; readonly text: string }[] = [];
  for (const { lang = "", text } of all(tokens).filter((token) => token.type === "code") as Tokens.Code[]) {
    const [language = "", word = "", ...reason] = lang.split(" ");
    const last = programs.at(-1);
    if (language === "ts" && word === "continues") {
      if (last === undefined) throw new Error(`${path}: "ts continues" must follow a program`);
      last.text += `\n${text}`;
    } else if (language === "ts") {
      if (!["", "check-only"].includes(word)) throw new Error(`${path}: "${lang}" is unknown`);
      if (word === "check-only" && reason.length === 0) throw new Error(`${path}: "${lang}" must give a reason`);
      const name = `${path.replace(/\.md$/, "").replaceAll("/", "-")}-${programs.length + 1}`;
      programs.push({ name, text, onlyChecked: word === "" ? undefined : reason.join(" ") });
    } else if (language === "text" && word === "output") {
      if (last === undefined) throw new Error(`${path}: "text output" must follow a program`);
      last.output = `${last.output ?? ""}${text}\n`;
    } else {
      others.push({ language, text });
    }
  }
  return { programs, others };
}

const blocks = documents.map((document) => ({ path: document.path, ...blocksOf(document) }));
const programs = blocks.flatMap(({ programs }) => programs);

/** A folder inside this package, so that its programs can import the package by name. */
const folder = join(root, "target/documents");
const pathOf = ({ name }: Program) => join(folder, `${name}.mts`);
let problems: readonly ts.Diagnostic[];
const scratch = mkdtempSync(join(tmpdir(), "downhill-documents-"));
afterAll(() => rmSync(scratch, { recursive: true }));

/** Of TensorFlow.js only the core and its backends are installed here. */
const installed = (text: string) =>
  text.replace(
    'import * as tf from "@tensorflow/tfjs";',
    `import * as tf from "@tensorflow/tfjs-core";
     import "@tensorflow/tfjs-core/dist/register_all_gradients.js";
     import "@tensorflow/tfjs-backend-cpu";
     tf.env().set("IS_TEST", true);`,
  );

beforeAll(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const program of programs) writeFileSync(pathOf(program), installed(program.text));
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: ["node"],
    lib: ["lib.es2023.d.ts", "lib.dom.d.ts"],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
  };
  problems = ts.getPreEmitDiagnostics(ts.createProgram(programs.map(pathOf), options));
});

describe.each(programs)("$name", (program) => {
  test("compiles", () => {
    const own = problems.filter(({ file }) => file && relative(file.fileName, pathOf(program)) === "");
    expect(own.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))).toEqual([]);
  });

  test.skipIf(program.onlyChecked !== undefined)("runs, and prints what the document shows", async () => {
    const path = join(folder, `${program.name}.mjs`);
    await build({
      entryPoints: [pathOf(program)],
      outfile: path,
      bundle: true,
      format: "esm",
      platform: "node",
      external: ["downhill", "@jax-js/jax"],
      mainFields: ["module", "main"],
      logLevel: "error",
      banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    });
    const { stdout } = await promisify(execFile)(process.execPath, [path], { cwd: scratch });
    if (program.output !== undefined) expect(stdout).toBe(program.output);
  });
});

const { scripts, version, peerDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** Returns the problem with a line of a shell block; undefined if there is none. */
function wrong(line: string): string | undefined {
  const [command, verb = "", ...rest] = line.replace(/(^|\s)#.*|([A-Z]+=\S+ )/g, "").split(/\s+/);
  if (command === "") return undefined;
  if (command !== "npm") return "only npm's commands are checked";
  if (verb === "install") {
    const installable = ["downhill", "@tensorflow/tfjs", ...Object.keys(peerDependencies)];
    const other = rest.find((name) => !installable.includes(name));
    return other && `${other} is neither the package nor a peer of it`;
  }
  const [name, ...others] = verb === "run" ? rest : [verb, ...rest];
  const script: string | undefined = scripts[name!];
  if (script === undefined) return `package.json has no script "${name}"`;
  const [tool, file = ""] = script.split(" ");
  const source = tool === "tsx" ? readFileSync(join(root, file), "utf8") : "";
  const flags = others.filter((word) => /^--\w/.test(word)).map((word) => word.slice(2).replace(/=.*/, ""));
  const unknown = flags.find((flag) => source !== "" && !source.includes(`${flag}: {`));
  return unknown && `${file} has no flag --${unknown}`;
}

const python = spawnSync("python3", ["--version"]).status === 0;

/** The checks of code blocks that are not TypeScript, by language. */
const checks: Record<string, (text: string) => void> = {
  sh: (text) => expect(text.split("\n").map(wrong).filter(Boolean)).toEqual([]),
  json: (text) => void JSON.parse(text),
  js: (text) => void transformSync(text, { loader: "js", format: "esm" }),
  python(text) {
    if (python) execFileSync("python3", ["-c", "import ast, sys; ast.parse(sys.stdin.read())"], { input: text });
  },
  /** Every added line must be in the file that the last `+++` line names. `...` replaces omitted lines. */
  diff(text) {
    let source = "";
    for (const line of text.split("\n")) {
      const path = line.match(/^\+\+\+ (.*)/)?.[1];
      if (path !== undefined) source = readFileSync(join(root, path), "utf8");
      else if (line !== "+ ...") expect(source, line).toContain(line.replace(/^\+\s*/, ""));
    }
  },
  /** Checks that the package has the names that pages import. */
  html(text) {
    const [, names, named] = text.match(/import \{ (.+) \} from "https:.+\/downhill@(.+)"/)!;
    expect(Object.keys(downhill)).toEqual(expect.arrayContaining(names!.split(", ")));
    expect(named).toBe(version);
  },
};

/** The blocks that have a check. Blocks of text have none. */
const checkable = blocks.flatMap(({ path, others }) =>
  others.filter(({ language }) => language !== "text").map((block, i) => ({ title: `${path} ${i + 1}`, ...block })),
);

test.each(checkable)("$title, in $language, holds", ({ language, text }) => {
  expect(Object.keys(checks), "each fenced block must name its language").toContain(language);
  checks[language]!(text);
});

test("a command that does not exist is found", () => {
  expect(wrong("npm run nothing")).toContain("no script");
  expect(wrong("npm start -- --nothing 1")).toContain("no flag --nothing");
  expect(wrong("npm start -- --epochs 1 # once")).toBeUndefined();
  expect(wrong("yarn add downhill")).toBeDefined();
  expect(wrong("npm install uphill")).toContain("uphill");
});

const anchors = new Map(
  documents.map(({ path, tokens }) => {
    const slugger = new GithubSlugger();
    const headings = all(tokens).filter((token) => token.type === "heading") as Tokens.Heading[];
    return [path, headings.map(({ text }) => slugger.slug(text.replace(/`|\[([^\]]*)\]\([^)]*\)/g, "$1")))];
  }),
);

describe("links", () => {
  let packed: string[];
  beforeAll(() => {
    const options = ["pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error"];
    const [{ files }] = JSON.parse(execFileSync("npm", options, { cwd: root, encoding: "utf8" }));
    packed = files.map(({ path }: { path: string }) => path);
  });

  test.each(documents)(
    "$path: each leads to a file and a heading, and from the package to one in the package",
    (document) => {
      const { path, tokens } = document;
      const links = all(tokens).filter(({ type }) => type === "link" || type === "image") as Tokens.Link[];
      for (const { href } of links.filter(({ href }) => !/^(https?|mailto):/.test(href))) {
        const [file = "", anchor] = href.split("#");
        const target = file === "" ? path : join(dirname(path), file).replaceAll("\\", "/").replace(/\/$/, "");
        expect(existsSync(join(root, target)), `${path}: ${href} leads nowhere`).toBe(true);
        const isThere = packed.some((name) => name === target || name.startsWith(`${target}/`));
        expect(isThere || !packed.includes(path), `${path}: ${href} is not in the package`).toBe(true);
        if (anchor !== undefined) expect(anchors.get(target), `${path}: ${href}`).toContain(anchor);
      }
    },
  );
});

test("the README is short", () => {
  expect(readFileSync(join(root, "README.md"), "utf8").split("\n").length).toBeLessThanOrEqual(160);
});
