/**
 * Arithmetic on vectors. A vector has one number for each parameter of some tensors. Each operation is a task for all
 * threads.
 */

import type { Arena } from "../arena/arena.js";
import { bumpAllocator, bytesToNext } from "../arena/memory.js";
import type { Tensor } from "../arena/tensor.js";
import { combine, dot, magnitude } from "../kernels/vector.js";
import { roundUp, sum } from "../math.js";
import type { PAUSE } from "../threads/pool.js";
import type { Kernel } from "../wasm/kernels.js";
import { sumsRange, type Task, taskBytes, writeTask } from "../threads/task.js";
import { adjacentTensors, extent, FIRST_SLOT, POINTERS_OFFSET, STRUCT_BYTES } from "./segment.js";

/** A vector in memory: one array for each list of adjacent tensors. */
export type Vector = Float32Array[];

/** A generator that yields tasks. It goes on when the task is done. */
export type Computation<Result> = Generator<Task | typeof PAUSE, Result, unknown>;

/**
 * The largest weight of a vector. A larger weight may be infinite in float32. Its product with the zeros of padding
 * would be NaN.
 */
export const MAX_WEIGHT = 1e38;

/** The number of doubles that a kernel writes for each chunk. */
const SUMS_PER_CHUNK = 2;

/** The offset of the weights in a struct, after the pointers. */
const WEIGHTS_OFFSET = roundUp(POINTERS_OFFSET + 4 * (FIRST_SLOT + 1), 8);

/** A range of one of a vector's arrays: adjacent tensors. */
interface Span {
  readonly list: number;
  /** The first element, and the number of elements. */
  readonly begin: number;
  readonly length: number;
}

const kernels = [combine, dot, magnitude];

/** Tensors, and the sign of their gradients: 1 to minimize, -1 to maximize. */
interface SignedGroup {
  readonly params: readonly Tensor[];
  readonly sign: number;
}

/** The lists of neighbours among the tensors that are included. */
function runsOf(tensors: readonly Tensor[], isIncluded: (tensor: Tensor) => boolean): Tensor[][] {
  const runs: Tensor[][] = [];
  let last: Tensor[] | undefined;
  for (const tensor of tensors) {
    if (!isIncluded(tensor)) last = undefined;
    else if (last) last.push(tensor);
    else runs.push((last = [tensor]));
  }
  return runs;
}

/** The index of a tensor's first element among those of adjacent tensors. */
const placeIn = ([first]: readonly Tensor[], { data }: Tensor) =>
  (data.byteOffset - first!.data.byteOffset) / Float32Array.BYTES_PER_ELEMENT;

export class Vectors {
  readonly params: Vector;
  /** In `combine`, gradients of groups with `maximize` change their sign, so that all point to a larger loss. */
  readonly grads: Vector;
  /** Vectors in memory of their own, which start at zero. */
  readonly allocated: Vector[];
  readonly #memory: WebAssembly.Memory;
  readonly #addressOf: ReadonlyMap<Kernel, number>;
  readonly #lists: readonly (readonly Tensor[])[];
  /** The place of each tensor's elements in a vector. */
  readonly #placeOf: ReadonlyMap<Tensor, { readonly list: number; readonly begin: number }>;
  readonly #signs: readonly number[];
  /** The spans of the vectors that operations work on. */
  #spans: readonly Span[] = [];
  /** The number of sums that a task over them writes. */
  #written = 0;
  readonly #structs: number;
  readonly #table: number;
  /** The numbers that kernels read for each list of tensors, and the sums that they write. */
  #pointers: Uint32Array[];
  #weights: Float64Array[];
  #sums: Float64Array;

  /**
   * Takes memory for `count` vectors.
   * @param what the name of the vectors in the RangeError if memory runs out
   */
  constructor(arena: Arena, groups: readonly SignedGroup[], count: number, what: string) {
    const { space } = arena.internals(what);
    const signed = groups.flatMap(({ params, sign }) => adjacentTensors(params).map((tensors) => ({ tensors, sign })));
    const lists = signed.map(({ tensors }) => tensors);
    const lengths = lists.map(extent);
    const length = sum(lengths);
    // At most, each tensor is a span.
    const most = sum(lists.map(({ length }) => length));
    const sums = SUMS_PER_CHUNK * sumsRange(most - 1, 0, length)[1];
    const vector = sum(lengths.map((length) => bytesToNext(4 * length)));
    const bytes = vector * count + STRUCT_BYTES * most + 8 * sums + taskBytes(most);
    const take = bumpAllocator(arena.reserve(bytes, what, kernels));
    const starting = (view: "data" | "grad") =>
      lists.map(([first], i) => arena.floats(first![view].byteOffset, lengths[i]!));
    this.params = starting("data");
    this.grads = starting("grad");
    this.allocated = Array.from({ length: count }, () =>
      lengths.map((length) => arena.floats(take(bytesToNext(4 * length)), length)),
    );
    this.#structs = take(STRUCT_BYTES * most);
    const structs = Array.from({ length: most }, (_, i) => this.#structs + i * STRUCT_BYTES);
    this.#pointers = structs.map(
      (struct) => new Uint32Array(space.memory.buffer, struct + POINTERS_OFFSET, FIRST_SLOT + 1),
    );
    this.#weights = structs.map((struct) => arena.doubles(struct + WEIGHTS_OFFSET, 2));
    this.#sums = arena.doubles(take(8 * sums), sums);
    this.#table = take(taskBytes(most));
    this.#memory = space.memory;
    this.#addressOf = new Map(kernels.map((kernel) => [kernel, arena.kernel(kernel)]));
    this.#lists = lists;
    this.#placeOf = new Map(
      lists.flatMap((tensors, list) => tensors.map((tensor) => [tensor, { list, begin: placeIn(tensors, tensor) }])),
    );
    this.#signs = signed.map(({ sign }) => sign);
    this.select(() => true);
    arena.onFree(this);
  }

  /**
   * Selects the tensors that the next operations work on. The other elements of vectors are neither read nor written.
   */
  select(isIncluded: (tensor: Tensor) => boolean): void {
    this.#sums.fill(0); // not every number of a task is written
    this.#spans = this.#lists.flatMap((tensors, list) => {
      return runsOf(tensors, isIncluded).map((run) => {
        return { list, begin: placeIn(tensors, run[0]!), length: extent(run) };
      });
    });
    const length = sum(this.#spans.map(({ length }) => length));
    this.#written = Math.max(0, SUMS_PER_CHUNK * sumsRange(this.#spans.length - 1, 0, length)[1]);
  }

  /** Sets the selected part of a vector to that of another. */
  copy(to: Vector, from: Vector): void {
    for (const { list, begin, length } of this.#spans) {
      to[list]!.set(from[list]!.subarray(begin, begin + length), begin);
    }
  }

  /** The view of a tensor's elements in a vector. */
  viewOf(vector: Vector, tensor: Tensor): Float32Array {
    const { list, begin } = this.#placeOf.get(tensor)!;
    return vector[list]!.subarray(begin, begin + tensor.size);
  }

  /** `out = a * x + b * y`; without `y`, `out = a * x`, which is an exact copy if `a` is 1. `out` may be `x` or `y`. */
  combine(out: Vector, a: number, x: Vector, b = 0, y = x): Task {
    this.#spans.forEach(({ list }, i) => {
      this.#weights[i]![0] = a;
      this.#weights[i]![1] = y === this.grads ? b * this.#signs[list]! : b;
    });
    return this.#task(combine, b === 0 ? 2 : 3, x, y, out);
  }

  /** The dot product of two vectors. */
  *dot(x: Vector, y: Vector): Computation<number> {
    yield this.#task(dot, 2, x, y);
    return this.#total();
  }

  /** The sum of the absolute values, and the largest one. Both are NaN if an element is. */
  *magnitude(x: Vector): Computation<{ readonly sum: number; readonly largest: number }> {
    yield this.#task(magnitude, 1, x, x);
    const total = this.#total();
    let largest = Number.isNaN(total) ? total : 0;
    for (let i = 1; i < this.#written; i += SUMS_PER_CHUNK) largest = Math.max(largest, this.#sums[i]!);
    return { sum: total, largest };
  }

  /** Operations run one at a time, so they share structs and the task's memory. */
  #task(kernel: Kernel, arrays: number, x: Vector, y: Vector, out?: Vector): Task {
    const calls = this.#spans.map(({ list, begin, length }, i) => {
      const pointers = this.#pointers[i]!;
      const addressIn = (vector: Vector) => vector[list]!.byteOffset + begin * Float32Array.BYTES_PER_ELEMENT;
      pointers[0] = addressIn(x);
      pointers[1] = addressIn(y);
      pointers[FIRST_SLOT] = out ? addressIn(out) : 0;
      const segment = this.#structs + i * STRUCT_BYTES;
      const bytes = 4 * length * arrays;
      return { kernel: this.#addressOf.get(kernel)!, hyper: segment + WEIGHTS_OFFSET, segment, length, bytes };
    });
    return writeTask(this.#memory, this.#table, calls, {
      sums: out ? 0 : this.#sums.byteOffset,
      count: SUMS_PER_CHUNK,
    });
  }

  #total(): number {
    let total = 0;
    for (let i = 0; i < this.#written; i += SUMS_PER_CHUNK) total += this.#sums[i]!;
    return total;
  }

  /** Releases the views. */
  release(): void {
    for (const vectors of [this.params, this.grads, ...this.allocated]) vectors.length = 0;
    this.#spans = [];
    this.#pointers = [];
    this.#weights = [];
    this.#sums = new Float64Array();
  }
}
