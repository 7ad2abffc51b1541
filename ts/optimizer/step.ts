/**
 * A step: a list of phases. A phase is a task for the threads, or a function that runs between tasks. It may return a
 * task, or skip phases.
 */

import type { Arena } from "../arena/arena.js";
import type { PlacedInstruction } from "../matrix/program.js";
import { show, type ValueOf } from "../option.js";
import { freed } from "../threads/control.js";
import type { Work } from "../threads/pool.js";
import type { Task } from "../threads/task.js";
import { AverageWeights } from "./averages.js";
import { type Rule, sharedOptions } from "./definition.js";
import type { Group, Snapshot } from "./group.js";
import type { Values } from "./hyper.js";
import { LossScale } from "./lossScale.js";
import { type Part, Parts, type Tasks } from "./parts.js";
import type { StepNumbers } from "./segment.js";

type SharedOptions = { readonly [Name in keyof typeof sharedOptions]: ValueOf<(typeof sharedOptions)[Name]> };

/** The result of a step. */
export interface StepReport {
  /**
   * The norm of the gradients over all tensors, after scaling and accumulation, before clipping. Undefined if no option
   * requires the norm, and for a micro-batch that does not complete a step.
   */
  readonly gradNorm: number | undefined;
  /** Whether the step was skipped because a gradient was not finite. */
  readonly skipped: boolean;
  /** The loss that the closure returned, if `step` was given one. */
  readonly loss: number | undefined;
}

/** A task, or a function that may return one. */
export type Phase = Task | (() => Task | void);

/** The phases that a wrapper adds to a step, by their place in it. */
export interface WrapperPhases {
  /** Before the gradients are read. */
  readonly first?: readonly Phase[];
  /** After the decision to make the step, before the update. */
  readonly beforeUpdate?: readonly Phase[];
  /** After the update. */
  readonly last?: readonly Phase[];
}

/** The counters of a step that a checkpoint keeps. */
export interface Counts {
  readonly steps: number;
  readonly lossScale: number;
  readonly goodSteps: number;
  readonly microBatches: number;
  readonly averaged: number;
}

export class Step implements Work<readonly Snapshot[]> {
  readonly #result: { -readonly [Name in keyof StepReport]: StepReport[Name] } = {
    gradNorm: undefined,
    skipped: false,
    loss: undefined,
  };
  /** The result of the last step. One object for all steps, so that a step allocates nothing. */
  readonly report: StepReport = readOnlyView(this.#result);
  readonly #numbers: { -readonly [Name in keyof StepNumbers]: number } = {
    step: 0,
    gradScale: 1,
    clip: Infinity,
    blend: 0,
  };
  readonly #rule: Rule;
  /** The options that hold for all groups. */
  readonly shared: SharedOptions;
  readonly lossScale: LossScale;
  readonly averages: AverageWeights;
  /** The number of steps. */
  count = 0;
  /** The number of micro-batches that are added up for the next step. */
  #microBatches = 0;
  #groups: readonly Group[] = [];
  /** The options of each group at this step. */
  readonly #options: Values[] = [];
  #parts: Parts | undefined;
  /** Writes the tasks after the groups have changed. */
  #writeTasks: (() => void) | undefined;
  #decision: readonly Phase[] = [];
  #update: readonly Phase[] = [];
  readonly #wrappers: WrapperPhases[] = [];
  #phases: readonly Phase[] = [];
  /** The index of the next phase. */
  #next = 0;
  #averageHessian: Task | undefined;
  /**
   * The number of asynchronous steps that are not done, the number that were requested since there was none, and the
   * counts at that time.
   */
  #unanswered = 0;
  #asked = 0;
  #before = { steps: 0, microBatches: 0 };

  constructor(arena: Arena, rule: Rule, options: Values) {
    this.#rule = rule;
    this.shared = Object.fromEntries(Object.keys(sharedOptions).map((name) => [name, options[name]])) as SharedOptions;
    this.lossScale = new LossScale(this.shared.lossScale);
    this.averages = new AverageWeights(this.shared);
    arena.onFree(this);
  }

  /** Sets the groups of the next steps, whose tasks are in `partsBytes` of memory at `address`. */
  setGroups(arena: Arena, groups: readonly Group[], address: number): void {
    this.#groups = groups;
    this.#phases = [];
    // The tasks are written at the next step, so that many groups can be added in linear time.
    this.#writeTasks = () => this.#write(arena, groups, address);
  }

  #write(arena: Arena, groups: readonly Group[], address: number): void {
    const rule = this.#rule;
    const parts = new Parts(arena, rule, groups, address);
    const tasks = parts.tasks();
    const { clipNorm, clipTensorNorm, nonFinite, accumulate } = this.shared;
    const needsNorm =
      Math.min(clipNorm, clipTensorNorm) < Infinity || nonFinite !== "ignore" || this.lossScale.isDynamic;
    this.#parts = parts;
    this.#averageHessian = tasks.averageHessian;
    this.#decision = [
      ...(accumulate > 1 ? [tasks.accumulate!, () => this.#countMicroBatch()] : []),
      ...(needsNorm ? [tasks.norm!] : []),
      () => this.#decide(needsNorm),
    ];
    this.#update = [
      ...[tasks.sumUnits ?? [], tasks.clip ?? []].flat(),
      ...(rule.program ? parts.all.flatMap((part) => this.#program(parts, part)) : this.#elementwise(tasks)),
    ];
    this.#listPhases();
  }

  /** Adds the phases of a wrapper. */
  wrap(phases: WrapperPhases): void {
    this.#wrappers.push(phases);
    this.#listPhases();
  }

  /** All phases, in order. */
  get phases(): readonly Phase[] {
    this.#prepare();
    return this.#phases;
  }

  #prepare(): void {
    this.#writeTasks?.();
    this.#writeTasks = undefined;
  }

  #listPhases(): void {
    const added = (place: keyof WrapperPhases) => this.#wrappers.flatMap((phases) => phases[place] ?? []);
    this.#phases = [...added("first"), ...this.#decision, ...added("beforeUpdate"), ...this.#update, ...added("last")];
  }

  /** The phases of a rule of single elements: over all parts at once. */
  #elementwise({ measure, update }: Tasks): Phase[] {
    const advance = Object.keys(this.#rule.scalars).length > 0 ? [() => this.#advance()] : [];
    return [...(measure ? [measure] : []), ...advance, update!];
  }

  /** The phases of a rule of whole matrices: one part after the other, because parts share scratch memory. */
  #program(parts: Parts, part: Part): Phase[] {
    const { group, index } = part;
    const now = {};
    const look = () => {
      Object.assign(now, this.#options[part.groupIndex], group.scalars[index], {
        step: this.count - part.segment.since,
      });
    };
    const [measure, update] = [parts.task("measure", [part]), parts.task("update", [part])!];
    const phasesOf = (instruction: PlacedInstruction): Phase[] => {
      if (instruction === "update") return [update];
      if (instruction === "measure") {
        const advance = () => this.#advance([part]);
        return [...(measure ? [measure] : []), advance, look];
      }
      if ("task" in instruction) {
        const { begin, slices, task } = instruction;
        let slice = 0;
        const beginSlice = () => {
          begin(now, slice);
          slice = (slice + 1) % slices;
        };
        const repeat = () => {
          if (slice > 0) this.#next -= 3;
        };
        return [beginSlice, task, repeat];
      }
      const then = instruction.then.flatMap(phasesOf);
      const skip = () => {
        if (!instruction.when(now)) this.#next += then.length;
      };
      return [skip, ...then];
    };
    return [look, ...part.segment.program!.flatMap(phasesOf)];
  }

  /** Averages the user's estimates of the Hessian, for rules that use them. */
  get averageHessian(): Work<void> {
    let left: Task | undefined;
    return {
      begin: () => {
        this.#prepare();
        left = this.#averageHessian;
        for (const { snapshot, segments } of this.#groups) {
          const beta = this.#rule.hessian!.beta(snapshot(this.count));
          for (const segment of segments) segment.beginHessian(beta);
        }
      },
      next() {
        const task = left;
        left = undefined;
        return task;
      },
    };
  }

  /**
   * The options of an asynchronous step that is asked for now. They are computed now, because a schedule may depend on
   * more than the step, as a plateau does. If earlier steps are skipped, the step has another number than expected.
   * Then the options are computed again.
   */
  ask(): readonly Snapshot[] {
    const isFirst = this.#unanswered === 0;
    const { steps, microBatches } = isFirst ? this.counts : this.#before;
    const asked = isFirst ? 0 : this.#asked;
    const expected = steps + Math.floor((microBatches + asked) / this.shared.accumulate);
    const snapshots = this.#groups.map(({ snapshot }): Snapshot => {
      const values = snapshot(expected);
      return (step) => (step === expected ? values : snapshot(step));
    });
    this.#before = { steps, microBatches };
    this.#asked = asked + 1;
    this.#unanswered += 1;
    return snapshots;
  }

  /** Ends what `ask` began: the step was made, or it failed. */
  answer(): void {
    this.#unanswered -= 1;
  }

  begin(snapshots?: readonly Snapshot[]): void {
    this.#prepare();
    for (let i = 0; i < this.#groups.length; i++) {
      this.#options[i] = (snapshots?.[i] ?? this.#groups[i]!.snapshot)(this.count);
    }
    this.#next = 0;
    this.#result.gradNorm = undefined;
    this.#result.skipped = false;
    this.#result.loss = undefined;
  }

  /** Reports the loss that the closure returned. */
  set loss(loss: number) {
    this.#result.loss = loss;
  }

  next(): Task | undefined {
    while (this.#next < this.#phases.length) {
      const phase = this.#phases[this.#next++]!;
      const task = typeof phase === "function" ? phase() : phase;
      if (task) return task;
    }
    return undefined;
  }

  /** Ends the step unless this is its last micro-batch. */
  #countMicroBatch(): void {
    this.#microBatches += 1;
    if (this.#microBatches < this.shared.accumulate) this.#next = this.#phases.length;
    else this.#microBatches = 0;
  }

  /**
   * Decides whether the step is made, and writes the numbers that kernels read. Until here an error changes nothing but
   * the sum of micro-batches.
   */
  #decide(needsNorm: boolean): void {
    const { gradScale: given, clipNorm, clipTensorNorm, clipValue, nonFinite, accumulate, accumulateBy } = this.shared;
    let gradScale = given / this.lossScale.value / (accumulateBy === "mean" ? accumulate : 1);
    if (needsNorm) {
      const [norm, clipped] = this.#norms(gradScale, clipTensorNorm);
      this.#result.gradNorm = norm;
      if (!Number.isFinite(norm) && (this.lossScale.isDynamic || nonFinite !== "ignore")) return this.#skip(norm);
      // As in PyTorch, 1e-6 prevents a division by zero.
      if (clipNorm < Infinity) gradScale *= Math.min(1, clipNorm / (clipped + 1e-6));
    }
    this.lossScale.grow();
    this.count += 1;
    for (let i = 0; i < this.#groups.length; i++) this.#groups[i]!.begin(this.#options[i]!);
    const numbers = this.#numbers;
    numbers.clip = clipValue;
    this.averages.begin(this.count);
    for (const { segment, group, clipScale } of this.#parts!.all) {
      numbers.step = this.count - segment.since;
      numbers.gradScale = group.sign * gradScale * clipScale;
      numbers.blend = this.averages.weight(this.count, segment.since);
      segment.begin(numbers);
    }
  }

  /** Computes the scalars of this step, from the sums of each part or of all. */
  #advance(parts: readonly Part[] = this.#parts!.all): void {
    const { sums, perTensor } = this.#rule;
    const all = perTensor ? {} : this.#parts!.measured(parts);
    for (const part of parts) {
      // Scalars belong to a group, or to each of its segments.
      if (!perTensor && !part.group.isSeparate && part.index > 0) continue;
      // Scalars from sums over all groups count the steps since the first group.
      const since = sums.length > 0 && !perTensor ? 0 : part.segment.since;
      const measured = perTensor ? this.#parts!.measured([part]) : all;
      part.group.advance(part.index, this.#options[part.groupIndex]!, this.count - since, measured);
    }
  }

  /** The norm over all tensors, and the same after each tensor is clipped by its own norm. */
  #norms(gradScale: number, clipTensorNorm: number): readonly [norm: number, clipped: number] {
    let [squares, clipped] = [0, 0];
    for (const part of this.#parts!.all) {
      const own = this.#parts!.squares(part);
      squares += own;
      const norm = gradScale * Math.sqrt(own);
      part.clipScale = norm > clipTensorNorm ? clipTensorNorm / norm : 1;
      clipped += own * part.clipScale * part.clipScale;
    }
    return [gradScale * Math.sqrt(squares), gradScale * Math.sqrt(clipped)];
  }

  /** Skips the step, or throws, because a gradient is not finite. */
  #skip(norm: number): void {
    const { accumulate, nonFinite, zeroGrad } = this.shared;
    const { isDynamic } = this.lossScale;
    const error = nonFinite === "throw" && !isDynamic ? this.#notFinite(norm) : undefined;
    if (accumulate > 1) this.dropMicroBatches();
    else if (zeroGrad && !error) {
      for (const { params } of this.#groups) for (const { grad } of params) grad.fill(0);
    }
    this.lossScale.shrink();
    this.#result.skipped = true;
    this.#next = this.#phases.length;
    if (error) throw error;
  }

  /** The error that names the first gradient that is not finite. */
  #notFinite(norm: number): RangeError {
    for (const { params, segments } of this.#groups) {
      for (const tensor of params) {
        const sum = segments.map((segment) => segment.viewsOf(tensor)?.sum).find(Boolean);
        const grad = sum ?? tensor.grad;
        let index = 0;
        while (index < grad.length && Number.isFinite(grad[index])) index += 1; // faster than findIndex
        if (index === grad.length) continue;
        const what = sum ? "the sum of the micro-batches' gradients" : "the gradient";
        return new RangeError(
          `${this.#rule.name}: ${what} of tensor ${show(tensor.name)} must be finite, got ${grad[index]} at index ${index}; ${sum ? `the ${this.shared.accumulate} micro-batches were dropped, and ` : ""}nothing was updated`,
        );
      }
    }
    return new RangeError(`${this.#rule.name}: the gradients' norm must be finite, got ${norm}; nothing was updated`);
  }

  get counts(): Counts {
    const { value: lossScale, goodSteps } = this.lossScale;
    return { steps: this.count, lossScale, goodSteps, microBatches: this.#microBatches, averaged: this.averages.count };
  }

  set counts({ steps, lossScale, goodSteps, microBatches, averaged }: Counts) {
    this.count = steps;
    this.lossScale.value = lossScale;
    this.lossScale.goodSteps = goodSteps;
    this.#microBatches = microBatches;
    this.averages.count = averaged;
  }

  /** Zeroes the sum of the micro-batches. */
  dropMicroBatches(): void {
    this.#microBatches = 0;
    for (const { params, segments } of this.#groups) {
      for (const tensor of params) for (const segment of segments) segment.viewsOf(tensor)?.sum?.fill(0);
    }
  }

  /** Releases the views. A step that is under way does not go on. */
  release(): void {
    this.#parts = undefined;
    this.#writeTasks = undefined;
    this.#decision = this.#update = [];
    this.#phases = this.#next < this.#phases.length ? [() => freed(this.#rule.name)] : [];
    this.#next = 0;
  }
}

/** Returns a frozen object whose getters read the properties of another object. */
function readOnlyView<Properties extends object>(properties: Properties): Readonly<Properties> {
  const getters = Object.entries(properties).map(([name]) => {
    return [name, { enumerable: true, get: () => properties[name as keyof Properties] }] as const;
  });
  // Node's console would print getters as [Getter].
  const inspect = { [Symbol.for("nodejs.util.inspect.custom")]: { value: () => ({ ...properties }) } };
  return Object.freeze(Object.defineProperties({}, { ...Object.fromEntries(getters), ...inspect }) as Properties);
}
