// Makes dist: one module, its source map, and declarations whose comments tell each option's range and default.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { fingerprint, root } from "./project.mjs";

const dist = join(root, "dist");
rmSync(dist, { recursive: true, force: true });
await build({
  entryPoints: [join(root, "ts/index.ts")],
  outfile: join(dist, "index.js"),
  bundle: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  sourcemap: true,
});
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", "tsconfig.build.json"], {
  cwd: root,
  stdio: "inherit",
});

// An option's type carries its range and default; an editor shows comments.
const says = (prose, range, value) =>
  `${prose} ${range.startsWith("[") ? `In ${range}` : "True or false"}; default ${value}.`;
const option =
  /\/\*\* (.+?) \*\/(\s+readonly (\w+): import\("\.\.\/option\.js"\)\.Option<.+?, "(.+?)", (?:readonly )?(.+?)>;)/g;
for (const file of readdirSync(join(dist, "rules")).filter((name) => name !== "index.d.ts")) {
  const path = join(dist, "rules", file);
  const text = readFileSync(path, "utf8");
  const list = [...text.matchAll(option)].map(
    ([, prose, , name, range, value]) => ` * @param options.${name} ${says(prose, range, value)}\n`,
  );
  writeFileSync(
    path,
    text
      .replace(option, (_, prose, rest, _name, range, value) => `/** ${says(prose, range, value)} */${rest}`)
      .replace(/ \*\/\nexport/, () => ` *\n${list.join("")} */\nexport`),
  );
}
writeFileSync(join(dist, "fingerprint"), fingerprint("dist"));
