/** A step: what is measured, decided and written before the kernels update. */

import type { Arena } from "./arena.js";
import type { overall, Rule } from "./definition.js";
import type { Group, Plan, Snapshot } from "./group.js";
import type { Scalars } from "./job.js";
import { show, type ValueOf } from "./option.js";
import type { Work } from "./pool.js";
import { layTask, sumsOf, type Task, taskBytes } from "./work.js";

type Overall = { readonly [Name in keyof typeof overall]: ValueOf<(typeof overall)[Name]> };

/** What came of a step. */
export interface StepReport {
  /** The gradients' norm over all tensors, after `gradScale`, before clipping; undefined unless a step has to know it. */
  readonly gradNorm: number | undefined;
  /** Whether the step was left out, as a gradient was not finite. */
  readonly skipped: boolean;
}

/** PyTorch's: what a dynamic loss scale begins with, and after how many good steps it doubles. */
const FIRST_SCALE = 65536;
const GOOD_STEPS = 2000;

const DOUBLE = Float64Array.BYTES_PER_ELEMENT;

/** How many bytes a step takes besides its groups. */
export function stepBytes(plans: readonly Plan[]): number {
  const length = plans.reduce((sum, plan) => sum + plan.length, 0);
  const jobs = plans.reduce((sum, { runs }) => sum + runs.length, 0);
  return DOUBLE * sumsOf(length) + 2 * taskBytes(jobs);
}

export class Step implements Work<readonly Snapshot[]> {
  readonly measure: Task | undefined;
  readonly update: Task;
  /** The same object after every step, which so leaves no garbage; as are the next three. */
  readonly report: { -readonly [Name in keyof StepReport]: StepReport[Name] } = { gradNorm: undefined, skipped: false };
  readonly #scalars: { -readonly [Name in keyof Scalars]: number };
  readonly #fields: (readonly number[])[] = [];
  #sums: Float64Array;
  readonly #rule: Rule;
  readonly #groups: readonly Group[];
  readonly #overall: Overall;
  /** How many steps were made. */
  count = 0;
  /** What gradients are divided by, and for how many steps that has gone well. */
  lossScale: number;
  #good = 0;

  /** Lays the step's tables out at `address`. */
  constructor(
    arena: Arena,
    rule: Rule,
    groups: readonly Group[],
    options: Readonly<Record<string, unknown>>,
    address: number,
  ) {
    const { space, kernels } = arena.inner(rule.name);
    const entries = groups.flatMap(({ jobs }) => jobs.map(({ entry }) => entry));
    const sums = sumsOf(entries.reduce((sum, { length }) => sum + length, 0));
    const tables = address + DOUBLE * sums;
    this.#rule = rule;
    this.#groups = groups;
    this.#overall = options as Overall;
    const { clipNorm, clipValue, lossScale, nonFinite } = this.#overall;
    this.lossScale = lossScale === "dynamic" ? FIRST_SCALE : lossScale;
    this.#scalars = { step: 0, gradScale: 1, clip: clipValue, blend: 0 };
    this.#sums = arena.doubles(address, sums);
    this.update = layTask(space.memory, tables, entries);
    if (clipNorm < Infinity || nonFinite !== "ignore" || lossScale === "dynamic") {
      const kernel = Object.keys(kernels).indexOf("add_squares");
      const measuring = entries.map((entry) => ({ ...entry, kernel, bytes: 4 * entry.length }));
      this.measure = layTask(space.memory, tables + taskBytes(entries.length), measuring, address);
    }
    arena.own(this);
  }

  begin(snapshots?: readonly Snapshot[]): void {
    for (let i = 0; i < this.#groups.length; i++) {
      this.#fields[i] = (snapshots?.[i] ?? this.#groups[i]!.snapshot)(this.count);
    }
    if (this.measure) this.#sums.fill(0);
  }

  commit(): boolean {
    const { clipNorm, nonFinite, ema } = this.#overall;
    const dynamic = this.#overall.lossScale === "dynamic";
    const gradScale = this.#overall.gradScale / this.lossScale;
    const { report } = this;
    const scalars = this.#scalars;
    scalars.gradScale = gradScale;
    report.skipped = false;
    if (this.measure) {
      report.gradNorm = gradScale * Math.sqrt(this.#sums.reduce((total, sum) => total + sum, 0));
      if (!Number.isFinite(report.gradNorm) && (dynamic || nonFinite !== "ignore")) {
        if (nonFinite === "throw" && !dynamic) throw this.#notFinite();
        return this.#skip(dynamic);
      }
      // PyTorch's: a little more than the norm, so that it may be zero.
      scalars.gradScale *= Math.min(1, clipNorm / (report.gradNorm + 1e-6));
    }
    if (dynamic && ++this.#good === GOOD_STEPS) {
      this.lossScale *= 2;
      this.#good = 0;
    }
    this.count += 1;
    scalars.step = this.count;
    scalars.blend = this.count === 1 ? 1 : 1 - ema;
    for (let i = 0; i < this.#groups.length; i++) this.#groups[i]!.begin(this.#fields[i]!, scalars);
    return true;
  }

  /** Leaves the step out. */
  #skip(dynamic: boolean): false {
    if (this.#overall.zeroGrad) for (const { params } of this.#groups) for (const { grad } of params) grad.fill(0);
    if (dynamic) {
      this.lossScale /= 2;
      this.#good = 0;
    }
    this.report.skipped = true;
    return false;
  }

  /** The error that names the first gradient that is not finite. */
  #notFinite(): RangeError {
    for (const { params } of this.#groups) {
      for (const { name, grad } of params) {
        const index = grad.findIndex((x) => !Number.isFinite(x));
        if (index < 0) continue;
        return new RangeError(
          `${this.#rule.name}: the gradient of tensor ${show(name)} must be finite, got ${grad[index]} at index ${index}; nothing was updated`,
        );
      }
    }
    return new RangeError(
      `${this.#rule.name}: the gradients' norm must be finite, got ${this.report.gradNorm}; nothing was updated`,
    );
  }

  /** Lets go of the memory. */
  release(): void {
    this.#sums = new Float64Array();
  }
}
