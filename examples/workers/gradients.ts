/** A worker that computes gradients: it reads parameters and images from the arena, and writes its gradient there. */

import { parentPort, workerData } from "node:worker_threads";
import { type ArenaHandle, attachArena } from "downhill";
import { Network, startJax } from "../mnist/network.js";

export interface Setup {
  readonly handle: ArenaHandle;
  readonly sizes: readonly number[];
  readonly labels: Int32Array;
  /** The number of this worker. Its gradients are the tensors `0.w1`, `0.b1`, … */
  readonly index: number;
}

const { handle, sizes, labels, index } = workerData as Setup;
const arena = attachArena(handle);
await startJax();
const network = new Network(sizes);

const images = arena.tensor("images");
const split = { count: labels.length, pixels: images.shape[1]!, images: images.data, labels };
const model = Object.fromEntries(
  Object.keys(network.shapes).map((name) => {
    const { data, shape } = arena.tensor(name);
    return [name, { data, shape, grad: arena.tensor(`${index}.${name}`).data }];
  }),
);

parentPort!.on("message", (samples: Uint32Array) => {
  parentPort!.postMessage(network.gradient(model, split, samples));
});
parentPort!.postMessage("ready");
