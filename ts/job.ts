/** A job: tensors that lie side by side, their state, and the block in memory that tells a kernel where they are. */

import type { Arena } from "./arena.js";
import type { Variant } from "./hyper.js";
import { padded, type Tensor } from "./tensor.js";
import type { Entry } from "./work.js";

/** Bytes kept for a block of numbers, a job's or a group's hyper-parameters. */
export const BLOCK = 128;

/** A job's block: `Job` in crate/src/rule.rs. Behind these numbers stand pointers. */
export interface Scalars {
  /** From 1. */
  readonly step: number;
  readonly gradScale: number;
  readonly clip: number;
  readonly blend: number;
}
const POINTERS = 32;

type State = Readonly<Record<string, Float32Array>>;

export class Job {
  /** What a thread must know to do it. */
  readonly entry: Entry;
  #inner: {
    readonly state: ReadonlyMap<Tensor, State>;
    readonly averages: ReadonlyMap<Tensor, Float32Array>;
    /** As they stand in the block. */
    readonly scalars: Float64Array;
  };

  /** How many bytes a job over these tensors takes. */
  static bytes(tensors: readonly Tensor[], { slots, averaged }: Variant): number {
    return BLOCK + (Object.keys(slots).length + Number(averaged)) * extent(tensors) * 4;
  }

  /**
   * Lays a job out.
   * @param hyper the address of the hyper-parameters
   * @param block the address of the job's own bytes
   * @param tensors tensors that lie side by side, in order
   */
  constructor(arena: Arena, variant: Variant, hyper: number, block: number, tensors: readonly Tensor[]) {
    const [{ data, grad }] = tensors as [Tensor];
    const length = extent(tensors);
    const kernel = Object.keys(arena.inner("job").kernels).indexOf(variant.kernel);
    const { averaged, zeroGrad } = variant;
    // The gradient is read, and written if it is zeroed; parameters, state and averages are read and written.
    const bytes = length * 4 * (3 + Number(zeroGrad) + 2 * (Object.keys(variant.slots).length + Number(averaged)));
    this.entry = { kernel, hyper, block, length, bytes };
    const slots = Object.entries(variant.slots).map(([name, start], index) => {
      const pointer = block + BLOCK + index * length * 4;
      if (start !== 0) arena.floats(pointer, length).fill(start);
      return { name, pointer };
    });
    const averages = averaged ? block + BLOCK + slots.length * length * 4 : 0;
    const pointers = [
      data.byteOffset,
      grad.byteOffset,
      averages,
      Number(zeroGrad),
      ...slots.map(({ pointer }) => pointer),
    ];
    new Uint32Array(data.buffer, block + POINTERS, pointers.length).set(pointers);
    const view = (pointer: number, tensor: Tensor) =>
      arena.floats(pointer + tensor.data.byteOffset - data.byteOffset, tensor.size);
    const state = tensors.map((tensor): [Tensor, State] => {
      const views = slots.map(({ name, pointer }) => [name, view(pointer, tensor)]);
      return [tensor, Object.freeze(Object.fromEntries(views))];
    });
    this.#inner = {
      state: new Map(state),
      averages: new Map(averaged ? tensors.map((tensor) => [tensor, view(averages, tensor)]) : []),
      scalars: arena.doubles(block, 4),
    };
  }

  /** A tensor's state, by slot, if it is one of the job's. */
  state(tensor: Tensor): State | undefined {
    return this.#inner.state.get(tensor);
  }

  /** A tensor's moving average, if it is one of the job's and there is one. */
  average(tensor: Tensor): Float32Array | undefined {
    return this.#inner.averages.get(tensor);
  }

  /** Says what holds for the step to come, and whether it goes down the gradient, 1, or up, -1. */
  begin({ step, gradScale, clip, blend }: Scalars, sign: number): void {
    const { scalars } = this.#inner;
    scalars[0] = step;
    scalars[1] = sign * gradScale;
    scalars[2] = clip;
    scalars[3] = blend;
  }

  /** Lets go of the memory. */
  release(): void {
    this.#inner = { state: new Map(), averages: new Map(), scalars: new Float64Array(4) };
  }
}

/** The tensors in runs that lie side by side, gradients too. */
export function sideBySide(tensors: readonly Tensor[]): Tensor[][] {
  const runs: Tensor[][] = [];
  const inOrder = [...tensors].sort((a, b) => a.data.byteOffset - b.data.byteOffset);
  for (const tensor of inOrder) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const adjoins = (view: "data" | "grad") =>
      last !== undefined && last[view].byteOffset + padded(last.size) * 4 === tensor[view].byteOffset;
    if (run && adjoins("data") && adjoins("grad")) run.push(tensor);
    else runs.push([tensor]);
  }
  return runs;
}

/** Elements, padding included. */
export function extent(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { size }) => sum + padded(size), 0);
}
