/** A group: tensors that share hyper-parameters. */

import type { Arena } from "../arena/arena.js";
import { bumpAllocator, MAX_BYTES } from "../arena/memory.js";
import type { Tensor } from "../arena/tensor.js";
import type { Kernel } from "../wasm/kernels.js";
import type { Program } from "../matrix/program.js";
import { largest, sum } from "../math.js";
import { count, pick } from "../option.js";
import { INSPECT } from "../platform.js";
import type { Schedule } from "../schedules/schedule.js";
import type { Rule, Scalars } from "./definition.js";
import { areScheduled, fields, liveHyper, type Values, type Variant, valuesAt, variantOf } from "./hyper.js";
import { groupContents, type Inspect, shownAs } from "./inspect.js";
import { arrayBytes, extent, Segment, segmentsOf, STRUCT_BYTES } from "./segment.js";

/** A group before it has memory. */
export interface Plan {
  readonly values: Values;
  readonly variant: Variant;
  readonly params: readonly Tensor[];
  /** The tensors of each segment. */
  readonly segments: readonly (readonly Tensor[])[];
  /** The program of each segment, for rules of whole matrices. */
  readonly programs: readonly Program[];
  readonly kernels: readonly Kernel[];
  /** The number of bytes of the group. */
  readonly bytes: number;
  /** The number of bytes of scratch memory, which all groups share. */
  readonly scratch: number;
  /** The number of elements, padding included. */
  readonly length: number;
}

export function planGroup(rule: Rule, values: Values, params: readonly Tensor[]): Plan {
  const variant = variantOf(rule, values);
  checkKernels(rule, variant);
  const segments = segmentsOf(params, variant);
  const state = sum(segments.map((tensors) => Segment.bytes(tensors, variant)));
  const planned = new Map<string, Program>();
  const programs = segments.flatMap((tensors) => {
    // Without memory for the state, there is none for the program, which may be long.
    if (rule.planProgram === undefined || state > MAX_BYTES) return [];
    const { shape } = tensors[0]!;
    const slots = sum(rule.scratch.map((slot) => arrayBytes(slot, variant, tensors)));
    const program = planned.get(shape.join()) ?? rule.planProgram(rule, shape, slots, values);
    planned.set(shape.join(), program);
    return program;
  });
  const bytes = (rule.perTensor ? segments.length : 1) * STRUCT_BYTES + sum(programs.map(({ bytes }) => bytes)) + state;
  const scratch = largest(programs.map(({ scratch }) => scratch));
  const length = sum(segments.map(extent));
  const kernels = [
    ...Segment.kernels(variant),
    ...[...planned.values()].flatMap(({ kernels }) => Object.values(kernels)),
  ];
  return { values, variant, params, segments, programs, kernels, bytes, scratch, length };
}

/** Checks that a rule has its kernels. One that is missing is an error in downhill, not in the program that calls it. */
function checkKernels(rule: Rule, { kernel, kernelSlots, measure }: Variant): void {
  const missing = [kernel, measure].find((name) => name && rule.kernels[name] === undefined);
  if (missing === undefined) return;
  const by = measure ? `, by ${measure}: ${rule.sums.length}` : "";
  throw new Error(
    `${rule.name}: the binary must have a kernel "${missing}", got none; ` +
      `add the line "${kernel}: MODULE::STRUCT, ${kernelSlots.length}${by};" to the list in crate/src/lib.rs, then run "npm run kernels"`,
  );
}

/** The hyper-parameters of a group at a step, counted from 0. Errors name the group if its index is given. */
export type Snapshot = (step: number, group?: number) => Values;

const snapshotOf = (rule: Rule, values: Values): Snapshot =>
  areScheduled(rule, values)
    ? (step, group) => valuesAt(rule, values, step, group === undefined ? "" : `groups[${group}].`)
    : () => values;

/** Hyper-parameters without schedules. */
type Resolved<Hyper> = {
  readonly [Name in keyof Hyper]: Hyper[Name] extends readonly unknown[]
    ? Resolved<Hyper[Name]>
    : Exclude<Hyper[Name], Schedule | ((step: number) => number)>;
};

/** Tensors that share hyper-parameters. */
export class Group<Hyper = any> {
  /** The tensors of the group. */
  readonly params: readonly Tensor[];
  /** Checks changes of several hyper-parameters; the result writes them. @internal */
  readonly stage: (changes: Values) => () => void;
  /** The options that cannot change. @internal */
  readonly fixed: Values;
  /** 1 to descend, -1 to ascend. @internal */
  readonly sign: number;
  readonly #rule: Rule;
  readonly #hyper: Hyper;
  #segments: readonly Segment[];
  /** One for all segments, or one for each. */
  #hyperStructs: readonly HyperStruct[];
  /** A cached snapshot of the hyper-parameters. Undefined after one has changed. */
  #snapshot: Snapshot | undefined;
  /** The hyper-parameters that were last written to memory. */
  #written: Values | undefined;

  /** @internal */
  constructor(
    arena: Arena,
    rule: Rule,
    { values, variant, params, segments, programs }: Plan,
    address: number,
    scratch: number,
    joined: number,
  ) {
    const take = bumpAllocator(address);
    const hyperStructs: HyperStruct[] = [];
    this.#segments = Object.freeze(
      segments.map((tensors, i) => {
        if (rule.perTensor || hyperStructs.length === 0) {
          hyperStructs.push(new HyperStruct(arena, rule, values, take(STRUCT_BYTES), tensors[0]!));
        }
        const { address: hyper } = hyperStructs.at(-1)!;
        const program = programs[i] && ([programs[i], take(programs[i].bytes)] as const);
        const address = take(Segment.bytes(tensors, variant));
        const segment = arena.onFree(new Segment(arena, variant, { hyper, address, tensors, scratch, program }));
        segment.since = segment.joined = joined;
        return segment;
      }),
    );
    this.#hyperStructs = hyperStructs;
    this.params = params;
    this.fixed = Object.freeze(pick(rule.fixed, values));
    const { hyper, stage } = liveHyper(rule, values, () => {
      arena.internals(rule.name);
      this.#snapshot = undefined;
    });
    this.#hyper = hyper as Hyper;
    this.stage = stage;
    this.#rule = rule;
    this.sign = values.maximize ? -1 : 1;
    arena.onFree(this);
    Object.freeze(this);
  }

  /** The text that Node's `console.log` shows. @internal */
  [INSPECT](_: unknown, options: object, inspect: Inspect): string {
    return shownAs("Group", groupContents(this), options, inspect);
  }

  /** The live hyper-parameters: a change takes effect at the next step. A wrong value is an error and changes nothing. */
  get hyper(): Hyper {
    return this.#hyper;
  }

  /** The hyper-parameters now, for any step. @internal */
  get snapshot(): Snapshot {
    this.#snapshot ??= snapshotOf(this.#rule, { ...this.fixed, ...(this.hyper as Values) });
    return this.#snapshot;
  }

  /**
   * The hyper-parameters at a step, counted from 0, with the numbers of schedules: PyTorch's `get_last_lr()` is
   * `opt.groups[0].hyperAt(opt.steps).lr`, the rate of the next step.
   * @throws a TypeError or RangeError unless `step` is a whole number in [0, ∞), and for a schedule that leaves the
   * range of its option.
   */
  hyperAt(step: number): Resolved<Hyper> {
    count(0, 0).check(`${this.#rule.name}: hyperAt: step`, step);
    return pick(this.#rule.hyper, this.snapshot(step)) as Resolved<Hyper>;
  }

  /** @internal */
  get segments(): readonly Segment[] {
    return this.#segments;
  }

  /** Whether each tensor has its own segment, and each segment its own scalars. @internal */
  get isSeparate(): boolean {
    return this.#segments.length === this.params.length && this.#hyperStructs.length === this.params.length;
  }

  /** The number of bytes that `separate` takes. @internal */
  static separateBytes({ params, variant }: Plan): number {
    return sum(params.map((tensor) => STRUCT_BYTES + Segment.structBytes([tensor], variant)));
  }

  /**
   * Gives each tensor its own segment, in the order of `params`, and its own scalars. The addresses of state do not
   * change. @internal
   */
  separate(arena: Arena, { values, variant }: Plan, address: number): void {
    const take = bumpAllocator(address);
    const { scalars } = this;
    const separated = this.segmentOfEach.map((from, i) => {
      const tensor = this.params[i]!;
      const struct = new HyperStruct(arena, this.#rule, values, take(STRUCT_BYTES), tensor);
      const segment = new Segment(arena, variant, {
        hyper: struct.address,
        address: take(Segment.structBytes([tensor], variant)),
        tensors: [tensor],
        placed: from.viewsOf(tensor),
      });
      const { since, joined, hasGrad, isDue } = from;
      Object.assign(segment, { since, joined, hasGrad, isDue });
      return { struct, segment: arena.onFree(segment) };
    });
    this.#segments = Object.freeze(separated.map(({ segment }) => segment));
    this.#hyperStructs = separated.map(({ struct }) => struct);
    this.scalars = this.params.map(() => scalars[0]!);
    this.#written = undefined;
  }

  /** The segment of each tensor, in the order of `params`. After `separate` each has its own. @internal */
  get segmentOfEach(): Segment[] {
    const of = new Map(this.#segments.flatMap((segment) => segment.tensors.map((tensor) => [tensor, segment])));
    return this.params.map((tensor) => of.get(tensor)!);
  }

  /** Writes the hyper-parameters of the next step for the kernels. @internal */
  begin(values: Values): void {
    if (values === this.#written) return;
    const numbers = fields(this.#rule, values);
    for (const struct of this.#hyperStructs) struct.begin(numbers);
    this.#written = values;
  }

  /**
   * Computes the rule's scalars of a step, counted from 1: those of the group (index 0), or of one segment.
   * @param sums the sums that the rule measured
   * @internal
   */
  advance(segment: number, options: Values, step: number, sums: Scalars): void {
    const struct = this.#hyperStructs[segment]!;
    struct.scalars = this.#rule.advance({ before: struct.scalars, options, step, sums, tensor: this.params[segment]! });
  }

  /** The rule's scalars at the last step: those of the group, or of each tensor. @internal */
  get scalars(): readonly Scalars[] {
    return this.#hyperStructs.map(({ scalars }) => scalars);
  }

  /** The rule's scalars at the last step, of one segment. @internal */
  scalarsOf(segment: number): Scalars {
    return this.#hyperStructs[segment]!.scalars;
  }

  /** @internal */
  set scalars(scalars: readonly Scalars[]) {
    this.#hyperStructs.forEach((struct, i) => {
      // Kernels compute addresses from the scalars of a tensor, so these never come from a file.
      struct.scalars = { ...scalars[i]!, ...this.#rule.tensorScalars(this.params[i]!) };
    });
  }

  /** @internal */
  release(): void {
    for (const struct of this.#hyperStructs) struct.release();
  }
}

/** The hyper-parameters in memory, followed by the rule's scalars. */
class HyperStruct {
  readonly address: number;
  #scalars!: Scalars;
  #numbers: Float64Array | undefined;
  /** The index of the first scalar. */
  readonly #first: number;

  constructor(arena: Arena, rule: Rule, values: Values, address: number, tensor: Tensor) {
    this.address = address;
    this.#numbers = arena.doubles(address, STRUCT_BYTES / 8);
    this.#first = fields(rule, values).length;
    this.scalars = { ...rule.scalars, ...rule.tensorScalars(tensor) };
  }

  begin(hyper: readonly number[]): void {
    this.#numbers?.set(hyper);
  }

  get scalars(): Scalars {
    return this.#scalars;
  }

  set scalars(scalars: Scalars) {
    this.#scalars = Object.freeze({ ...scalars });
    this.#numbers?.set(Object.values(scalars), this.#first);
  }

  release(): void {
    this.#numbers = undefined;
  }
}
