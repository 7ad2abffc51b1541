/** The interface of measured implementations ("peers"). */

import type { Arm } from "../stopwatch.js";
import type { Work } from "../work.js";

export interface Settings {
  /** Numbers of threads, for peers whose number can be set. */
  readonly threads: readonly number[];
  /** A Python with PyTorch or Optax. */
  readonly python: string | undefined;
  /** The folder of another build of downhill, to compare with. */
  readonly against: string | undefined;
}

/** An implementation of optimizers. */
export interface Peer {
  /** Gets ready. Returns its name and version; an error says why it is missing. */
  start(settings: Settings): Promise<string>;
  /**
   * The arms that do a work. The list is empty if the peer does not have the rule. Throws an error with the reason if
   * the peer is otherwise unavailable.
   */
  arms(work: Work): Arm[] | Promise<Arm[]>;
  stop?(): unknown;
}

export const inThreads = (threads: number) => `${threads} ${threads === 1 ? "thread" : "threads"}`;

/** Fills a gradient with the numbers that the peers in JavaScript use; the others use similar ones. As a matrix they have full rank. */
export function fillGradient(grad: Float32Array): void {
  const period = Math.min(grad.length, 65_521); // a prime, so that rows differ
  for (let i = 0; i < period; i++) grad[i] = 0.01 * Math.sin(i * i + 1);
  for (let i = period; i < grad.length; i += period) grad.copyWithin(i, 0, Math.min(period, grad.length - i));
}
