/** A segment: tensors of a group that are adjacent in memory, with their state. One kernel call updates all of them. */

import type { Arena } from "../arena/arena.js";
import { besideParams, bumpAllocator, bytesToNext, roomBeside } from "../arena/memory.js";
import { elementsIn, padded, type Tensor } from "../arena/tensor.js";
import { roundUp, sum } from "../math.js";
import type { PlacedProgram, Program } from "../matrix/program.js";
import type { Place } from "../matrix/matrices.js";
import { clip_units, sum_units } from "../kernels/clip.js";
import { average as averageKernel } from "../kernels/rule.js";
import { add_squares, combine } from "../kernels/vector.js";
import type { Kernel } from "../wasm/kernels.js";
import type { Call } from "../threads/task.js";
import type { Variant } from "./hyper.js";

/** The kinds of tasks, in the order of a step. Each is a call of a segment. */
export const KINDS = [
  "accumulate", // adds the gradients of a micro-batch to their sum
  "norm", // sums the squares of the gradients
  "sumUnits", // sums the squares of the parameters and gradients of each row, if rows are long
  "clip", // clips the gradients of each row
  "measure", // computes the rule's sums
  "update",
  "average", // adds the parameters to their averages, in a step without a gradient
  "averageHessian", // averages the user's estimates, for `hessian()`
] as const;
export type Kind = (typeof KINDS)[number];
type Calls = Partial<Record<Kind, Call>> & { readonly update: Call };

/** The bytes of one struct that kernels read: a `Segment`, or hyper-parameters. */
export const STRUCT_BYTES = 128;

/** The numbers at the beginning of the `Segment` struct in crate/src/rule.rs. Pointers follow them. */
export interface StepNumbers {
  /** Counted from 1. */
  readonly step: number;
  readonly gradScale: number;
  readonly clip: number;
  readonly blend: number;
}
const STEP_NUMBERS = 4;
/** The numbers of a segment that no step changes: the bounds of the parameters. */
const BOUNDS = 2;
export const POINTERS_OFFSET = 8 * (STEP_NUMBERS + BOUNDS);
/** The words before the pointers to the slots. */
export const FIRST_SLOT = 6;
/** The names of the arrays for the average and the sum of gradients. No slot of a rule has these names. */
export const AVERAGE = "average";
export const GRAD_SUM = "gradSum";
/** The index of the pointer to the gradient. */
const GRAD_POINTER = 1;
/** The index of the word that says whether kernels may go through the arrays in several streams. */
const IN_STREAMS = 5;

/** The views of a tensor besides its parameters and gradient. */
export interface TensorViews {
  readonly state: Readonly<Record<string, Float32Array>>;
  /** The average of the parameters. */
  readonly average?: Float32Array;
  /** The sum of the gradients of micro-batches. */
  readonly sum?: Float32Array;
  /** State that wrappers added, which starts as the parameters. */
  readonly added?: Readonly<Record<string, Float32Array>>;
}

/** The tensors of a segment, and the places of its parts in memory. */
interface SegmentPlace {
  /** The address of the hyper-parameters. */
  readonly hyper: number;
  /** The address of the segment's own bytes. */
  readonly address: number;
  /** Adjacent tensors, in the order of memory. */
  readonly tensors: readonly Tensor[];
  /** The address of the scratch memory that all segments share. */
  readonly scratch?: number;
  /** The program and the address of its own bytes. */
  readonly program?: readonly [Program, address: number] | undefined;
  /** The arrays of the only tensor, if they already exist. Then the segment allocates no arrays. */
  readonly placed?: TensorViews | undefined;
}

export class Segment {
  /** The number of steps of the optimizer that these tensors did not make: those before they joined, and those without a gradient. */
  since = 0;
  /** The number of steps of the optimizer before these tensors joined it. */
  joined = 0;
  /** Whether these tensors have a gradient now. */
  hasGrad = true;
  /** Whether these tensors have a gradient in this step: now, or in a micro-batch before. */
  isDue = false;
  readonly tensors: readonly Tensor[];
  readonly calls: Calls;
  /** The program of a rule of whole matrices. */
  program: PlacedProgram | undefined;
  /** The weights of `averageHessian` in memory: of the average, and of the estimate. */
  #hessianWeights: Float64Array | undefined;
  #views: ReadonlyMap<Tensor, TensorViews>;
  /** The step numbers in memory. */
  #numbers: Float64Array;
  /** The words of all structs: pointers and flags. */
  #structs: readonly Uint32Array[];
  /** The structs that contain the address of the gradient. */
  #gradPointers: readonly Uint32Array[];
  /** The slots that start as a copy of the parameters. */
  #copies: readonly (readonly [slot: Float32Array, Tensor])[];

  /** The number of bytes of a segment's own numbers, without state. */
  static structBytes(tensors: readonly Tensor[], { hasAccumulator, agc, hessianSlot }: Variant): number {
    const structs = 1 + 2 * Number(hasAccumulator) + Number(agc < Infinity) + 2 * Number(hessianSlot !== undefined);
    return structs * STRUCT_BYTES + (agc < Infinity ? unitSumsBytes(tensors[0]!) : 0);
  }

  /** The number of bytes of a segment of these tensors. */
  static bytes(tensors: readonly Tensor[], variant: Variant): number {
    const { slots, hasAverage, hasAccumulator } = variant;
    if (holderOf(tensors)) return Segment.structBytes(tensors, variant);
    const state = sum(Object.keys(slots).map((slot) => arrayBytes(slot, variant, tensors)));
    const arrays = Number(hasAverage) + Number(hasAccumulator);
    const room = roomBeside(largestArray(tensors, variant));
    return Segment.structBytes(tensors, variant) + room + state + arrays * bytesToNext(4 * extent(tensors));
  }

  /** The kernels of a segment. */
  static kernels({
    kernels,
    kernel,
    measure,
    hasAverage,
    hasAccumulator,
    agc,
    hessianSlot,
  }: Variant): readonly Kernel[] {
    return [
      ...[kernels[kernel]!, add_squares],
      ...(measure === undefined ? [] : [kernels[measure]!]),
      ...(hasAverage ? [averageKernel] : []),
      ...(agc < Infinity ? [sum_units, clip_units] : []),
      ...(hasAccumulator || hessianSlot !== undefined ? [combine] : []),
    ];
  }

  /** Writes the segment to memory. */
  constructor(arena: Arena, variant: Variant, { hyper, address, tensors, scratch = 0, program, placed }: SegmentPlace) {
    const [first] = tensors as [Tensor];
    const { data, grad, size } = first;
    this.tensors = tensors;
    const { kernels, measure, slots, hasAverage, hasAccumulator, zeroGrad, bounds, agc, hessianSlot } = variant;
    const length = extent(tensors);
    const stateOf = holderOf(tensors);
    const isPlaced = placed !== undefined || stateOf !== undefined;
    const take = bumpAllocator(
      isPlaced ? address : besideParams(address, largestArray(tensors, variant), data.byteOffset),
    );
    const places: Readonly<Record<string, Float32Array | undefined>> = {
      ...placed?.state,
      [AVERAGE]: placed?.average,
      [GRAD_SUM]: placed?.sum,
    };
    /**
     * Returns the address of an array of state: in the segment's own bytes, unless it exists (`placed`) or another
     * library allocates state.
     */
    const array = (name: string, bytes = bytesToNext(4 * length)) =>
      places[name]?.byteOffset ?? stateOf?.(first, name) ?? take(bytes);
    const structs: Uint32Array[] = [];
    /** Writes a `Segment` struct that neither scales nor clips nor averages. */
    const struct = (pointers: readonly number[]) => {
      const address = take(STRUCT_BYTES);
      arena.doubles(address, STEP_NUMBERS + BOUNDS).set([0, 1, Infinity, 0, ...(bounds ?? [-Infinity, Infinity])]);
      const words = new Uint32Array(data.buffer, address + POINTERS_OFFSET, pointers.length);
      words.set(pointers);
      structs.push(words);
      return address;
    };
    const call = (kernel: Kernel, hyper: number, segment: number, arrays: number): Call => ({
      kernel: arena.kernel(kernel),
      hyper,
      segment,
      length,
      bytes: arrays * length * 4,
    });

    /** Writes a call that adds the gradients to an array. Returns it and its two weights: those of the array and of the gradients. */
    const additionTo = (array: number, zeroes = false) => {
      const weights = take(STRUCT_BYTES);
      const onArray = struct([array, grad.byteOffset, 0, Number(zeroes), 0, 0, array]);
      return [call(combine, weights, onArray, 3 + Number(zeroes)), arena.doubles(weights, 2)] as const;
    };

    const takeScratch = bumpAllocator(scratch);
    const addresses = new Map<string, number>();
    for (const slot of [...Object.keys(slots), ...variant.scratch]) {
      const bytes = arrayBytes(slot, variant, tensors);
      addresses.set(slot, bytes === 0 ? 0 : slot in slots ? array(slot, bytes) : takeScratch(bytes));
    }
    const average = hasAverage ? array(AVERAGE) : 0;
    const gradSum = hasAccumulator ? array(GRAD_SUM) : 0;
    const [accumulate, sumWeights] = hasAccumulator ? additionTo(gradSum, zeroGrad) : [];
    sumWeights?.set([1, 1]);
    const isZeroed = hasAccumulator || zeroGrad;
    const pointers = [data.byteOffset, gradSum || grad.byteOffset, average, Number(isZeroed), bounds ? size : 0, 0];
    const segment = struct([...pointers, ...variant.kernelSlots.map((slot) => addresses.get(slot)!)]);
    const arrays = sum(variant.kernelSlots.map((slot) => floatsIn(slot, variant, tensors))) / length;
    // An update reads the gradient, and writes it to zero it. It reads and writes parameters, state and averages. This is an estimate
    // for rules that measure before they update.
    const read = 3 + Number(isZeroed) + 2 * (arrays + Number(hasAverage));
    const calls: Calls = {
      accumulate,
      norm: call(add_squares, 0, segment, 1),
      measure: measure === undefined ? undefined : call(kernels[measure]!, hyper, segment, 2 + arrays),
      update: call(kernels[variant.kernel]!, hyper, segment, read),
      average: hasAverage ? call(averageKernel, 0, segment, 3) : undefined,
    };
    this.calls = calls;
    const addressOf = (at: Place) => (typeof at === "string" ? addresses.get(at)! : scratch + at);
    this.program = program?.[0].place(arena, program[1], segment, addressOf);
    if (agc < Infinity) {
      const units = take(STRUCT_BYTES);
      const sumsBytes = unitSumsBytes(first);
      const sums = sumsBytes > 0 ? take(sumsBytes) : 0;
      arena.doubles(units, 3).set([agc, unitLength(first), size]);
      new Uint32Array(data.buffer, units + 24, 1)[0] = sums;
      if (sums > 0) calls.sumUnits = call(sum_units, units, segment, 2);
      calls.clip = call(clip_units, units, segment, 2);
    }
    if (hessianSlot !== undefined) {
      [calls.averageHessian, this.#hessianWeights] = additionTo(addresses.get(hessianSlot)!);
    }

    const viewAt = (address: number, tensor: Tensor) =>
      arena.floats(address + tensor.data.byteOffset - data.byteOffset, tensor.size);
    const slotOf = (tensor: Tensor, slot: string) => {
      const shape = variant.shapes[slot]?.(tensor.shape);
      return shape ? arena.floats(addresses.get(slot)!, elementsIn(shape)) : viewAt(addresses.get(slot)!, tensor);
    };
    const present = Object.keys(slots).filter((slot) => addresses.get(slot) !== 0);
    const viewsOf = (tensor: Tensor): TensorViews => ({
      state: Object.freeze(Object.fromEntries(present.map((slot) => [slot, slotOf(tensor, slot)]))),
      average: hasAverage ? viewAt(average, tensor) : undefined,
      sum: hasAccumulator ? viewAt(gradSum, tensor) : undefined,
    });
    this.#views = new Map(tensors.map((tensor) => [tensor, placed ?? viewsOf(tensor)]));
    // Zeros are not written, because a page takes memory once it is written. The padding stays zero.
    for (const [slot, start] of isPlaced ? [] : Object.entries(slots)) {
      if (start !== 0 && start !== "params") for (const { state } of this.#views.values()) state[slot]!.fill(start);
    }
    const copied = Object.keys(slots).filter((slot) => slots[slot] === "params");
    this.#copies = [...this.#views].flatMap(([tensor, { state }]) =>
      copied.map((slot) => [state[slot]!, tensor] as const),
    );
    this.#numbers = arena.doubles(segment, STEP_NUMBERS);
    this.#structs = structs;
    this.#gradPointers = structs.filter((words) => words[GRAD_POINTER] === grad.byteOffset);
  }

  /** The views of a tensor, if it is one of the segment's. */
  viewsOf(tensor: Tensor): TensorViews | undefined {
    return this.#views.get(tensor);
  }

  /** Updates the pointers to the gradient after another library has moved it. Such a segment has one tensor. */
  followGrad(): void {
    for (const [{ grad }] of this.#views) for (const words of this.#gradPointers) words[GRAD_POINTER] = grad.byteOffset;
  }

  /** Sets whether kernels may go through the arrays in several streams. The result is the same. */
  set inStreams(inStreams: boolean) {
    for (const words of this.#structs) words[IN_STREAMS] = Number(inStreams);
  }

  /** Writes the numbers of the next step. */
  begin({ step, gradScale, clip, blend }: StepNumbers): void {
    if (step === 1) for (const [slot, { data }] of this.#copies) slot.set(data);
    const numbers = this.#numbers;
    numbers[0] = step;
    numbers[1] = gradScale;
    numbers[2] = clip;
    numbers[3] = blend;
  }

  /** Leaves the tensors out of the next step. Only their averages are updated, with the weight `blend`. */
  rest(blend: number): void {
    this.since += 1;
    this.#numbers[3] = blend;
  }

  /** Writes the decay of the average of the Hessian. */
  beginHessian(beta: number): void {
    this.#hessianWeights?.set([beta, 1 - beta]);
  }

  /** Releases the views. */
  release(): void {
    this.program = undefined;
    this.#views = new Map();
    this.#copies = [];
    this.#structs = [];
    this.#gradPointers = [];
    this.#hessianWeights = undefined;
    this.#numbers = new Float64Array(STEP_NUMBERS);
  }
}

/** The function that finds the tensors' state, if another library allocates it. */
const holderOf = ([first]: readonly Tensor[]) => first?.arena.internals("state").space.stateOf;

/** The tensors of each segment. If another library holds state, each tensor has a segment, in the order in which they were given. */
export const segmentsOf = (tensors: readonly Tensor[], { oneTensorEach }: Variant): readonly (readonly Tensor[])[] =>
  oneTensorEach || holderOf(tensors) ? tensors.map((tensor) => [tensor]) : adjacentTensors(tensors);

/** The number of elements in a unit, which `agc` clips together: those of one index in the first dimension. */
const unitLength = ({ shape, size }: Tensor) => (shape.length < 2 ? size : size / shape[0]!);

/** The number of elements that `agc` sums up at once, as in crate/src/clip.rs. */
const UNIT_BLOCK = 65_536;

/** The bytes of the sums of a tensor whose units are longer than a block: two doubles for each block. Otherwise 0. */
function unitSumsBytes(tensor: Tensor): number {
  const length = unitLength(tensor);
  if (length <= UNIT_BLOCK) return 0;
  const blocks = Math.ceil(length / UNIT_BLOCK) * (tensor.size / length);
  return roundUp(16 * blocks, STRUCT_BYTES);
}

/** The tensors in lists of those that are adjacent in memory, with their gradients. */
export function adjacentTensors(tensors: readonly Tensor[]): Tensor[][] {
  const lists: Tensor[][] = [];
  const inOrder = [...tensors].sort((a, b) => a.data.byteOffset - b.data.byteOffset);
  for (const tensor of inOrder) {
    const list = lists.at(-1);
    const last = list?.at(-1);
    const adjoins = (view: "data" | "grad") =>
      last !== undefined && last[view].byteOffset + padded(last.size) * 4 === tensor[view].byteOffset;
    if (list && adjoins("data") && adjoins("grad")) list.push(tensor);
    else lists.push([tensor]);
  }
  return lists;
}

/** The number of bytes of the largest array of state. */
function largestArray(tensors: readonly Tensor[], variant: Variant): number {
  const slots = Object.keys(variant.slots).map((slot) => 4 * floatsIn(slot, variant, tensors));
  return Math.max(0, ...slots, variant.hasAverage || variant.hasAccumulator ? 4 * extent(tensors) : 0);
}

/** The number of bytes from a slot to the next array. */
export const arrayBytes = (slot: string, variant: Variant, tensors: readonly Tensor[]): number =>
  bytesToNext(4 * floatsIn(slot, variant, tensors));

/** The number of floats of a slot, padding included. */
function floatsIn(slot: string, { shapes }: Variant, tensors: readonly Tensor[]): number {
  const shapeOf = shapes[slot];
  if (shapeOf === undefined) return extent(tensors);
  const shape = shapeOf(tensors[0]!.shape);
  return shape ? padded(elementsIn(shape)) : 0;
}

/** The number of elements of adjacent tensors, padding included. */
export const extent = (tensors: readonly Tensor[]): number => sum(tensors.map(({ size }) => padded(size)));
