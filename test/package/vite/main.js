import * as downhill from "downhill";
import kernels from "downhill/kernels.wasm?url";
import workerUrl from "downhill/worker?url";
import Background from "./background.js?worker";
import { train } from "./train.mjs";

// In the page, in a worker of the page's, and with the files that a strict policy needs.
async function report() {
  const files = [kernels, workerUrl, new URL("downhill/worker", import.meta.url).href];
  if (import.meta.env.PROD)
    for (const url of files) if (url.startsWith("data:")) throw new Error(`${url.slice(0, 40)}: not a file`);
  const inWorker = await new Promise((resolve, reject) => {
    const worker = new Background();
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = reject;
  });
  const module = await (await fetch(kernels)).arrayBuffer();
  const streamed = await train(downhill, { module: await WebAssembly.compileStreaming(fetch(kernels)) });
  if (streamed !== "trained, on one thread") throw new Error(`compiled while it arrives: ${streamed}`);
  const reports = [await train(downhill), inWorker, await train(downhill, { workerUrl, module })];
  return [...new Set(reports)].join("; ");
}
globalThis.report = report().catch(String);
