/** A step: what is measured, decided and written before the kernels update. */

import type { Arena } from "../arena/arena.js";
import { sharedOptions, type Rule } from "./definition.js";
import type { Group, Plan, Snapshot } from "./group.js";
import type { Values } from "./hyper.js";
import type { Segment, StepNumbers } from "./segment.js";
import type { PlacedInstruction } from "../matrix/matrices.js";
import { show, type ValueOf } from "../option.js";
import type { Work } from "../threads/pool.js";
import { freed } from "../arena/tensor.js";
import { writeTask, sumsRange, type Task, taskBytes } from "../threads/task.js";

type Overall = { readonly [Name in keyof typeof sharedOptions]: ValueOf<(typeof sharedOptions)[Name]> };

/** What came of a step. */
export interface StepReport {
  /**
   * The gradients' norm over all tensors, after scaling and accumulation, before clipping; undefined unless a step has to
   * know it, and where a micro-batch makes none.
   */
  readonly gradNorm: number | undefined;
  /** Whether the step was left out, as a gradient was not finite. */
  readonly skipped: boolean;
  /** What the closure returned, if `step` was given one. */
  readonly loss: number | undefined;
}

/** A task, or what decides between two, and may give one for now. */
type Phase = Task | (() => Task | void);

/** PyTorch's: what a dynamic loss scale begins with, and after how many good steps it doubles. */
const FIRST_SCALE = 65536;
const GOOD_STEPS = 2000;

const DOUBLE = Float64Array.BYTES_PER_ELEMENT;

/** What there is to do with all jobs: in a step, in this order, and the last apart from it. */
const TASKS = ["accumulate", "norm", "clip", "measure", "update", "averageHessian"] as const;

/** How many doubles measuring takes, and how many bytes a step takes besides its groups. */
const sumsIn = (length: number, jobs: number) => sumsRange(jobs - 1, 0, length)[1];
export function stepBytes(rule: Rule, plans: readonly Plan[]): number {
  const length = plans.reduce((sum, plan) => sum + plan.length, 0);
  const jobs = plans.reduce((sum, { segments }) => sum + segments.length, 0);
  const alone = rule.program ? jobs * 2 * taskBytes(1) : 0;
  return DOUBLE * sumsIn(length, jobs) * Math.max(1, rule.sums.length) + TASKS.length * taskBytes(jobs) + alone;
}

/** What of a step goes into a checkpoint besides tensors. */
export interface Counts {
  readonly steps: number;
  readonly lossScale: number;
  readonly goodSteps: number;
  readonly microBatches: number;
  readonly averaged: number;
}

export class Step implements Work<readonly Snapshot[]> {
  /** The same object after every step, which so leaves no garbage; as are the next three. */
  readonly report: { -readonly [Name in keyof StepReport]: StepReport[Name] } = {
    gradNorm: undefined,
    skipped: false,
    loss: undefined,
  };
  readonly #scalars: { -readonly [Name in keyof StepNumbers]: number } = {
    step: 0,
    gradScale: 1,
    clip: Infinity,
    blend: 0,
  };
  readonly #values: Values[] = [];
  /** In their order; behind `decision`, the step is made. */
  phases: Phase[] = [];
  decision: Phase = () => {};
  /** Averages the user's estimates, if the rule has such. */
  #estimate: Task | undefined;
  /** The next of the phases. */
  #phase = 0;
  readonly #rule: Rule;
  #groups: readonly Group[] = [];
  readonly overall: Overall;
  #parts: readonly Part[] = [];
  #sums: Float64Array = new Float64Array();
  /** How many steps were made. */
  count = 0;
  /** What gradients are divided by, and for how many steps that has gone well. */
  lossScale: number;
  #goodSteps = 0;
  /** How many micro-batches were added up for the next step. */
  #microBatches = 0;
  /** How many steps' parameters their average has taken in. */
  averaged = 0;

  constructor(arena: Arena, rule: Rule, options: Values) {
    this.#rule = rule;
    this.overall = Object.fromEntries(Object.keys(sharedOptions).map((name) => [name, options[name]])) as Overall;
    this.lossScale = this.firstScale;
    arena.onFree(this);
  }

  /** Lays the tables of steps over these groups out at `address`. */
  lay(arena: Arena, groups: readonly Group[], address: number): void {
    const rule = this.#rule;
    this.#groups = groups;
    this.#parts = partsOf(groups);
    const sums = sumsIn(this.#parts.at(-1)!.end, this.#parts.length) * Math.max(1, rule.sums.length);
    this.#sums = arena.doubles(address, sums);
    const lay = layTasks(arena, rule, address, address + DOUBLE * sums);
    const task = Object.fromEntries(TASKS.map((kind) => [kind, lay(kind, this.#parts)])) as Tasks;
    const { clipNorm, clipTensorNorm, lossScale, nonFinite, accumulate, agc } = this.overall;
    const dynamic = lossScale === "dynamic";
    const normed = Math.min(clipNorm, clipTensorNorm) < Infinity || nonFinite !== "ignore" || dynamic;
    this.decision = () => this.#decide(normed);
    this.phases = [
      ...(accumulate > 1 ? [task.accumulate!, () => this.#gathered()] : []),
      ...(normed ? [task.norm!] : []),
      this.decision,
      ...(agc < Infinity ? [task.clip!] : []),
      ...(rule.program ? this.#parts.flatMap((part) => this.#program(part, lay)) : this.#elementwise(task)),
    ];
    this.#estimate = task.averageHessian;
  }

  /** What is done with all parts at once. */
  #elementwise({ measure, update }: Tasks): Phase[] {
    const advance = Object.keys(this.#rule.scalars).length > 0 ? [() => this.#advance()] : [];
    return [...(measure ? [measure] : []), ...advance, update!];
  }

  /** What is done with a part before the next, as they share scratch. */
  #program(part: Part, lay: ReturnType<typeof layTasks>): Phase[] {
    const { group, index } = part;
    const now = {};
    const look = () => {
      Object.assign(now, this.#values[part.of], group.scalars[index], { step: this.count - group.since });
    };
    const [measure, update] = [lay("measure", [part]), lay("update", [part])!];
    const phasesOf = (laid: PlacedInstruction): Phase[] => {
      if (laid === "update") return [update];
      if (laid === "measure") {
        const advance = () => this.#advance([part]);
        return [...(measure ? [measure] : []), advance, look];
      }
      if ("task" in laid) return [() => laid.begin(now), laid.task];
      const then = laid.then.flatMap(phasesOf);
      const skip = () => {
        if (!laid.when(now)) this.#phase += then.length;
      };
      return [skip, ...then];
    };
    return [look, ...part.job.program!.flatMap(phasesOf)];
  }

  /** Averages the user's estimates, if the rule has such. */
  get estimate(): Work<void> {
    let left: Task | undefined;
    return {
      begin: () => {
        left = this.#estimate;
        for (const { snapshot, segments } of this.#groups) {
          const beta = this.#rule.hessian!.beta(snapshot(this.count));
          for (const job of segments) job.beginHessian(beta);
        }
      },
      next() {
        const now = left;
        left = undefined;
        return now;
      },
    };
  }

  begin(snapshots?: readonly Snapshot[]): void {
    for (let i = 0; i < this.#groups.length; i++) {
      this.#values[i] = (snapshots?.[i] ?? this.#groups[i]!.snapshot)(this.count);
    }
    this.#phase = 0;
    this.report.gradNorm = undefined;
    this.report.skipped = false;
    this.report.loss = undefined;
  }

  next(): Task | undefined {
    while (this.#phase < this.phases.length) {
      const phase = this.phases[this.#phase++]!;
      const task = typeof phase === "function" ? phase() : phase;
      if (task) return task;
    }
    return undefined;
  }

  /** Goes on with the step only if it is the last of its micro-batches. */
  #gathered(): void {
    this.#microBatches += 1;
    if (this.#microBatches < this.overall.accumulate) this.#phase = this.phases.length;
    else this.#microBatches = 0;
  }

  /** Decides whether the step is made, and writes what the kernels read. Up to here, an error leaves all as it was. */
  #decide(normed: boolean): void {
    const { clipNorm, clipTensorNorm, clipValue, nonFinite, accumulate, accumulateBy } = this.overall;
    const dynamic = this.overall.lossScale === "dynamic";
    const shares = accumulateBy === "mean" ? accumulate : 1;
    let gradScale = this.overall.gradScale / this.lossScale / shares;
    if (normed) {
      const { report } = this;
      const [norm, clipped] = this.#norms(gradScale, clipTensorNorm);
      report.gradNorm = norm;
      if (!Number.isFinite(norm) && (dynamic || nonFinite !== "ignore")) {
        const error = nonFinite === "throw" && !dynamic ? this.#notFinite(norm) : undefined;
        this.#leaveOut(dynamic);
        if (error) throw error;
        return;
      }
      // PyTorch's: a little more than the norm, so that it may be zero.
      if (clipNorm < Infinity) gradScale *= Math.min(1, clipNorm / (clipped + 1e-6));
    }
    if (dynamic && ++this.#goodSteps === GOOD_STEPS) {
      this.lossScale = Math.min(2 * this.lossScale, 2 ** 127);
      this.#goodSteps = 0;
    }
    this.count += 1;
    for (let i = 0; i < this.#groups.length; i++) this.#groups[i]!.begin(this.#values[i]!);
    const scalars = this.#scalars;
    scalars.clip = clipValue;
    scalars.blend = this.#average();
    for (const { job, group, scale } of this.#parts) {
      scalars.step = this.count - group.since;
      scalars.gradScale = group.sign * gradScale * scale;
      job.begin(scalars);
    }
  }

  /** Moves the rule's scalars on, by what was measured of each part or of all. */
  #advance(parts = this.#parts): void {
    const { sums: names, perTensor, program } = this.#rule;
    const sum = (parts: readonly Part[], k: number) => {
      let total = 0;
      for (const { sums, job } of parts) {
        // Measured alone, a job begins with a chunk.
        const end = program ? sums[0] + sumsRange(0, 0, job.update.length)[1] : sums[1];
        for (let i = sums[0]; i < end; i++) total += this.#sums[i * names.length + k]!;
      }
      return total;
    };
    const over = (parts: readonly Part[]) => Object.fromEntries(names.map((name, k) => [name, sum(parts, k)]));
    const all = perTensor ? {} : over(parts);
    for (const part of parts) {
      // The scalars are each part's, or the group's.
      if (!perTensor && part.index > 0) continue;
      // What all tensors have in common began with the first of them.
      const since = this.#rule.sums.length > 0 && !perTensor ? 0 : part.group.since;
      part.group.advance(part.index, this.#values[part.of]!, this.count - since, perTensor ? over([part]) : all);
    }
  }

  /** The norm over all tensors, and the same once each tensor's own has been clipped. */
  #norms(gradScale: number, clipTensorNorm: number): readonly [norm: number, clipped: number] {
    let [squares, clipped] = [0, 0];
    for (const part of this.#parts) {
      let own = 0;
      for (let i = part.sums[0]; i < part.sums[1]; i++) own += this.#sums[i]!;
      squares += own;
      const norm = gradScale * Math.sqrt(own);
      part.scale = norm > clipTensorNorm ? clipTensorNorm / norm : 1;
      clipped += own * part.scale * part.scale;
    }
    return [gradScale * Math.sqrt(squares), gradScale * Math.sqrt(clipped)];
  }

  /** How much of the parameters their average takes in at this step: all of them until it begins. */
  #average(): number {
    const { ema, emaWarmup, swa, averageStart } = this.overall;
    const after = this.count - averageStart;
    if (ema === 0 && swa === 0) return 0;
    const isDue = ema > 0 ? after > 0 : after >= swa && after % swa === 0;
    if (!isDue) return this.averaged === 0 ? 1 : 0;
    const taken = ++this.averaged;
    if (taken === 1) return 1;
    if (swa > 0) return 1 / taken;
    return 1 - (emaWarmup ? Math.min(ema, taken / (9 + taken)) : ema);
  }

  /** Leaves the step out: its gradients are done with. */
  #leaveOut(dynamic: boolean): void {
    const { accumulate, nonFinite, zeroGrad } = this.overall;
    if (accumulate > 1) this.dropMicroBatches();
    else if (zeroGrad && (dynamic || nonFinite === "skip")) {
      for (const { params } of this.#groups) for (const { grad } of params) grad.fill(0);
    }
    if (dynamic) {
      this.lossScale = Math.max(this.lossScale / 2, 1 / 2 ** 126);
      this.#goodSteps = 0;
    }
    this.report.skipped = true;
    this.#phase = this.phases.length;
  }

  /** The error that names the first gradient that is not finite. */
  #notFinite(norm: number): RangeError {
    for (const { params, segments } of this.#groups) {
      for (const tensor of params) {
        const sum = segments.map((job) => job.viewsOf(tensor)?.sum).find(Boolean);
        const grad = sum ?? tensor.grad;
        const index = grad.findIndex((x) => !Number.isFinite(x));
        if (index < 0) continue;
        const what = sum ? "the sum of the micro-batches' gradients" : "the gradient";
        return new RangeError(
          `${this.#rule.name}: ${what} of tensor ${show(tensor.name)} must be finite, got ${grad[index]} at index ${index}; ${sum ? `the ${this.overall.accumulate} micro-batches were dropped, and ` : ""}nothing was updated`,
        );
      }
    }
    return new RangeError(`${this.#rule.name}: the gradients' norm must be finite, got ${norm}; nothing was updated`);
  }

  /** What goes into a checkpoint. */
  get counts(): Counts {
    const { count: steps, lossScale, averaged } = this;
    return { steps, lossScale, goodSteps: this.#goodSteps, microBatches: this.#microBatches, averaged };
  }

  set counts({ steps, lossScale, goodSteps, microBatches, averaged }: Counts) {
    this.count = steps;
    this.lossScale = lossScale;
    this.#goodSteps = goodSteps;
    this.#microBatches = microBatches;
    this.averaged = averaged;
  }

  /** What the scale of the loss begins with. */
  get firstScale(): number {
    return this.overall.lossScale === "dynamic" ? FIRST_SCALE : this.overall.lossScale;
  }

  /** Begins the next step's sums anew. */
  dropMicroBatches(): void {
    this.#microBatches = 0;
    for (const { params, segments } of this.#groups) {
      for (const tensor of params) for (const job of segments) job.viewsOf(tensor)?.sum?.fill(0);
    }
  }

  /** Lets go of the memory. What is left of a step under way is not made. */
  release(): void {
    this.#sums = new Float64Array();
    this.phases = this.#phase < this.phases.length ? [() => freed(this.#rule.name)] : [];
    this.#phase = 0;
  }
}

/** A job's part in a step. */
interface Part {
  readonly job: Segment;
  /** Its place in its group, and the group's. */
  readonly index: number;
  readonly group: Group;
  readonly of: number;
  /** Where its elements end in the row of all. */
  readonly end: number;
  /** Where what is measured of it stands. */
  readonly sums: readonly [begin: number, end: number];
  /** What its gradients are clipped by, besides the others'. */
  scale: number;
}

function partsOf(groups: readonly Group[]): Part[] {
  let end = 0;
  const jobs = groups.flatMap((group, of) => group.segments.map((job, index) => ({ job, index, group, of })));
  return jobs.map((part, place) => {
    const begin = end;
    end += part.job.update.length;
    return { ...part, end, sums: sumsRange(place, begin, end), scale: 1 };
  });
}

type Tasks = Partial<Record<(typeof TASKS)[number], Task>>;

/** Lays tasks' tables out in memory: of all parts, or of one alone. */
function layTasks(arena: Arena, rule: Rule, sums: number, address: number) {
  const counts: Readonly<Record<string, number>> = { norm: 1, measure: rule.sums.length };
  let next = address;
  return (kind: (typeof TASKS)[number], parts: readonly Part[]): Task | undefined => {
    const entries = parts.flatMap(({ job }) => job[kind] ?? []);
    if (entries.length === 0) return undefined;
    const table = next;
    next += taskBytes(entries.length);
    const count = counts[kind];
    return writeTask(
      arena.internals("step").space.memory,
      table,
      entries,
      count && sums + DOUBLE * count * (parts[0]?.sums[0] ?? 0),
      count,
    );
  };
}
