/**
 * A step: a list of phases. A phase is a task for the threads, or a function that runs between tasks. It may return a
 * task, or skip phases.
 */

import type { Arena } from "../arena/arena.js";
import { type Chosen, pick, show } from "../option.js";
import { INSPECT } from "../platform.js";
import { freed } from "../threads/control.js";
import { PAUSE, type Phase, type Work } from "../threads/pool.js";
import type { Task } from "../threads/task.js";
import { AverageWeights } from "./averages.js";
import { hasCommonScalars, type Rule, sharedOptions } from "./definition.js";
import type { Group, Snapshot } from "./group.js";
import type { Values } from "./hyper.js";
import { LossScale } from "./lossScale.js";
import type { Tensor } from "../arena/tensor.js";
import { type Part, Parts, type Tasks } from "./parts.js";
import type { Segment, StepNumbers } from "./segment.js";

/**
 * The result of a step. `step()` returns the same object each time: copy what you keep. `stepAsync()` returns a new one. `GradNorm` is
 * the type of the norm, which follows from the optimizer's options.
 */
export interface StepReport<GradNorm = number | undefined> {
  /**
   * The norm of the gradients over all tensors, after scaling and accumulation, before clipping. It is a number with one of
   * the options `clipNorm`, `clipTensorNorm`, `nonFinite: "skip"` or `"throw"`, and `lossScale: "dynamic"`. Undefined
   * without these options, and for a micro-batch that does not complete a step.
   */
  readonly gradNorm: GradNorm;
  /** Whether the step was skipped because a gradient was not finite. */
  readonly skipped: boolean;
  /** The loss that the closure returned, if `step` was given one. */
  readonly loss: number | undefined;
}

/** The largest number of tensors whose scalars are computed without a pause. */
const ADVANCED = 256;

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
  /** The number of steps in a row that were skipped, up to now. */
  readonly skipped: number;
}

/** Whether a step leaves a tensor alone, because it has no gradient. */
const isResting = ({ requiresGrad }: Tensor) => !requiresGrad;

/** A number that identifies the tasks that a segment takes part in. */
const participation = ({ hasGrad, isDue }: Segment): number => Number(hasGrad) + 2 * Number(isDue);

const tasksOf = (task: Task | undefined): Task[] => (task ? [task] : []);

const slicesOf = <Item>(list: readonly Item[], length: number): Item[][] =>
  Array.from({ length: Math.ceil(list.length / length) }, (_, i) => list.slice(i * length, (i + 1) * length));

/** An asynchronous step that was requested: its options and tensors at the time of the call. */
export interface StepRequest {
  /** The options of each group. */
  readonly snapshots: readonly Snapshot[];
  /** The tensors without a gradient; undefined if a closure decides about them. */
  readonly resting: ReadonlySet<Tensor> | undefined;
}

export class Step implements Work<StepRequest> {
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
  readonly shared: Chosen<typeof sharedOptions>;
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
  /** Gives each tensor of a group its own segment. Throws a RangeError if memory runs out. */
  readonly #separate: (group: Group) => void;
  /** Writes the tasks. */
  #writeTasks: (() => void) | undefined;
  /** For each segment, the tasks that it takes part in, as they are written. Empty after the groups have changed. */
  #written: readonly number[] = [];
  /** The segments of all groups. They are listed at the next step, so that many groups can be added in linear time. */
  #segments: readonly Segment[] | undefined = [];
  #decision: readonly Phase[] = [];
  #update: readonly Phase[] = [];
  readonly #wrappers: WrapperPhases[] = [];
  #phases: readonly Phase[] = [];
  /** The index of the next phase, and that of the phase after `#countMicroBatch`. */
  #next = 0;
  #afterMicroBatches = 0;
  /** The number of micro-batches of this step. */
  #summed = 1;
  /** The number of steps in a row that were skipped, up to now. */
  #skipped = 0;
  #averageHessian: Task | undefined;
  /**
   * Of asynchronous steps: the number that are not done; the number that were requested since this was last zero; and
   * the counts at that time.
   */
  #open = 0;
  #requested = 0;
  #before = { steps: 0, microBatches: 0 };

  constructor(arena: Arena, rule: Rule, options: Values, separate: (group: Group) => void) {
    this.#rule = rule;
    this.#separate = separate;
    this.shared = pick(sharedOptions, options) as Step["shared"];
    this.lossScale = new LossScale(this.shared.lossScale);
    this.averages = new AverageWeights(this.shared);
    arena.onFree(this);
  }

  /** Sets the groups of the next steps, whose tasks are in `partsBytes` of memory at `address`. */
  setGroups(arena: Arena, groups: readonly Group[], address: number): void {
    this.#groups = groups;
    this.#phases = [];
    // The tasks are also written at the next step.
    this.#writeTasks = () => this.#write(arena, groups, address);
    this.#segments = undefined;
    this.#written = [];
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
      ...(accumulate > 1 ? [...tasksOf(tasks.accumulate), this.#countMicroBatch] : []),
      ...(needsNorm ? tasksOf(tasks.norm) : []),
      () => this.#decide(needsNorm),
    ];
    const update = rule.program ? parts.due.flatMap((part) => this.#program(parts, part)) : this.#elementwise(tasks);
    this.#update = [
      ...[tasks.sumUnits, tasks.clip].flatMap(tasksOf),
      ...(parts.due.length > 0 ? update : []),
      ...tasksOf(tasks.average),
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

  get #allSegments(): readonly Segment[] {
    return (this.#segments ??= this.#groups.flatMap(({ segments }) => segments));
  }

  /** Writes the tasks if the groups have changed, or if a segment takes part in other tasks than before. */
  #prepare(): void {
    const segments = this.#allSegments;
    for (let i = 0; i < segments.length; i++) {
      if (this.#written[i] === participation(segments[i]!)) continue;
      this.#written = segments.map(participation);
      return this.#writeTasks?.();
    }
  }

  /**
   * Finds the tensors that have a gradient. Loops have an index, so that a step allocates nothing.
   * @throws a RangeError if memory runs out.
   */
  #findGradients(rests: (tensor: Tensor) => boolean): void {
    for (let g = 0; g < this.#groups.length; g++) {
      const group = this.#groups[g]!;
      let count = 0;
      for (let i = 0; i < group.params.length; i++) if (rests(group.params[i]!)) count += 1;
      if (count > 0 && count < group.params.length && !group.isSeparate) this.#separate(group);
    }
    const segments = this.#allSegments;
    for (let i = 0; i < segments.length; i++) segments[i]!.hasGrad = !rests(segments[i]!.tensors[0]!);
  }

  #listPhases(): void {
    const added = (place: keyof WrapperPhases) => this.#wrappers.flatMap((phases) => phases[place] ?? []);
    const first = added("first");
    this.#phases = [...first, ...this.#decision, ...added("beforeUpdate"), ...this.#update, ...added("last")];
    this.#afterMicroBatches = first.length + this.#decision.indexOf(this.#countMicroBatch) + 1;
  }

  /** The phases of a rule of single elements: over all parts at once. */
  #elementwise({ measure, update }: Tasks): Phase[] {
    if (Object.keys(this.#rule.scalars).length === 0) return [...tasksOf(measure), ...tasksOf(update)];
    const { due } = this.#parts!;
    const slices = this.#rule.perTensor ? slicesOf(due, ADVANCED) : [due];
    const advance = slices.map((slice) => () => {
      this.#advance(slice);
      return PAUSE;
    });
    return [...tasksOf(measure), ...advance, ...tasksOf(update)];
  }

  /** The phases of a rule of whole matrices: one part after the other, because parts share scratch memory. */
  #program(parts: Parts, part: Part): Phase[] {
    const { group, index, groupIndex, segment } = part;
    const now = {};
    const look = () => {
      Object.assign(now, this.#options[groupIndex], group.scalarsOf(index), { step: this.count - segment.since });
    };
    const measure = [...tasksOf(parts.task("measure", [part])), () => this.#advance([part]), look];
    const update = tasksOf(parts.task("update", [part]));
    return [look, ...segment.program!(now, { measure, update }, (phases) => (this.#next += phases))];
  }

  /** Averages the user's estimates of the Hessian, for rules that use them. */
  get averageHessian(): Work<void> {
    let left: Task | undefined;
    return {
      begin: () => {
        this.#findGradients(isResting);
        if (!this.#areEstimatesFinite()) return;
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
   * The options of an asynchronous step that is requested now, and the tensors without a gradient. Options are computed
   * now, because a schedule may depend on more than the step, as a plateau does. If earlier steps are skipped, the step has
   * another number than expected. Then the options are computed again.
   */
  request(hasClosure: boolean, isFlush = false): StepRequest {
    const isFirst = this.#open === 0;
    const { steps, microBatches } = isFirst ? this.counts : this.#before;
    const calls = microBatches + (isFirst ? 0 : this.#requested);
    const { accumulate } = this.shared;
    const expected = steps + Math.floor(calls / accumulate);
    const snapshots = this.#groups.map(({ snapshot }, index): Snapshot => {
      const values = snapshot(expected, this.#indexForErrors(index));
      return (step, group) => (step === expected ? values : snapshot(step, group));
    });
    const hasRest = calls % accumulate > 0;
    this.#before = isFlush ? { steps: expected + Number(hasRest), microBatches: 0 } : { steps, microBatches };
    this.#requested = isFlush ? 0 : calls - microBatches + 1;
    this.#open += 1;
    const resting = () => new Set(this.#groups.flatMap(({ params }) => params.filter(isResting)));
    return { snapshots, resting: hasClosure ? undefined : resting() };
  }

  /** Ends a request: the step was made, or it failed. */
  settle(): void {
    this.#open -= 1;
  }

  begin(request?: StepRequest): void {
    this.#readOptions(request);
    const resting = request?.resting;
    this.#findGradients(resting ? (tensor) => resting.has(tensor) : isResting);
    const segments = this.#allSegments;
    for (let i = 0; i < segments.length; i++) {
      const segment = segments[i]!;
      segment.isDue = segment.hasGrad || (this.#microBatches > 0 && segment.isDue);
    }
    this.#start();
  }

  /** The step of the micro-batches that came since the last one. */
  get flush(): Work<StepRequest> {
    return {
      begin: (request) => {
        this.#readOptions(request);
        this.#start();
        if (this.#microBatches === 0) this.#next = this.#phases.length;
        else {
          this.#next = this.#afterMicroBatches;
          this.#takeMicroBatches();
        }
      },
      next: () => this.next(),
    };
  }

  /** Reads the options of each group at this step. It comes first, because a schedule may throw. */
  #readOptions(request: StepRequest | undefined): void {
    this.#next = 0; // the step is under way for `release`: a schedule may free the arena
    for (let i = 0; i < this.#groups.length; i++) {
      this.#options[i] = (request?.snapshots[i] ?? this.#groups[i]!.snapshot)(this.count, this.#indexForErrors(i));
    }
  }

  /** The index of a group, for errors; undefined if it is the only one. */
  #indexForErrors(group: number): number | undefined {
    return this.#groups.length > 1 ? group : undefined;
  }

  #start(): void {
    this.#prepare();
    this.#result.gradNorm = undefined;
    this.#result.skipped = false;
    this.#result.loss = undefined;
  }

  /** Reports the loss that the closure returned. */
  set loss(loss: number) {
    this.#result.loss = loss;
  }

  next(): Task | typeof PAUSE | undefined {
    while (this.#next < this.#phases.length) {
      const phase = this.#phases[this.#next++]!;
      const task = typeof phase === "function" ? phase() : phase;
      if (task) return task;
    }
    return undefined;
  }

  /** Ends the step unless this is its last micro-batch. */
  readonly #countMicroBatch = (): void => {
    this.#microBatches += 1;
    if (this.#microBatches < this.shared.accumulate) this.#next = this.#phases.length;
    else this.#takeMicroBatches();
  };

  /** Makes this step from the micro-batches so far. */
  #takeMicroBatches(): void {
    this.#summed = this.#microBatches;
    this.#microBatches = 0;
  }

  /**
   * Decides whether the step is made, and writes the numbers that kernels read. Until here an error changes nothing but
   * the sum of micro-batches.
   */
  #decide(needsNorm: boolean): void {
    const { gradScale: given, clipNorm, clipTensorNorm, clipValue, nonFinite, accumulateBy } = this.shared;
    let gradScale = given / this.lossScale.value / (accumulateBy === "mean" ? this.#summed : 1);
    if (needsNorm) {
      const clipped = this.#norms(gradScale, clipTensorNorm);
      const norm = this.#result.gradNorm!;
      if (!Number.isFinite(norm) && (this.lossScale.isDynamic || nonFinite !== "ignore")) return this.#skip(norm);
      // As in PyTorch, 1e-6 prevents a division by zero.
      if (clipNorm < Infinity) gradScale *= Math.min(1, clipNorm / (clipped + 1e-6));
    }
    this.lossScale.grow();
    this.#skipped = 0;
    this.count += 1;
    for (let i = 0; i < this.#groups.length; i++) this.#groups[i]!.begin(this.#options[i]!);
    const numbers = this.#numbers;
    numbers.clip = clipValue;
    this.averages.begin(this.count);
    for (const { segment, group, clipScale } of this.#parts!.all) {
      numbers.blend = this.averages.weight(this.count, segment.joined);
      if (!segment.isDue) {
        segment.rest(numbers.blend);
        continue;
      }
      numbers.step = this.count - segment.since;
      numbers.gradScale = group.sign * gradScale * clipScale;
      segment.begin(numbers);
    }
  }

  /** Computes the scalars of this step, from the sums of each part or of all. */
  #advance(due: readonly Part[]): void {
    const { perTensor } = this.#rule;
    const all = perTensor ? {} : this.#parts!.measured(due);
    for (const part of hasCommonScalars(this.#rule) ? this.#parts!.all : due) {
      // Scalars belong to a group, or to each of its segments.
      if (!perTensor && !part.group.isSeparate && part.index > 0) continue;
      const measured = perTensor ? this.#parts!.measured([part]) : all;
      part.group.advance(part.index, this.#options[part.groupIndex]!, this.count - part.segment.since, measured);
    }
  }

  /** Reports the norm over all tensors, and returns the same after each tensor is clipped by its own norm. */
  #norms(gradScale: number, clipTensorNorm: number): number {
    let squares = 0;
    let clipped = 0;
    for (const part of this.#parts!.due) {
      const own = this.#parts!.squares(part);
      squares += own;
      const norm = gradScale * Math.sqrt(own);
      part.clipScale = norm > clipTensorNorm ? clipTensorNorm / norm : 1;
      clipped += own * part.clipScale * part.clipScale;
    }
    this.#result.gradNorm = gradScale * Math.sqrt(squares);
    return gradScale * Math.sqrt(clipped);
  }

  /** Skips the step, or throws, because a gradient is not finite. */
  #skip(norm: number): void {
    const { accumulate, nonFinite, zeroGrad, maxConsecutiveErrors } = this.shared;
    const { isDynamic } = this.lossScale;
    const isTooMuch = this.#skipped >= maxConsecutiveErrors;
    const error = (nonFinite === "throw" && !isDynamic) || isTooMuch ? this.#notFinite(norm) : undefined;
    if (accumulate > 1) this.dropMicroBatches();
    else if (zeroGrad && !error) {
      for (const { segment } of this.#parts!.due) for (const { grad } of segment.tensors) grad.fill(0);
    }
    if (!error) {
      this.#skipped += 1;
      this.lossScale.shrink();
    }
    this.#result.skipped = true;
    this.#next = this.#phases.length;
    if (error) throw error;
  }

  /** Whether the estimates of the Hessian may be averaged. Throws a RangeError for a wrong one with `nonFinite: "throw"`. */
  #areEstimatesFinite(): boolean {
    const { nonFinite } = this.shared;
    const { isDynamic } = this.lossScale;
    if (nonFinite === "ignore" && !isDynamic) return true;
    for (const { name, grad } of this.#allSegments.flatMap(({ hasGrad, tensors }) => (hasGrad ? tensors : []))) {
      const index = firstNotFinite(grad);
      if (index === grad.length) continue;
      if (nonFinite !== "throw" || isDynamic) return false;
      throw new RangeError(
        `${this.#rule.name}: hessian: the estimate of tensor ${show(name)} must be finite, got ${grad[index]} at index ${index}; nothing was averaged`,
      );
    }
    return true;
  }

  /** The error that names the first gradient that is not finite. */
  #notFinite(norm: number): RangeError {
    const skipped = this.#skipped > 0 ? `, after ${this.#skipped} skipped steps in a row` : "";
    for (const { segment } of this.#parts!.due) {
      for (const tensor of segment.tensors) {
        const { sum } = segment.viewsOf(tensor)!;
        const grad = sum ?? tensor.grad;
        const index = firstNotFinite(grad);
        if (index === grad.length) continue;
        const what = sum ? "the sum of the micro-batches' gradients" : "the gradient";
        return new RangeError(
          `${this.#rule.name}: ${what} of tensor ${show(tensor.name)} must be finite, got ${grad[index]} at index ${index}${skipped}; ${sum ? "the micro-batches were dropped, and " : ""}nothing was updated`,
        );
      }
    }
    return new RangeError(
      `${this.#rule.name}: the gradients' norm must be finite, got ${norm}${skipped}; nothing was updated`,
    );
  }

  get counts(): Counts {
    const { value: lossScale, goodSteps } = this.lossScale;
    const { count: averaged } = this.averages;
    return {
      steps: this.count,
      lossScale,
      goodSteps,
      microBatches: this.#microBatches,
      averaged,
      skipped: this.#skipped,
    };
  }

  set counts({ steps, lossScale, goodSteps, microBatches, averaged, skipped }: Counts) {
    this.count = steps;
    this.lossScale.value = lossScale;
    this.lossScale.goodSteps = goodSteps;
    this.#microBatches = microBatches;
    this.averages.count = averaged;
    this.#skipped = skipped;
  }

  /** Zeroes the sum of the micro-batches. */
  dropMicroBatches(): void {
    this.#microBatches = 0;
    for (const { segments } of this.#groups) {
      for (const segment of segments) for (const tensor of segment.tensors) segment.viewsOf(tensor)?.sum?.fill(0);
    }
  }

  /** Releases the views. A step that is under way does not go on. */
  release(): void {
    this.#parts = undefined;
    this.#segments = [];
    this.#writeTasks = undefined;
    this.#decision = this.#update = [];
    this.#phases = this.#next < this.#phases.length ? [() => freed(this.#rule.name)] : [];
    this.#next = 0;
  }
}

/** The index of the first number that is infinite or NaN, or the length if all are finite. */
function firstNotFinite(numbers: Float32Array): number {
  let index = 0;
  while (index < numbers.length && Number.isFinite(numbers[index])) index += 1; // faster than findIndex
  return index;
}

/** Returns a frozen object whose getters read the properties of another object. */
function readOnlyView<Properties extends object>(properties: Properties): Readonly<Properties> {
  const getters = Object.entries(properties).map(([name]) => {
    return [name, { enumerable: true, get: () => properties[name as keyof Properties] }] as const;
  });
  // Node's console would print getters as [Getter].
  const inspect = { [INSPECT]: { value: () => ({ ...properties }) } };
  return Object.freeze(Object.defineProperties({}, { ...Object.fromEntries(getters), ...inspect }) as Properties);
}
