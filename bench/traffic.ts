/** The bytes that a step must move. */

import * as downhill from "downhill";
import { factoryIn, sizeOf, type Work } from "./work.js";

/** Bytes that a step reads and writes if it touches each byte of parameters, gradients and state once. */
export function traffic(work: Work): number {
  const size = sizeOf(work);
  const average = work.whole ? 8 : 0;
  return size * (12 + average) + 2 * stateBytes(work);
}

const known = new Map<string, number>();

/**
 * Bytes of a rule's state. It is measured on a small tensor and scaled up, because each slot is as large as the
 * parameters. Rules of matrices are measured with their own shapes.
 */
function stateBytes({ rule, options, shapes }: Work): number {
  const factory = factoryIn(downhill, rule);
  const matrices = factory.rule.accepts?.startsWith("matrices") || Object.keys(factory.rule.shapes).length > 0;
  const key = JSON.stringify([rule, options, matrices ? shapes : ""]);
  if (!known.has(key)) {
    const arena = downhill.createArenaSync({ threads: 1 });
    const tensors = (matrices ? shapes : [[16]]).map((shape, i) => arena.tensor(`w${i}`, shape));
    const optimizer = factory(tensors, options);
    const slots = tensors.flatMap((tensor) => Object.values(optimizer.state(tensor) as Record<string, Float32Array>));
    known.set(
      key,
      slots.reduce((sum, slot) => sum + (slot?.byteLength ?? 0), 0),
    );
    arena.free();
  }
  const bytes = known.get(key)!;
  return matrices ? bytes : (bytes / 16) * sizeOf({ shapes } as Work);
}
