import type { Optimizer } from "@tensorflow/tfjs-core";
import {
  adamw,
  type Arena,
  batches,
  cosineAnnealingLR,
  createArena,
  createArenaSync,
  load,
  save,
  sgd,
  type Tensor,
} from "downhill";
import * as jax from "downhill/jax";
import type module from "downhill/kernels.wasm";
import * as tfjs from "downhill/tfjs";
import { loadOptimizer, saveOptimizer } from "downhill/torch";

async function main(): Promise<string> {
  const arena: Arena = await createArena({ threads: 1 });
  const model = arena.tensors({ w: [2, 2], b: [2] });
  const w: Tensor = model.w;
  const optimizer = adamw(model, { lr: cosineAnnealingLR({ lr: 0.5, TMax: 10 }), clipNorm: 1 });
  for (const batch of batches(10, 2)) w.grad.fill(batch.length);
  const { gradNorm } = optimizer.step(); // a number, because clipNorm needs it
  optimizer.hyper.weightDecay = 0.1;
  const file: Uint8Array = save(model, optimizer);
  load(file, model, optimizer);
  loadOptimizer(saveOptimizer(optimizer), optimizer);
  const unshared = createArenaSync({ shared: false }).tensor("u", [3]);
  sgd([unshared]);
  new Blob([unshared.data]);

  const forLayers: Optimizer = tfjs.adamw({ lr: 0.5 });
  const solver = jax.adamw({ lr: 0.5 });
  const made = [forLayers.minimize, solver.step].every((method) => typeof method === "function");
  return `${w.data}; ${gradNorm + optimizer.state(model.w).expAvg.length}; ${made}`;
}

// Types that were `any` would accept everything.
export function wrong(arena: Arena, compiled: typeof module) {
  // @ts-expect-error
  createArena({ module: compiled, threads: "1" });
  // @ts-expect-error
  adamw(arena.tensors({ w: [3] }), { lr: "1" });
  // @ts-expect-error
  loadOptimizer("file");
  // @ts-expect-error
  tfjs.adamw({ lr: "1" });
  // @ts-expect-error
  jax.adamw({ lr: "1" });
}

void main().then(console.log);
