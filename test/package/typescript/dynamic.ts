// The form for CommonJS that all versions of TypeScript accept.
import type { Tensor } from "downhill" with { "resolution-mode": "import" };

async function main(): Promise<string> {
  const { adamw, createArena } = await import("downhill");
  const w: Tensor = (await createArena({ threads: 1 })).tensor("w", [3]);
  w.grad.fill(1);
  adamw([w], { lr: 0.5 }).step();
  return String(w.data);
}

void main().then(console.log);
