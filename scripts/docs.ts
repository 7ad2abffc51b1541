/**
 * Writes the generated documents: a page for each rule in docs/optimizers, docs/schedules.md, docs/porting.md, the tables
 * of speed in the README, docs/performance.md, docs/tfjs.md and docs/jax.md, and the lists of factories in the adapters.
 * With `--check` it writes nothing, and fails if a document is out of date.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { groupOptions, sharedOptions, type Rule } from "../ts/optimizer/definition.js";
import { type Options, show } from "../ts/option.js";
import * as rules from "../ts/rules/index.js";
import * as schedules from "../ts/schedules/index.js";
import { code, made, table } from "./markdown.js";
import { libraries, portingPage, ruleIn } from "./porting.js";
import { root } from "./project.mjs";
import { allSpeeds, besideJax, besidePyTorch, besideTfjs, fewSpeeds, peers } from "./speed.js";
import { functionProse, optionProse, ruleProse, scheduleProse, sharedProse, slotsOf } from "./prose.js";

/** A generated file. */
export interface Document {
  readonly path: string;
  /** Its present text; undefined if there is no such file. */
  readonly is: string | undefined;
  /** The text that it should have; undefined if it should not exist. */
  readonly should: string | undefined;
}

const PAGES = "docs/optimizers";
/** Optimizers and wrappers that are not made by `rule()`. */
const functions = { lbfgs: "ts/lbfgs/lbfgs.ts", lookahead: "ts/wrappers/lookahead.ts", sam: "ts/wrappers/sam.ts" };

/** All generated files, and all other files in the folder of the optimizers' pages, which should not exist. */
export function documents(): Document[] {
  const list = listed();
  const pages = new Map([
    ["README.md", filled("README.md", { speed: fewSpeeds() })],
    [
      "docs/performance.md",
      filled("docs/performance.md", {
        "speed of all rules": allSpeeds(),
        peers: peers(),
        "beside PyTorch": besidePyTorch(),
      }),
    ],
    ["docs/tfjs.md", filled("docs/tfjs.md", { speed: besideTfjs() })],
    ["docs/jax.md", filled("docs/jax.md", { speed: besideJax() })],
    ["docs/porting.md", portingPage()],
    ["docs/schedules.md", schedulesPage()],
    ["ts/tfjs/rules.ts", factories("tfjsFactory")],
    ["ts/jax/rules.ts", factories("jaxFactory", "/* @__PURE__ */ ")],
    [`${PAGES}/README.md`, index(list)],
    ...list.map((rule) => [`${PAGES}/${rule.name}.md`, page(rule)] as const),
    ...Object.entries(functions).map(([name, path]) => [`${PAGES}/${name}.md`, functionPage(name, path)] as const),
  ]);
  const present = readdirSync(join(root, PAGES)).map((name) => `${PAGES}/${name}`);
  return [...new Set([...pages.keys(), ...present])].map((path) => ({ path, is: read(path), should: pages.get(path) }));
}

/** The factories of an adapter, one for each rule: exports must have names. With a mark, bundlers leave out those that are unused. */
function factories(make: string, mark = ""): string {
  const lines = listed().map(({ name }) => `export const ${name} = ${mark}${make}(rules.${name});\n`);
  const imports = `import * as rules from "../rules/index.js";\nimport { ${make} } from "./factory.js";\n`;
  return `// Made from ts/rules/index.ts by \`npm run docs\`; do not edit it.\n\n${imports}\n${lines.join("")}`;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(join(root, path), "utf8");
  } catch {
    return undefined;
  }
}

/** Every rule, in the order of ts/rules/index.ts, which goes from simple to complex. */
function listed(): Rule[] {
  const file = read("ts/rules/index.ts")!;
  const at = ({ name }: Rule) => file.search(new RegExp(`\\b${name}\\b`));
  return Object.values(rules)
    .map(({ rule }) => rule)
    .sort((a, b) => at(a) - at(b));
}

/** A rule's own options: live ones, and those that are read once. */
function optionsOf({ hyper, fixed }: Rule): { hyper: Options; fixed: Options } {
  return { hyper, fixed: Object.fromEntries(Object.entries(fixed).filter(([name]) => !(name in groupOptions))) };
}

/** A document whose generated parts, each between two comments, are as they should be. */
function filled(path: string, parts: Readonly<Record<string, string>>): string {
  return Object.entries(parts).reduce((text, [name, part]) => {
    const [start, end] = [`<!-- ${name}: made by \`npm run docs\` -->\n`, `<!-- end of ${name} -->`];
    const [from, to] = [text.indexOf(start), text.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`${path} must have the lines ${start}${end}`);
    return text.slice(0, from + start.length) + part + text.slice(to);
  }, read(path)!);
}

function index(list: readonly Rule[]): string {
  const row = (name: string, { what, use }: ReturnType<typeof ruleProse>) => [
    `[${code(name)}](${name}.md)`,
    summary(what),
    use.replace(/^Use it /, ""),
  ];
  const rows = list.map(({ name }) => row(name, ruleProse(name)));
  const others = Object.entries(functions).map(([name, path]) => row(name, functionProse(path, name)));
  const shared = { ...sharedProse("groupOptions"), ...sharedProse("sharedOptions") };
  return `${made("the comments in ts")}# Optimizers

${table(["optimizer", "what it does", "use it"], rows)}
And those that work otherwise:

${table(["optimizer", "what it does", "use it"], others)}
Their names in other libraries: [porting](../porting.md).

## Letters in the formulas

| letter | meaning |
|---|---|
| \`p\` | a parameter |
| \`g\` | its gradient, scaled and clipped |
| \`t\` | the number of the step, counted from 1 |
| \`b1\`, \`b2\`, \`b3\` | the numbers in \`betas\` |
| \`m\`, \`v\` | the running means of \`g\` and of \`g ** 2\`, as in [\`adam\`](adam.md) |
| \`g'\` | the transpose of a matrix |

Names such as \`lr\` are options. If a page uses a letter for something else, it says so, or has a formula for it.

## Options and state

Each option has its default beside it. "With" names the option that adds a slot of state.

${table(["optimizer", "options", "state"], list.map(inBrief))}
## Options of every optimizer

All optimizers but \`lbfgs\` also have these options. They are read once, when the optimizer is made. A group can have its own \`maximize\`,
\`box\` and \`nonNegative\`. The other options are the same for all groups.
Numbers of steps and of micro-batches are whole numbers.

${table(
  ["option", "default", "range", "what it is"],
  Object.entries({ ...groupOptions, ...sharedOptions }).map(([name, option]) => optionRow(name, option, shared)),
)}`;
}

/** A rule's row in the table of options and state. */
function inBrief(rule: Rule): string[] {
  const { hyper, fixed } = optionsOf(rule);
  const options = Object.entries({ ...hyper, ...fixed }).map(
    ([name, option]) => `${code(name)} ${show(option.default)}`,
  );
  const added = Object.entries(rule.addedState).map(([slot, option]) => `${code(slot)} with ${code(option)}`);
  const state = [...rule.state.map(code), ...added];
  return [code(rule.name), options.join(", "), state.join(", ") || "none"];
}

function page(rule: Rule): string {
  const { name, addedState } = rule;
  const { what, source, use, elsewhere } = ruleProse(name);
  const { hyper, fixed } = optionsOf(rule);
  const prose = optionProse(name);
  const adding = Object.values(addedState);
  const rows = (options: Options, when: (name: string) => string) =>
    Object.entries(options).map(([name, option]) => [...optionRow(name, option, prose, rule.name), when(name)]);
  const options = [
    ...rows(hyper, (name) => (adding.includes(name) ? "at each step; whether it is 0, once" : "at each step")),
    ...rows(fixed, () => "once"),
  ];
  const slots = slotsOf(rule).map(({ slot, exists, shape, start }) => [code(slot), exists, shape, start]);
  return `${made(`ts/rules/${name}.ts`)}# ${name}

${laidOut(what)}

${LETTERS}

${use}

Source: ${source}

## Options

${table(["option", "default", "range", "what it is", "read"], options)}
Options that are read at each step can be changed, \`opt.hyper.NAME = …\`, and their numbers can be schedules. Options that are read once
are fixed when the optimizer is made. There are also the [options of every optimizer](README.md#options-of-every-optimizer).

## State

${slots.length === 0 ? "None.\n" : `A \`Float32Array\` each: \`opt.state(tensor).NAME\`.\n\n${table(["slot", "exists", "shape", "starts at"], slots)}`}
## Elsewhere

${elsewhere.replace(/^Elsewhere: /, "")}${ported.has(name) ? CALLS : ""}
`;
}

const CALLS = " The calls: [porting](../porting.md).";

/** The link to the table of letters. */
const LETTERS = "[The letters in these formulas](README.md#letters-in-the-formulas).";
const ported = new Set(libraries.flatMap(({ ports }) => ports.map(ruleIn)));

function functionPage(name: string, path: string): string {
  const { what, source, use, elsewhere, options } = functionProse(path, name);
  return `${made(path)}# ${name}

${laidOut(what)}

${LETTERS}

${use}

Source: ${source}

## Options

${table(
  ["option", "what it is"],
  options.map(([name, says]) => [code(name), says]),
)}
## Elsewhere

${elsewhere.replace(/^Elsewhere: /, "")}${CALLS}
`;
}

function schedulesPage(): string {
  const sections = Object.entries(scheduleFiles).map(([title, files]) => {
    const parts = files.flatMap((file) => {
      const path = `ts/schedules/${file}`;
      const text = read(path)!;
      // The keys of a module namespace are in alphabetical order. The page has the order of the file.
      const at = (name: string) => text.search(new RegExp(`export const ${name}\\b`));
      return Object.entries(schedules)
        .filter(([name]) => at(name) >= 0)
        .sort(([a], [b]) => at(a) - at(b))
        .map(([name, { options }]) => {
          const { what, options: prose } = scheduleProse(path, name);
          const rows = Object.entries(options).map(([option, { default: value, range }]) => {
            const says = prose[option];
            if (says === undefined)
              throw new Error(`${path}: ${name}'s ${option} needs a comment that says what it is`);
            return [code(option), value === undefined ? "required" : code(show(value)), range, says];
          });
          return `### ${name}\n\n${what}\n\n${table(["option", "default", "range", "what it is"], rows)}`;
        });
    });
    return `## ${title}\n\n${parts.join("\n")}`;
  });
  return `${made("the comments in ts/schedules")}# Schedules

A schedule gives a number for each step, counted from 0. Every numeric option that is read at each step can be one:

\`\`\`ts
import { adamw, createArena, scheduleFrom, stepLR } from "downhill";

const model = (await createArena()).tensors({ w: [10] });
const schedule = stepLR({ lr: 0.1, stepSize: 30 });
adamw(model, { lr: schedule });
console.log(schedule.at(0), schedule.at(30).toFixed(4)); // its value at a step
const same = scheduleFrom(JSON.parse(JSON.stringify(schedule))); // it is data
\`\`\`

\`\`\`text output
0.1 0.0100
\`\`\`

Numbers of steps are whole numbers. A missing option is a TypeError, and a number outside its range is a RangeError. To draw one, in a clone of the repository:

\`\`\`sh
npm run plot -- 'stepLR({ lr: 0.1, stepSize: 30 })'
\`\`\`

${sections.join("\n")}`;
}

const scheduleFiles = {
  "PyTorch's": ["torch.ts", "plateau.ts"],
  "Optax's": ["optax.ts"],
  Others: ["others.ts"],
};

/** An option's row. `rule` names the file in the error for a missing comment. */
function optionRow(name: string, option: Options[string], prose: Record<string, string>, rule?: string): string[] {
  const says = prose[name];
  if (says === undefined) {
    throw new Error(
      `ts/${rule ? `rules/${rule}` : "optimizer/definition"}.ts: ${name} needs a comment that says what it is`,
    );
  }
  return [code(name), code(show(option.default)), option.range, says];
}

/** The first sentence of a description, or the part of it before a formula. */
function summary(what: string): string {
  const [words = ""] = split(what);
  return words.split(/(?<=\.) /)[0]!.replace(/[.,:;]?\s*$/, "");
}

/** A paragraph with each formula in a block of its own. */
function laidOut(paragraph: string): string {
  const blocks = split(paragraph).map((part, i) =>
    i % 2 === 0
      ? part.replace(/^[.,;:]?\s+|\s+$|^\.$/g, "")
      : `\`\`\`text\n${part.slice(1, -1).replaceAll("; ", "\n")}\n\`\`\``,
  );
  return blocks.filter((block) => block !== "").join("\n\n");
}

/** Words and formulas in turn. A formula is code with an assignment. */
function split(paragraph: string): string[] {
  const parts = [""];
  for (const [i, part] of paragraph.split(/(`[^`]*`)/).entries()) {
    if (i % 2 === 1 && part.includes(" = ")) parts.push(part, "");
    else parts[parts.length - 1] += part;
  }
  return parts;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  mkdirSync(join(root, PAGES), { recursive: true });
  const stale = documents().filter(({ is, should }) => is !== should);
  if (stale.length === 0) console.log("the documents are up to date");
  else if (process.argv.includes("--check")) {
    throw new Error(`${stale.map(({ path }) => path).join(", ")}: out of date; run \`npm run docs\``);
  }
  for (const { path, should } of stale) {
    if (should === undefined) rmSync(join(root, path));
    else writeFileSync(join(root, path), should);
  }
}
