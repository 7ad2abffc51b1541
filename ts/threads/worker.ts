/**
 * The program of a thread of the pool, for Node's workers and the Web's. `npm run build` makes dist/worker.js of it,
 * and ts/threads/worker-source.ts, from which workers start if no URL is given.
 */

import type { Code } from "../wasm/kernels.js";
import { nodeModule } from "../platform.js";
import { REMAINING } from "./control.js";
import { Runner } from "./runner.js";
import { PROTOCOL } from "./task.js";

const port = nodeModule("worker_threads")?.parentPort ?? globalThis;

port.onmessage = ({ data: code }: { data: Code }) => {
  const runner = new Runner(code);
  port.postMessage(PROTOCOL);
  for (;;) {
    while (runner.claim() > 0);
    runner.wait(REMAINING, 0);
  }
};
