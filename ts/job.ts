/** A job: tensors that lie side by side, their state, and the block in memory that tells a kernel where they are. */

import { type Arena, padded, type Tensor } from "./arena.js";
import type { Variant } from "./hyper.js";
import type { Kernel } from "./kernels.js";

/** Bytes kept for a block of numbers, a job's or a group's hyper-parameters. */
export const BLOCK = 128;

/** Where a job's block has what, as `Job` in crate/src/rule.rs. */
const FIELD = { step: 0, gradScale: 8, params: 16 }; // then the gradients', then each slot's

type State = Readonly<Record<string, Float32Array>>;

export class Job {
  /** Elements, padding included. */
  readonly length: number;
  readonly state: ReadonlyMap<Tensor, State>;
  readonly #kernel: Kernel;
  readonly #hyper: number;
  readonly #block: number;
  readonly #step: Float64Array;

  /** How many bytes a job over these tensors takes. */
  static bytes(tensors: readonly Tensor[], { slots }: Variant): number {
    return BLOCK + Object.keys(slots).length * extent(tensors) * 4;
  }

  /**
   * Lays a job out.
   * @param hyper the address of the hyper-parameters
   * @param address the address of the job's own bytes
   * @param tensors tensors that lie side by side, in order
   */
  constructor(arena: Arena, variant: Variant, hyper: number, address: number, tensors: readonly Tensor[]) {
    const [{ data, grad }] = tensors as [Tensor];
    this.length = extent(tensors);
    const slots = Object.entries(variant.slots).map(([name, start], index) => {
      const pointer = address + BLOCK + index * this.length * 4;
      if (start !== 0) arena.floats(pointer, this.length).fill(start);
      return { name, pointer };
    });
    const block = new DataView(data.buffer, address, BLOCK);
    block.setFloat64(FIELD.gradScale, variant.gradScale, true);
    [data.byteOffset, grad.byteOffset, ...slots.map(({ pointer }) => pointer)].forEach((pointer, index) => {
      block.setUint32(FIELD.params + index * 4, pointer, true);
    });
    this.state = new Map(
      tensors.map((tensor) => {
        const offset = tensor.data.byteOffset - data.byteOffset;
        const views = slots.map(({ name, pointer }) => [name, arena.floats(pointer + offset, tensor.size)]);
        return [tensor, Object.freeze(Object.fromEntries(views))];
      }),
    );
    this.#kernel = arena.kernels[variant.kernel] as Kernel;
    this.#hyper = hyper;
    this.#block = address;
    this.#step = new Float64Array(data.buffer, address + FIELD.step, 1);
  }

  /** Sets the step's number, from 1. */
  set step(step: number) {
    this.#step[0] = step;
  }

  /** Updates the elements `begin..end`. */
  run(begin: number, end: number): void {
    this.#kernel(this.#hyper, this.#block, begin, end);
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
