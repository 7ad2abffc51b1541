/** A group: tensors that share hyper-parameters. */

import type { Arena } from "../arena/arena.js";
import type { Rule, Scalars } from "./definition.js";
import { areScheduled, fields, liveHyper, type Values, type Variant, valuesAt, variantOf } from "./hyper.js";
import { BLOCK_BYTES, extent, floatsIn, Segment, adjacentTensors } from "./segment.js";
import { Matrices, type Program, programOf } from "../matrix/matrices.js";
import type { Tensor } from "../arena/tensor.js";

/** Where a group will lie, before there is memory for it. */
export interface Plan {
  readonly values: Values;
  readonly variant: Variant;
  readonly params: readonly Tensor[];
  readonly segments: readonly (readonly Tensor[])[];
  /** What is done with each tensors, for rules that see whole matrices. */
  readonly programs: readonly Program[];
  readonly bytes: number;
  /** What memory all groups share while a tensor is updated. */
  readonly scratch: number;
  /** Elements, padding included. */
  readonly length: number;
}

export function planGroup(rule: Rule, values: Values, params: readonly Tensor[]): Plan {
  const variant = variantOf(rule, values);
  const segments = variant.oneTensorEach ? params.map((tensor) => [tensor]) : adjacentTensors(params);
  const blocks = rule.perTensor ? segments.length : 1;
  const programs = segments.flatMap((tensors) => {
    if (rule.program === undefined) return [];
    const matrices = new Matrices(
      tensors[0]!.shape,
      rule.scratch.reduce((sum, slot) => sum + 4 * floatsIn(slot, variant, tensors), 0),
    );
    return programOf(matrices, rule.program(matrices, values));
  });
  const own = programs.reduce((sum, { bytes }) => sum + bytes, 0);
  const bytes = segments.reduce((sum, tensors) => sum + Segment.bytes(tensors, variant), blocks * BLOCK_BYTES + own);
  const scratch = Math.max(0, ...programs.map(({ scratch }) => scratch));
  const length = segments.reduce((sum, tensors) => sum + extent(tensors), 0);
  return { values, variant, params, segments, programs, bytes, scratch, length };
}

/** What a group's hyper-parameters are at a step counted from 0. */
export type Snapshot = (step: number) => Values;

const snapshotOf = (rule: Rule, values: Values): Snapshot =>
  areScheduled(rule, values) ? (step) => valuesAt(rule, values, step) : () => values;

/** Tensors that share hyper-parameters. */
export class Group<Hyper = unknown> {
  readonly params: readonly Tensor[];
  /** Live: what is written here holds from the next step on. A wrong value is an error and changes nothing. */
  readonly hyper: Hyper;
  /** Checks several hyper-parameters at once; what it returns writes them. @internal */
  readonly stage: (changes: Values) => () => void;
  /** What was settled when the optimizer was made. @internal */
  readonly fixed: Values;
  /** @internal */
  readonly segments: readonly Segment[];
  /** Down the gradient, 1, or up, -1. @internal */
  readonly sign: number;
  readonly #rule: Rule;
  #since: number;
  /** One for all jobs, or one each. */
  readonly #blocks: readonly HyperBlock[];
  /** The hyper-parameters as they are now, unless one has changed since; and as they stand in the blocks. */
  #snapshot: Snapshot | undefined;
  #written: Values | undefined;

  /** @internal */
  constructor(
    arena: Arena,
    rule: Rule,
    { values, variant, params, segments, programs }: Plan,
    address: number,
    scratch: number,
    since: number,
  ) {
    let next = address;
    const take = (bytes: number) => (next += bytes) - bytes;
    const blocks: HyperBlock[] = [];
    const jobs = segments.map((tensors, i) => {
      if (rule.perTensor || blocks.length === 0)
        blocks.push(new HyperBlock(arena, rule, values, take(BLOCK_BYTES), tensors[0]!));
      const { address } = blocks.at(-1)!;
      const program = programs[i] && ([programs[i], take(programs[i].bytes)] as const);
      return arena.onFree(
        new Segment(arena, variant, address, take(Segment.bytes(tensors, variant)), tensors, scratch, program),
      );
    });
    this.#blocks = blocks;
    this.segments = Object.freeze(jobs);
    this.params = params;
    this.fixed = Object.fromEntries(Object.keys(rule.fixed).map((name) => [name, values[name]]));
    const { hyper, stage } = liveHyper(rule, values, () => {
      arena.internals(rule.name);
      this.#snapshot = undefined;
    });
    this.hyper = hyper as Hyper;
    this.stage = stage;
    this.#rule = rule;
    this.#since = since;
    this.sign = values.maximize ? -1 : 1;
    arena.onFree(this);
    Object.freeze(this);
  }

  /** The hyper-parameters as they are now, for whichever step. @internal */
  get snapshot(): Snapshot {
    this.#snapshot ??= snapshotOf(this.#rule, { ...this.fixed, ...(this.hyper as Values) });
    return this.#snapshot;
  }

  /** How many steps the optimizer had made when the group joined it: its own are counted from there. @internal */
  get since(): number {
    return this.#since;
  }

  /** @internal */
  set since(steps: number) {
    this.#since = steps;
  }

  /** Hands the kernels the hyper-parameters for the step to come. @internal */
  begin(values: Values): void {
    if (values === this.#written) return;
    const row = fields(this.#rule, values);
    for (const block of this.#blocks) block.begin(row);
    this.#written = values;
  }

  /**
   * Moves the rule's scalars on to a step, counted from 1: those of all jobs, or of one.
   * @param measured the rule's sums
   * @internal
   */
  advance(segment: number, options: Values, step: number, sums: Scalars): void {
    const block = this.#blocks[segment]!;
    block.scalars = this.#rule.advance({ before: block.scalars, options, step, sums, tensor: this.params[segment]! });
  }

  /** What the rule computes once a step, as it was at the last one: for the group, or for each tensor. @internal */
  get scalars(): readonly Scalars[] {
    return this.#blocks.map(({ scalars }) => scalars);
  }

  /** @internal */
  set scalars(scalars: readonly Scalars[]) {
    this.#blocks.forEach((block, i) => {
      // By what follows from the tensor kernels find their way in memory.
      block.scalars = { ...scalars[i]!, ...this.#rule.tensorScalars(this.params[i]!) };
    });
  }

  /** @internal */
  release(): void {
    for (const block of this.#blocks) block.release();
  }
}

/** What kernels read besides a job: hyper-parameters, and behind them the rule's scalars. */
class HyperBlock {
  readonly address: number;
  #scalars: Scalars;
  /** Views of the one and of the others. */
  #hyper: Float64Array | undefined;
  #behind: Float64Array | undefined;

  constructor(arena: Arena, rule: Rule, values: Values, address: number, tensor: Tensor) {
    const { length } = fields(rule, values);
    this.address = address;
    this.#scalars = Object.freeze({ ...rule.scalars, ...rule.tensorScalars(tensor) });
    this.#hyper = arena.doubles(address, length);
    this.#behind = arena.doubles(address + this.#hyper.byteLength, BLOCK_BYTES / 8 - length);
    this.#behind.set(Object.values(this.#scalars));
  }

  begin(hyper: readonly number[]): void {
    this.#hyper?.set(hyper);
  }

  get scalars(): Scalars {
    return this.#scalars;
  }

  set scalars(scalars: Scalars) {
    this.#scalars = Object.freeze({ ...scalars });
    this.#behind?.set(Object.values(scalars));
  }

  release(): void {
    this.#hyper = this.#behind = undefined;
  }
}
