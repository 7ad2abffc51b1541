export { type Arena, type ArenaOptions, createArena, createArenaSync, type Shape, type Tensor } from "./arena.js";
export { type BatchOptions, batches } from "./batches.js";
export type { Rule } from "./definition.js";
export type { Group } from "./group.js";
export type { Optimizer, Params, Tensors } from "./optimizer.js";
export type { Factory } from "./rule.js";
export * from "./rules/index.js";
