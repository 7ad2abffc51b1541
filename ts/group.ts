/** A group: tensors that share hyper-parameters. */

import type { Arena } from "./arena.js";
import type { Rule, Scalars } from "./definition.js";
import { areScheduled, fields, liveHyper, type Values, type Variant, valuesAt, variantOf } from "./hyper.js";
import { BLOCK, extent, Job, sideBySide } from "./job.js";
import type { Tensor } from "./tensor.js";

/** Where a group will lie, before there is memory for it. */
export interface Plan {
  readonly values: Values;
  readonly variant: Variant;
  readonly params: readonly Tensor[];
  readonly runs: readonly (readonly Tensor[])[];
  readonly bytes: number;
  /** Elements, padding included. */
  readonly length: number;
}

export function plan(rule: Rule, values: Values, params: readonly Tensor[]): Plan {
  const variant = variantOf(rule, values);
  const runs = variant.apart ? params.map((tensor) => [tensor]) : sideBySide(params);
  const bytes = runs.reduce((sum, run) => sum + Job.bytes(run, variant), BLOCK);
  const length = runs.reduce((sum, run) => sum + extent(run), 0);
  return { values, variant, params, runs, bytes, length };
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
  readonly prepare: (changes: Values) => () => void;
  /** What was settled when the optimizer was made. @internal */
  readonly fixed: Values;
  /** @internal */
  readonly jobs: readonly Job[];
  /** Down the gradient, 1, or up, -1. @internal */
  readonly sign: number;
  readonly #rule: Rule;
  #block: Float64Array | undefined;
  /** The hyper-parameters as they are now, unless one has changed since; and as they stand in the block. */
  #snapshot: Snapshot | undefined;
  #written: Values | undefined;
  #scalars: Scalars;
  /** Where they stand in the block; 0 if there are none. */
  readonly #scalarsAt: number;

  /** @internal */
  constructor(arena: Arena, rule: Rule, { values, variant, params, runs }: Plan, address: number) {
    let next = address + BLOCK;
    const jobs = runs.map((run) => {
      const job = arena.own(new Job(arena, variant, address, next, run));
      next += Job.bytes(run, variant);
      return job;
    });
    this.jobs = Object.freeze(jobs);
    this.params = params;
    this.fixed = Object.fromEntries(Object.keys(rule.fixed).map((name) => [name, values[name]]));
    const { hyper, prepare } = liveHyper(rule, values, () => {
      arena.inner(rule.name);
      this.#snapshot = undefined;
    });
    this.hyper = hyper as Hyper;
    this.prepare = prepare;
    this.#rule = rule;
    this.#scalars = rule.scalars;
    this.#scalarsAt = Object.keys(rule.scalars).length > 0 ? fields(rule, values).length : 0;
    this.sign = values.maximize ? -1 : 1;
    this.#block = arena.doubles(address, BLOCK / 8);
    arena.own(this);
    Object.freeze(this);
  }

  /** The hyper-parameters as they are now, for whichever step. @internal */
  get snapshot(): Snapshot {
    this.#snapshot ??= snapshotOf(this.#rule, { ...(this.hyper as Values) });
    return this.#snapshot;
  }

  /** Hands the kernels the hyper-parameters for the step to come, counted from 1. @internal */
  begin(values: Values, step: number): void {
    if (values !== this.#written) {
      this.#block?.set(fields(this.#rule, values));
      this.#written = values;
    }
    if (this.#scalarsAt === 0) return;
    this.#scalars = this.#rule.advance(this.#scalars, values, step);
    this.#block?.set(Object.values(this.#scalars), this.#scalarsAt);
  }

  /** What the rule computes once a step, as it was at the last one. @internal */
  get scalars(): Scalars {
    return this.#scalars;
  }

  /** @internal */
  set scalars(scalars: Scalars) {
    this.#scalars = Object.freeze({ ...scalars });
  }

  /** @internal */
  release(): void {
    this.#block = undefined;
  }
}
