import { onTestFinished } from "vitest";
import { type Arena, type ArenaOptions, createArenaSync } from "../ts/arena/arena.js";

/** A small arena for several tests: none of them frees it. */
export const smallArena = (options: ArenaOptions = {}): Arena =>
  createArenaSync({ maxBytes: 2 ** 20, threads: 1, ...options });

/** A small arena, freed when the test is over. */
export function small(options: ArenaOptions = {}): Arena {
  const arena = smallArena(options);
  onTestFinished(() => arena.free());
  return arena;
}
