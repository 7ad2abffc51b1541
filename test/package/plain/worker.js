// One file for a web worker, a shared worker and a service worker.
import * as downhill from "./node_modules/downhill/dist/downhill.min.js";
import { train } from "./train.mjs";
const kind = self.constructor.name.replace("GlobalScope", "");
const report = () =>
  train(downhill).then(
    (text) => `${kind}: ${text}`,
    (error) => `${kind}: ${error}`,
  );
self.onconnect = async ({ ports: [port] }) => port.postMessage(await report());
self.onmessage = ({ source }) => report().then((text) => source.postMessage(text));
if (kind === "DedicatedWorker") report().then((text) => postMessage(text));
