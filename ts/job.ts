/** A job: tensors that lie side by side, their state, and the block in memory that tells a kernel where they are. */

import type { Arena } from "./arena.js";
import type { Variant } from "./hyper.js";
import { padded, type Tensor } from "./tensor.js";
import type { Entry } from "./work.js";

/** Bytes kept for a block of numbers, a job's or a group's hyper-parameters. */
export const BLOCK = 128;

/** Where the pointers stand in a job's block, behind the step and the gradient's scale: `Job` in crate/src/rule.rs. */
const POINTERS = 16;

type State = Readonly<Record<string, Float32Array>>;

export class Job {
  /** What a thread must know to do it. */
  readonly entry: Entry;
  #inner: {
    readonly state: ReadonlyMap<Tensor, State>;
    /** The step's number and the gradient's scale, as they stand in the block. */
    readonly scalars: Float64Array;
  };

  /** How many bytes a job over these tensors takes. */
  static bytes(tensors: readonly Tensor[], { slots }: Variant): number {
    return BLOCK + Object.keys(slots).length * extent(tensors) * 4;
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
    // The gradient is read; parameters and state are read and written.
    const bytes = length * 4 * (3 + 2 * Object.keys(variant.slots).length);
    this.entry = { kernel, hyper, block, length, bytes };
    const slots = Object.entries(variant.slots).map(([name, start], index) => {
      const pointer = block + BLOCK + index * length * 4;
      if (start !== 0) arena.floats(pointer, length).fill(start);
      return { name, pointer };
    });
    const pointers = [data.byteOffset, grad.byteOffset, ...slots.map(({ pointer }) => pointer)];
    new Uint32Array(data.buffer, block + POINTERS, pointers.length).set(pointers);
    const state = tensors.map((tensor): [Tensor, State] => {
      const offset = tensor.data.byteOffset - data.byteOffset;
      const views = slots.map(({ name, pointer }) => [name, arena.floats(pointer + offset, tensor.size)]);
      return [tensor, Object.freeze(Object.fromEntries(views))];
    });
    this.#inner = { state: new Map(state), scalars: arena.doubles(block, 2) };
  }

  /** A tensor's state, by slot, if it is one of the job's. */
  state(tensor: Tensor): State | undefined {
    return this.#inner.state.get(tensor);
  }

  /** Says which step is to come, from 1, and by what its gradients are multiplied. */
  begin(step: number, gradScale: number): void {
    const { scalars } = this.#inner;
    scalars[0] = step;
    scalars[1] = gradScale;
  }

  /** Lets go of the memory. */
  release(): void {
    this.#inner = { state: new Map(), scalars: new Float64Array(2) };
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

function extent(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { size }) => sum + padded(size), 0);
}
