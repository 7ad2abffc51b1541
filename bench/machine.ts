/** Describes the machine in one line: what ran, and how fast its memory is. */

import { availableParallelism, cpus, loadavg } from "node:os";
import { median } from "./stopwatch.js";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly node: string;
  /** Gigabytes that a copy on one thread reads and writes in a second. */
  readonly bandwidth: number;
  /** The load average: the mean number of threads that ran or waited for a core in the minute before the run. */
  readonly load: number;
}

/** The number of bytes that are copied: more than any cache holds. */
const COPIED = 2 ** 28;

export function machine(): Machine {
  const [from, to] = [new Uint8Array(COPIED).fill(1), new Uint8Array(COPIED).fill(2)];
  const times = Array.from({ length: 7 }, () => {
    const start = performance.now();
    to.set(from);
    return performance.now() - start;
  });
  return {
    cpu: cpus()[0]?.model.trim() ?? process.arch,
    cores: availableParallelism(),
    node: process.versions.node,
    load: loadavg()[0]!,
    bandwidth: (2 * COPIED) / 1e6 / median(times),
  };
}

export const machineLine = ({ cpu, cores, node, bandwidth, load }: Machine) =>
  `${cpu}, ${cores} cores, Node ${node}. A copy reads and writes ${bandwidth.toFixed(1)} GB/s.${load > 0.5 ? ` Other programs were running (load average ${load.toFixed(1)}).` : ""}`;
