/** The backends of TensorFlow.js that run in Node, and helpers for tests. */

import * as tf from "@tensorflow/tfjs-core";
import { MathBackendCPU } from "@tensorflow/tfjs-backend-cpu/dist/backend_cpu.js";
import "@tensorflow/tfjs-backend-cpu";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import { createRequire } from "node:module";
import { dirname } from "node:path";

export { counted, numbers } from "./numbers.js";

setWasmPaths(`${dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm"))}/`);

/** A backend without direct access to its arrays, like a GPU: reads and writes are copies. */
const REMOTE = "remote";

export const backends = ["wasm", "cpu", REMOTE] as const;
export type Backend = (typeof backends)[number];

class RemoteBackend extends MathBackendCPU {
  override write(values: tf.backend_util.BackendValues, shape: number[], dtype: tf.DataType): { id: number } {
    return super.write(values.slice() as tf.backend_util.BackendValues, shape, dtype) as { id: number };
  }

  override readSync(dataId: object): tf.backend_util.BackendValues {
    return super.readSync(dataId).slice() as tf.backend_util.BackendValues;
  }
}

tf.registerBackend(REMOTE, () => new RemoteBackend(), 0);
for (const kernel of tf.getKernelsForBackend("cpu")) tf.registerKernel({ ...kernel, backendName: REMOTE });

export const use = (backend: Backend): Promise<boolean> => tf.setBackend(backend);
