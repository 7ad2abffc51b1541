/** All schedules. */
export {
  constant,
  polynomial,
  linear,
  exponentialDecay,
  cosineDecay,
  warmupCosineDecay,
  warmupConstant,
  warmupExponentialDecay,
  join,
  sgdr,
  piecewiseConstant,
  piecewiseInterpolate,
  cosineOnecycle,
  linearOnecycle,
} from "./optax.js";
export { wsd, inverseSqrt, noam } from "./others.js";
export { reduceLROnPlateau } from "./plateau.js";
export {
  stepLR,
  multiStepLR,
  constantLR,
  linearLR,
  exponentialLR,
  polynomialLR,
  cosineAnnealingLR,
  cosineAnnealingWarmRestarts,
  cyclicLR,
  cyclicMomentum,
  oneCycleLR,
  oneCycleMomentum,
  sequentialLR,
  chained,
  swaLR,
  multiplicativeLR,
} from "./torch.js";
