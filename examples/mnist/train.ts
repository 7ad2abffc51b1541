/** One training run: an optimizer, the network's gradients, and what is recorded on the way. */

import { batches, createArena } from "downhill";
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

export interface Result {
  readonly entry: Entry;
  /** All of the optimizer's hyper-parameters. */
  readonly hyper: Readonly<Record<string, unknown>>;
  /** Each step's loss on what it saw. */
  readonly losses: readonly Point[];
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

/** Trains from the weights and in the order of batches that the seed decides. */
export async function train(
  entry: Entry,
  network: Network,
  data: Data,
  { epochs, batch, seed, threads }: Settings,
  report: (progress: Progress) => void,
): Promise<Result> {
  const arena = await createArena({ threads });
  const model = arena.tensors(network.shapes);
  network.initialize(model, seed);
  const optimizer = entry.factory(model, entry.options);
  const perEpoch = entry.wholeSet ? 1 : Math.ceil(data.train.count / batch);
  const steps = epochs * perEpoch;

  const losses: Point[] = [];
  const accuracies: { epoch: number; accuracy: number }[] = [];
  let [gradientTime, updateTime] = [0, 0];
  for (const samples of batches(data.train.count, entry.wholeSet ? data.train.count : batch, { seed, epochs })) {
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
    losses.push({ step, seconds: gradientTime + updateTime, loss });
    const epoch = Math.ceil(step / perEpoch);
    if (step % perEpoch === 0) accuracies.push({ epoch, accuracy: network.evaluate(model, data.test).accuracy });
    report({ epoch, epochs, step, steps, loss });
  }

  const { loss } = network.evaluate(model, data.train);
  if (!Number.isFinite(loss)) throw diverged(entry, steps, loss);
  const tensors = Object.values(model);
  const slots = Object.keys(optimizer.state(tensors[0]!)).length;
  const result: Result = {
    entry,
    hyper: { ...optimizer.hyper },
    losses,
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

function diverged({ name, options }: Entry, step: number, loss: number): UserError {
  const usual = Number(entries.find((entry) => entry.name === name)?.options.lr);
  const lower = Math.min(usual, Number(options.lr) / 10);
  return new UserError(
    `${name}: the loss became ${loss} at step ${step}; try a smaller rate, such as --lr ${name}=${lower}`,
  );
}
