// Rules of single elements: up to AdamW, then its relatives.

export { sgd } from "./sgd.js";
export { momentum } from "./momentum.js";
export { adagrad } from "./adagrad.js";
export { rmsprop } from "./rmsprop.js";
export { adam } from "./adam.js";
export { adamw } from "./adamw.js";
export { signSgd } from "./signSgd.js";
export { signum } from "./signum.js";
export { lion } from "./lion.js";
export { rprop } from "./rprop.js";
export { adadelta } from "./adadelta.js";
export { adamax } from "./adamax.js";
export { radam } from "./radam.js";
export { adabelief } from "./adabelief.js";
export { yogi } from "./yogi.js";
export { adopt } from "./adopt.js";
export { ademamix } from "./ademamix.js";
export { simplifiedAdemamix } from "./simplifiedAdemamix.js";
export { adan } from "./adan.js";
export { nadam } from "./nadam.js";
export { asgd } from "./asgd.js";
export { madgrad } from "./madgrad.js";
export { scheduleFreeSgd } from "./scheduleFreeSgd.js";
export { scheduleFreeAdamw } from "./scheduleFreeAdamw.js";
export { sophia } from "./sophia.js";
export { ftrl } from "./ftrl.js";
export { optimisticAdam } from "./optimisticAdam.js";
export { noisySgd } from "./noisySgd.js";
export { cocob } from "./cocob.js";

// Rules of whole tensors.
export { lamb } from "./lamb.js";
export { lars } from "./lars.js";
export { novograd } from "./novograd.js";
export { fromage } from "./fromage.js";
export { dog } from "./dog.js";
export { dowg } from "./dowg.js";
export { dadaptAdamw } from "./dadaptAdamw.js";
export { prodigy } from "./prodigy.js";

// Rules of whole matrices.
export { muon } from "./muon.js";
export { adafactor } from "./adafactor.js";
export { sm3 } from "./sm3.js";
export { shampoo } from "./shampoo.js";
export { soap } from "./soap.js";
