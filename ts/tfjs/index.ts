/** Optimizers for TensorFlow.js: a factory for each rule. */

export type { TfjsFactory } from "./factory.js";
export type { TfjsGroup, TfjsOptimizer, VariableGroup } from "./optimizer.js";
export * from "./rules.js";
