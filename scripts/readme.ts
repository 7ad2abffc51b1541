/** Writes the README's table of rules from their literals; `--check` only says whether it is up to date. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { show } from "../ts/option.js";
import * as rules from "../ts/rules/index.js";
import { root } from "./project.mjs";

const path = join(root, "README.md");
const markers = /(<!-- rules: made by `npm run readme` -->\n)[\s\S]*?(<!-- end of rules -->)/;

/** The README as it is, and as its table should be. */
export function readme(): { is: string; should: string } {
  const is = readFileSync(path, "utf8");
  // A namespace lists its names by the alphabet, the file by complexity.
  const index = readFileSync(join(root, "ts/rules/index.ts"), "utf8");
  const listed = Object.values(rules).map(({ rule }) => rule);
  listed.sort((a, b) => index.indexOf(`{ ${a.name} }`) - index.indexOf(`{ ${b.name} }`));
  const rows = listed.map((rule) => {
    const { maximize: _, ...fixed } = rule.fixed;
    const options = Object.entries({ ...rule.hyper, ...fixed }).map(
      ([name, option]) => `\`${name}\` ${show(option.default)}`,
    );
    const state = [
      ...rule.state.map((slot) => `\`${slot}\``),
      ...Object.entries(rule.adds).map(([slot, option]) => `\`${slot}\` with \`${option}\``),
    ];
    return `| [\`${rule.name}\`](ts/rules/${rule.name}.ts) | ${summary(rule.name)} | ${options.join(", ")} | ${state.join(", ") || "none"} |`;
  });
  const table = ["| rule | what it does | options and their defaults | state |", "|---|---|---|---|", ...rows, ""].join(
    "\n",
  );
  return { is, should: is.replace(markers, (_, start, end) => `${start}${table}${end}`) };
}

/** The first sentence of a rule's documentation. */
function summary(name: string): string {
  const source = readFileSync(join(root, `ts/rules/${name}.ts`), "utf8");
  const text =
    source
      .match(/\/\*\*\n([\s\S]*?)\*\/\nexport/)?.[1]
      ?.replace(/^ \* ?/gm, "")
      .replace(/\n/g, " ") ?? "";
  return text.split(/(?<=\.) |[;:] /)[0]!.replace(/\.?$/, "");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const { is, should } = readme();
  if (is === should) console.log("README.md is up to date");
  else if (process.argv.includes("--check"))
    throw new Error("README.md is not what the rules give: run `npm run readme`");
  else writeFileSync(path, should);
}
