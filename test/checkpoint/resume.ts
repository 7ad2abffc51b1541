/** A run that can be stopped and resumed. It has everything that a checkpoint must restore. */

import * as downhill from "downhill";
import { type Batches, batches, createArenaSync, load, type Loaded, type Optimizer, save, type Tensor } from "downhill";
import { inputs } from "../harness.js";
import { fitting } from "../registry.js";

/** A rule by name, and options as JSON. */
export interface Spec {
  readonly rule: string;
  readonly options: Readonly<Record<string, unknown>>;
}

export interface Run {
  readonly model: Readonly<Record<string, Tensor>>;
  readonly optimizer: Optimizer;
  readonly order: Batches;
  readonly plateau: downhill.Plateau;
}

const shapes = { a: [7, 5], b: [1], c: [33], "ä/frozen": [3] };

/** Starts a run with two groups, a schedule, a plateau, an average, micro-batches and a dynamic loss scale. */
export function start({ rule, options }: Spec): Run {
  const factory = (downhill as unknown as Record<string, downhill.Factory>)[rule]!;
  const live = factory.rule.hyper.lr?.range.startsWith("[0"); // the schedule begins there
  const arena = createArenaSync({ maxBytes: 2 ** 19, threads: 1 });
  const fitted = Object.entries(shapes).map(([name, shape]) => [name, fitting(factory.rule, shape)]);
  const model = arena.tensors(Object.fromEntries(fitted) as typeof shapes);
  Object.values(model).forEach(({ data, size }, i) => data.set(inputs(size, 1, i + 1).params));
  const plateau = downhill.reduceLROnPlateau({ lr: 0.01, patience: 0 });
  const schedule = downhill.warmupCosineDecay({ peakValue: 0.01, warmupSteps: 3, decaySteps: 9 });
  const groups = [
    { params: [model.a, model.b], ...(live && { lr: schedule }) },
    { params: [model.c], ...(live && { lr: plateau }), maximize: true },
  ];
  const around = {
    clipNorm: 0.5,
    nonFinite: "skip",
    ema: 0.9,
    emaWarmup: true,
    accumulate: 2,
    lossScale: "dynamic",
  } as const;
  const optimizer = factory(groups, { ...options, ...around });
  return { model, optimizer, order: batches(10, 3, { seed: 5, epochs: 100 }), plateau };
}

/** Runs micro-batches `from` to `to`. One of them has a gradient that is not finite. */
export function go({ model, optimizer, order, plateau }: Run, from: number, to: number): void {
  for (let i = from; i < to; i++) {
    const { value: batch } = order.next() as { value: Uint32Array };
    const scale = optimizer.lossScale;
    Object.values(model).forEach(({ grad, size }, tensor) => {
      grad.set(inputs(size, 1, 100 * i + tensor + batch[0]! + 1).grads[0]!.map((g) => g * scale));
    });
    if (i === 3) model.c!.grad[0] = Infinity;
    optimizer.step();
    if (i % 2) plateau.observe(1 + (i % 3));
  }
}

export const keep = ({ model, optimizer, order }: Run) => save(model, optimizer, { batches: order.state });

/** Loads a checkpoint into a run that was just started. */
export function resume(run: Run, bytes: Uint8Array): Loaded {
  const loaded = load(bytes, run.model, run.optimizer);
  run.order.state = (loaded.extra as { batches: downhill.BatchState }).batches;
  return loaded;
}
