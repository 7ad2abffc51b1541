/**
 * Two peers on the WebAssembly device of jax-js: AdamW written with jax-js and compiled by `jit`, and AdamW of
 * `downhill/jax`.
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { blockUntilReady, defaultDevice, init, jit, numpy as np } from "@jax-js/jax";
import { adamw } from "downhill/jax";
import { elementsIn } from "../../ts/arena/tensor.js";
import { asyncArm } from "../stopwatch.js";
import { sizeOf, titleOf } from "../work.js";
import { fillGradient, type Peer } from "./peer.js";

/** Larger steps do not fit into the device's memory together with their temporary arrays. */
const MAX_SIZE = 2 ** 22;

type Arrays = [p: np.Array, m: np.Array, v: np.Array];

/** A step of one tensor. `rate` and `scale` have the bias corrections. A reference is consumed by its use. */
const update = jit((p: np.Array, m: np.Array, v: np.Array, g: np.Array, rate: np.Array, scale: np.Array): Arrays => {
  const mean = m.mul(0.9).add(g.ref.mul(0.1));
  const square = v.mul(0.999).add(g.ref.mul(g).mul(0.001));
  const step = rate.mul(mean.ref).div(np.sqrt(square.ref).mul(scale).add(1e-8));
  return [p.mul(1 - 1e-3 * 1e-2).sub(step), mean, square];
});

export function jaxJsPeer(): Peer {
  return {
    async start() {
      await init("wasm");
      defaultDevice("wasm");
      // The package does not export its package.json.
      const file = join(dirname(createRequire(import.meta.url).resolve("@jax-js/jax")), "../package.json");
      const { version } = JSON.parse(readFileSync(file, "utf8")) as { version: string };
      return `jax-js ${version}`;
    },
    arms(work) {
      if (titleOf(work) !== "adamw" || sizeOf(work) > MAX_SIZE) return [];
      const tensors = work.shapes.map((shape) => {
        const size = elementsIn(shape);
        const values = new Float32Array(size);
        fillGradient(values);
        const held: Arrays = [np.full([size], 0.5), np.zeros([size]), np.zeros([size])];
        return { held, g: np.array(values) };
      });
      let t = 0;
      async function step() {
        t++;
        const [rate, scale] = [1e-3 / (1 - 0.9 ** t), 1 / Math.sqrt(1 - 0.999 ** t)];
        for (const tensor of tensors) {
          tensor.held = update(...tensor.held, tensor.g.ref, np.array(rate), np.array(scale)) as Arrays;
        }
        await blockUntilReady(tensors.map(({ held }) => held));
      }
      function end() {
        for (const { held, g } of tensors) for (const array of [...held, g]) array.dispose();
      }

      const solver = adamw(work.options);
      let params = tensors.map(({ held }) => np.array(new Float32Array(held[0].size).fill(0.5)));
      let state = solver.init(params.map((array) => array.ref));
      async function adapted() {
        const grads = tensors.map(({ g }) => g.ref);
        [params, state] = solver.step(params, grads, state) as [typeof params, typeof state];
        await blockUntilReady(params);
      }
      return [
        asyncArm("downhill/jax, 1 thread", adapted, () => {
          for (const array of params) array.dispose();
          state.dispose();
        }),
        asyncArm("jax-js wasm, jitted, 1 thread", step, end),
      ];
    },
  };
}
