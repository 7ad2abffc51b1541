/**
 * Peers on the WebAssembly device of jax-js: AdamW of `downhill/jax`, and two that are written with jax-js and compiled
 * by `jit`. One has Optax's formula. The other is tuned: it gets the bias corrections as numbers.
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

/** A step of one tensor, as Optax computes it from the number of the step. A reference is consumed by its use. */
const optax = jit((p: np.Array, m: np.Array, v: np.Array, g: np.Array, t: np.Array): Arrays => {
  const mean = m.mul(0.9).add(g.ref.mul(0.1));
  const square = v.mul(0.999).add(np.square(g).mul(0.001));
  const unbiased = mean.ref.div(np.subtract(1, np.power(0.9, t.ref)));
  const scale = np.sqrt(square.ref.div(np.subtract(1, np.power(0.999, t)))).add(1e-8);
  const change = unbiased.div(scale).add(p.ref.mul(1e-2)).mul(-1e-3);
  return [p.add(change), mean, square];
});

/** The same step with fewer operations. `rate` and `scale` have the bias corrections. */
const tuned = jit((p: np.Array, m: np.Array, v: np.Array, g: np.Array, rate: np.Array, scale: np.Array): Arrays => {
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
      const gradients = work.shapes.map((shape) => {
        const values = new Float32Array(elementsIn(shape));
        fillGradient(values);
        return np.array(values);
      });
      /** An arm that gives each tensor to a function of jax-js. The function makes step `t`. */
      function jitted(title: string, update: (held: Arrays, g: np.Array, t: number) => Arrays) {
        let t = 0;
        let all = gradients.map(({ size }): Arrays => [np.full([size], 0.5), np.zeros([size]), np.zeros([size])]);
        async function step() {
          t++;
          all = all.map((held, i) => update(held, gradients[i]!.ref, t));
          await blockUntilReady(all);
        }
        return asyncArm(`jax-js wasm, ${title}, 1 thread`, step, () => {
          for (const array of all.flat()) array.dispose();
        });
      }

      const solver = adamw(work.options);
      let params = gradients.map(({ size }) => np.array(new Float32Array(size).fill(0.5)));
      let state = solver.init(params.map((array) => array.ref));
      async function adapted() {
        const grads = gradients.map((array) => array.ref);
        [params, state] = solver.step(params, grads, state) as [typeof params, typeof state];
        await blockUntilReady(params);
      }
      return [
        asyncArm("downhill/jax, 1 thread", adapted, () => {
          for (const array of [...params, ...gradients]) array.dispose();
          state.dispose();
        }),
        jitted("jitted", (held, g, t) => optax(...held, g, np.array(t)) as Arrays),
        jitted("jitted and tuned", (held, g, t) => {
          const [rate, scale] = [1e-3 / (1 - 0.9 ** t), 1 / Math.sqrt(1 - 0.999 ** t)];
          return tuned(...held, g, np.array(rate), np.array(scale)) as Arrays;
        }),
      ];
    },
  };
}
