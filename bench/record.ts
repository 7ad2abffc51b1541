/** A record: what a run measured. */

import type { Machine } from "./machine.js";
import type { Timing } from "./stopwatch.js";
import type { Work } from "./work.js";

export interface Measured extends Omit<Work, "shapes"> {
  /** Number of parameters. */
  readonly size: number;
  /** Bytes that a step must read and write at least: each of parameter, gradient and state once. */
  readonly bytes: number;
  /** The nanoseconds of a step, by the name of the arm. */
  readonly arms: Readonly<Record<string, Timing>>;
}

export interface BenchRecord {
  readonly date: string;
  readonly machine: Machine;
  /** Name and version of what was measured. */
  readonly peers: readonly string[];
  /** The reason why a peer is missing, by the peer's name. */
  readonly missing: Readonly<Record<string, string>>;
  readonly measured: readonly Measured[];
}
