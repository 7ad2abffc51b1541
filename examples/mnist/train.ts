/** One training run: an optimizer, the network's gradients, and a log. */

import { batches, type BatchState, createArena, type Tensor } from "downhill";
import type { Data, Split } from "./data.js";
import { UserError } from "./errors.js";
import type { Network } from "./network.js";
import { type AnyOptimizer, type Entry, known, optimizersOf } from "./runs.js";

export interface Settings {
  readonly epochs: number;
  readonly batch: number;
  readonly seed: number;
  /** Number of threads that update the parameters. */
  readonly threads: number;
}

export interface Point {
  readonly step: number;
  /** Seconds of training so far. */
  readonly seconds: number;
  readonly loss: number;
}

export interface Progress {
  readonly epoch: number;
  readonly epochs: number;
  readonly step: number;
  readonly steps: number;
  readonly loss: number;
}

/** The result of a run, as data. */
export interface Finished {
  /** All hyper-parameters of each optimizer. */
  readonly hypers: readonly Readonly<Record<string, unknown>>[];
  /** After each epoch. */
  readonly accuracies: readonly { epoch: number; accuracy: number }[];
  /** Over the whole training set, after the last step. */
  readonly loss: number;
  readonly accuracy: number;
  readonly steps: number;
  readonly params: number;
  /** Total seconds. */
  readonly gradientTime: number;
  readonly updateTime: number;
  /** Bytes that an update reads and writes per parameter, if it is the same for all. */
  readonly traffic?: number;
}

export interface Result extends Finished {
  readonly entry: Entry;
  /** The loss of each step, on the samples of the step. */
  readonly losses: readonly Point[];
}

/** The progress of a run, without its tensors. */
export type Course = Pick<Finished, "accuracies" | "gradientTime" | "updateTime"> & { readonly batches: BatchState };

/** Number of steps between two estimates of the curvature, for rules that need one. From Sophia's paper. */
const ESTIMATE = 10;

type Optimizers = readonly AnyOptimizer[];

/** The log of a run, and its checkpoint if there is one. */
export interface Keep {
  /** The loss of each step, and the seconds so far. */
  readonly log: { readonly loss: Float32Array; readonly seconds: Float32Array };
  restore(model: Record<string, Tensor>, optimizers: Optimizers): Promise<Course | undefined>;
  save(model: Record<string, Tensor>, optimizers: Optimizers, course: Course): Promise<void>;
}

/** Thrown when a run was interrupted by the user, with the step. */
export class Interrupted extends Error {
  constructor(readonly step: number) {
    super();
  }
}

/** The number of steps of a run. */
export const stepsOf = ({ wholeSet }: Entry, samples: number, { epochs, batch }: Pick<Settings, "epochs" | "batch">) =>
  epochs * (wholeSet ? 1 : Math.ceil(samples / batch));

/** The losses in the log, from step 1 on. */
export const pointsOf = ({ loss, seconds }: Keep["log"]): Point[] =>
  Array.from(loss, (loss, i) => ({ step: i + 1, seconds: seconds[i]!, loss }));

/** Trains a network. First weights and the order of batches follow from the seed. An interrupted run continues where it was. */
export async function train(
  entry: Entry,
  network: Network,
  data: Data,
  settings: Settings,
  report: (progress: Progress) => void,
  keep: Keep = forgetful(stepsOf(entry, data.train.count, settings)),
  isInterrupted: () => boolean = () => false,
): Promise<Result> {
  const { epochs, batch, seed, threads } = settings;
  const arena = await createArena({ threads });
  const model = arena.tensors(network.shapes);
  network.initialize(model, seed);
  const optimizers = optimizersOf(entry, model);
  const rules = optimizers.flatMap((optimizer) => ("eval" in optimizer ? [optimizer] : []));
  const first = optimizers[0]!;
  const steps = stepsOf(entry, data.train.count, settings);
  const order = batches(data.train.count, entry.wholeSet ? data.train.count : batch, { seed, epochs });

  const course = await keep.restore(model, optimizers);
  if (course) order.state = course.batches;
  const accuracies = [...(course?.accuracies ?? [])];
  let { gradientTime, updateTime } = course ?? { gradientTime: 0, updateTime: 0 };
  const evaluate = (split: Split) => {
    for (const optimizer of rules) optimizer.eval();
    const figures = network.evaluate(network.arrays(model), split);
    for (const optimizer of rules) optimizer.train();
    return figures;
  };
  let computing = 0;
  const timed = <T>(compute: () => T): T => {
    const start = performance.now();
    const result = compute();
    computing += (performance.now() - start) / 1000;
    return result;
  };
  for (const samples of order) {
    computing = 0;
    const start = performance.now();
    for (const optimizer of rules) {
      if (!entry.factory?.rule.hessian || optimizer.steps % ESTIMATE !== 0) continue;
      timed(() => network.curvature(model, data.train, samples, optimizer.steps));
      optimizer.hessian();
    }
    const gradients = () =>
      entry.wholeSet ? network.fullGradient(model, data.train) : network.gradient(model, data.train, samples);
    const { loss } = first.step(() => timed(gradients)) as { loss: number };
    for (const optimizer of rules) if (optimizer !== first) optimizer.step(); // with the same gradients
    gradientTime += computing;
    updateTime += (performance.now() - start) / 1000 - computing;

    const step = first.steps;
    if (!Number.isFinite(loss)) throw diverged(entry, step, loss);
    keep.log.loss[step - 1] = loss;
    keep.log.seconds[step - 1] = gradientTime + updateTime;
    const epoch = Math.ceil((step * epochs) / steps);
    const atEnd = step * epochs === epoch * steps;
    if (atEnd) accuracies.push({ epoch, accuracy: evaluate(data.test).accuracy });
    report({ epoch, epochs, step, steps, loss });
    const interrupted = isInterrupted();
    if (atEnd || interrupted) {
      await keep.save(model, optimizers, { accuracies, gradientTime, updateTime, batches: order.state });
    }
    if (interrupted) throw new Interrupted(step);
    // Signals arrive between turns of the event loop.
    if (step % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }

  const { loss } = evaluate(data.train);
  if (!Number.isFinite(loss)) throw diverged(entry, steps, loss);
  const total = (arrays: readonly { readonly length: number }[]) => arrays.reduce((sum, { length }) => sum + length, 0);
  const params = total(Object.values(model).map(({ data }) => data));
  const state = rules.flatMap((optimizer) =>
    optimizer.groups.flatMap(({ params }) =>
      params.flatMap((tensor) => Object.values<Float32Array>(optimizer.state(tensor))),
    ),
  );
  const result: Result = {
    entry,
    hypers: optimizers.map(({ hyper }) => ({ ...hyper })),
    losses: pointsOf(keep.log),
    accuracies,
    loss,
    accuracy: accuracies.at(-1)!.accuracy,
    steps,
    params,
    gradientTime,
    updateTime,
    // The gradient is read; the parameter and the state are read and written.
    traffic: rules.length > 0 ? Float32Array.BYTES_PER_ELEMENT * (3 + (2 * total(state)) / params) : undefined,
  };
  arena.free();
  return result;
}

/** A log without a checkpoint. */
function forgetful(steps: number): Keep {
  return {
    log: { loss: new Float32Array(steps), seconds: new Float32Array(steps) },
    restore: async () => undefined,
    save: async () => {},
  };
}

function diverged({ name, options }: Entry, step: number, loss: number): UserError {
  const usual = Number(known.find((entry) => entry.name === name)?.options.lr);
  const lower = Math.min(usual, Number(options.lr) / 10);
  return new UserError(
    `${name}: the loss became ${loss} at step ${step}; try a smaller rate, such as --lr ${name}=${lower}`,
  );
}
