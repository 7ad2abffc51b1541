/** The gradients of a step, checked. */

import { engine, Tensor as TfTensor, type Variable } from "@tensorflow/tfjs-core";
import { sameShape } from "../arena/tensor.js";
import { isList, isRecord, show, wrongKind, wrongValue } from "../option.js";
import type { NamedTensor } from "./weights.js";

/**
 * The variables with elements and a gradient, in the order in which they were given.
 * @throws a TypeError or RangeError for what does not fit.
 */
export function listGradients(title: string, given: unknown): Map<Variable, TfTensor> {
  if (!isList(given) && (!isRecord(given) || given instanceof TfTensor)) {
    throw wrongKind(`${title}: gradients must be a record by name, or a list of { name, tensor }`, given);
  }
  const nameAndTensor = (item: NamedTensor, i: number) => {
    if (isRecord(item) && "name" in item && "tensor" in item) return [item.name, item.tensor] as const;
    throw wrongKind(`${title}: gradients[${i}] must be { name, tensor }`, item);
  };
  const list = isList(given) ? Array.from(given as NamedTensor[], nameAndTensor) : Object.entries(given);
  const grads = new Map<Variable, TfTensor>();
  for (const [name, grad] of list) {
    const { registeredVariables } = engine();
    const variable = Object.hasOwn(registeredVariables, name) ? registeredVariables[name] : undefined;
    const what = `${title}: variable ${show(name)}`;
    if (variable === undefined)
      throw new RangeError(`${what} must be registered with TensorFlow.js, there is none of this name`);
    if (grad === null || grad === undefined) continue;
    if (!(grad instanceof TfTensor)) throw wrongKind(`${what} must have a tensor as its gradient`, grad);
    if (grad.isDisposed) throw new RangeError(`${what} must have a gradient, got a tensor that is disposed`);
    for (const { dtype } of [variable, grad]) {
      if (dtype !== "float32") throw new TypeError(`${what} and its gradient must be float32, got ${dtype}`);
    }
    if (!sameShape(variable.shape, grad.shape)) {
      throw wrongValue(`${what} has shape ${show(variable.shape)}, its gradient must have the same`, grad.shape);
    }
    const other = grads.get(variable);
    if (other && other.dataId !== grad.dataId) {
      throw new RangeError(`${what} must have one gradient, got two; add them, or apply one after the other`);
    }
    if (variable.size > 0) grads.set(variable, grad);
  }
  return grads;
}
