/** Steps of `downhill/jax` on the devices of jax-js. setup.ts bundles this file. */

import { defaultDevice, type Device, init, numpy as np, tree, valueAndGrad } from "@jax-js/jax";
import { createArenaSync } from "../../ts/arena/arena.js";
import { adamw } from "../../ts/rules/adamw.js";
import { adamw as solverOf } from "../../ts/jax/index.js";
import { bitsOfEach } from "../harness.js";
import { numbers } from "../tfjs/numbers.js";

const options = { lr: 0.05, clipNorm: 1 };
const STEPS = 6;

/** The loss of a network of one layer. */
function lossOf({ w, b }: { w: np.Array; b: np.Array }): np.Array {
  const x = np.array(numbers(16 * 10, 3)).reshape([16, 10]);
  return np.mean(np.square(np.matmul(x, w).add(b)));
}

/** The losses of the network in a run, and the device of its parameters. */
function train() {
  const solver = solverOf(options);
  let params = { w: np.array(numbers(10 * 6, 1)).reshape([10, 6]), b: np.array(numbers(6, 2)) };
  let state = solver.init(tree.ref(params));
  const losses = Array.from({ length: STEPS }, () => {
    const [loss, grads] = valueAndGrad(lossOf)(tree.ref(params));
    [params, state] = solver.step(params, grads, state);
    return loss.item() as number;
  });
  const { device } = params.w;
  tree.dispose(params);
  state.dispose();
  return { losses, device };
}

/** The parameters after steps by gradients that do not depend on the device: of jax-js, and of an arena. */
function beside() {
  const [size, gradient] = [60, (step: number) => numbers(60, 5 + step)];
  const solver = solverOf(options);
  let params = np.array(numbers(size, 4));
  let state = solver.init(params.ref);
  const { w } = createArenaSync().tensors({ w: [size] });
  w.data.set(numbers(size, 4));
  const optimizer = adamw([w], options);
  for (let step = 0; step < STEPS; step++) {
    [params, state] = solver.step(params, np.array(gradient(step)), state);
    w.grad.set(gradient(step));
    optimizer.step();
  }
  state.dispose();
  return [params.dataSync() as Float32Array, w.data].map((values) => `${bitsOfEach(values)}`);
}

/** Returns what differs on this device from an arena, and from the device `cpu`. */
export async function jax(device: Device): Promise<string[]> {
  await init("cpu", device);
  defaultDevice("cpu");
  const there = train();
  defaultDevice(device);
  const here = train();
  const failures: string[] = [];
  if (here.device !== device) failures.push(`the parameters are on ${here.device}`);
  here.losses.forEach((loss, i) => {
    if (!(Math.abs(loss / there.losses[i]! - 1) < 1e-4)) failures.push(`loss ${i}: ${loss} for ${there.losses[i]}`);
  });
  const [ours, theirs] = beside();
  if (ours !== theirs) failures.push("other bits than in an arena");
  return failures;
}
