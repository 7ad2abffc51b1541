import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";

const miniflare = new Miniflare({
  compatibilityDate: "2024-09-23",
  modules: [
    { type: "ESModule", path: "worker.js", contents: readFileSync("out/worker.js", "utf8") },
    {
      type: "CompiledWasm",
      path: "downhill/kernels.wasm",
      contents: readFileSync("node_modules/downhill/dist/kernels.wasm"),
    },
  ],
});
console.log(await (await miniflare.dispatchFetch("http://localhost/")).text());
await miniflare.dispose();
