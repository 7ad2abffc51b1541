export { type Arena, type ArenaHandle, type ArenaOptions, attachArena, createArena, createArenaSync } from "./arena.js";
export { type BatchOptions, batches } from "./batches.js";
export type { Rule } from "./definition.js";
export type { Group } from "./group.js";
export type { Optimizer, Params, Tensors } from "./optimizer.js";
export type { Factory } from "./rule.js";
export type { Shape, Tensor } from "./tensor.js";
export * from "./rules/index.js";
