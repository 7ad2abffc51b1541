import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import { createRequire } from "node:module"; import { dirname } from "node:path";
import { adam, muon } from "downhill/tfjs";
setWasmPaths(dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm")) + "/");
tf.env().set("IS_TEST", true);
const med = a => a.sort((x,y)=>x-y)[a.length>>1];
for (const backend of ["wasm","cpu"]) { await tf.setBackend(backend);
 for (const size of [1000, 400_000, 400_001, 1_600_000]) {
  const v = [0,1].map(()=>tf.variable(tf.randomNormal([size])));
  const g = tf.randomNormal([size]);
  const opts = [tf.train.adam(1e-3), adam({ eps: 1e-7 })];
  const times = [[],[]];
  const n0 = tf.memory().numTensors;
  for (let i = 0; i < (backend==="cpu"?20:60); i++) for (const k of [0,1]) {
    const t0 = performance.now(); opts[k].applyGradients({ [v[k].name]: g }); times[k].push(performance.now()-t0);
  }
  console.log(backend, size, med(times[0]).toFixed(4), med(times[1]).toFixed(4), "ratio", (med(times[0])/med(times[1])).toFixed(1), "max diff", tf.max(tf.abs(tf.sub(v[0],v[1]))).dataSync()[0].toExponential(2), tf.memory().numTensors - n0);
  opts.forEach(o=>o.dispose()); v.forEach(x=>x.dispose()); g.dispose();
  console.log(tf.memory().numTensors, tf.memory().numDataBuffers);
 }
}
