/** Mini-batches: each sample once per epoch, in an order that follows from the seed and is the same on every engine. */

import { count, flag, resolve, show, whole, wrongKind } from "./option.js";

export interface BatchOptions {
  /** Decides the order. A whole number in [0, 2^32). Default: 0. */
  seed?: number;
  /** The number of passes over all samples, each in another order. A whole number above 0, or Infinity. Default: 1. */
  epochs?: number;
  /** Whether to drop the last batch of an epoch if it is smaller than the others. Default: false. */
  dropLast?: boolean;
}

/** The position in the batches, as plain data. */
export interface BatchState {
  readonly samples: number;
  readonly size: number;
  readonly seed: number;
  readonly dropLast: boolean;
  /** The epoch of the next batch, counted from 0, and the index of its first sample in that epoch's order. */
  readonly epoch: number;
  readonly start: number;
}

/** A generator of mini-batches for one loop. It ends with the loop, also after `break`. A second loop is an error. */
export interface Batches extends Generator<Uint32Array, void> {
  /**
   * The position. Save it in a checkpoint, and assign it to go on from there: `order.state = extra.batches`.
   * @throws a TypeError or RangeError for the state of other batches; an Error after the last batch.
   */
  state: BatchState;
}

/**
 * Draws mini-batches without replacement.
 * @param samples the number of samples, a whole number in [1, 2^32)
 * @param size the number of samples in a batch, a whole number in [1, samples]
 * @returns a generator of batches, for one loop over all epochs; a batch is the indices of its samples
 * @throws a TypeError or RangeError for wrong arguments, when called; an Error for a second loop.
 */
export function batches(samples: number, size: number, options: BatchOptions = {}): Batches {
  whole(1, 1, 2 ** 32 - 1).check("batches: samples", samples);
  whole(1, 1, samples).check("batches: size", size);
  const { seed, epochs, dropLast } = resolve("batches", choices, options) as Required<BatchOptions>;
  const same = { samples, size, seed, dropLast };
  const position: Position = { epoch: 0, start: 0, ended: false };
  const generator = draw(same, epochs, position);
  const refuseEnded = (remedy: string) => {
    if (position.ended) throw new Error(`batches: the generator has ended; call batches() again${remedy}`);
  };
  return Object.defineProperties(generator, {
    state: {
      get: (): BatchState => ({ ...same, epoch: position.epoch, start: position.start }),
      set(state: BatchState) {
        refuseEnded(" and assign the state to the new one");
        Object.assign(position, checkState(state, same));
      },
    },
    [Symbol.iterator]: {
      value() {
        refuseEnded(", or set epochs for several passes in one loop");
        return generator;
      },
    },
  }) as Batches;
}

const choices = { seed: whole(0, 0, 2 ** 32 - 1), epochs: whole(1, 1, Infinity), dropLast: flag(false) };

interface Position {
  epoch: number;
  start: number;
  ended: boolean;
}

type Same = Pick<BatchState, "samples" | "size" | "seed" | "dropLast">;

function checkState(state: BatchState, same: Same) {
  if (typeof state !== "object" || state === null) {
    throw wrongKind("batches: state must be a state of batches", state);
  }
  for (const [name, here] of Object.entries(same)) {
    const there = state[name as keyof Same];
    if (there !== here) throw new RangeError(`batches: ${name} is ${show(there)} in the state, ${here} here`);
  }
  const { epoch, start } = state;
  count(0, 0).check("batches: state.epoch", epoch);
  count(0, 0).check("batches: state.start", start);
  if (start % same.size !== 0 || start >= same.samples + same.size) {
    throw new RangeError(`batches: state.start must be where a batch of ${same.size} begins, got ${start}`);
  }
  return { epoch, start };
}

function* draw({ samples, size, seed, dropLast }: Same, epochs: number, position: Position) {
  let order = new Uint32Array();
  let shuffled = -1;
  try {
    while (position.epoch < epochs) {
      if (position.start + (dropLast ? size : 1) > samples) {
        position.epoch += 1;
        position.start = 0;
        continue;
      }
      if (shuffled !== position.epoch) {
        order = new Uint32Array(samples);
        shuffle(order, randomBits(seed, position.epoch));
        shuffled = position.epoch;
      }
      const batch = order.subarray(position.start, position.start + size);
      position.start += size;
      yield batch;
    }
  } finally {
    position.ended = true;
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

/** 32 random bits per call: sfc32 (Doty-Humphrey's PractRand), seeded by two numbers. Whole numbers only. */
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
  for (let i = 0; i < 15; i++) next(); // after 15 numbers, the streams of similar seeds differ
  return next;
}
