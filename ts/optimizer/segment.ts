/** A job: tensors that lie side by side, their state, and the block in memory that tells a kernel where they are. */

import type { Arena } from "../arena/arena.js";
import type { Variant } from "./hyper.js";
import { type PlacedInstruction, placeProgram, type Program } from "../matrix/matrices.js";
import { padded, type Shape, type Tensor } from "../arena/tensor.js";
import type { Call } from "../threads/task.js";

/** Bytes kept for a block of numbers: what a kernel is told of a job, or a group's hyper-parameters. */
export const BLOCK_BYTES = 128;

/** What `Segment` in crate/src/rule.rs begins with. Behind these numbers stand pointers. */
export interface StepNumbers {
  /** From 1. */
  readonly step: number;
  readonly gradScale: number;
  readonly clip: number;
  readonly blend: number;
}
export const POINTERS = 32;

/** What there is of a tensor besides parameters and gradient: views. */
export interface TensorViews {
  readonly state: Readonly<Record<string, Float32Array>>;
  /** The parameters' average, and the sum of the micro-batches' gradients. */
  readonly average?: Float32Array;
  readonly sum?: Float32Array;
  /** What wrappers have added, which starts as the parameters. */
  readonly added?: Readonly<Record<string, Float32Array>>;
}

export class Segment {
  /** What a thread must know to add a micro-batch's gradients up, */
  readonly accumulate: Call | undefined;
  /** to find their norm, */
  readonly norm: Call;
  /** to clip rows, */
  readonly clip: Call | undefined;
  /** to measure what the rule does, */
  readonly measure: Call | undefined;
  /** and to update. */
  readonly update: Call;
  /** What else is to be done in between, and in which order, for rules that see whole matrices. */
  readonly program: readonly PlacedInstruction[] | undefined;
  /** To average the user's estimates, and the weights of the average and of what comes. */
  readonly averageHessian: Call | undefined;
  #weights: Float64Array | undefined;
  #held: ReadonlyMap<Tensor, TensorViews>;
  /** As they stand in the block. */
  #scalars: Float64Array;
  /** The slots that start as the parameters. */
  #copies: readonly (readonly [Float32Array, Tensor])[];

  /** How many bytes a job over these tensors takes. */
  static bytes(tensors: readonly Tensor[], variant: Variant): number {
    const { slots, hasAverage, hasAccumulator, agc, hessianSlot } = variant;
    const blocks = 1 + 2 * Number(hasAccumulator) + Number(agc < Infinity) + 2 * Number(hessianSlot !== undefined);
    const state = Object.keys(slots).reduce((sum, slot) => sum + floatsIn(slot, variant, tensors), 0);
    const arrays = Number(hasAverage) + Number(hasAccumulator);
    return blocks * BLOCK_BYTES + (state + arrays * extent(tensors)) * 4;
  }

  /**
   * Lays a job out.
   * @param hyper the address of the hyper-parameters
   * @param block the address of the job's own bytes
   * @param tensors tensors that lie side by side, in order
   * @param scratch the address of what all jobs share
   * @param program and the address of its own bytes
   */
  constructor(
    arena: Arena,
    variant: Variant,
    hyper: number,
    block: number,
    tensors: readonly Tensor[],
    scratch = 0,
    program?: readonly [Program, address: number],
  ) {
    const [{ data, grad, size, shape }] = tensors as [Tensor];
    const { measure, slots, hasAverage, hasAccumulator, zeroGrad, agc, hessianSlot } = variant;
    const length = extent(tensors);
    let next = block;
    const take = (bytes: number) => (next += bytes) - bytes;
    const blockOf = (pointers: readonly number[]) => {
      const address = take(BLOCK_BYTES);
      arena.doubles(address, 4).set([0, 1, Infinity, 0]); // scalars of which nothing follows
      new Uint32Array(data.buffer, address + POINTERS, pointers.length).set(pointers);
      return address;
    };
    const entry = (kernel: string, hyper: number, block: number, arrays: number): Call => ({
      ...{ kernel: arena.kernel(kernel), hyper, block, length },
      bytes: arrays * length * 4,
    });

    const shared = { next: scratch };
    const places = new Map(
      [...Object.keys(slots), ...variant.scratch].map((name) => {
        const bytes = 4 * floatsIn(name, variant, tensors);
        if (bytes === 0) return [name, 0];
        return [name, name in slots ? take(bytes) : (shared.next += bytes) - bytes];
      }),
    );
    const state = Object.keys(slots).flatMap((name) => {
      const pointer = places.get(name)!;
      return pointer === 0 ? [] : [[name, pointer] as const];
    });
    const average = hasAverage ? take(length * 4) : 0;
    const sum = hasAccumulator ? take(length * 4) : 0;
    if (hasAccumulator) {
      // Gradient descent at a rate of -1: the first of its hyper-parameters, the others zero.
      const hyper = take(BLOCK_BYTES);
      arena.doubles(hyper, 1)[0] = -1;
      const adding = blockOf([sum, grad.byteOffset, 0, Number(zeroGrad)]);
      this.accumulate = entry("sgd", hyper, adding, 3 + Number(zeroGrad));
    }
    const zeroed = hasAccumulator || zeroGrad;
    const pointers = [data.byteOffset, sum || grad.byteOffset, average, Number(zeroed)];
    const own = blockOf([...pointers, ...variant.kernelSlots.map((name) => places.get(name)!)]);
    const arrays = variant.kernelSlots.reduce((sum, name) => sum + floatsIn(name, variant, tensors), 0) / length;
    // The gradient is read, and written if it is zeroed; parameters, state and averages are read and written.
    this.update = entry(variant.kernel, hyper, own, 3 + Number(zeroed) + 2 * (arrays + Number(hasAverage)));
    this.norm = entry("add_squares", 0, own, 1);
    this.measure = measure === undefined ? undefined : entry(measure, hyper, own, 2 + arrays);
    this.program =
      program &&
      placeProgram(arena, ...program, own, (at) => (typeof at === "string" ? places.get(at)! : scratch + at));
    if (agc < Infinity) {
      const units = take(BLOCK_BYTES);
      arena.doubles(units, 3).set([agc, shape.length < 2 ? size : size / shape[0]!, size]);
      this.clip = entry("clip_units", units, own, 2);
    }

    if (hessianSlot !== undefined) {
      const weights = take(BLOCK_BYTES);
      const slot = state.find(([name]) => name === hessianSlot)![1];
      this.averageHessian = entry("combine", weights, blockOf([slot, grad.byteOffset, 0, 0, slot]), 3);
      this.#weights = arena.doubles(weights, 2);
    }

    const view = (pointer: number, tensor: Tensor) =>
      arena.floats(pointer + tensor.data.byteOffset - data.byteOffset, tensor.size);
    const stateOf = (name: string, pointer: number, tensor: Tensor) => {
      const shape = variant.shapes[name]?.(tensor.shape);
      return shape ? arena.floats(pointer, elementsIn(shape)) : view(pointer, tensor);
    };
    const held = (tensor: Tensor): TensorViews => ({
      state: Object.freeze(Object.fromEntries(state.map(([name, pointer]) => [name, stateOf(name, pointer, tensor)]))),
      average: hasAverage ? view(average, tensor) : undefined,
      sum: hasAccumulator ? view(sum, tensor) : undefined,
    });
    this.#held = new Map(tensors.map((tensor) => [tensor, held(tensor)]));
    // Not the padding, which stays zero; nor zeros, which would take memory.
    for (const [name, start] of Object.entries(slots)) {
      if (typeof start === "number" && start !== 0)
        for (const { state } of this.#held.values()) state[name]!.fill(start);
    }
    const copied = Object.keys(slots).filter((name) => slots[name] === "params");
    this.#copies = [...this.#held].flatMap(([tensor, { state }]) =>
      copied.map((name) => [state[name]!, tensor] as const),
    );
    this.#scalars = arena.doubles(own, 4);
  }

  /** What there is of a tensor, if it is one of the job's. */
  viewsOf(tensor: Tensor): TensorViews | undefined {
    return this.#held.get(tensor);
  }

  /** Says what holds for the step to come. */
  begin({ step, gradScale, clip, blend }: StepNumbers): void {
    if (step === 1) for (const [slot, { data }] of this.#copies) slot.set(data);
    const scalars = this.#scalars;
    scalars[0] = step;
    scalars[1] = gradScale;
    scalars[2] = clip;
    scalars[3] = blend;
  }

  /** Says by which decay estimates are averaged. */
  beginHessian(beta: number): void {
    this.#weights?.set([beta, 1 - beta]);
  }

  /** Lets go of the memory. */
  release(): void {
    this.#held = new Map();
    this.#copies = [];
    this.#weights = undefined;
    this.#scalars = new Float64Array(4);
  }
}

/** The tensors in runs that lie side by side, gradients too. */
export function adjacentTensors(tensors: readonly Tensor[]): Tensor[][] {
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

/** How many floats a slot takes, padding included. */
export function floatsIn(slot: string, { shapes }: Variant, tensors: readonly Tensor[]): number {
  const shapeOf = shapes[slot];
  if (shapeOf === undefined) return extent(tensors);
  const shape = shapeOf(tensors[0]!.shape);
  return shape ? padded(elementsIn(shape)) : 0;
}

const elementsIn = (shape: Shape) => shape.reduce((product, size) => product * size, 1);

/** Elements, padding included. */
export function extent(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { size }) => sum + padded(size), 0);
}
