/**
 * Trains the network with `downhill/jax`: parameters and gradients are arrays of jax-js, and there is no arena.
 * `npm run example:jax -- --epochs 2`
 */

import { blockUntilReady, tree } from "@jax-js/jax";
import { parseArgs } from "node:util";
import { batches } from "downhill";
import { adamw } from "downhill/jax";
import { loadData } from "./data.js";
import { Network, startJax } from "./network.js";

const { values } = parseArgs({
  options: {
    data: { type: "string" },
    hidden: { type: "string", default: "128" },
    batch: { type: "string", default: "128" },
    epochs: { type: "string", default: "1" },
  },
});
const [hidden, batch, epochs] = [values.hidden, values.batch, values.epochs].map(Number) as [number, number, number];
const { train, test, classes } = loadData(values.data);
await startJax();
const network = new Network([train.pixels, hidden, classes]);
const solver = adamw({ lr: 1e-3, weightDecay: 0.01, clipNorm: 1 });

let params = network.initial(1);
let state = solver.init(tree.ref(params));
const times: [gradients: number[], steps: number[]] = [[], []];
for (let epoch = 1; epoch <= epochs; epoch++) {
  let total = 0;
  for (const samples of batches(train.count, batch, { seed: epoch })) {
    const start = performance.now();
    const [loss, grads] = network.valueAndGrad(tree.ref(params), train, samples);
    total += (loss.js() as number) * samples.length;
    await blockUntilReady(grads);
    const middle = performance.now();
    [params, state] = solver.step(params, grads, state);
    times[0].push(middle - start);
    times[1].push(performance.now() - middle);
  }
  const { accuracy } = network.evaluate(tree.ref(params), test);
  const figures = `loss ${(total / train.count).toFixed(4)}, test accuracy ${(100 * accuracy).toFixed(1)} %`;
  console.log(`epoch ${epoch}: ${figures}, norm of the last gradients ${state.report.gradNorm!.toFixed(3)}`);
}
const [gradients, step] = times.map((list) => list.sort((a, b) => a - b)[list.length >> 1]!.toFixed(3));
console.log(`medians: gradients take ${gradients} ms, a step takes ${step} ms`);
tree.dispose(params);
state.dispose();
