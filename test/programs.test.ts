/**
 * Random programs: steps, queues of steps, groups that join, tensors without a gradient, micro-batches, averages,
 * wrappers, checkpoints and PyTorch's files, in any order. Each is compared with the same in plain double precision.
 * FUZZ_SECONDS is the time, 3 by default.
 */

import fc from "fast-check";
import { expect, test } from "vitest";
import { createArenaSync } from "../ts/arena/arena.js";
import { elementsIn, type Tensor } from "../ts/arena/tensor.js";
import { load, save } from "../ts/checkpoint/index.js";
import { defaults } from "../ts/option.js";
import * as rules from "../ts/rules/index.js";
import { loadOptimizer, saveOptimizer } from "../ts/torch/index.js";
import { lookahead } from "../ts/wrappers/lookahead.js";
import { sam } from "../ts/wrappers/sam.js";
import { error, numbers } from "./harness.js";
import { oracle, type Options, type State } from "./oracle.js";
import { wholes } from "./oracle.whole.js";
import type { AnyFactory } from "./registry.js";

const seconds = Number(process.env.FUZZ_SECONDS ?? 3);

/** The tensors of a program. Some are adjacent in memory, others join later. */
const shapes = { a: [3], b: [2, 9], c: [1], d: [17], e: [4, 4], f: [2] };
type Name = keyof typeof shapes;
const names = Object.keys(shapes) as Name[];
const sizeOf = (name: Name) => elementsIn(shapes[name]);

/** Rules of single elements, of tensors, and of all tensors together. Their formulas have no sign of a small number. */
const tried = [
  ...(["sgd", "adamw", "nadam", "radam", "adagrad", "scheduleFreeSgd", "scheduleFreeAdamw", "asgd"] as const),
  ...(["adan", "lamb", "novograd", "dog", "dowg"] as const),
];
/** Rules that PyTorch's files are tried with. */
const inTorch: readonly string[] = ["sgd", "adamw", "nadam", "radam", "adagrad"];

/** A program, in data. Its numbers choose among the tensors, groups and options that there are. */
const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("step" as const), asynchronously: fc.boolean() }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("rest" as const),
      who: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("queue" as const),
      calls: fc.array(
        fc.record({
          isFlush: fc.boolean(),
          who: fc.option(fc.array(fc.boolean(), { minLength: 6, maxLength: 6 })),
          lr: fc.option(fc.constantFrom(0.01, 0.05)),
        }),
        { minLength: 2, maxLength: 4 },
      ),
    }),
  },
  fc.record({ do: fc.constant("flush" as const), asynchronously: fc.boolean() }),
  fc.record({ do: fc.constant("join" as const), count: fc.nat(2), options: fc.constantFrom({}, { lr: 0.02 }) }),
  fc.record({ do: fc.constant("set lr" as const), group: fc.nat(), lr: fc.constantFrom(0.01, 0.05, 0) }),
  fc.record({ do: fc.constant("break" as const), who: fc.nat() }),
  fc.record({ do: fc.constant("reload" as const), intoUsed: fc.boolean() }),
  fc.record({ do: fc.constant("torch" as const) }),
  fc.record({ do: fc.constant("eval" as const) }),
);

const program = fc.record({
  rule: fc.constantFrom(...tried),
  threads: fc.constantFrom(1, 1, 1, 2),
  groups: fc.array(fc.nat(2), { minLength: 1, maxLength: 2 }),
  options: fc.record({
    accumulate: fc.constantFrom(1, 1, 2, 3),
    accumulateBy: fc.constantFrom("mean" as const, "sum" as const),
    zeroGrad: fc.boolean(),
    clipNorm: fc.constantFrom(Infinity, 0.5),
    clipTensorNorm: fc.constantFrom(Infinity, Infinity, 0.3),
    average: fc.constantFrom(
      {},
      {},
      { ema: 0.8 },
      { swa: 1 },
      { swa: 2, averageStart: 1 },
      { ema: 0.9, emaWarmup: true },
    ),
    isScheduled: fc.boolean(),
    weightDecay: fc.constantFrom(0, 0.1),
    box: fc.constantFrom([-Infinity, Infinity] as const, [-0.6, 0.7] as const),
  }),
  wrapper: fc.constantFrom("none", "none", "lookahead", "sam", "lookahead and sam"),
  actions: fc.array(action, { minLength: 1, maxLength: 14 }),
});
type Program = typeof program extends fc.Arbitrary<infer P> ? P : never;

const RHO = 0.1;
const [PERIOD, SLOW] = [2, 0.5];
const rate = (step: number) => 0.1 / (1 + step);

/** A tensor in double precision. */
interface Mirror {
  readonly name: Name;
  readonly joined: number;
  p: number[];
  g: number[];
  sum: number[];
  state: Record<string, number[]>;
  elements: State[];
  /** The tensor's own numbers, for rules that have them. */
  memory: State;
  steps: number;
  isDue: boolean;
  average: number[];
  slow: number[];
}

/** The optimizer in double precision. */
class Reference {
  readonly groups: { lr: number | ((step: number) => number); tensors: Mirror[] }[] = [];
  readonly program: Program;
  readonly values: Options;
  /** The numbers of a rule that measures all tensors. */
  readonly common: State = {};
  readonly isCommon: boolean;
  steps = 0;
  microBatches = 0;
  averaged = 0;

  constructor(program: Program, { rule }: AnyFactory) {
    this.program = program;
    this.values = { ...defaults({ ...rule.hyper, ...rule.fixed }), weightDecay: program.options.weightDecay };
    this.isCommon = rule.sums.length > 0 && !rule.perTensor;
  }

  get tensors(): Mirror[] {
    return this.groups.flatMap(({ tensors }) => tensors);
  }

  join(lr: number | ((step: number) => number), tensors: readonly Tensor[]): void {
    const mirrors = tensors.map((tensor): Mirror => {
      const zeros = () => new Array<number>(tensor.size).fill(0);
      const [name, joined, memory] = [tensor.name as Name, this.steps, {}];
      const values = { p: [...tensor.data], g: zeros(), sum: zeros(), average: [...tensor.data], slow: zeros() };
      const elements = zeros().map(() => ({}));
      return { name, joined, ...values, state: {}, elements, memory, steps: 0, isDue: false };
    });
    this.groups.push({ lr, tensors: mirrors });
  }

  step(hasGrad: (name: Name) => boolean, lrs: readonly number[] | undefined): void {
    const { accumulate, zeroGrad } = this.program.options;
    for (const one of this.tensors) {
      const has = hasGrad(one.name);
      one.isDue = has || (this.microBatches > 0 && one.isDue);
      if (accumulate > 1 && has) {
        one.sum = one.sum.map((sum, i) => sum + one.g[i]!);
        if (zeroGrad) one.g.fill(0);
      }
    }
    if (accumulate > 1 && ++this.microBatches < accumulate) return;
    this.#update(accumulate, lrs);
  }

  flush(lrs: readonly number[] | undefined): void {
    if (this.microBatches > 0) this.#update(this.microBatches, lrs);
  }

  #update(summed: number, lrs: readonly number[] | undefined): void {
    const { accumulate, accumulateBy, zeroGrad, clipNorm, clipTensorNorm, box } = this.program.options;
    const due = this.tensors.filter(({ isDue }) => isDue);
    const scale = accumulate > 1 && accumulateBy === "mean" ? 1 / summed : 1;
    const grads = new Map(due.map((one) => [one, (accumulate > 1 ? one.sum : one.g).map((g) => scale * g)]));
    this.microBatches = 0;
    const isFinite = [...grads.values()].flat().every(Number.isFinite);
    for (const one of this.tensors) one.sum.fill(0);
    if (zeroGrad && accumulate === 1) for (const one of due) one.g.fill(0);
    if (!isFinite) return;
    const norm = (g: readonly number[]) => Math.sqrt(g.reduce((sum, g) => sum + g * g, 0));
    for (const [one, g] of grads) {
      const factor = Math.min(1, clipTensorNorm / norm(g));
      if (factor < 1)
        grads.set(
          one,
          g.map((g) => g * factor),
        );
    }
    const whole = norm([...grads.values()].flat());
    const factor = Math.min(1, clipNorm / (whole + 1e-6));
    if (factor < 1)
      for (const [one, g] of grads)
        grads.set(
          one,
          g.map((g) => g * factor),
        );

    this.steps += 1;
    const { wrapper } = this.program;
    if (wrapper.includes("lookahead") && this.steps === 1) for (const one of this.tensors) one.slow = [...one.p];
    const lrOf = (index: number) => {
      const { lr } = this.groups[index]!;
      return typeof lr === "number" ? (lrs?.[index] ?? lr) : lr(this.steps - 1);
    };
    this.#apply(due, grads, lrOf);
    for (const one of due) one.p = one.p.map((p) => Math.min(Math.max(p, Math.fround(box[0])), Math.fround(box[1])));
    this.#average();
    if (wrapper.includes("lookahead") && this.steps % PERIOD === 0) {
      for (const one of due) {
        one.slow = one.slow.map((slow, i) => slow + SLOW * (one.p[i]! - slow));
        one.p = [...one.slow];
      }
    }
  }

  #apply(due: readonly Mirror[], grads: ReadonlyMap<Mirror, number[]>, lrOf: (group: number) => number): void {
    const { rule } = this.program;
    for (const one of due) {
      one.steps += 1;
      if (one.steps === 1) one.state = this.#start(one);
    }
    const groupOf = (one: Mirror) => this.groups.findIndex(({ tensors }) => tensors.includes(one));
    if (this.isCommon) return this.#applyTogether(due, grads, lrOf);
    for (const one of due) {
      const [options, g] = [{ ...this.values, lr: lrOf(groupOf(one)) }, grads.get(one)!];
      if (rule in oracle) {
        const update = oracle[rule as keyof typeof oracle];
        one.p = one.p.map((p, i) => {
          const state = Object.fromEntries(Object.entries(one.state).map(([slot, values]) => [slot, values[i]!]));
          Object.assign(state, one.elements[i]);
          const next = update(options, one.steps, p, g[i]!, state);
          one.elements[i] = state;
          for (const slot in one.state) one.state[slot]![i] = state[slot]!;
          return next;
        });
      } else one.p = wholes[rule as keyof typeof wholes](options, one.steps, one.p, g, one.state, one.memory);
    }
  }

  /** A rule that measures all tensors: the tensors with a gradient are as one. The rule must not use the step. */
  #applyTogether(due: readonly Mirror[], grads: ReadonlyMap<Mirror, number[]>, lrOf: (group: number) => number): void {
    const { rule } = this.program;
    const slots = Object.keys(due[0]?.state ?? {});
    const joined = Object.fromEntries(slots.map((slot) => [slot, due.flatMap(({ state }) => state[slot]!)]));
    if (due.length === 0) return;
    const options = { ...this.values, lr: lrOf(0) };
    const update = wholes[rule as keyof typeof wholes];
    const p = due.flatMap(({ p }) => p);
    let all = update(
      options,
      due[0]!.steps,
      p,
      due.flatMap((one) => grads.get(one)!),
      joined,
      this.common,
    );
    for (const one of due) {
      one.p = all.slice(0, one.p.length);
      all = all.slice(one.p.length);
      for (const slot of slots) one.state[slot] = joined[slot]!.splice(0, one.p.length);
    }
  }

  /** The state of a tensor before its first step. */
  #start(one: Mirror): Record<string, number[]> {
    const { rule } = (rules as Record<string, any>)[this.program.rule] as AnyFactory;
    const slots = [
      ...rule.state,
      ...Object.keys(rule.addedState).filter((slot) => this.values[rule.addedState[slot]!]),
    ];
    const start = (slot: string) => (rule.startsAt[slot] === "params" ? [...one.p] : one.p.map(() => 0));
    return Object.fromEntries(slots.map((slot) => [slot, start(slot)]));
  }

  #average(): void {
    const { ema = 0, swa = 0, averageStart = 0, emaWarmup = false } = this.program.options.average as Options;
    if (!ema && !swa) return;
    const due = (step: number) => Math.max(0, Math.floor((step - averageStart) / (swa || 1)));
    const isDue = due(this.steps) > due(this.steps - 1);
    if (isDue) this.averaged += 1;
    for (const one of this.tensors) {
      const count = Math.min(this.averaged, due(this.steps) - due(one.joined));
      const decay = emaWarmup ? Math.min(ema, (1 + count) / (10 + count)) : ema;
      const begun = emaWarmup ? Math.max(0, 1 - Math.min(ema, count / (9 + count))) : 1 - decay;
      const weight = !isDue ? (count === 0 ? 1 : 0) : count === 1 ? 1 : swa ? 1 / count : begun;
      one.average = one.average.map((average, i) => average + weight * (one.p[i]! - average));
    }
  }
}

async function run(program: Program): Promise<void> {
  const { rule: name, threads, options, wrapper } = program;
  const factory = (rules as Record<string, any>)[name] as AnyFactory;
  const { isScheduled, average, box, weightDecay, ...shared } = options;
  const reference = new Reference(program, factory);
  // Rules that measure all tensors are compared with one rate.
  const first = isScheduled ? rate : 0.05;
  const arenas = [createArenaSync({ maxBytes: 2 ** 20, threads })];
  const random = numbers(7);
  let tensors = arenas[0]!.tensors(shapes) as Record<Name, Tensor>;
  for (const { data } of Object.values(tensors)) data.forEach((_, i) => (data[i] = random()));

  const plan: { params: Name[]; lr?: number }[] = [];
  const left = [...names];
  for (const count of program.groups) plan.push({ params: left.splice(0, count + 1) });
  const make = () => {
    const given = plan.map(({ params, ...rest }) => ({ params: params.map((name) => tensors[name]), ...rest }));
    const made = factory(given, { ...shared, ...average, box, weightDecay, lr: first, nonFinite: "skip" });
    if (wrapper.includes("lookahead")) lookahead(made, { syncPeriod: PERIOD, slowStepSize: SLOW });
    if (wrapper.includes("sam")) sam(made, { rho: RHO });
    return made;
  };
  let optimizer = make();
  for (const { params, lr } of plan)
    reference.join(
      lr ?? first,
      params.map((name) => tensors[name]),
    );

  /** Gradients of a quadratic function with some noise. */
  const give = (noise: number) => {
    for (const one of reference.tensors) {
      const { data, grad } = tensors[one.name];
      data.forEach((p, i) => (grad[i] = 0.7 * p - Math.sin(i + noise + sizeOf(one.name))));
    }
  };
  const copyGrads = () => {
    for (const one of reference.tensors) one.g = [...tensors[one.name].grad];
  };
  const hasGrad = (name: Name) => tensors[name].requiresGrad;
  const rest = (who: readonly boolean[]) => names.forEach((name, i) => (tensors[name].requiresGrad = who[i]!));

  const step = async (asynchronously: boolean, noise: number) => {
    if (!wrapper.includes("sam")) {
      give(noise);
      copyGrads();
      if (asynchronously) await optimizer.stepAsync();
      else optimizer.step();
      return reference.step(hasGrad, undefined);
    }
    let calls = 0;
    const closure = () => {
      // The second call is at the perturbed parameters, which follow from the gradients of the first.
      if (calls++ === 1) {
        const moved = reference.tensors.filter((one) => hasGrad(one.name));
        const norm = Math.hypot(...moved.flatMap(({ g }) => g));
        for (const one of moved) {
          const there = one.p.map((p, i) => p + (RHO * one.g[i]!) / norm);
          expect(error(tensors[one.name].data, there), "perturbed").toBeLessThan(20);
        }
      }
      give(noise);
      copyGrads();
      return calls;
    };
    if (asynchronously) await optimizer.stepAsync(closure);
    else optimizer.step(closure);
    reference.step(hasGrad, undefined);
  };

  const actions = {
    step: ({ asynchronously }: any, noise: number) => step(asynchronously, noise),
    rest: ({ who }: any) => rest(who),
    async queue({ calls }: any, noise: number) {
      if (wrapper.includes("sam")) return;
      give(noise);
      copyGrads();
      const promises: Promise<unknown>[] = [];
      const made: (() => void)[] = [];
      for (const { isFlush, who, lr } of calls) {
        if (who) rest(who);
        if (lr !== null && !isScheduled) {
          for (const group of optimizer.groups) group.hyper.lr = lr;
          for (const group of reference.groups) group.lr = lr;
        }
        const lrs = reference.groups.map((group) => group.lr as number);
        const has = new Set(names.filter(hasGrad));
        promises.push(isFlush ? optimizer.flushAsync() : optimizer.stepAsync());
        made.push(() => (isFlush ? reference.flush(lrs) : reference.step((name) => has.has(name), lrs)));
      }
      await Promise.all(promises);
      for (const act of made) act();
    },
    async flush({ asynchronously }: any) {
      if (asynchronously) await optimizer.flushAsync();
      else optimizer.flush();
      reference.flush(undefined);
    },
    join({ count, options: { lr } }: any) {
      if (wrapper !== "none" || reference.isCommon || left.length === 0) return;
      const params = left.splice(0, count);
      const own = lr !== undefined ? { lr } : {};
      plan.push({ params, ...own });
      optimizer.addGroup({ params: params.map((name) => tensors[name]), ...own });
      reference.join(
        lr ?? first,
        params.map((name) => tensors[name]),
      );
    },
    "set lr"({ group, lr }: any) {
      if (isScheduled || reference.isCommon || plan.length === 0) return;
      optimizer.groups[group % plan.length].hyper.lr = lr;
      reference.groups[group % plan.length]!.lr = lr;
    },
    /** A step whose gradients are not finite is skipped. */
    break({ who }: any, noise: number) {
      if (wrapper.includes("sam")) return;
      give(noise);
      const all = reference.tensors;
      tensors[all[who % all.length]!.name].grad[0] = NaN;
      copyGrads();
      optimizer.step();
      reference.step(hasGrad, undefined);
    },
    /** Saves and loads into another optimizer, which may have made other steps before. */
    reload({ intoUsed }: any, noise: number) {
      const model = Object.values(tensors);
      const file = save(model, optimizer);
      const before = new Map(model.map((tensor) => [tensor.name, tensor]));
      const lrs = optimizer.groups.map(({ hyper }: any) => hyper.lr);
      arenas.push(createArenaSync({ maxBytes: 2 ** 20, threads }));
      tensors = arenas.at(-1)!.tensors(shapes) as Record<Name, Tensor>;
      optimizer = make();
      if (intoUsed) {
        rest(names.map((_, i) => (i + noise) % 2 === 0));
        give(noise);
        optimizer.step(() => 1);
      }
      optimizer.groups.forEach(({ hyper }: any, i: number) => (hyper.lr = lrs[i]));
      load(file, Object.values(tensors), optimizer);
      const again = save(Object.values(tensors), optimizer);
      if (!intoUsed) expect(Buffer.compare(again, file), "the same bytes").toBe(0);
      for (const name of names) {
        tensors[name].grad.set(before.get(name)!.grad);
        tensors[name].requiresGrad = before.get(name)!.requiresGrad;
      }
    },
    torch() {
      if (!inTorch.includes(name) || wrapper !== "none" || "ema" in average || "swa" in average) return;
      if (options.accumulate > 1 || box[1] < Infinity) return;
      const steps = Math.max(0, ...reference.tensors.map(({ steps }) => steps));
      const file = saveOptimizer(optimizer);
      optimizer = make();
      optimizer.groups.forEach(({ hyper }: any, i: number) => {
        if (!isScheduled) hyper.lr = reference.groups[i]!.lr;
      });
      loadOptimizer(file, optimizer, name === "sgd" ? { steps } : {});
      reference.steps = steps;
    },
    eval() {
      optimizer.eval();
      const b = factory.rule.evalParams ? reference.values.betas[0] : 1;
      for (const one of reference.tensors) {
        if (one.steps === 0) continue;
        const [low, high] = box.map(Math.fround) as [number, number];
        const there = one.p.map((y, i) =>
          b === 1 ? y : Math.min(Math.max(y + (1 - 1 / b) * (one.state.z![i]! - y), low), high),
        );
        expect(error(tensors[one.name].data, there), `${one.name} for evaluation`).toBeLessThan(50);
      }
      optimizer.train();
    },
  };

  try {
    for (const [i, action] of program.actions.entries()) {
      await actions[action.do](action as never, i);
      expect(optimizer.steps, `steps after ${i}`).toBe(reference.steps);
      for (const one of reference.tensors) {
        expect(error(tensors[one.name].data, one.p), `${one.name} after ${i} ${action.do}`).toBeLessThan(20);
        if ("ema" in average || "swa" in average) {
          const mean = reference.averaged > 0 ? one.average : one.p;
          expect(
            error(optimizer.average(tensors[one.name]), mean),
            `the average of ${one.name} after ${i}`,
          ).toBeLessThan(20);
        }
      }
    }
  } finally {
    for (const arena of arenas) arena.free();
  }
}

test(`programs, for ${seconds} seconds`, { timeout: 1000 * (seconds + 60) }, async () => {
  let runs = 0;
  const end = performance.now() + 1000 * seconds;
  while (performance.now() < end) {
    await fc.assert(
      fc.asyncProperty(program, async (program) => {
        runs += 1;
        await run(program);
      }),
      { numRuns: 50 },
    );
  }
  console.log(`${runs} programs`);
});
