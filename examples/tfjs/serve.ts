/** Serves the page and the files of MNIST. `npm run example:tfjs:page -- --port 8080` */

import { build } from "esbuild";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { mnistFolder } from "../mnist/data.js";

const { values } = parseArgs({ options: { port: { type: "string", default: "8080" } } });
const { outputFiles } = await build({
  entryPoints: [join(dirname(fileURLToPath(import.meta.url)), "page.ts")],
  ...{ bundle: true, format: "esm", target: "es2022", write: false, logLevel: "error" },
});
const page =
  '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>downhill/tfjs</title><script type="module" src="page.js"></script>';

const server = createServer(({ url = "" }, response) => {
  const { pathname } = new URL(url, "http://localhost");
  const send = (type: string, body: string | Uint8Array) => response.setHeader("Content-Type", type).end(body);
  if (pathname === "/") send("text/html", page);
  else if (pathname === "/page.js") send("text/javascript", outputFiles[0]!.text);
  else if (pathname.endsWith("-ubyte"))
    send("application/octet-stream", readFileSync(join(mnistFolder, basename(pathname))));
  else response.writeHead(404).end();
});
server.listen(Number(values.port), "127.0.0.1", () => {
  console.log(`http://localhost:${(server.address() as AddressInfo).port}/`);
});
