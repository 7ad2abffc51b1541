/** Tests of the types: programs that must compile, and programs that must not. */

import { expectTypeOf, test } from "vitest";
import {
  type Arena,
  adafactor,
  adam,
  adamw,
  attachArena,
  batches,
  createArena,
  createArenaSync,
  lbfgs,
  lookahead,
  rmsprop,
  sam,
  save,
  type Scheduled,
  sgd,
  shampoo,
  type StepReport,
  stepLR,
  type Tensor,
} from "../ts/index.js";

declare const arena: Arena;
const model = arena.tensors({ w: [784, 128], b: [128] });

test("tensors are known by name", () => {
  expectTypeOf(model).toEqualTypeOf<{ readonly w: Tensor; readonly b: Tensor }>();
  expectTypeOf(model.w.data).toEqualTypeOf<Float32Array>();
  // @ts-expect-error there is no v
  model.v;
  // @ts-expect-error a shape is a list
  arena.tensors({ w: 3 });
});

test("tensors that are there are found by name, and in another thread", () => {
  expectTypeOf(arena.tensor("w")).toEqualTypeOf<Tensor>();
  expectTypeOf(arena.tensors()).toEqualTypeOf<Readonly<Record<string, Tensor>>>();
  expectTypeOf(attachArena(arena.share())).toEqualTypeOf<Arena>();
  // @ts-expect-error a number
  createArena({ threads: "all" });
});

test("options follow from the literals", () => {
  adamw(model, { lr: 1e-3, betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, amsgrad: true, maximize: true });
  // @ts-expect-error no such option
  adamw(model, { learningRate: 1e-3 });
  // @ts-expect-error a number
  adamw(model, { lr: "1e-3" });
  // @ts-expect-error a rate alone is no options
  adamw(model, 1e-3);
  const other = { learningRate: 1e-3 };
  // @ts-expect-error none of them is an option
  adamw(model, other);
  // @ts-expect-error two of them
  adamw(model, { betas: [0.9] });
  // @ts-expect-error sgd has none
  sgd(model, { betas: [0.9, 0.99] });
});

test("params are tensors, by name or in a list, or groups with the rule's own options", () => {
  sgd([model.w, model.b]);
  sgd([{ params: [model.w], lr: 1 }, { params: model }]);
  // @ts-expect-error no such option
  sgd([{ params: [model.w], learningRate: 1 }]);
  // @ts-expect-error an array is no tensor
  sgd([new Float32Array(3)]);
});

test("hyper-parameters are live and typed", () => {
  const { hyper } = adam(model);
  expectTypeOf(hyper.lr).toEqualTypeOf<Scheduled<number>>();
  expectTypeOf(hyper.betas).toEqualTypeOf<readonly [Scheduled<number>, Scheduled<number>]>();
  expectTypeOf(hyper.biasCorrection).toEqualTypeOf<boolean>();
  hyper.betas = [0.8, 0.9];
  hyper.lr = stepLR({ lr: 0.1, stepSize: 10 });
  hyper.betas = [(step) => 1 - 1 / (step + 2), 0.999];
  // @ts-expect-error stepSize has no default
  stepLR({ lr: 0.1 });
  // @ts-expect-error a flag is not scheduled
  hyper.biasCorrection = stepLR({ lr: 0.1, stepSize: 10 });
  // @ts-expect-error written as a whole
  hyper.betas[0] = 0.8;
  // @ts-expect-error read when the optimizer is made
  hyper.amsgrad;
});

test("state is known by slot, and what an option adds may be missing", () => {
  const state = rmsprop(model).state(model.w);
  expectTypeOf(state.squareAvg).toEqualTypeOf<Float32Array>();
  expectTypeOf(state.momentumBuffer).toEqualTypeOf<Float32Array | undefined>();
  // @ts-expect-error adam's
  state.expAvg;
  // A matrix has rows and columns, a vector has neither.
  expectTypeOf(adafactor(model).state(model.w).rowVar).toEqualTypeOf<Float32Array | undefined>();
  expectTypeOf(shampoo([model.w]).state(model.w).left).toEqualTypeOf<Float32Array>();
});

test("wrappers keep the optimizer's types, and add their own", () => {
  const optimizer = sam(lookahead(adam(model), { syncPeriod: 6 }), { rho: 0.1 });
  expectTypeOf(optimizer.hyper.lr).toEqualTypeOf<Scheduled<number>>();
  expectTypeOf(optimizer.state(model.w).expAvg).toEqualTypeOf<Float32Array>();
  expectTypeOf(optimizer.state(model.w).slow).toEqualTypeOf<Float32Array>();
  expectTypeOf(optimizer.perturb()).toEqualTypeOf<number>();
  expectTypeOf(optimizer.step(() => 1).loss).toEqualTypeOf<number | undefined>();
  // @ts-expect-error without lookahead there are no slow weights
  sam(adam(model)).state(model.w).slow;
  // @ts-expect-error no such option
  lookahead(adam(model), { k: 5 });
});

test("the type of gradNorm follows from the options", async () => {
  const { gradNorm } = adamw(model, { lr: 1, clipNorm: 1 }).step();
  expectTypeOf(gradNorm).toEqualTypeOf<number>();
  expectTypeOf((await adamw(model, { clipTensorNorm: 1 }).stepAsync()).gradNorm).toEqualTypeOf<number>();
  expectTypeOf(adamw(model, { nonFinite: "skip" }).step().gradNorm).toEqualTypeOf<number>();
  expectTypeOf(adamw(model, { lossScale: "dynamic" }).step().gradNorm).toEqualTypeOf<number>();
  expectTypeOf(sam(lookahead(adamw(model, { clipNorm: 1 }))).step(() => 1).gradNorm).toEqualTypeOf<number>();
  expectTypeOf(adamw(model).step().gradNorm).toEqualTypeOf<undefined>();
  expectTypeOf(adamw(model, { lr: 1 }).step().gradNorm).toEqualTypeOf<undefined>();

  // Whether these need the norm is known only when the program runs.
  type Unsure = number | undefined;
  const given = {} as NonNullable<Parameters<typeof adamw>[1]>;
  const flag = Math.random() < 0.5;
  expectTypeOf(adamw(model, { clipNorm: Infinity }).step().gradNorm).toEqualTypeOf<Unsure>();
  expectTypeOf(adamw(model, { clipNorm: flag ? 1 : undefined }).step().gradNorm).toEqualTypeOf<Unsure>();
  expectTypeOf(adamw(model, { ...(flag && { clipNorm: 1 }) }).step().gradNorm).toEqualTypeOf<Unsure>();
  expectTypeOf(adamw(model, { clipNorm: 1, accumulate: 2 }).step().gradNorm).toEqualTypeOf<Unsure>();
  expectTypeOf(adamw(model, given).step().gradNorm).toEqualTypeOf<Unsure>();
  expectTypeOf(adamw(model, { lr: 1, ...given }).step().gradNorm).toEqualTypeOf<Unsure>();
  const report: Promise<StepReport> = adamw(model, { clipNorm: 1 }).stepAsync();
  expectTypeOf(await report).toEqualTypeOf<StepReport>();
  // @ts-expect-error no such option
  adamw(model, { clipNorm: 1, learningRate: 1 });
  // @ts-expect-error no such word
  adamw(model, { nonFinite: "skipped" });
});

test("closures return the loss", () => {
  const optimizer = lbfgs(model, { lineSearchFn: "strong_wolfe" });
  expectTypeOf(optimizer.step(() => 1).loss).toEqualTypeOf<number>();
  expectTypeOf(optimizer.hyper.lr).toEqualTypeOf<Scheduled<number>>();
  save(model, optimizer);
  optimizer.stepAsync(async () => 1);
  // @ts-expect-error async closures are for stepAsync
  optimizer.step(async () => 1);
  // @ts-expect-error the closure is required
  optimizer.step();
  // @ts-expect-error a loss
  adam(model).step(() => {});
  // @ts-expect-error read when the optimizer is made
  optimizer.hyper.maxIter;
});

test("batches are indices", () => {
  for (const batch of batches(10, 2)) expectTypeOf(batch).toEqualTypeOf<Uint32Array>();
});

test("views of unshared memory are views of an ArrayBuffer, which Blob requires", async () => {
  const unshared = createArenaSync({ shared: false }).tensors({ w: [3] });
  expectTypeOf(unshared.w.data).toEqualTypeOf<Float32Array<ArrayBuffer>>();
  expectTypeOf((await createArena({ shared: false })).tensor("w", [3]).grad).toEqualTypeOf<Float32Array<ArrayBuffer>>();
  new Blob([unshared.w.data]);
  adamw(unshared);
  // @ts-expect-error it may be shared
  new Blob([model.w.data]);
  // @ts-expect-error it is a view
  unshared.w.grad = new Float32Array(3);
});
