/**
 * Compares results with test/bits.json in every browser engine: with threads, without threads, and on pages with a
 * strict content security policy. Runs the adapters on the backends of TensorFlow.js and the devices of jax-js.
 */

import { spawn } from "node:child_process";
import puppeteer from "puppeteer-core"; // the Chrome team's own driver, and Firefox's through WebDriver BiDi
import { Builder } from "selenium-webdriver"; // the W3C protocol's reference client, which WebKitGTK speaks
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import published from "../bits.json" with { type: "json" };
import { hashesOf } from "../conformance.js";
import { kernels } from "../tfjs/beside.js";
import { BLOCKED, browsers, bundle, jaxOn, LISTENING, pages, serve, WASM, WEBGL, WEBGPU } from "./setup.js";

/** A running browser: what a page reports. */
interface Browser {
  report(url: string): Promise<string>;
  close(): Promise<unknown>;
}

async function puppets(browser: "chrome" | "firefox", executablePath: string, args: string[]): Promise<Browser> {
  const running = await puppeteer.launch({ browser, executablePath, args, protocolTimeout: 300_000 });
  return {
    async report(url) {
      const page = await running.newPage();
      await page.goto(url);
      await page.waitForFunction("!!globalThis.report");
      const report = await page.evaluate("report");
      await page.close();
      return report as string;
    },
    close: () => running.close(),
  };
}

const chromium = (path: string) =>
  puppets(
    "chrome",
    path,
    [
      "--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync",
      // WebGL and WebGPU on the CPU:
      "--enable-unsafe-swiftshader --use-angle=swiftshader",
      "--enable-unsafe-webgpu --use-webgpu-adapter=swiftshader --enable-features=Vulkan --use-vulkan=swiftshader",
    ].flatMap((flags) => flags.split(" ")),
  );

/** Starts WebKitGTK. It allows shared memory on isolated pages only if an environment variable is set. */
async function webkit(xvfb: string, binary: string, port: number, shared: boolean): Promise<Browser> {
  const driver = spawn(xvfb, ["-a", "WebKitWebDriver", `--port=${port}`], {
    env: {
      ...process.env,
      WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS: "1",
      JSC_useSharedArrayBuffer: shared ? "1" : "0",
    },
    stdio: "ignore",
    detached: true,
  });
  const server = `http://127.0.0.1:${port}`;
  const answers = () =>
    fetch(`${server}/status`).then(
      ({ ok }) => ok,
      () => false,
    );
  await vi.waitUntil(answers, { timeout: 20_000, interval: 100 });
  const session = await new Builder()
    .usingServer(server)
    .withCapabilities({
      browserName: "MiniBrowser",
      "webkitgtk:browserOptions": { binary, args: ["--automation"] },
    })
    .build();
  await session.manage().setTimeouts({ script: 300_000 });
  return {
    async report(url) {
      await session.get(url);
      return session.executeAsyncScript(`
        const done = arguments[0];
        const look = () => globalThis.report ? globalThis.report.then(done) : setTimeout(look, 20);
        look();`);
    },
    async close() {
      await session.quit().catch(() => {});
      if (driver.exitCode === null) process.kill(-driver.pid!, "SIGTERM");
    },
  };
}

const { Chromium, Firefox, WebKit, Xvfb } = browsers();
const engines: [name: string, launch: () => Promise<Browser>, shares: boolean][] = [
  ["Chromium", () => chromium(Chromium), true],
  ["Firefox", () => puppets("firefox", Firefox, ["--headless"]), true],
  ["WebKitGTK", () => webkit(Xvfb, WebKit, 44_801, true), true],
  ["WebKitGTK without SharedArrayBuffer", () => webkit(Xvfb, WebKit, 44_802, false), false],
];

let served: Awaited<ReturnType<typeof serve>>;
beforeAll(async () => {
  served = await serve(await bundle());
});
afterAll(() => served.close());

describe.each(engines)("%s", (name, launch, shares) => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await launch();
  }, 60_000);
  afterAll(() => browser?.close());

  const ask = async (page: string) => {
    const report = await browser.report(`${served.origin}${page}`);
    try {
      return JSON.parse(report);
    } catch {
      throw new Error(`${page} reports an error: ${report}`);
    }
  };
  // Firefox 153 sometimes hangs when a worker starts and ends other workers, even if these do nothing.
  const tested = Object.entries(pages).filter(([, { inWorker }]) => !(name === "Firefox" && inWorker));

  test.each(tested)("%s", async (path, { counts }) => {
    const shared = shares && path.startsWith("/isolated");
    const report = await ask(path);
    expect(report).toEqual({
      failures: [],
      compared: hashesOf(published, shared ? counts.length : 1),
      shared,
      threads: shared ? expect.toSatisfy((threads: number) => threads > 1) : 1,
    });
  });

  test("listeners of a page see no messages of steps", async () => {
    expect(await ask(LISTENING)).toEqual(["of the page"]);
  });

  test("TensorFlow.js's backend wasm, with threads if memory can be shared", async () => {
    expect(await ask(WASM)).toEqual({ failures: [], compared: kernels.size, shared: shares });
  });

  test("jax-js's device wasm", async () => {
    expect(await ask(jaxOn("wasm"))).toEqual([]);
  });

  describe.runIf(name === "Chromium")("the GPU, whose work the CPU does here", () => {
    test.each([WEBGL, WEBGPU])("%s", async (page) => {
      expect(await ask(page)).toEqual({ failures: [], compared: kernels.size, shared: false });
    });

    test.each(["webgl", "webgpu"])("jax-js's device %s", async (device) => {
      expect(await ask(jaxOn(device))).toEqual([]);
    });
  });

  test("a policy that forbids the package's own workers", async () => {
    const { threads, shared, message } = await ask(BLOCKED);
    expect({ threads, shared }).toEqual({ threads: 1, shared: shares });
    expect(message).toContain(shares ? "pass its URL as workerUrl" : "Cross-Origin-Embedder-Policy");
  });
});
