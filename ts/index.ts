export {
  type Arena,
  type ArenaHandle,
  type ArenaOptions,
  attachArena,
  createArena,
  createArenaSync,
} from "./arena/arena.js";
export { type Batches, type BatchOptions, batches, type BatchState } from "./batches.js";
export type { AsyncClosure, Closure } from "./optimizer/closure.js";
export { load, type Loaded, loadFile, type LoadOptions, save, saveFile } from "./checkpoint/index.js";
export type { Rule } from "./optimizer/definition.js";
export type { Group } from "./optimizer/group.js";
export { type LBFGS, lbfgs, type LBFGSHyper, type LBFGSOptions } from "./lbfgs/lbfgs.js";
export type { LBFGSReport } from "./lbfgs/minimize.js";
export { lookahead, type LookaheadOptions, type SlowWeights } from "./wrappers/lookahead.js";
export type { Optimizer } from "./optimizer/optimizer.js";
export type { NamedTensors, Params, TensorGroup, Tensors } from "./optimizer/params.js";
export type { Factory, OptimizerFactory, Scheduled } from "./rule.js";
export type { Checkpointable } from "./optimizer/checkpointable.js";
export { sam, type SamOptions } from "./wrappers/sam.js";
export type { Shape, Tensor } from "./arena/tensor.js";
export * from "./rules/index.js";
export type { StepReport } from "./optimizer/step.js";
export type { Observed, Plateau } from "./schedules/plateau.js";
export type { Schedule, ScheduleFactory } from "./schedules/schedule.js";
export { scheduleFrom } from "./schedules/data.js";
export * from "./schedules/index.js";
