/** Parts of generated pages. */

export const code = (text: string): string => `\`${text}\``;

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return `${line(head)}|${"---|".repeat(head.length)}\n${rows.map(line).join("")}`;
}

/** The first line of a page. */
export const made = (from: string): string => `<!-- Made from ${from} by \`npm run docs\`; do not edit it. -->\n\n`;
