/** Prepares the engine tests: installs runtimes and browsers, bundles the tests, and serves the pages. */

import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { root } from "../../scripts/project.mjs";
import { THREAD_COUNTS } from "../conformance.js";

const folder = join(root, "target/engines");

/** Installs the newest versions of the runtimes, which are npm packages, and returns the paths of their executables. */
export function runtimes(): Readonly<Record<string, string>> {
  mkdirSync(folder, { recursive: true });
  copyFileSync(join(root, "test/engines/runtimes.json"), join(folder, "package.json"));
  const { dependencies } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const names = Object.keys(dependencies);
  const windows = process.platform === "win32" ? ".exe" : "";
  const executable = (name: string) => {
    const inside = name.startsWith("node") ? `bin/node${windows}` : name === "bun" ? "bin/bun.exe" : `deno${windows}`;
    return join(folder, "node_modules", name, inside);
  };
  if (!names.every((name) => existsSync(executable(name)))) {
    execFileSync("npm", ["install", "--loglevel=error", "--no-package-lock"], { cwd: folder, stdio: "inherit" });
  }
  return Object.fromEntries(names.map((name) => [name, executable(name)]));
}

const chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const firefox = ["/usr/bin/firefox-esr", "/usr/bin/firefox"];
const webkit = [
  `/usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu/webkit2gtk-4.1/MiniBrowser`,
  "/usr/libexec/webkit2gtk-4.1/MiniBrowser",
];
const xvfb = ["/usr/bin/xvfb-run"];
const packages = ["chromium", "firefox-esr", "webkit2gtk-driver", "xvfb", "xauth"];

/**
 * Returns the paths of the browsers. Installs missing ones from Debian packages. Throws an Error that names what is
 * missing.
 */
export function browsers() {
  const find = () => [chromium, firefox, webkit, xvfb].map((paths) => paths.find(existsSync));
  if (process.getuid?.() === 0 && existsSync("/usr/bin/apt-get")) {
    // Test files run at the same time, in processes. The lock makes one wait for the installation by another.
    const alone = (...command: string[]) => {
      const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
      execFileSync("flock", [join(tmpdir(), "downhill-browsers.lock"), ...command], { stdio: "ignore", env });
    };
    alone("true");
    if (find().includes(undefined)) {
      console.error(`installing ${packages.join(" ")}`);
      alone("sh", "-c", `apt-get update -qq && apt-get install -y -qq ${packages.join(" ")}`);
    }
  }
  const found = find();
  if (found.includes(undefined)) {
    const missing = ["Chromium", "Firefox", "WebKitGTK 4.1", "Xvfb"].filter((_, i) => found[i] === undefined);
    throw new Error(`${missing.join(", ")} missing; as root: apt-get install ${packages.join(" ")}`);
  }
  const [Chromium, Firefox, WebKit, Xvfb] = found as [string, string, string, string];
  return { Chromium, Firefox, WebKit, Xvfb };
}

/** Bundles page.ts, tfjs.ts and jax.ts. Returns the path of the first module; the others are beside it. */
export async function bundle(): Promise<string> {
  await build({
    entryPoints: ["page", "tfjs", "jax"].map((name) => join(root, `test/engines/${name}.ts`)),
    outdir: folder,
    outExtension: { ".js": ".mjs" },
    bundle: true,
    format: "esm",
    target: "es2022",
    external: ["node:*"],
  });
  return join(folder, "page.mjs");
}

const isolation = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};
const policy =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; base-uri 'none'";

interface Page {
  /** The numbers of threads, where threads can share memory. */
  readonly counts: readonly number[];
  readonly inWorker?: true;
  readonly workerUrl?: string;
}

/**
 * The pages with published results, by path. The words of the path select the headers. One page in each browser tries many numbers
 * of threads; the others start threads in another way.
 */
export const pages: Readonly<Record<string, Page>> = {
  "/isolated": { counts: THREAD_COUNTS },
  "/isolated/worker": { counts: [3], inWorker: true },
  "/plain": { counts: [1] },
  "/isolated/strict": { counts: [3], workerUrl: "/worker.js" },
  "/plain/strict": { counts: [1] },
};
/**
 * Other pages, and what each calls: one whose policy forbids the package's own workers, one with listeners, and one for each backend
 * of TensorFlow.js and each device of jax-js.
 */
export const BLOCKED = "/isolated/strict/blocked";
export const LISTENING = "/plain/listening";
export const WASM = "/isolated/tfjs/wasm";
export const WEBGL = "/plain/tfjs/webgl";
export const WEBGPU = "/plain/tfjs/webgpu";
export const jaxOn = (device: string) => `/plain/jax/${device}`;
const onBackend = (name: string) => `import("/tfjs.mjs").then(({ tfjs }) => tfjs("${name}"))`;
const onDevice = (name: string) => `import("/jax.mjs").then(({ jax }) => jax("${name}"))`;
const others: Readonly<Record<string, string>> = {
  [BLOCKED]: "blocked()",
  [LISTENING]: "messages()",
  [WASM]: onBackend("wasm"),
  [WEBGL]: onBackend("webgl"),
  [WEBGPU]: onBackend("webgpu"),
  ...Object.fromEntries(["wasm", "webgl", "webgpu"].map((device) => [jaxOn(device), onDevice(device)])),
};
/** The files of TensorFlow.js's backend `wasm`. */
const backendFolder = join(root, "node_modules/@tensorflow/tfjs-backend-wasm/dist");

/** Serves the pages. Returns the origin, and a function that stops the server. */
export async function serve(module: string): Promise<{ origin: string; close(): void }> {
  const all = ({ counts, workerUrl }: Page) => `all([${counts}], ${JSON.stringify(workerUrl)})`;
  const text = "(error) => `${error}\\n${error.stack}`";
  const script = (expression: string) =>
    `import { all, blocked, messages } from "/page.mjs"; globalThis.report = ${expression}.then(JSON.stringify, ${text});`;
  const asking = `const worker = new Worker("/in-worker.js", { type: "module" });
    globalThis.report = new Promise((resolve) => { worker.onmessage = ({ data }) => resolve(data); });`;
  const binaries = readdirSync(backendFolder).filter((name) => name.endsWith(".wasm"));
  const files: Readonly<Record<string, () => string | Uint8Array>> = {
    "/page.mjs": () => readFileSync(module, "utf8"),
    "/tfjs.mjs": () => readFileSync(join(module, "../tfjs.mjs"), "utf8"),
    "/jax.mjs": () => readFileSync(join(module, "../jax.mjs"), "utf8"),
    ...Object.fromEntries(binaries.map((name) => [`/wasm/${name}`, () => readFileSync(join(backendFolder, name))])),
    "/worker.js": () => readFileSync(join(root, "dist/worker.js"), "utf8"),
    "/in-worker.js": () =>
      `import { all } from "/page.mjs"; postMessage(await ${all(pages["/isolated/worker"]!)}.then(JSON.stringify, ${text}));`,
    ...Object.fromEntries(Object.entries(others).map(([path, call]) => [`${path}.js`, () => script(call)])),
    ...Object.fromEntries(
      Object.entries(pages).map(([path, page]) => [`${path}.js`, () => (page.inWorker ? asking : script(all(page)))]),
    ),
  };
  const server = createServer(({ url = "" }, response) => {
    const file = files[url]?.();
    const page = url in pages || url in others;
    if (file === undefined && !page) return response.writeHead(404).end();
    response.writeHead(200, {
      "Content-Type": page ? "text/html" : url.endsWith(".wasm") ? "application/wasm" : "text/javascript",
      // The script of a worker needs the same headers as its page. On other pages they have no effect.
      ...(url.startsWith("/plain") ? {} : isolation),
      ...(url.includes("strict") && page ? { "Content-Security-Policy": policy } : {}),
    });
    return response.end(page ? `<!doctype html><script type="module" src="${url}.js"></script>` : file);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { origin: `http://localhost:${(server.address() as AddressInfo).port}`, close: () => server.close() };
}
