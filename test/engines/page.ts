/** The functions that tests call in an engine. setup.ts bundles this file. */

import { createArena } from "../../ts/arena/arena.js";
import { sgd } from "../../ts/rules/sgd.js";
import published from "../bits.json" with { type: "json" };
import { conform, type Report } from "../conformance.js";

/** Everything that is published, for each number of threads in `counts`. */
export const all = (counts: readonly number[], workerUrl?: string): Promise<Report> =>
  conform(published, counts, workerUrl);

/** Steps of two arenas at once. Returns the messages that listeners of the page get meanwhile. */
export async function messages(): Promise<unknown[]> {
  const seen: unknown[] = [];
  addEventListener("message", ({ data }) => seen.push(data));
  const steps = [1, 2].map(async () => {
    const arena = await createArena({ maxBytes: 2 ** 26, threads: 1 });
    const optimizer = sgd([arena.tensor("w", [2 ** 22])]);
    for (let i = 0; i < 5; i++) await optimizer.stepAsync();
    arena.free();
  });
  postMessage("of the page", "*");
  await Promise.all(steps);
  return seen;
}

/** Returns the error of `createArena` on a page whose policy forbids workers from `blob:` URLs. */
export async function blocked(): Promise<{ threads: number; shared: boolean; message: string }> {
  Object.defineProperty(navigator, "hardwareConcurrency", { value: 4 });
  const { threads, shared } = await createArena({ maxBytes: 2 ** 20 });
  const refused = createArena({ maxBytes: 2 ** 20, threads: 2 });
  return { threads, shared, message: await refused.then(String, ({ message }: Error) => message) };
}
