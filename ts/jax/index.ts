/** Optimizers for jax-js: a factory for each rule. */

export type { JaxFactory } from "./factory.js";
export * from "./rules.js";
export {
  applyUpdates,
  type ArrayGroup,
  type ArrayTree,
  type GradientTree,
  type Solver,
  type SolverState,
} from "./solver.js";
