/** Arithmetic on vectors as long as some tensors together: each operation is a task, which all threads share. */

import type { Arena } from "../arena/arena.js";
import { BLOCK_BYTES, extent, POINTERS, adjacentTensors } from "./segment.js";
import type { Tensor } from "../arena/tensor.js";
import { writeTask, sumsRange, type Task, taskBytes } from "../threads/task.js";

/** One array for each run of tensors that lie side by side. */
export type Vector = Float32Array[];

/** What hands out tasks and then, when they are done, has their result. */
export type Computation<Result> = Generator<Task, Result, unknown>;

/** What a weight may be at most: more may be infinite in float32, and padding times that not zero any more. */
export const MAX_WEIGHT = 1e38;

/** How many doubles of room each chunk has for what is measured of it. */
const SUMS_PER_CHUNK = 2;

/** Tensors whose gradients lead up the loss, 1, or down, -1. */
interface SignedGroup {
  readonly params: readonly Tensor[];
  readonly sign: number;
}

/** Where a run's weights stand in its block, behind the pointers. */
const WEIGHTS_OFFSET = 64;

export class Vectors {
  readonly params: Vector;
  /** Where they are combined with another they have the sign with which they lead up. */
  readonly grads: Vector;
  /** Vectors of its own, zero at first. */
  readonly allocated: Vector[];
  readonly #memory: WebAssembly.Memory;
  readonly #places: Readonly<Record<string, number>>;
  readonly #lengths: readonly number[];
  readonly #signs: readonly number[];
  readonly #blocks: number;
  readonly #table: number;
  /** What kernels read of each run, and what they leave. */
  #pointers: Uint32Array[];
  #weights: Float64Array[];
  #left: Float64Array;

  /** Takes memory for `count` vectors; a RangeError, which calls them `what`, if there is not so much. */
  constructor(arena: Arena, groups: readonly SignedGroup[], count: number, what: string) {
    const { space } = arena.internals(what);
    const signed = groups.flatMap(({ params, sign }) => adjacentTensors(params).map((run) => ({ run, sign })));
    const runs = signed.map(({ run }) => run);
    const lengths = runs.map(extent);
    const length = lengths.reduce((sum, length) => sum + length, 0);
    const left = SUMS_PER_CHUNK * sumsRange(runs.length - 1, 0, length)[1];
    const bytes = 4 * length * count + BLOCK_BYTES * runs.length + 8 * left + taskBytes(runs.length);
    let next = arena.reserve(bytes, what);
    const take = (bytes: number) => (next += bytes) - bytes;
    const starting = (view: "data" | "grad") =>
      runs.map(([first], run) => arena.floats(first![view].byteOffset, lengths[run]!));
    this.params = starting("data");
    this.grads = starting("grad");
    this.allocated = Array.from({ length: count }, () =>
      lengths.map((length) => arena.floats(take(4 * length), length)),
    );
    this.#blocks = next;
    const blocks = runs.map(() => take(BLOCK_BYTES));
    this.#pointers = blocks.map((block) => new Uint32Array(space.memory.buffer, block + POINTERS, 5));
    this.#weights = blocks.map((block) => arena.doubles(block + WEIGHTS_OFFSET, 2));
    this.#left = arena.doubles(take(8 * left), left);
    this.#table = next;
    this.#memory = space.memory;
    this.#places = Object.fromEntries(["combine", "dot", "magnitude"].map((kernel) => [kernel, arena.kernel(kernel)]));
    this.#lengths = lengths;
    this.#signs = signed.map(({ sign }) => sign);
    arena.onFree(this);
  }

  /** A tensor's part of a vector. */
  viewOf(vector: Vector, tensor: Tensor): Float32Array {
    const at = tensor.data.byteOffset;
    const run = this.params.findIndex(({ byteOffset, byteLength }) => byteOffset <= at && at < byteOffset + byteLength);
    const begin = (at - this.params[run]!.byteOffset) / Float32Array.BYTES_PER_ELEMENT;
    return vector[run]!.subarray(begin, begin + tensor.size);
  }

  /** `out = a * x + b * y`, where `out` may be one of them; without `y`, `out = a * x`, and if `a` is one, to the bit. */
  combine(out: Vector, a: number, x: Vector, b = 0, y = x): Task {
    this.#weights.forEach((weights, run) => {
      weights[0] = a;
      weights[1] = y === this.grads ? b * this.#signs[run]! : b;
    });
    return this.#task("combine", b === 0 ? 2 : 3, x, y, out);
  }

  /** The sum of the products of their elements. */
  *dot(x: Vector, y: Vector): Computation<number> {
    yield this.#task("dot", 2, x, y);
    return this.#total();
  }

  /** The sum of the elements' magnitudes, and the largest; NaN if one is. */
  *magnitude(x: Vector): Computation<{ readonly sum: number; readonly largest: number }> {
    yield this.#task("magnitude", 1, x, x);
    const sum = this.#total();
    let largest = Number.isNaN(sum) ? sum : 0;
    for (let i = 1; i < this.#left.length; i += SUMS_PER_CHUNK) largest = Math.max(largest, this.#left[i]!);
    return { sum, largest };
  }

  /** One operation at a time, so they share pointers and table. */
  #task(kernel: string, arrays: number, x: Vector, y: Vector, out?: Vector): Task {
    const entries = this.#lengths.map((length, run) => {
      const pointers = this.#pointers[run]!;
      pointers[0] = x[run]!.byteOffset;
      pointers[1] = y[run]!.byteOffset;
      pointers[4] = out?.[run]!.byteOffset ?? 0;
      const block = this.#blocks + run * BLOCK_BYTES;
      const bytes = 4 * length * arrays;
      return { kernel: this.#places[kernel]!, hyper: block + WEIGHTS_OFFSET, block, length, bytes };
    });
    return writeTask(this.#memory, this.#table, entries, out ? 0 : this.#left.byteOffset, SUMS_PER_CHUNK);
  }

  #total(): number {
    let total = 0;
    for (let i = 0; i < this.#left.length; i += SUMS_PER_CHUNK) total += this.#left[i]!;
    return total;
  }

  /** Lets go of the memory. */
  release(): void {
    for (const vectors of [this.params, this.grads, ...this.allocated]) vectors.length = 0;
    this.#pointers = [];
    this.#weights = [];
    this.#left = new Float64Array();
  }
}
