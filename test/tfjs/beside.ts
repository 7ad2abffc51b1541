/** Steps of an optimizer of TensorFlow.js beside those of this package alone. It runs in Node and in browsers. */

import * as tf from "@tensorflow/tfjs-core";
import { createArenaSync } from "../../ts/arena/arena.js";
import type { Shape } from "../../ts/arena/tensor.js";
import { variantOf } from "../../ts/optimizer/hyper.js";
import * as adapted from "../../ts/tfjs/index.js";
import type { TfjsOptimizer } from "../../ts/tfjs/index.js";
import { type Case, cases, fitting } from "../registry.js";
import { numbers } from "./numbers.js";

/** Sizes that are and are not whole cache lines. */
const shapes: Readonly<Record<string, Shape>> = { kernel: [3, 3, 2, 8], bias: [7], table: [16, 24], one: [1, 5] };

const make = ({ rule }: { rule: { name: string } }, options: object): TfjsOptimizer =>
  (adapted as any)[rule.name](options);

/** One case for each kernel. */
export const kernels = new Map(cases.map((each) => [variantOf(each.rule, each.values).kernel, each] as const));

export type Beside = ReturnType<typeof beside>;

/** All parameters and all state after some steps here, and by this package alone. */
export function beside({ factory, rule, options }: Pick<Case, "factory" | "rule" | "options">, shared: object = {}) {
  const list = Object.entries(shapes).map(([name, shape]) => [name, fitting(rule, shape)] as const);
  const arena = createArenaSync({ threads: 1, maxBytes: 2 ** 23 });
  const tensors = list.map(([name, shape]) => arena.tensor(name, shape)); // one by one, so that each is a segment
  tensors.forEach((tensor, i) => tensor.data.set(numbers(tensor.size, i)));
  const variables: tf.Variable[] = [];
  tf.tidy(() => {
    for (const { data, shape, name } of tensors) {
      variables.push(tf.variable(tf.tensor(data.slice(), [...shape]), true, name));
    }
  });
  const given = { ...options, ...shared };
  const theirs = factory(tensors, given);
  const ours = make({ rule }, given);
  const reports: [ours: unknown, theirs: unknown][] = [];
  for (let step = 0; step < 4; step++) {
    const grads = tensors.map((tensor, i) => numbers(tensor.size, 100 * step + i));
    tensors.forEach((tensor, i) => tensor.grad.set(grads[i]!));
    const report = { ...theirs.step() };
    tf.tidy(() =>
      ours.applyGradients(list.map(([name, shape], i) => ({ name, tensor: tf.tensor(grads[i]!, [...shape]) }))),
    );
    reports.push([ours.report, report]);
  }
  return { theirs, ours, tensors, variables, reports };
}
