/** Optimizers for TensorFlow.js: a factory for each rule. */

export type { TfjsFactory } from "./factory.js";
export type { TfjsGroup, VariableGroup } from "./groups.js";
export type { TfjsOptimizer } from "./optimizer.js";
export * from "./rules.js";
