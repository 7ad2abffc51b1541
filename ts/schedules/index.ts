/** All schedules. */
export * from "./optax.js";
export * from "./others.js";
export { reduceLROnPlateau } from "./plateau.js";
export * from "./torch.js";
