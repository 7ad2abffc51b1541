/** What downhill is measured against, in the same process: loops in JavaScript, tfjs on two backends, a plain copy. */

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { setWasmPaths } from "@tensorflow/tfjs-backend-wasm";
import type { Arm } from "./stopwatch.js";

/** A way to make a rule's step, by name. */
export interface Peer extends Arm {
  readonly label: string;
  /** Frees what the arm holds. */
  readonly end?: () => void;
}

type Loop = (p: Float32Array, g: Float32Array, slots: Float32Array[], t: number) => void;

/** Each rule as one would write it, with its default options and downhill's rates. */
const loops: Record<string, { slots: number; loop: Loop }> = {
  sgd: {
    slots: 0,
    loop(p, g) {
      for (let i = 0; i < p.length; i++) p[i]! -= 1e-3 * g[i]!;
    },
  },
  "sgd, momentum": {
    slots: 1,
    loop(p, g, [buffer]) {
      for (let i = 0; i < p.length; i++) {
        const b = 0.9 * buffer![i]! + g[i]!;
        buffer![i] = b;
        p[i]! -= 1e-3 * b;
      }
    },
  },
  momentum: {
    slots: 1,
    loop(p, g, [velocity]) {
      for (let i = 0; i < p.length; i++) {
        const v = 0.9 * velocity![i]! - 1e-3 * g[i]!;
        velocity![i] = v;
        p[i]! += v;
      }
    },
  },
  adagrad: {
    slots: 1,
    loop(p, g, [sum]) {
      for (let i = 0; i < p.length; i++) {
        const s = sum![i]! + g[i]! * g[i]!;
        sum![i] = s;
        p[i]! -= (1e-3 * g[i]!) / (Math.sqrt(s) + 1e-10);
      }
    },
  },
  rmsprop: {
    slots: 1,
    loop(p, g, [square]) {
      for (let i = 0; i < p.length; i++) {
        const s = 0.99 * square![i]! + 0.01 * g[i]! * g[i]!;
        square![i] = s;
        p[i]! -= (1e-3 * g[i]!) / (Math.sqrt(s) + 1e-8);
      }
    },
  },
  adam: { slots: 2, loop: (p, g, slots, t) => adam(p, g, slots, t, 1) },
  adamw: { slots: 2, loop: (p, g, slots, t) => adam(p, g, slots, t, 1 - 1e-3 * 1e-2) },
};

function adam(p: Float32Array, g: Float32Array, [m, v]: Float32Array[], t: number, keep: number): void {
  const rate = 1e-3 / (1 - 0.9 ** t);
  const scale = 1 / Math.sqrt(1 - 0.999 ** t);
  for (let i = 0; i < p.length; i++) {
    const mean = 0.9 * m![i]! + 0.1 * g[i]!;
    const square = 0.999 * v![i]! + 0.001 * g[i]! * g[i]!;
    m![i] = mean;
    v![i] = square;
    p[i] = keep * p[i]! - (rate * mean) / (Math.sqrt(square) * scale + 1e-8);
  }
}

export function javascript(name: string, size: number): Peer | undefined {
  const { slots, loop } = loops[name] ?? {};
  if (loop === undefined) return undefined;
  const [p, g, ...state] = Array.from({ length: 2 + slots! }, () => new Float32Array(size)) as [
    Float32Array,
    Float32Array,
  ];
  g.fill(0.01);
  let t = 0;
  return { label: "JavaScript loop", run: () => loop(p, g, state, ++t) };
}

/** tfjs's optimizer of that name; for AdamW, which it does not have, its Adam. */
const optimizers: Record<string, () => tf.Optimizer> = {
  sgd: () => tf.train.sgd(1e-3),
  "sgd, momentum": () => tf.train.momentum(1e-3, 0.9),
  adagrad: () => tf.train.adagrad(1e-3),
  rmsprop: () => tf.train.rmsprop(1e-3),
  adam: () => tf.train.adam(1e-3),
  adamw: () => tf.train.adam(1e-3),
};

const files = dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm"));
setWasmPaths(`${files}/`);
tf.env().set("IS_TEST", true); // no advertisement for the native package

export async function tfjs(backend: "cpu" | "wasm", name: string, size: number): Promise<Peer | undefined> {
  const make = optimizers[name];
  if (make === undefined) return undefined;
  await tf.setBackend(backend);
  const [variable, grad, optimizer] = [tf.variable(tf.zeros([size])), tf.fill([size], 0.01), make()];
  return {
    label: `tfjs ${backend}`,
    prepare: () => tf.setBackend(backend),
    run: () => optimizer.applyGradients({ [variable.name]: grad }),
    end() {
      optimizer.dispose();
      tf.dispose([variable, grad]);
    },
  };
}

/** A copy that reads and writes as many bytes as an update does. */
export function copy(traffic: number, size: number): Peer {
  const [from, to] = [0, 1].map(() => new Uint8Array((traffic / 2) * size).fill(1)) as [Uint8Array, Uint8Array];
  return { label: "copy", run: () => to.set(from) };
}
