/** Reads comments in TypeScript files, with TypeScript's own parser: those of rules, options and schedules. Says what slots are. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import type { Shape } from "../ts/arena/tensor.js";
import type { Rule } from "../ts/optimizer/definition.js";
import { code } from "./markdown.js";
import { root } from "./project.mjs";

/** The paragraphs of a rule's comment, in order: a pattern that each must match, and what to write if it does not. */
const paragraphs = {
  what: [/`[^`]* = [^`]*`/, "say what it does, with the formula in code: `p = p - lr * g`"],
  source: [/https:\/\//, "name who published it, with a link"],
  use: [/^Use it /, 'be "Use it for …": when it is the one to choose'],
  elsewhere: [/^Elsewhere: /, 'be "Elsewhere: …": what other libraries call it, and what differs there'],
} as const;

type Paragraphs = Record<keyof typeof paragraphs, string>;

/** A rule's paragraphs. */
export const ruleProse = (name: string, source?: string): Paragraphs => {
  const path = `ts/rules/${name}.ts`;
  return paragraphsOf(path, declaration(path, name, source).parent.parent);
};

/** The paragraphs of another function's comment, and the comment of each of its options. */
export function functionProse(path: string, name: string) {
  const { statements } = parsed(path);
  const found = statements.filter(ts.isFunctionDeclaration).find((node) => node.name?.text === name);
  if (found === undefined) throw new Error(`${path} must export function ${name}`);
  const fields = statements.filter(ts.isInterfaceDeclaration).flatMap(({ members }) => [...members]);
  const options = fields.map((field) => [field.name!.getText(), oneLine(textOf(field))] as const);
  return { ...paragraphsOf(path, found), options: options.filter(([, says]) => says.includes("Default: ")) };
}

function paragraphsOf(path: string, node: ts.Node): Paragraphs {
  const texts = textOf(node).split(/\n\n+/).map(oneLine);
  const entries = Object.entries(paragraphs).map(([key, [pattern, remedy]], i) => {
    const text = texts[i] ?? "";
    if (!pattern.test(text)) throw new Error(`${path}: paragraph ${i + 1} of the rule's comment must ${remedy}`);
    return [key, text];
  });
  if (texts.length > entries.length) throw new Error(`${path}: the rule's comment must end with "Elsewhere: …"`);
  return Object.fromEntries(entries) as Paragraphs;
}

/** The comment of each option of a rule. */
export const optionProse = (name: string): Record<string, string> => commented(`ts/rules/${name}.ts`, name);

/** The comment of each option in a list in ts/optimizer/definition.ts. */
export const sharedProse = (name: "groupOptions" | "sharedOptions"): Record<string, string> =>
  commented("ts/optimizer/definition.ts", name);

/** The comment of a schedule, and of each of its options. */
export function scheduleProse(path: string, name: string) {
  return { what: oneLine(textOf(declaration(path, name).parent.parent)), options: commented(path, name) };
}

/**
 * Returns the comments of all properties in the value of a constant, by name. It includes those of other constants that
 * the value uses.
 */
function commented(path: string, name: string): Record<string, string> {
  const comments: Record<string, string> = {};
  const objects = declarations(parsed(path)).filter(
    ({ initializer }) => initializer && ts.isObjectLiteralExpression(initializer),
  );
  const takesIn = [ts.isSpreadAssignment, ts.isShorthandPropertyAssignment, ts.isCallExpression];
  const collect = (node: ts.Node) => {
    if (ts.isIdentifier(node) && takesIn.some((is) => is(node.parent))) {
      const other = objects.find(({ name }) => name.getText() === node.text);
      if (other) collect(other);
    }
    const text = ts.isPropertyAssignment(node) ? oneLine(textOf(node)) : "";
    if (text !== "") comments[(node as ts.PropertyAssignment).name.getText()] = text;
    ts.forEachChild(node, collect);
  };
  collect(declaration(path, name));
  return comments;
}

const parsed = (path: string, source = readFileSync(join(root, path), "utf8")) =>
  ts.createSourceFile(path, source, ts.ScriptTarget.Latest, true);

const declarations = ({ statements }: ts.SourceFile) =>
  statements.filter(ts.isVariableStatement).flatMap(({ declarationList }) => [...declarationList.declarations]);

/** The declaration of a constant in a file. */
function declaration(path: string, name: string, source?: string) {
  const found = declarations(parsed(path, source)).find((declaration) => declaration.name.getText() === name);
  if (found === undefined) throw new Error(`${path} must export const ${name}`);
  return found;
}

/** The text of a node's comment. */
const textOf = (node: ts.Node): string =>
  ts
    .getJSDocCommentsAndTags(node)
    .map(({ comment }) => ts.getTextOfJSDocComment(comment) ?? "")
    .join("\n\n");

const oneLine = (text: string) => text.replace(/\s+/g, " ").trim();

/** The slots of a rule's state, as text: when each exists, its shape, and where it starts. */
export function slotsOf(rule: Rule) {
  const { state, addedState, startsAt } = rule;
  const added = Object.entries(addedState).map(([slot, option]) => ({ slot, exists: `with ${code(option)}` }));
  return [...state.map((slot) => ({ slot, exists: "always" })), ...added].map(({ slot, exists }) => {
    const start = startsAt[slot] === undefined ? "0" : code(startsAt[slot]!);
    return { slot, exists, shape: shapeOf(rule, slot), start };
  });
}

/** A slot's shape, as text. */
function shapeOf({ shapes, accepts }: Rule, slot: string): string {
  const of = shapes[slot];
  if (of === undefined) return "the tensor's";
  const [rows, columns, size] = [97, 89, 83]; // unlikely numbers, to recognize in the resulting shapes
  const names: Readonly<Record<number, string>> = { [rows]: "rows", [columns]: "columns", [size]: "size" };
  const named = (shape: Shape) => of(shape)?.map((length) => names[length] ?? length);
  const [matrix, vector] = [[rows, columns], [size]].map((shape) => {
    const own = named(shape);
    return own ? code(`[${own.join(", ")}]`) : "none";
  });
  return accepts?.startsWith("matrices") ? matrix! : `of a matrix ${matrix}, of a vector ${vector}`;
}
