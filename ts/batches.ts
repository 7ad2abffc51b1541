/** Mini-batches: each sample once an epoch, in an order that the seed decides, the same on every engine. */

import { checkNames, show } from "./option.js";

export interface BatchOptions {
  /** Decides the order. A whole number in [0, 2^32). Default: 0. */
  seed?: number;
  /** How often to go through all samples, each time in another order. A whole number above 0, or Infinity. Default: 1. */
  epochs?: number;
  /** Whether to leave out an epoch's last batch if it is smaller than the others. Default: false. */
  dropLast?: boolean;
}

/**
 * Draws mini-batches without replacement.
 * @param samples how many samples there are, a whole number in [1, 2^32)
 * @param size how many of them make a batch, a whole number in [1, samples]
 * @returns for each batch the indices of its samples, a view that holds until the epoch ends
 */
export function batches(samples: number, size: number, options: BatchOptions = {}): Generator<Uint32Array, void> {
  checkNames("batches", options, ["seed", "epochs", "dropLast"]);
  const { seed = 0, epochs = 1, dropLast = false } = options;
  whole("samples", samples, 1, 2 ** 32 - 1);
  whole("size", size, 1, samples);
  whole("seed", seed, 0, 2 ** 32 - 1);
  if (epochs !== Infinity) whole("epochs", epochs, 1, Number.MAX_SAFE_INTEGER);
  if (typeof dropLast !== "boolean")
    throw new TypeError(`batches: dropLast must be true or false, got ${show(dropLast)}`);
  return draw(samples, size, seed, epochs, dropLast);
}

function* draw(samples: number, size: number, seed: number, epochs: number, dropLast: boolean) {
  const order = new Uint32Array(samples);
  for (let epoch = 0; epoch < epochs; epoch++) {
    shuffle(order, randomBits(seed, epoch));
    for (let start = 0; start + (dropLast ? size : 1) <= samples; start += size) {
      yield order.subarray(start, start + size);
    }
  }
}

/** Fills `order` with 0, 1, … in random order (Fisher & Yates; Durstenfeld, 1964). */
function shuffle(order: Uint32Array, random: () => number): void {
  for (let i = 0; i < order.length; i++) {
    const j = below(i + 1, random);
    order[i] = order[j] as number;
    order[j] = i;
  }
}

/** A whole number in [0, bound), each equally likely: numbers past the last multiple of `bound` are drawn again. */
function below(bound: number, random: () => number): number {
  const limit = 2 ** 32 - (2 ** 32 % bound);
  let x = random();
  while (x >= limit) x = random();
  return x % bound;
}

/** 32 random bits a call: sfc32 (Doty-Humphrey's PractRand), seeded by two numbers. Whole numbers only. */
function randomBits(seed: number, stream: number): () => number {
  let [a, b, c, counter] = [seed | 0, stream | 0, Math.trunc(stream / 2 ** 32) | 0, 1];
  const next = () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return sum >>> 0;
  };
  for (let i = 0; i < 15; i++) next(); // seeds that are alike part within these
  return next;
}

function whole(name: string, value: unknown, least: number, most: number): void {
  if (typeof value !== "number") throw new TypeError(`batches: ${name} must be a number, got ${show(value)}`);
  if (!(Number.isInteger(value) && value >= least && value <= most)) {
    throw new RangeError(`batches: ${name} must be a whole number in [${least}, ${most}], got ${value}`);
  }
}
