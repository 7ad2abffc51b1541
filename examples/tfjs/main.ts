/**
 * Trains in Node, on the backend `cpu`: `wasm` of TensorFlow.js 4.22 has no gradient of a convolution's filter.
 * `npm run example:tfjs -- --samples 2000 --epochs 2`
 */

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { parseArgs } from "node:util";
import { loadData } from "../mnist/data.js";
import { train } from "./train.js";

const { values } = parseArgs({
  options: { samples: { type: "string", default: "1280" }, epochs: { type: "string", default: "2" } },
});
await tf.setBackend("cpu");
await train({ ...loadData(), samples: Number(values.samples), epochs: Number(values.epochs), say: console.log });
process.exit();
