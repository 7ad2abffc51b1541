/** One training run: an optimizer, the network's gradients, and what is recorded on the way. */

import { batches, type BatchState, createArena, type Optimizer, type Tensor } from "downhill";
import type { Data } from "./data.js";
import { UserError } from "./errors.js";
import type { Network } from "./network.js";
import { type Entry, entries } from "./runs.js";

export interface Settings {
  readonly epochs: number;
  readonly batch: number;
  readonly seed: number;
  /** How many update the parameters. */
  readonly threads: number;
}

export interface Point {
  readonly step: number;
  /** Seconds of training until then. */
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

/** What a run came to, as data. */
export interface Finished {
  /** All of the optimizer's hyper-parameters. */
  readonly hyper: Readonly<Record<string, unknown>>;
  /** After each epoch. */
  readonly accuracies: readonly { epoch: number; accuracy: number }[];
  /** Over the whole training set, at the end. */
  readonly loss: number;
  readonly accuracy: number;
  readonly steps: number;
  readonly params: number;
  /** Seconds in all. */
  readonly gradientTime: number;
  readonly updateTime: number;
  /** Bytes that an update reads and writes for each parameter. */
  readonly traffic: number;
}

export interface Result extends Finished {
  readonly entry: Entry;
  /** Each step's loss on what it saw. */
  readonly losses: readonly Point[];
}

/** How far a run has come, besides its tensors. */
export type Course = Pick<Finished, "accuracies" | "gradientTime" | "updateTime"> & { readonly batches: BatchState };

/** What a run keeps as it goes, and may have kept before. */
export interface Keep {
  /** Each step's loss, and the seconds until then. */
  readonly log: { readonly loss: Float32Array; readonly seconds: Float32Array };
  restore(model: Record<string, Tensor>, optimizer: Optimizer<any, any>): Promise<Course | undefined>;
  save(model: Record<string, Tensor>, optimizer: Optimizer<any, any>, course: Course): Promise<void>;
}

/** That a run was broken off, as it was asked to be, at this step. */
export class Interrupted extends Error {
  constructor(readonly step: number) {
    super();
  }
}

/** How many steps a run has. */
export const stepsOf = ({ wholeSet }: Entry, samples: number, { epochs, batch }: Pick<Settings, "epochs" | "batch">) =>
  epochs * (wholeSet ? 1 : Math.ceil(samples / batch));

/** The losses as they were kept, from 1 to the last step. */
export const pointsOf = ({ loss, seconds }: Keep["log"]): Point[] =>
  Array.from(loss, (loss, i) => ({ step: i + 1, seconds: seconds[i]!, loss }));

/** Trains from the weights and in the order of batches that the seed decides, or on from where a run was broken off. */
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
  const optimizer = entry.factory(model, entry.options);
  const steps = stepsOf(entry, data.train.count, settings);
  const order = batches(data.train.count, entry.wholeSet ? data.train.count : batch, { seed, epochs });

  const course = await keep.restore(model, optimizer);
  if (course) order.state = course.batches;
  const accuracies = [...(course?.accuracies ?? [])];
  let { gradientTime, updateTime } = course ?? { gradientTime: 0, updateTime: 0 };
  for (const samples of order) {
    const start = performance.now();
    const loss = entry.wholeSet
      ? network.fullGradient(model, data.train)
      : network.gradient(model, data.train, samples);
    const middle = performance.now();
    optimizer.step();
    const end = performance.now();
    gradientTime += (middle - start) / 1000;
    updateTime += (end - middle) / 1000;

    const step = optimizer.steps;
    if (!Number.isFinite(loss)) throw diverged(entry, step, loss);
    keep.log.loss[step - 1] = loss;
    keep.log.seconds[step - 1] = gradientTime + updateTime;
    const epoch = Math.ceil((step * epochs) / steps);
    const atEnd = step * epochs === epoch * steps;
    if (atEnd) accuracies.push({ epoch, accuracy: network.evaluate(model, data.test).accuracy });
    report({ epoch, epochs, step, steps, loss });
    const interrupted = isInterrupted();
    if (atEnd || interrupted) {
      await keep.save(model, optimizer, { accuracies, gradientTime, updateTime, batches: order.state });
    }
    if (interrupted) throw new Interrupted(step);
    // Signals are heard between turns of the event loop.
    if (step % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
  }

  const { loss } = network.evaluate(model, data.train);
  if (!Number.isFinite(loss)) throw diverged(entry, steps, loss);
  const tensors = Object.values(model);
  const slots = Object.keys(optimizer.state(tensors[0]!)).length;
  const result: Result = {
    entry,
    hyper: { ...optimizer.hyper },
    losses: pointsOf(keep.log),
    accuracies,
    loss,
    accuracy: accuracies.at(-1)!.accuracy,
    steps,
    params: tensors.reduce((sum, { size }) => sum + size, 0),
    gradientTime,
    updateTime,
    traffic: Float32Array.BYTES_PER_ELEMENT * (3 + 2 * slots), // gradient; parameter and slots both ways
  };
  arena.free();
  return result;
}

/** Keeps the losses and nothing else. */
function forgetful(steps: number): Keep {
  return {
    log: { loss: new Float32Array(steps), seconds: new Float32Array(steps) },
    restore: async () => undefined,
    save: async () => {},
  };
}

function diverged({ name, options }: Entry, step: number, loss: number): UserError {
  const usual = Number(entries.find((entry) => entry.name === name)?.options.lr);
  const lower = Math.min(usual, Number(options.lr) / 10);
  return new UserError(
    `${name}: the loss became ${loss} at step ${step}; try a smaller rate, such as --lr ${name}=${lower}`,
  );
}
