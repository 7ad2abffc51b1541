/** Fresh projects with the packed package in them, one for each folder of fixtures. */

import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, createServer as createSocket } from "node:net";
import { extname, join } from "node:path";
import puppeteer from "puppeteer-core"; // the Chrome team's own driver, and Firefox's through WebDriver BiDi
import { vi } from "vitest";
import { root } from "../../scripts/project.mjs";
import { browsers } from "../engines/setup.js";

/** Installs are kept here, so that the next run is quick. */
const folder = join(root, "target/package");
const fixtures = join(root, "test/package");

/** Runs a command in a folder; its output, which an error of the command contains. */
export function run(cwd: string, command: string, ...args: string[]): string {
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], env }).trim();
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(" ")}\n${stdout}\n${stderr}`.slice(0, 4000), { cause: error });
  }
}
// Without what a test runner sets for itself.
const { NODE_OPTIONS: _, NODE_ENV: __, VITEST: ___, ...inherited } = process.env;
const env = { ...inherited, NEXT_TELEMETRY_DISABLED: "1", NO_COLOR: "1" } as NodeJS.ProcessEnv;

/** Packs the package; the path of the tarball. */
export function pack(): string {
  mkdirSync(folder, { recursive: true });
  const [{ filename }] = JSON.parse(run(folder, "npm", "pack", root, "--json", "--loglevel=error"));
  return join(folder, filename);
}

/** Makes the project of a host: its fixtures, its dependencies, and the package; where it is. */
export function project(host: string, tarball: string): string {
  const path = join(folder, host);
  mkdirSync(path, { recursive: true });
  cpSync(join(fixtures, host), path, { recursive: true });
  cpSync(join(fixtures, "train.mjs"), join(path, "train.mjs"));
  const wanted = readFileSync(join(path, "package.json"), "utf8");
  const stamp = join(path, "node_modules/.installed");
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== wanted) {
    run(path, "npm", "install", "--loglevel=error", "--no-audit", "--no-fund", "--no-package-lock");
    mkdirSync(join(path, "node_modules"), { recursive: true });
    writeFileSync(stamp, wanted);
  }
  const installed = join(path, "node_modules/downhill");
  rmSync(installed, { recursive: true, force: true });
  mkdirSync(installed, { recursive: true });
  run(path, "tar", "-xzf", tarball, "-C", installed, "--strip-components=1");
  return path;
}

/** The configuration of a bundler that docs/engines.md shows, by the name of its file. */
export function documented(file: string): string {
  const [, block] = readFileSync(join(root, "docs/engines.md"), "utf8").split(`\`\`\`js\n// ${file}\n`);
  return block!.split("```")[0]!;
}

const types: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

type Browser = "chrome" | "firefox";

/** Serves a folder with the headers that threads need; what its pages report. */
export async function report(path: string, pages: readonly string[], browser?: Browser): Promise<string[]> {
  const server = createServer(({ url = "" }, response) => {
    const file = join(path, decodeURIComponent(new URL(url, "http://localhost").pathname));
    const isPage = !existsSync(file) && extname(file) === ".html"; // a bundle without a page of its own
    if (!existsSync(file) && !isPage) return response.writeHead(404).end();
    response.writeHead(200, {
      "Content-Type": types[extname(file)] ?? "application/octet-stream",
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    });
    return response.end(isPage ? `<!doctype html><script type="module" src="main.js"></script>` : readFileSync(file));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://localhost:${(server.address() as AddressInfo).port}`;
  try {
    return await visit(
      pages.map((page) => `${origin}/${page}`),
      undefined,
      browser,
    );
  } finally {
    server.close();
  }
}

/** Starts a server in a folder: Node with arguments, and a port that is free. Calls `use` with its origin once it answers, and stops it. */
export async function withServer(cwd: string, args: readonly string[], use: (origin: string) => Promise<void>) {
  const socket = createSocket().listen(0);
  const { port } = socket.address() as AddressInfo;
  await new Promise((resolve) => socket.close(resolve));
  const server = spawn(process.execPath, [...args, "--port", String(port)], { cwd, stdio: "ignore" });
  try {
    const origin = `http://localhost:${port}`;
    await vi.waitUntil(() => fetch(origin).then(Boolean, () => false), { timeout: 60_000, interval: 200 });
    await use(origin);
  } finally {
    server.kill();
  }
}

/** The reports of pages. A page with an error in its console is an error. */
export async function visit(
  urls: readonly string[],
  expression = "globalThis.report",
  browser: Browser = "chrome",
): Promise<string[]> {
  const { Chromium, Firefox } = browsers();
  const [executablePath, flags] = {
    chrome: [Chromium, "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"],
    firefox: [Firefox, "--headless"],
  }[browser] as [string, string];
  const running = await puppeteer.launch({ browser, executablePath, args: flags.split(" "), protocolTimeout: 120_000 });
  try {
    const reports = [];
    for (const url of urls) {
      const page = await running.newPage();
      const problems: string[] = [];
      page.on("pageerror", (error) => problems.push(String(error)));
      page.on("console", (message) => {
        const isIcon = message.location().url?.endsWith("/favicon.ico"); // browsers ask for one, and no host has it
        if (message.type() === "error" && !isIcon) problems.push(message.text());
      });
      await page.goto(url);
      await page
        .waitForFunction(`!!(${expression})`, { timeout: 60_000 })
        .catch(() => Promise.reject(new Error(`${url} reports nothing: ${problems.join("; ")}`)));
      reports.push((await page.evaluate(expression)) as string);
      if (problems.length > 0) throw new Error(`${url}: ${problems.join("; ")}`);
      await page.close();
    }
    return reports;
  } finally {
    await running.close();
  }
}
