/** Programs of random trees and calls: the same bits as on an arena, and each array has the references that it should have. */

import { defaultDevice, init, numpy as np, tree } from "@jax-js/jax";
import fc from "fast-check"; // generates the programs, and shrinks those that fail
import { beforeAll, expect, test } from "vitest";
import type { Shape } from "../../ts/arena/tensor.js";
import { load, save } from "../../ts/checkpoint/index.js";
import * as core from "../../ts/index.js";
import * as adapted from "../../ts/jax/index.js";
import { applyUpdates, type ArrayTree, type GradientTree, type Solver } from "../../ts/jax/index.js";
import { error } from "../harness.js";
import { numbers } from "../tfjs/numbers.js";

beforeAll(async () => {
  await init("wasm");
  defaultDevice("wasm");
});

/** A tree of shapes. A shape is in a function, because a list is a tree. */
type Shapes = (() => Shape) | readonly Shapes[] | { readonly [key: string]: Shapes };

const shape = fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 3 }).map((shape) => () => shape);
const key = fc.constantFrom("a", "b", "1", "0", "é", "toString", " ");
const { shapes } = fc.letrec<{ shapes: Shapes }>((tie) => ({
  shapes: fc.oneof(
    { maxDepth: 3 },
    shape,
    fc.array(tie("shapes"), { minLength: 1, maxLength: 3 }),
    fc.dictionary(key, tie("shapes"), { minKeys: 1, maxKeys: 3, noNullPrototype: true }),
  ),
}));

const calls = ["step", "update", "fail", "load", "assign", "average", "evaluate"] as const;
interface Command {
  readonly call: (typeof calls)[number];
  /** Whether each array rests in a step, again and again. */
  readonly rests: readonly boolean[];
}
const command = fc.record<Command>({
  call: fc.constantFrom("step", "step", ...calls),
  rests: fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }),
});

type Given = np.Array | null;
const leavesOf = (arrays: GradientTree) => tree.flatten(arrays)[0] as Given[];
const valuesOf = (arrays: ArrayTree) => tree.leaves(arrays).map((array) => [...array.ref.dataSync()]);

test.each(["adamw", "sgd", "prodigy", "scheduleFreeAdamw"] as const)("programs with %s", (rule) => {
  const options = { lr: 0.1, ema: 0.9, nonFinite: "throw" } as const;
  const solver: Solver = adapted[rule](options);

  const run = (shapes: Shapes, program: readonly Command[]) => {
    const leaves = tree.leaves(shapes as never) as (() => Shape)[];
    const arena = core.createArenaSync({ threads: 1, maxBytes: 2 ** 20 });
    const tensors = leaves.map((shape, i) => arena.tensor(`t${i}`, shape()));
    const expected = core[rule](tensors, options);
    /** A tree of arrays, or of null where `rests` is true. */
    const make = (seed: number, rests: readonly boolean[] = [false]) => {
      let i = 0;
      const array = () => {
        const { size, shape } = tensors[i]!;
        const values = numbers(size, seed + i);
        return rests[i++ % rests.length] ? null : np.array(values, { shape: [...shape] });
      };
      return tree.map(array, shapes as never) as GradientTree;
    };
    let params = make(0) as ArrayTree;
    const copyParams = () => leavesOf(params).forEach((array, i) => tensors[i]!.data.set(array!.ref.dataSync()));
    copyParams();
    let state = solver.init(tree.ref(params));
    for (const [i, { call, rests }] of program.entries()) {
      const given: Given[] = [];
      if (call === "assign") {
        params = tree.map((array: np.Array) => array.mul(2), params) as ArrayTree;
        copyParams();
      }
      if (call === "step" || call === "update" || call === "assign") {
        const grads = make(100 * (i + 1), rests);
        given.push(...leavesOf(grads), ...leavesOf(params));
        tensors.forEach((tensor, i) => {
          tensor.requiresGrad = given[i] !== null;
          if (given[i]) tensor.grad.set(given[i].ref.dataSync());
        });
        expected.step();
        if (call === "update") {
          const [updates, next] = solver.update(grads, state, tree.ref(params));
          const sum = applyUpdates(params, updates);
          [params, state] = [solver.params(next), next];
          expect(error(valuesOf(sum).flat(), valuesOf(params).flat())).toBeLessThan(1);
          tree.dispose(sum);
        } else [params, state] = solver.step(params, grads, state);
      } else if (call === "fail") {
        const grads = tree.map((array: np.Array) => array.mul(Number.NaN), make(0) as ArrayTree) as ArrayTree;
        expect(() => solver.step(params, grads, state)).toThrow("must be finite");
        tree.dispose(grads);
        given.push(...leavesOf(grads));
      } else if (call === "load") {
        const next = solver.init(tree.ref(params));
        const [{ tensors, optimizer }, { internals }] = [state.internals, next];
        load(save(tensors, optimizer), internals.tensors, internals.optimizer);
        state.dispose();
        state = next;
        given.push(...leavesOf(params));
        tree.dispose(params);
        params = solver.params(state);
      } else if (call === "average") {
        const averages = solver.average(state);
        expect(valuesOf(averages)).toEqual(tensors.map((tensor) => [...expected.average(tensor)]));
        tree.dispose(averages);
      } else {
        const evaluated = solver.evalParams(state);
        expected.eval();
        expect(valuesOf(evaluated)).toEqual(tensors.map(({ data }) => [...data]));
        expected.train();
        tree.dispose(evaluated);
      }
      expect(valuesOf(params)).toEqual(tensors.map(({ data }) => [...data]));
      expect(state.steps).toBe(expected.steps);
      for (const array of given) expect(array?.refCount ?? 0).toBe(0);
      for (const array of leavesOf(params)) expect(array!.refCount).toBe(1);
    }
    state.dispose();
    tree.dispose(params);
    arena.free();
  };
  fc.assert(fc.property(shapes, fc.array(command, { maxLength: 8 }), run), { numRuns: 25 });
});
