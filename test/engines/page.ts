/** What an engine is asked, bundled for it by setup.ts. */

import { createArena } from "../../ts/arena/arena.js";
import published from "../bits.json" with { type: "json" };
import { conform, type Report } from "../conformance.js";

/** Everything that is published, on each number of threads. */
export const all = (workerUrl?: string): Promise<Report> => conform(published, [1, 2, 3, 4, 8, 16], workerUrl);

/** What a page hears whose policy forbids the workers that the package brings along. */
export async function blocked(): Promise<{ threads: number; shared: boolean; message: string }> {
  Object.defineProperty(navigator, "hardwareConcurrency", { value: 4 });
  const { threads, shared } = await createArena({ maxBytes: 2 ** 20 });
  const refused = createArena({ maxBytes: 2 ** 20, threads: 2 });
  return { threads, shared, message: await refused.then(String, ({ message }: Error) => message) };
}
