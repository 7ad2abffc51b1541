/** A step of the adapters beside one of the libraries' own: Adam of TensorFlow.js, and AdamW that jax-js compiles. */

import { defaultDevice, init, jit, numpy as np } from "@jax-js/jax";
import * as tf from "@tensorflow/tfjs-core";
import { adam } from "downhill/tfjs";
import { adamw } from "downhill/jax";
import "./peers.js"; // sets the backends up
import { decimals, machine, print } from "./print.js";
import { type Arm, compare } from "./stopwatch.js";

const SIZES = [400_000, 1_600_000];

/** TensorFlow.js's Adam and ours. */
async function onTensorFlow(backend: string, size: number): Promise<number[]> {
  await tf.setBackend(backend);
  const grad = tf.fill([size], 0.01);
  const arm = (optimizer: tf.Optimizer): Arm => {
    const variable = tf.variable(tf.zeros([size]));
    return { run: () => optimizer.applyGradients({ [variable.name]: grad }) };
  };
  const times = await compare([arm(tf.train.adam(1e-3)), arm(adam())], { rounds: backend === "cpu" ? 5 : 21 });
  tf.disposeVariables();
  return times;
}

/** AdamW as one would write it for jax-js, under jit, and ours. */
async function onJax(size: number): Promise<number[]> {
  const compiled = jit((p: np.Array, g: np.Array, m: np.Array, v: np.Array, c1: np.Array, c2: np.Array) => {
    const m1 = m.mul(0.9).add(g.ref.mul(0.1));
    const v1 = v.mul(0.999).add(np.square(g).mul(0.001));
    const update = m1.ref.div(c1).div(np.sqrt(v1.ref.div(c2)).add(1e-8));
    return [p.mul(1 - 1e-3 * 1e-2).sub(update.mul(1e-3)), m1, v1] as [np.Array, np.Array, np.Array];
  });
  const filled = (value: number) => np.array(new Float32Array(size).map((_, i) => value + i / 1e9));
  let [p, m, v] = [filled(1), filled(0), filled(0)];
  const grad = filled(0.01);
  let step = 0;
  const theirs = () => {
    step += 1;
    const [c1, c2] = [1 - 0.9 ** step, 1 - 0.999 ** step];
    [p, m, v] = compiled(p, grad.ref, m, v, np.array(c1), np.array(c2));
    for (const array of [p, m, v]) void array.blockUntilReady();
  };
  const solver = adamw();
  let params = filled(1);
  let state = solver.init(params.ref);
  const ours = () => {
    [params, state] = solver.step(params, grad.ref, state);
  };
  // The result of a compiled step is there once it can be read: one element is read on both sides.
  const read = (array: () => np.Array) => () => array().ref.slice([0, 1]).dataSync();
  const after = (run: () => void, look: () => unknown): Arm => ({
    run() {
      run();
      look();
    },
  });
  return compare([
    after(
      theirs,
      read(() => p),
    ),
    after(
      ours,
      read(() => params),
    ),
  ]);
}

await init("wasm");
defaultDevice("wasm");
console.log(machine);
const rows: string[][] = [];
const row = (name: string, size: number, [theirs, ours]: number[]) => {
  rows.push([name, `${size}`, decimals(theirs! / 1e3), decimals(ours! / 1e3), decimals(theirs! / ours!)]);
};
for (const size of SIZES) {
  row("TensorFlow.js, wasm", size, await onTensorFlow("wasm", size));
  row("jax-js", size, await onJax(size));
}
row("TensorFlow.js, cpu", SIZES[0]!, await onTensorFlow("cpu", SIZES[0]!));
print(["library", "parameters", "its own, µs", "downhill, µs", "ratio"], rows);
process.exit();
