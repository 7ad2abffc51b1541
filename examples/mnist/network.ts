/** A network of dense layers and its gradients, by jax-js. This is the part of training that downhill does not do. */

import { defaultDevice, init, jit, nn, numpy as np, random, tree, valueAndGrad } from "@jax-js/jax";
import type { Shape, Tensor } from "downhill";
import type { Split } from "./data.js";

/** The network's tensors, or objects with the same views. */
export type Model = Readonly<Record<string, Pick<Tensor, "data" | "grad" | "shape">>>;

/** Number of samples whose loss is computed at once over a whole data set. It was the fastest of 128 to 2000. */
const CHUNK = 1000;

/** Starts jax-js on its WebAssembly device, which runs in Node and in browsers. */
export async function startJax(): Promise<void> {
  await init("wasm");
  defaultDevice("wasm");
}

/** Dense layers with ReLU between them, and softmax with cross-entropy at the end. */
export class Network {
  /** Each parameter's name and shape: `w1`, `b1`, `w2`, … */
  readonly shapes: Readonly<Record<string, Shape>>;
  readonly #layers: number;
  readonly #inputs: number;
  readonly #gradient;
  readonly #logits;

  constructor(sizes: readonly number[]) {
    const classes = sizes.at(-1)!;
    this.#layers = sizes.length - 1;
    this.#inputs = sizes[0]!;
    this.shapes = Object.fromEntries(
      sizes.slice(1).flatMap((size, i) => [
        [`w${i + 1}`, [sizes[i]!, size]],
        [`b${i + 1}`, [size]],
      ]),
    );
    // A list of weights and biases in the order of `shapes`. jax-js consumes each reference once.
    const logits = (params: np.Array[], x: np.Array) => {
      for (let i = 0; i < this.#layers; i++) {
        if (i > 0) x = nn.relu(x);
        x = np.matmul(x, params[2 * i]!).add(params[2 * i + 1]!);
      }
      return x;
    };
    const loss = (params: np.Array[], x: np.Array, labels: np.Array) => {
      const likelihood = nn.logSoftmax(logits(params, x)).mul(nn.oneHot(labels, classes));
      return likelihood.sum().mul(-1 / x.shape[0]!);
    };
    this.#gradient = jit(valueAndGrad(loss));
    this.#logits = jit(logits);
  }

  /** Weights uniform within the square root of 6 over a layer's inputs (He et al., 2015), biases zero. */
  initial(seed: number): np.Array[] {
    const keys = random.split(random.key(seed), this.#layers);
    const arrays = Object.values(this.shapes).map((shape, i) => {
      if (i % 2 === 1) return np.zeros([...shape]);
      const bound = Math.sqrt(6 / shape[0]!);
      return random.uniform(keys.ref.slice(i / 2), [...shape], { minval: -bound, maxval: bound });
    });
    keys.dispose();
    return arrays;
  }

  /** Writes the initial parameters to the tensors' `data`. */
  initialize(model: Model, seed: number): void {
    const arrays = this.initial(seed);
    Object.values(model).forEach(({ data }, i) => {
      data.set(arrays[i]!.dataSync() as Float32Array);
    });
  }

  /** The parameters as arrays, in the order of `shapes`. */
  arrays(model: Model): np.Array[] {
    return Object.values(model).map(({ data, shape }) => np.array(data).reshape([...shape]));
  }

  /** The mean loss of some samples, and its gradients. The parameters are consumed. */
  valueAndGrad(params: np.Array[], split: Split, samples: Uint32Array): [loss: np.Array, grads: np.Array[]] {
    return this.#gradient(params, ...this.#batch(split, samples));
  }

  /** Returns the mean loss of some samples, and writes its gradient to the tensors' `grad`. */
  gradient(model: Model, split: Split, samples: Uint32Array): number {
    const [loss, grads] = this.valueAndGrad(this.arrays(model), split, samples);
    Object.values(model).forEach(({ grad }, i) => {
      grad.set(grads[i]!.dataSync() as Float32Array);
    });
    return loss.js() as number;
  }

  /**
   * Writes an estimate of the Hessian's diagonal to the tensors' `grad`: the squared gradients for labels drawn from the
   * network's own predictions, times the number of samples (the Gauss-Newton-Bartlett estimator of Sophia's paper).
   */
  curvature(model: Model, split: Split, samples: Uint32Array, seed: number): void {
    const [x, labels] = this.#batch(split, samples);
    labels.dispose();
    const drawn = random.categorical(random.key(seed), this.#logits(this.arrays(model), x.ref));
    const [loss, grads] = this.#gradient(this.arrays(model), x, drawn);
    loss.dispose();
    Object.values(model).forEach(({ grad }, i) => {
      grad.set((grads[i]!.dataSync() as Float32Array).map((g) => samples.length * g * g));
    });
  }

  /** Returns the mean loss of all samples, and writes its gradient to the tensors' `grad`. */
  fullGradient(model: Model, split: Split): number {
    const tensors = Object.values(model);
    const sums = tensors.map(({ data }) => new Float32Array(data.length));
    let loss = 0;
    for (const samples of chunks(split.count)) {
      const share = samples.length / split.count;
      loss += share * this.gradient(model, split, samples);
      tensors.forEach(({ grad }, i) => {
        const sum = sums[i]!;
        for (let j = 0; j < sum.length; j++) sum[j]! += share * grad[j]!;
      });
    }
    tensors.forEach(({ grad }, i) => {
      grad.set(sums[i]!);
    });
    return loss;
  }

  /** The mean loss, and the fraction of samples whose most likely class is the right one. The parameters are consumed. */
  evaluate(params: np.Array[], split: Split): { loss: number; accuracy: number } {
    let [loss, right] = [0, 0];
    for (const samples of chunks(split.count)) {
      const [x, labels] = this.#batch(split, samples);
      const logits = this.#logits(tree.ref(params), x);
      const likelihood = nn.logSoftmax(logits.ref).mul(nn.oneHot(labels.ref, logits.shape[1]!));
      loss -= likelihood.sum().js() as number;
      right += np.argmax(logits, 1).equal(labels).astype(np.int32).sum().js() as number;
    }
    tree.dispose(params);
    return { loss: loss / split.count, accuracy: right / split.count };
  }

  #batch(split: Split, samples: Uint32Array): [x: np.Array, labels: np.Array] {
    const x = new Float32Array(samples.length * split.pixels);
    samples.forEach((sample, i) => {
      x.set(split.images.subarray(sample * split.pixels, (sample + 1) * split.pixels), i * split.pixels);
    });
    return [
      np.array(x).reshape([samples.length, this.#inputs]),
      np.array(Int32Array.from(samples, (sample) => split.labels[sample]!)),
    ];
  }
}

/** The numbers from 0 to `count`, in order. */
function* chunks(count: number): Generator<Uint32Array> {
  for (let start = 0; start < count; start += CHUNK) {
    yield Uint32Array.from({ length: Math.min(CHUNK, count - start) }, (_, i) => start + i);
  }
}
