/** The parts of a step: all segments of all groups in order, with the place of their sums, and the tasks over them. */

import type { Arena } from "../arena/arena.js";
import { sum } from "../math.js";
import { sumsRange, type Task, taskBytes, writeTask } from "../threads/task.js";
import type { Rule } from "./definition.js";
import type { Group, Plan } from "./group.js";
import { type Kind, KINDS, type Segment } from "./segment.js";

export interface Part {
  readonly segment: Segment;
  /** The index of the segment in its group. */
  readonly index: number;
  readonly group: Group;
  readonly groupIndex: number;
  /** The indices of the segment's sums, if it is due. */
  readonly sums: readonly [begin: number, end: number];
  /** The factor by which `clipTensorNorm` scales the segment's gradients. */
  clipScale: number;
}

export type Tasks = Partial<Record<Kind, Task>>;

/** The least number of bytes that an update in streams reads and writes. Its arrays are taken to be larger than caches. */
const STREAMED_BYTES = 32 * 2 ** 20;

const DOUBLE = Float64Array.BYTES_PER_ELEMENT;

const sumsCount = (rule: Rule, segments: number, length: number) =>
  Math.max(0, sumsRange(segments - 1, 0, length)[1]) * Math.max(1, rule.sums.length);

/** The number of bytes that the parts of a step take. */
export function partsBytes(rule: Rule, { length, segments }: Extent): number {
  const alone = rule.program ? segments * 2 * taskBytes(1) : 0;
  return DOUBLE * sumsCount(rule, segments, length) + KINDS.length * taskBytes(segments) + alone;
}

/** The number of elements, padding included, and of segments. */
export interface Extent {
  readonly length: number;
  readonly segments: number;
}

/** The extent of some plans and of what was there before. */
export const extentWith = (before: Extent, plans: readonly Plan[]): Extent => ({
  length: before.length + sum(plans.map(({ length }) => length)),
  segments: before.segments + sum(plans.map(({ segments }) => segments.length)),
});

export class Parts {
  readonly all: readonly Part[];
  /** The parts with a gradient in this step. */
  readonly due: readonly Part[];
  readonly #arena: Arena;
  readonly #rule: Rule;
  readonly #sums: Float64Array;
  #next: number;

  /** Takes `partsBytes` of memory at `address`. */
  constructor(arena: Arena, rule: Rule, groups: readonly Group[], address: number) {
    let [place, end] = [0, 0];
    const segments = groups.flatMap((group, groupIndex) =>
      group.segments.map((segment, index) => ({ segment, index, group, groupIndex })),
    );
    this.all = segments.map((part): Part => {
      if (!part.segment.isDue) return { ...part, sums: [0, 0], clipScale: 1 };
      const begin = end;
      end += part.segment.calls.update.length;
      return { ...part, sums: sumsRange(place++, begin, end), clipScale: 1 };
    });
    this.due = this.all.filter(({ segment }) => segment.isDue);
    this.#arena = arena;
    this.#rule = rule;
    this.#sums = arena.doubles(address, sumsCount(rule, this.due.length, end));
    this.#next = address + this.#sums.byteLength;
    const bytes = sum(this.due.map(({ segment }) => segment.calls.update.bytes));
    for (const { segment } of this.all) segment.inStreams = bytes >= STREAMED_BYTES;
  }

  /** The tasks of a step. Each is over the parts that take part in it. */
  tasks(): Tasks {
    const withGrad = this.all.filter(({ segment }) => segment.hasGrad);
    const resting = this.all.filter(({ segment }) => !segment.isDue);
    const others: Partial<Record<Kind, readonly Part[]>> = {
      accumulate: withGrad,
      averageHessian: withGrad,
      average: resting,
    };
    return Object.fromEntries(KINDS.map((kind) => [kind, this.task(kind, others[kind] ?? this.due)]));
  }

  /** A task over some parts; undefined if none of them has such a call. */
  task(kind: Kind, parts: readonly Part[]): Task | undefined {
    const calls = parts.flatMap(({ segment }) => segment.calls[kind] ?? []);
    if (calls.length === 0) return undefined;
    const table = this.#next;
    this.#next += taskBytes(calls.length);
    const memory = this.#arena.internals("step").space.memory;
    const count = kind === "measure" ? this.#rule.sums.length : kind === "norm" ? 1 : 0;
    if (count === 0) return writeTask(memory, table, calls);
    const first = DOUBLE * count * (parts[0]?.sums[0] ?? 0);
    return writeTask(memory, table, calls, { sums: this.#sums.byteOffset + first, count });
  }

  /** The sum of the squares of a part's gradients. */
  squares({ sums: [begin, end] }: Part): number {
    let total = 0;
    for (let i = begin; i < end; i++) total += this.#sums[i]!;
    return total;
  }

  /** The rule's sums over some parts, by name. */
  measured(parts: readonly Part[]): Record<string, number> {
    const { sums: names, program } = this.#rule;
    const measured: Record<string, number> = {};
    for (let k = 0; k < names.length; k++) {
      let total = 0;
      for (const { sums, segment } of parts) {
        // The task of a single segment begins with a chunk of its own.
        const end = program ? sums[0] + sumsRange(0, 0, segment.calls.update.length)[1] : sums[1];
        for (let i = sums[0]; i < end; i++) total += this.#sums[i * names.length + k]!;
      }
      measured[names[k]!] = total;
    }
    return measured;
  }
}
