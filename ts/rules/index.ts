// Up to AdamW, then its relatives; new ones at the end, as test/bits.json publishes them in this order.

export { sgd } from "./sgd.js";
export { momentum } from "./momentum.js";
export { adagrad } from "./adagrad.js";
export { rmsprop } from "./rmsprop.js";
export { adam } from "./adam.js";
export { adamw } from "./adamw.js";
export { signSgd } from "./signSgd.js";
export { lion } from "./lion.js";
export { rprop } from "./rprop.js";
export { adadelta } from "./adadelta.js";
export { adamax } from "./adamax.js";
export { radam } from "./radam.js";
export { adabelief } from "./adabelief.js";
export { yogi } from "./yogi.js";
export { adopt } from "./adopt.js";
export { ademamix } from "./ademamix.js";
export { adan } from "./adan.js";
export { nadam } from "./nadam.js";
export { asgd } from "./asgd.js";
