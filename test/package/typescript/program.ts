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
import { loadOptimizer, saveOptimizer } from "downhill/torch";

export async function main(): Promise<number> {
  const arena: Arena = await createArena({ threads: 1 });
  const model = arena.tensors({ w: [3, 2], b: [2] });
  const w: Tensor = model.w;
  const optimizer = adamw(model, { lr: cosineAnnealingLR({ lr: 1e-3, TMax: 10 }), clipNorm: 1 });
  for (const batch of batches(10, 2)) w.grad.fill(batch[0]!);
  const { gradNorm } = optimizer.step(); // a number, because clipNorm needs it
  optimizer.hyper.weightDecay = 0.1;
  const file: Uint8Array = save(model, optimizer);
  load(file, model, optimizer);
  loadOptimizer(saveOptimizer(optimizer), optimizer);
  const unshared = createArenaSync({ shared: false }).tensor("u", [3]);
  sgd([unshared]);
  new Blob([unshared.data]);
  return gradNorm + optimizer.state(model.w).expAvg.length;
}
