// In order of increasing complexity.

export { sgd } from "./sgd.js";
export { momentum } from "./momentum.js";
export { adagrad } from "./adagrad.js";
export { rmsprop } from "./rmsprop.js";
export { adam } from "./adam.js";
export { adamw } from "./adamw.js";
