// In order of increasing complexity.

export { adagrad } from "./adagrad.js";
export { adam } from "./adam.js";
export { adamw } from "./adamw.js";
export { momentum } from "./momentum.js";
export { rmsprop } from "./rmsprop.js";
export { sgd } from "./sgd.js";
