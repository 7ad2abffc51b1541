/** Steps on backends of TensorFlow.js that run in browsers only. setup.ts bundles this file. */

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { setThreadsCount, setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import "@tensorflow/tfjs-backend-webgl";
import "@tensorflow/tfjs-backend-webgpu";
import "@tensorflow/tfjs-layers"; // registers the gradients of operations
import { classOf } from "../../ts/option.js";
import { adamw } from "../../ts/tfjs/index.js";
import { bitsOfEach } from "../harness.js";
import { beside, kernels } from "../tfjs/beside.js";
import { counted, numbers } from "../tfjs/numbers.js";

/** The losses of a network in a run, and the numbers of tensors after its first and its last step. */
async function losses(backend: string) {
  await tf.setBackend(backend);
  const [w, b] = tf.tidy(() => [
    tf.variable(tf.tensor(numbers(40 * 24, 1), [40, 24])),
    tf.variable(tf.tensor(numbers(24, 2))),
  ]);
  const x = tf.tensor(numbers(64 * 40, 3), [64, 40]);
  const optimizer = adamw({ lr: 0.05, ema: 0.9 });
  const values: number[] = [];
  const tensors = [];
  for (let step = 0; step < 6; step++) {
    const loss = () => tf.mean(tf.square(tf.add(tf.matMul(x, w as tf.Tensor2D), b!))) as tf.Scalar;
    const value = optimizer.minimize(loss, true, [w!, b!])!;
    values.push(value.dataSync()[0]!);
    value.dispose();
    tensors.push(counted());
  }
  optimizer.dispose();
  tf.dispose([w!, b!, x]);
  return { values, tensors: [tensors[0], tensors.at(-1)] };
}

/** Returns what differs on this backend from the kernels on an arena, and from the backend `cpu`. */
export async function tfjs(backend: "wasm" | "webgl" | "webgpu") {
  setWasmPaths("/wasm/");
  setThreadsCount(3);
  const failures: string[] = [];
  const compare = (what: string, here: unknown, there: unknown) => {
    if (JSON.stringify(here) !== JSON.stringify(there)) failures.push(what);
  };
  compare("backend", await tf.setBackend(backend), true);
  for (const [kernel, each] of kernels) {
    const before = counted();
    const { theirs, ours, tensors, variables, reports } = beside(each);
    for (const [here, there] of reports) compare(`${kernel}: report`, here, there);
    compare(`${kernel}: steps`, ours.iterations, theirs.steps);
    const all = [variables.map((v) => v.dataSync()), tensors.map(({ data }) => data)] as [
      Float32Array[],
      Float32Array[],
    ];
    compare(`${kernel}: parameters`, ...(all.map((each) => each.map(bitsOfEach)) as [number[][], number[][]]));
    ours.dispose();
    tf.dispose(variables);
    compare(`${kernel}: memory`, counted(), before);
  }
  const [here, there] = [await losses(backend), await losses("cpu")];
  here.values.forEach((loss, i) => {
    if (Math.abs(loss / there.values[i]! - 1) > 1e-4) failures.push(`loss ${i}: ${loss} for ${there.values[i]}`);
  });
  compare("tensors", here.tensors[0], here.tensors[1]);
  // The memory of the backend `wasm` is shared in the build with threads.
  const memory = backend === "wasm" && (tf.findBackend(backend) as any).wasm.wasmMemory?.buffer;
  return { failures, compared: kernels.size, shared: classOf(memory) === "SharedArrayBuffer" };
}
