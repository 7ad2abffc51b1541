/** Mini-batches: each sample once an epoch, in an order that the seed decides, the same on every engine. */

import { flag, resolve, whole } from "./option.js";

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
 * @returns for each batch the indices of its samples
 * A TypeError or RangeError for wrong arguments, when called.
 */
export function batches(samples: number, size: number, options: BatchOptions = {}): Generator<Uint32Array, void> {
  whole(1, 1, 2 ** 32 - 1).check("batches: samples", samples);
  whole(1, 1, samples).check("batches: size", size);
  const { seed, epochs, dropLast } = resolve("batches", choices, options) as Required<BatchOptions>;
  return draw(samples, size, seed, epochs, dropLast);
}

const choices = { seed: whole(0, 0, 2 ** 32 - 1), epochs: whole(1, 1, Infinity), dropLast: flag(false) };

function* draw(samples: number, size: number, seed: number, epochs: number, dropLast: boolean) {
  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = new Uint32Array(samples);
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
