/** The functions that tests call in an engine. setup.ts bundles this file. */

import { createArena } from "../../ts/arena/arena.js";
import published from "../bits.json" with { type: "json" };
import { conform, type Report } from "../conformance.js";

/** Everything that is published, for each number of threads in `counts`. */
export const all = (counts: readonly number[], workerUrl?: string): Promise<Report> =>
  conform(published, counts, workerUrl);

/** Returns the error of `createArena` on a page whose policy forbids workers from `blob:` URLs. */
export async function blocked(): Promise<{ threads: number; shared: boolean; message: string }> {
  Object.defineProperty(navigator, "hardwareConcurrency", { value: 4 });
  const { threads, shared } = await createArena({ maxBytes: 2 ** 20 });
  const refused = createArena({ maxBytes: 2 ** 20, threads: 2 });
  return { threads, shared, message: await refused.then(String, ({ message }: Error) => message) };
}
