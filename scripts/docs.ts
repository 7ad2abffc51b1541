/**
 * Writes what is read of the rules and schedules from their literals: the README's table, a page for each rule in
 * docs/optimizers, docs/schedules.md, and docs/porting.md. `--check` only says whether all is up to date.
 */

import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { groupOptions, sharedOptions, type Rule } from "../ts/optimizer/definition.js";
import { type Options, show } from "../ts/option.js";
import * as rules from "../ts/rules/index.js";
import * as schedules from "../ts/schedules/index.js";
import type { Shape } from "../ts/arena/tensor.js";
import { code, made, table } from "./markdown.js";
import { libraries, portingPage, ruleIn } from "./porting.js";
import { root } from "./project.mjs";
import { functionProse, optionProse, ruleProse, scheduleProse, sharedProse } from "./prose.js";

/** A file of the project, as it is, if it is, and as it should be, if it should be. */
export interface Document {
  readonly path: string;
  readonly is: string | undefined;
  readonly should: string | undefined;
}

const PAGES = "docs/optimizers";
/** Optimizers, and what goes around them, that are no rules. */
const functions = { lbfgs: "ts/lbfgs/lbfgs.ts", lookahead: "ts/wrappers/lookahead.ts", sam: "ts/wrappers/sam.ts" };
const markers = /(<!-- rules: made by `npm run docs` -->\n)[\s\S]*?(<!-- end of rules -->)/;

/** All that is made here, and what is in the pages' folder besides. */
export function documents(): Document[] {
  const list = listed();
  const pages = new Map([
    ["README.md", read("README.md")!.replace(markers, (_, start, end) => `${start}${readmeTable(list)}${end}`)],
    ["docs/porting.md", portingPage()],
    ["docs/schedules.md", schedulesPage()],
    [`${PAGES}/README.md`, index(list)],
    ...list.map((rule) => [`${PAGES}/${rule.name}.md`, page(rule)] as const),
    ...Object.entries(functions).map(([name, path]) => [`${PAGES}/${name}.md`, functionPage(name, path)] as const),
  ]);
  const there = readdirSync(join(root, PAGES)).map((name) => `${PAGES}/${name}`);
  return [...new Set([...pages.keys(), ...there])].map((path) => ({ path, is: read(path), should: pages.get(path) }));
}

function read(path: string): string | undefined {
  try {
    return readFileSync(join(root, path), "utf8");
  } catch {
    return undefined;
  }
}

/** Every rule. A namespace lists its names by the alphabet, the file by complexity. */
function listed(): Rule[] {
  const file = read("ts/rules/index.ts")!;
  const at = ({ name }: Rule) => file.search(new RegExp(`\\b${name}\\b`));
  return Object.values(rules)
    .map(({ rule }) => rule)
    .sort((a, b) => at(a) - at(b));
}

/** A rule's own options: those that are live, and those that are read once. */
function optionsOf({ hyper, fixed }: Rule): { hyper: Options; fixed: Options } {
  return { hyper, fixed: Object.fromEntries(Object.entries(fixed).filter(([name]) => !(name in groupOptions))) };
}

function readmeTable(list: readonly Rule[]): string {
  const rows = list.map((rule) => {
    const { hyper, fixed } = optionsOf(rule);
    const options = Object.entries({ ...hyper, ...fixed }).map(
      ([name, option]) => `${code(name)} ${show(option.default)}`,
    );
    const state = [
      ...rule.state.map(code),
      ...Object.entries(rule.addedState).map(([slot, option]) => `${code(slot)} with ${code(option)}`),
    ];
    return [
      `[${code(rule.name)}](${PAGES}/${rule.name}.md)`,
      summary(ruleProse(rule.name).what),
      options.join(", "),
      state.join(", ") || "none",
    ];
  });
  return table(["rule", "what it does", "options and their defaults", "state"], rows);
}

function index(list: readonly Rule[]): string {
  const rows = list.map((rule) => [
    `[${code(rule.name)}](${rule.name}.md)`,
    summary(ruleProse(rule.name).what),
    ruleProse(rule.name).use.replace(/^Use it /, ""),
  ]);
  const others = Object.entries(functions).map(([name, path]) => {
    const { what, use } = functionProse(path, name);
    return [`[${code(name)}](${name}.md)`, summary(what), use.replace(/^Use it /, "")];
  });
  const shared = { ...sharedProse("groupOptions"), ...sharedProse("sharedOptions") };
  return `${made("the comments in ts")}# Optimizers

${table(["rule", "what it does", "use it"], rows)}
${table(["besides", "what it does", "use it"], others)}
What they are called in other libraries: [porting](../porting.md).

## Options of every optimizer

Groups may have their own \`maximize\`; the rest holds for all groups.

${table(
  ["option", "default", "range", "what it is"],
  Object.entries({ ...groupOptions, ...sharedOptions }).map(([name, option]) => optionRow(name, option, shared)),
)}`;
}

function page(rule: Rule): string {
  const { name, state, addedState, startsAt } = rule;
  const { what, source, use, elsewhere } = ruleProse(name);
  const { hyper, fixed } = optionsOf(rule);
  const prose = optionProse(name);
  const adding = Object.values(addedState);
  const rows = (options: Options, when: (name: string) => string) =>
    Object.entries(options).map(([name, option]) => [...optionRow(name, option, prose, rule.name), when(name)]);
  const options = [
    ...rows(hyper, (name) => (adding.includes(name) ? "live; whether it is 0, once" : "live")),
    ...rows(fixed, () => "once"),
  ];
  const slots = [
    ...state.map((slot) => [slot, "always"]),
    ...Object.entries(addedState).map(([slot, option]) => [slot, `with ${code(option)}`]),
  ].map(([slot, when]) => [
    code(slot!),
    when!,
    shapeOf(rule, slot!),
    startsAt[slot!] === undefined ? "0" : code(startsAt[slot!]!),
  ]);
  return `${made(`ts/rules/${name}.ts`)}# ${name}

${laidOut(what)}

${use}

Source: ${source}

## Options

${table(["option", "default", "range", "what it is", "read"], options)}
Live options may be assigned, \`opt.hyper.NAME = …\`, and hold from the next step on, and their numbers may be schedules; the others
are read when the optimizer is made. There are also those [of every optimizer](README.md#options-of-every-optimizer).

## State

${slots.length === 0 ? "None.\n" : `Floats, \`opt.state(tensor).NAME\`.\n\n${table(["slot", "there", "shape", "starts at"], slots)}`}
## Elsewhere

${elsewhere.replace(/^Elsewhere: /, "")}${ported.has(name) ? CALLS : ""}
`;
}

const CALLS = " The calls: [porting](../porting.md).";
const ported = new Set(libraries.flatMap(({ ports }) => ports.map(ruleIn)));

/** A slot's shape, in words. */
function shapeOf({ shapes, accepts }: Rule, slot: string): string {
  const of = shapes[slot];
  if (of === undefined) return "the tensor's";
  const [rows, columns, size] = [97, 89, 83]; // recognized in what comes of them
  const names: Readonly<Record<number, string>> = { [rows]: "rows", [columns]: "columns", [size]: "size" };
  const named = (shape: Shape) => of(shape)?.map((length) => names[length] ?? length);
  const [matrix, vector] = [[rows, columns], [size]].map((shape) => {
    const own = named(shape);
    return own ? code(`[${own.join(", ")}]`) : "none";
  });
  return accepts === "matrices" ? matrix! : `of a matrix ${matrix}, of a vector ${vector}`;
}

function functionPage(name: string, path: string): string {
  const { what, source, use, elsewhere, options } = functionProse(path, name);
  return `${made(path)}# ${name}

${laidOut(what)}

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
      const at = (name: string) => text.indexOf(`export const ${name} =`); // a namespace lists its names by the alphabet
      return Object.entries(schedules)
        .filter(([name]) => at(name) >= 0)
        .sort(([a], [b]) => at(a) - at(b))
        .map(([name, { options }]) => {
          const { what, options: prose } = scheduleProse(path, name);
          const rows = Object.entries(options).map(([option, { default: value, range }]) => {
            const says = prose[option];
            if (says === undefined) throw new Error(`${path}: ${name}'s ${option} needs a comment, /** What it is. */`);
            return [code(option), value === undefined ? "needed" : code(show(value)), range, says];
          });
          return `### ${name}\n\n${what}\n\n${table(["option", "default", "range", "what it is"], rows)}`;
        });
    });
    return `## ${title}\n\n${parts.join("\n")}`;
  });
  return `${made("the comments in ts/schedules")}# Schedules

A schedule is a number as a function of the step, counted from 0, and may stand for any number among an optimizer's live options:
\`adamw(model, { lr: stepLR({ lr: 0.1, stepSize: 30 }) })\`. \`schedule.at(i)\` is its value, \`JSON.stringify(schedule)\` data, of which
\`scheduleFrom(data)\` makes it again. Wrong and missing options are a TypeError or RangeError. \`npm run plot -- 'stepLR({ lr: 0.1, stepSize: 30 })'\`
draws one.

${sections.join("\n")}`;
}

const scheduleFiles = {
  "PyTorch's": ["torch.ts", "plateau.ts"],
  "Optax'": ["optax.ts"],
  Others: ["others.ts"],
};

/** An option's row; whose it is, to say where its comment is missing. */
function optionRow(name: string, option: Options[string], prose: Record<string, string>, rule?: string): string[] {
  const says = prose[name];
  if (says === undefined) {
    throw new Error(
      `ts/${rule ? `rules/${rule}` : "optimizer/definition"}.ts: ${name} needs a comment, /** What it is. */`,
    );
  }
  return [code(name), code(show(option.default)), option.range, says];
}

/** What a rule does, in some words. */
function summary(what: string): string {
  const [words = ""] = split(what);
  return words.split(/(?<=\.) |[;:] /)[0]!.replace(/[.,:;]?\s*$/, "");
}

/** A paragraph whose formulas stand in lines of their own. */
function laidOut(paragraph: string): string {
  const blocks = split(paragraph).map((part, i) =>
    i % 2 === 0
      ? part.replace(/^[.,;:]?\s+|\s+$|^\.$/g, "")
      : `\`\`\`\n${part.slice(1, -1).replaceAll("; ", "\n")}\n\`\`\``,
  );
  return blocks.filter((block) => block !== "").join("\n\n");
}

/** Words and formulas in turn; a formula is code that says what something becomes. */
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
    throw new Error(`${stale.map(({ path }) => path).join(", ")}: not what the rules give; run \`npm run docs\``);
  }
  for (const { path, should } of stale) {
    if (should === undefined) rmSync(join(root, path));
    else writeFileSync(join(root, path), should);
  }
}
