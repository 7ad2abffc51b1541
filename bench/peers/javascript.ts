/** Loops in plain JavaScript over typed arrays. */

import { elementsIn } from "../../ts/arena/tensor.js";
import { arm } from "../stopwatch.js";
import { titleOf } from "../work.js";
import { fillGradient, type Peer } from "./peer.js";

type Loop = (p: Float32Array, g: Float32Array, slots: Float32Array[], t: number) => void;

/** Each rule as a plain loop, with its default options. */
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

export function javascriptPeer(): Peer {
  return {
    start: async () => `JavaScript on Node ${process.versions.node}`,
    arms(work) {
      const { slots, loop } = loops[titleOf(work)] ?? {};
      if (loop === undefined) return [];
      const tensors = work.shapes.map((shape) => {
        const size = elementsIn(shape);
        const [p, g, ...state] = Array.from({ length: 2 + slots! }, () => new Float32Array(size)) as [
          Float32Array,
          Float32Array,
          ...Float32Array[],
        ];
        fillGradient(g);
        return { p: p.fill(0.5), g, state };
      });
      let t = 0;
      function step() {
        t++;
        for (const { p, g, state } of tensors) loop!(p, g, state, t);
      }
      return [arm("JavaScript loop, 1 thread", step)];
    },
  };
}
