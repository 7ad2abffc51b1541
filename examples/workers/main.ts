/** Trains a network on MNIST with gradients from workers. All share one arena, so nothing is copied between them. */

import { once } from "node:events";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import Table from "cli-table3"; // the maintained successor of cli-table
import { adam, batches, createArena, type Tensor } from "downhill";
import { type Data, loadData } from "../mnist/data.js";
import { Network, startJax } from "../mnist/network.js";
import type { Setup } from "./gradients.js";

const { values: flags } = parseArgs({
  options: {
    workers: { type: "string", default: "1,2" },
    epochs: { type: "string", default: "1" },
    batch: { type: "string", default: "512" },
    data: { type: "string" },
    help: { type: "boolean", default: false },
  },
});
if (flags.help) {
  console.log(`Trains a network on MNIST with gradients computed in workers that share one arena.

  npm run example:workers -- [--workers 1,2] [--epochs 1] [--batch 512] [--data DIR]`);
  process.exit();
}

const epochs = Number(flags.epochs);
const data = loadData(flags.data);
const sizes = [data.train.pixels, 128, data.classes];
await startJax();
const network = new Network(sizes);

/** Trains with `count` workers. Each gets a part of every mini-batch. */
async function train(count: number, { train, test }: Data) {
  const arena = await createArena();
  const model = arena.tensors(network.shapes);
  const images = arena.tensor("images", [train.count, train.pixels]);
  images.data.set(train.images);
  network.initialize(model, 1);

  const parts: Record<string, Tensor>[] = [];
  const workers = await Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const named = Object.entries(network.shapes).map(([name, shape]) => [`${index}.${name}`, shape]);
      parts[index] = arena.tensors(Object.fromEntries(named));
      const setup: Setup = { handle: arena.share(), sizes, labels: train.labels, index };
      const worker = new Worker(new URL("worker.mjs", import.meta.url), { workerData: setup });
      await once(worker, "message");
      return worker;
    }),
  );

  const optimizer = adam(model, { lr: 2e-3 });
  const start = performance.now();
  let loss = 0;
  for (const batch of batches(train.count, Math.min(Number(flags.batch), train.count), { seed: 1, epochs })) {
    const share = Math.ceil(batch.length / count);
    const all = workers.map((_, i) => batch.slice(i * share, (i + 1) * share));
    const shares = all.filter(({ length }) => length > 0); // a small batch may not have samples for all workers
    const losses = await Promise.all(
      shares.map(async (samples, i) => {
        workers[i]!.postMessage(samples);
        return (await once(workers[i]!, "message"))[0] as number;
      }),
    );
    const weights = shares.map(({ length }) => length / batch.length);
    for (const [name, { grad }] of Object.entries(model)) {
      grad.fill(0);
      parts.slice(0, shares.length).forEach((part, i) => {
        const own = part[`${i}.${name}`]!.data;
        for (let j = 0; j < grad.length; j++) grad[j]! += weights[i]! * own[j]!;
      });
    }
    optimizer.step();
    loss = losses.reduce((sum, one, i) => sum + weights[i]! * one, 0);
  }
  const seconds = (performance.now() - start) / 1000;
  const { accuracy } = network.evaluate(network.arrays(model), test);
  await Promise.all(workers.map((worker) => worker.terminate()));
  arena.free();
  return [`${count}`, `${optimizer.steps}`, seconds.toFixed(2), loss.toFixed(4), `${(100 * accuracy).toFixed(2)} %`];
}

const table = new Table({
  head: ["workers", "steps", "seconds", "last batch's loss", "test accuracy"],
  colAligns: ["right", "right", "right", "right", "right"],
  style: { head: [], border: [] },
});
for (const count of flags.workers.split(",").map(Number)) table.push(await train(count, data));
console.log(table.toString());
