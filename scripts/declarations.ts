/**
 * Makes the declarations in dist: those of TypeScript, with what editors show. Options get their range and their default
 * in their comment, and types of options get names.
 */

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { groupOptions, type Rule, sharedOptions } from "../ts/optimizer/definition.js";
import { type Options, show } from "../ts/option.js";
import * as rules from "../ts/rules/index.js";
import * as schedules from "../ts/schedules/index.js";
import { root } from "./project.mjs";
import { optionProse, scheduleProse, sharedProse, slotsOf } from "./prose.js";

const dist = join(root, "dist");

/** The comment of each option, by name. */
type Comments = Readonly<Record<string, string>>;

export function makeDeclarations(): void {
  const tsc = join(root, "node_modules/typescript/bin/tsc");
  execFileSync(process.execPath, [tsc, "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
  for (const file of readdirSync(dist, { recursive: true, encoding: "utf8" })) {
    if (file.endsWith(".d.ts")) rewrite(file, forOlderTypeScript);
  }
  const shared = {
    ...commentsOf(groupOptions, sharedProse("groupOptions")),
    ...commentsOf(sharedOptions, sharedProse("sharedOptions")),
  };
  rewrite("optimizer/definition.d.ts", (text) => withComments(text, shared));
  for (const { rule } of Object.values(rules)) {
    const comments = commentsOf(
      { ...rule.hyper, ...rule.fixed },
      { ...optionProse(rule.name), ...sharedProse("groupOptions") },
    );
    rewrite(`rules/${rule.name}.d.ts`, (text) =>
      withNames(withComments(text, comments), rule, { ...comments, ...shared }),
    );
  }
  rewrite("rules/index.d.ts", (text) => withTypes(text, PARTS));
  for (const library of ["jax", "tfjs"]) rewrite(`${library}/rules.d.ts`, withTypesOfRules);
  nameOptionsOfSchedules();
  rewrite("schedules/index.d.ts", (text) => withTypes(text, ["Options"]));
}

function rewrite(file: string, change: (text: string) => string): void {
  const path = join(dist, file);
  const text = readFileSync(path, "utf8");
  const changed = change(text);
  if (changed !== text) writeFileSync(path, changed);
}

/** Before TypeScript 5.7 a typed array has no type parameter. The type of `slice` is one over an ArrayBuffer in every version. */
const forOlderTypeScript = (text: string): string =>
  text.replace(/\b(\w+Array)<ArrayBuffer>/g, 'ReturnType<$1["slice"]>').replace(/\b(\w+Array)<ArrayBufferLike>/g, "$1");

/** The comments of options: what each is, its range, and its default unless it is required. */
function commentsOf(options: Options, prose: Readonly<Record<string, string>>): Comments {
  const entries = Object.entries(options).map(([name, { range, default: value }]) => {
    const within = /^[[(]/.test(range) ? `In ${range}` : `${range[0]!.toUpperCase()}${range.slice(1)}`;
    return [name, `${prose[name]} ${within}${value === undefined ? "" : `; default ${show(value)}`}.`] as const;
  });
  return Object.fromEntries(entries);
}

/** Replaces the comments of all options in a file. */
function withComments(text: string, comments: Comments): string {
  const parsed = parse(text);
  const edits: Edit[] = [];
  const visit = (node: ts.Node): void => {
    const comment = ts.isPropertySignature(node) && isOption(node.type) && comments[node.name.getText(parsed)];
    if (comment)
      edits.push({ pos: node.getStart(parsed, true), end: node.getStart(parsed), by: `/** ${comment} */\n    ` });
    ts.forEachChild(node, visit);
  };
  visit(parsed);
  return edited(text, edits);
}

const parse = (text: string) => ts.createSourceFile("file.d.ts", text, ts.ScriptTarget.ES2022, true);

const isOption = (type: ts.TypeNode | undefined): boolean =>
  type !== undefined && /^(import\("[^"]+"\)\.)?Option</.test(type.getText());

interface Edit {
  readonly pos: number;
  readonly end: number;
  readonly by: string;
}

function edited(text: string, edits: readonly Edit[]): string {
  for (const { pos, end, by } of edits.toSorted((a, b) => b.pos - a.pos))
    text = text.slice(0, pos) + by + text.slice(end);
  return text;
}

/** The types of a rule's factory. */
const PARTS = ["Hyper", "State", "GroupOptions", "Options"];

/** Names the types of a rule's factory, so that editors do not show all options, and lists the options in its comment. */
function withNames(text: string, rule: Rule, comments: Comments): string {
  const { name } = rule;
  const { declaration, statement } = constants(parse(text)).find(
    ({ declaration }) => declaration.name.getText() === name,
  )!;
  const [hyper, fixed, , added] = typeArguments(declaration).map((node) => node.getText());
  const parts = PARTS.map((part) => typeName(name, part));
  const list = Object.entries(comments).map(([option, says]) => ` * @param options.${option} ${says}\n`);
  const members = slotsOf(rule).map(({ slot, exists, shape, start }) => {
    const when = exists === "always" ? "" : ` Exists ${exists}.`;
    const mark = added!.includes(`"${slot}"`) ? "?" : "";
    return `    /** Shape: ${shape}. Starts at ${start}.${when} */\n    readonly ${slot}${mark}: Float32Array;\n`;
  });
  const types = `import type { AllOptions, GroupOptions, Live, OptimizerFactory } from "../rule.js";
type Hyper = ${hyper};
type Fixed = ${fixed};
export interface ${parts[0]} extends Live<Hyper> {}
export type ${parts[1]} = {
${members.join("")}};
export interface ${parts[2]} extends GroupOptions<Hyper, Fixed> {}
export interface ${parts[3]} extends AllOptions<Hyper, Fixed> {}
`;
  const endOfComment = text.lastIndexOf(" */", statement.getStart());
  return edited(text, [
    { pos: 0, end: 0, by: types },
    { pos: endOfComment, end: endOfComment, by: ` *\n${list.join("")}` },
    { pos: declaration.type!.getStart(), end: declaration.type!.end, by: `OptimizerFactory<${parts.join(", ")}>` },
  ]);
}

/** `AdamwOptions` of `adamw`. */
const typeName = (name: string, part: string): string => `${name[0]!.toUpperCase()}${name.slice(1)}${part}`;

/** The constants of a file that have a type, each with its statement. */
const constants = ({ statements }: ts.SourceFile) =>
  statements.filter(ts.isVariableStatement).flatMap((statement) => {
    const [declaration] = statement.declarationList.declarations;
    return declaration ? [{ declaration, statement }] : [];
  });

const typeArguments = ({ type }: ts.VariableDeclaration): readonly ts.TypeNode[] =>
  (type && (ts.isImportTypeNode(type) || ts.isTypeReferenceNode(type)) && type.typeArguments) || [];

/** Exports the types of each factory with it. */
const withTypes = (text: string, parts: readonly string[]): string =>
  text.replace(/(?<=export \{ ).+?(?=,? \})/g, (names) =>
    names
      .split(", ")
      .flatMap((name) => [name, ...parts.map((part) => `type ${typeName(name, part)}`)])
      .join(", "),
  );

/** Gives the factories for another library the types of the rules' factories, with their names and comments. */
const withTypesOfRules = (text: string): string =>
  text.replace(/(const (\w+): .+?<)import.+?>(?=>;)/gs, '$1typeof import("../rules/index.js").$2');

/** Gives the options of each schedule a type with a name. TypeScript does not copy comments of options that schedules share. */
function nameOptionsOfSchedules(): void {
  const folder = join(dist, "schedules");
  const program = ts.createProgram([join(folder, "index.d.ts")], { strict: true, types: [] });
  const checker = program.getTypeChecker();
  const names = new Map<string, string>(); // by the text of the type, which is a part of the types of `sgdr`
  for (const file of readdirSync(join(root, "ts/schedules"))) {
    const declarations = file.replace(/\.ts$/, ".d.ts");
    const source = program.getSourceFile(join(folder, declarations));
    if (source === undefined) continue;
    const textOf = (type: ts.Type) => checker.typeToString(type, source, ts.TypeFormatFlags.NoTruncation);
    const membersOf = (type: ts.Type, comments: Comments) =>
      Object.entries(comments).map(([option, comment]) => {
        const property = type.getProperty(option)!;
        const mark = property.flags & ts.SymbolFlags.Optional ? "?" : "";
        const value = textOf(checker.getNonNullableType(checker.getTypeOfSymbol(property)));
        return `    /** ${comment} */\n    readonly ${option}${mark}: ${value};\n`;
      });
    const edits = constants(source).flatMap(({ declaration, statement }) => {
      const schedule = declaration.name.getText();
      const [given] = typeArguments(declaration);
      const factory = (schedules as Record<string, { readonly options: Options }>)[schedule];
      if (given === undefined || factory === undefined) return [];
      const type = checker.getTypeFromTypeNode(given);
      const name = typeName(schedule, "Options");
      names.set(textOf(type), name);
      const comments = commentsOf(factory.options, scheduleProse(`ts/schedules/${file}`, schedule).options);
      const members = membersOf(type, comments).join("");
      const { end } = statement;
      return [
        { pos: given.getStart(), end: given.end, by: name },
        { pos: end, end, by: `\n/** The options of \`${schedule}\`. */\nexport interface ${name} {\n${members}}` },
      ];
    });
    rewrite(`schedules/${declarations}`, (text) =>
      [...names].reduce((text, [type, name]) => text.replaceAll(type, name), edited(text, edits)),
    );
  }
}
