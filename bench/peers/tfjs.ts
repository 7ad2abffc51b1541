/** TensorFlow.js's optimizers and those of `downhill/tfjs`, on the backends `cpu` and `wasm`. */

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import * as adapters from "downhill/tfjs";
import { elementsIn } from "../../ts/arena/tensor.js";
import { type Arm, arm } from "../stopwatch.js";
import { sizeOf, titleOf } from "../work.js";
import { fillGradient, type Peer } from "./peer.js";

/** The optimizers by downhill's names. TensorFlow.js has no AdamW: its Adam is measured instead. */
const optimizers: Readonly<Record<string, () => tf.Optimizer>> = {
  sgd: () => tf.train.sgd(1e-3),
  "sgd, momentum": () => tf.train.momentum(1e-3, 0.9),
  adagrad: () => tf.train.adagrad(1e-3),
  rmsprop: () => tf.train.rmsprop(1e-3),
  adam: () => tf.train.adam(1e-3),
  adamw: () => tf.train.adam(1e-3),
};

/** Steps of more parameters take seconds, and more memory than the backends have. */
const MAX_SIZE = 2 ** 21;

export function tfjsPeer(backend: "cpu" | "wasm"): Peer {
  return {
    async start() {
      setWasmPaths(`${dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm"))}/`);
      tf.env().set("IS_TEST", true); // no advertisement for the native package
      await tf.setBackend(backend);
      return `TensorFlow.js ${tf.version_core} ${backend}`;
    },
    async arms(work) {
      const make = optimizers[titleOf(work)];
      if (make === undefined || sizeOf(work) > MAX_SIZE) return [];
      await tf.setBackend(backend);
      const timed = (name: string, optimizer: tf.Optimizer): Arm => {
        const variables = work.shapes.map((shape) => tf.variable(tf.fill([...shape], 0.5)));
        const grads = work.shapes.map((shape) => {
          const values = new Float32Array(elementsIn(shape));
          fillGradient(values);
          return tf.tensor(values, [...shape]);
        });
        const named = Object.fromEntries(variables.map(({ name }, i) => [name, grads[i]!]));
        const step = arm(name, () => optimizer.applyGradients(named));
        return {
          name,
          async time(count, pause) {
            await tf.setBackend(backend);
            return step.time(count, pause);
          },
          end() {
            optimizer.dispose();
            tf.dispose([...variables, ...grads]);
          },
        };
      };
      const adapter = adapters as unknown as Record<string, (options: object) => tf.Optimizer>;
      return [
        timed(`downhill/tfjs on ${backend}, 1 thread`, adapter[work.rule]!(work.options)),
        timed(`TensorFlow.js ${backend}${work.rule === "adamw" ? " (its Adam)" : ""}, 1 thread`, make()),
      ];
    },
  };
}
