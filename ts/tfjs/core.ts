/** The optimizer of the package (`core`) that steps on the arrays of variables. */

import type { Variable } from "@tensorflow/tfjs-core";
import { Arena } from "../arena/arena.js";
import { bumpAllocator, type Space } from "../arena/memory.js";
import { padded, Tensor } from "../arena/tensor.js";
import { sum } from "../math.js";
import { hasCommonScalars } from "../optimizer/definition.js";
import type { Values } from "../optimizer/hyper.js";
import { Optimizer } from "../optimizer/optimizer.js";
import type { Counts } from "../optimizer/step.js";
import { classOf, pick } from "../option.js";
import { CONTROL_BYTES, THREADS } from "../threads/control.js";
import type { Entry } from "./entries.js";
import type { Settings, TfjsGroup } from "./groups.js";
import type { Host } from "./host.js";

type Core = Optimizer<Values, unknown>;

/** The arrays of some variables and of their state. */
export interface Arrays {
  readonly host: Host;
  readonly entries: readonly Entry[];
  /** The number of entries, counted from the first, that have a gradient. The others had one in a micro-batch before. */
  readonly given: number;
  readonly arrays: readonly Variable[];
  readonly addresses: readonly number[];
}

/** An optimizer over some arrays, as long as they have the same addresses. */
export interface Built extends Arrays {
  readonly buffer: ArrayBufferLike;
  readonly core: Core;
  /** The tensor of each entry, and the address for a copy of its gradient, or 0. */
  readonly tensors: readonly Tensor[];
  readonly copies: readonly number[];
}

/**
 * Makes an optimizer over some arrays.
 * @param counts the counts of the steps before, if there were some
 */
export function build(settings: Settings, over: Arrays, counts: Counts | undefined): Built {
  const { host, entries, given, arrays, addresses } = over;
  const { agc, accumulate } = settings.groups[0]!.values as { agc: number; accumulate: number };
  const addressOf = new Map(arrays.map((variable, i) => [variable, addresses[i]!]));
  const bytes = (entry: Entry) => {
    const { size } = entry.variable!;
    return host.copies(size) || (agc < Infinity && accumulate === 1) ? 4 * padded(size) : 0;
  };
  const total = sum(entries.map(bytes));
  const take = bumpAllocator(total > 0 ? host.region("gradients", total) : 0);
  const copies = entries.map((entry) => (bytes(entry) > 0 ? take(bytes(entry)) : 0));
  const entryOf = new Map<Tensor, Entry>();
  let hasReserved = false;
  const space: Space = {
    memory: host.memory,
    shared: classOf(host.memory.buffer) === "SharedArrayBuffer",
    control: new Int32Array(CONTROL_BYTES / 4),
    left: Infinity,
    used: 0,
    close() {},
    reserve(bytes) {
      if (hasReserved) throw new Error("downhill/tfjs: an optimizer must reserve memory once, as one region");
      hasReserved = true;
      return host.region("workspace", bytes);
    },
    stateOf: (tensor, slot) => addressOf.get(entryOf.get(tensor)!.state.get(slot)!)!,
  };
  space.control[THREADS] = 1;
  // Allocating the workspace can make the memory grow, which detaches views. So views are made afterwards.
  for (;;) {
    const { buffer } = host.memory;
    hasReserved = false;
    const arena = new Arena(space, { memory: host.memory });
    const tensors = entries.map((entry, i) => {
      const { shape, size } = entry.variable!;
      const data = host.floats(addressOf.get(entry.variable!)!, size);
      const tensor = new Tensor(arena, entry.name, shape, data, copies[i] === 0 ? data : host.floats(copies[i]!, size));
      tensor.requiresGrad = i < given;
      entryOf.set(tensor, entry);
      return tensor;
    });
    try {
      const core = coreOf(settings, entries, tensors, counts);
      if (host.memory.buffer === buffer) return { ...over, buffer, core, tensors, copies };
    } catch (error) {
      if (host.memory.buffer === buffer) throw error;
    }
  }
}

function coreOf(
  { rule, groups, groupOf, shared }: Settings,
  entries: readonly Entry[],
  tensors: readonly Tensor[],
  counts: Counts | undefined,
): Core {
  const subgroups = new Map<string, { group: TfjsGroup; members: number[] }>();
  const hasOwnScalars = !hasCommonScalars(rule) && !rule.perTensor;
  entries.forEach((entry, i) => {
    const group = groupOf(entry.name);
    const key = `${groups.indexOf(group)} ${entry.since} ${entry.joined} ${entry.isDue} ${tensors[i]!.requiresGrad} ${hasOwnScalars ? JSON.stringify(entry.scalars) : ""}`;
    const known = subgroups.get(key);
    if (known) known.members.push(i);
    else subgroups.set(key, { group, members: [i] });
  });
  const params = [...subgroups.values()].map(({ group, members }) => {
    const own = { ...pick(rule.fixed, group.values), ...(group.hyper as Values) };
    return { ...own, params: members.map((i) => tensors[i]!) };
  });
  const core: Core = new Optimizer<Values, unknown>(rule, params, shared);
  if (counts) core.internals.step.counts = counts;
  [...subgroups.values()].forEach(({ members }, i) => {
    const group = core.groups[i]!;
    const known = members.map((i) => entries[i]!);
    group.segmentOfEach.forEach((segment, i) => {
      const { since, joined, isDue } = known[i]!;
      Object.assign(segment, { since, joined, isDue });
    });
    group.scalars = group.scalars.map((scalars, i) => known[i]!.scalars ?? scalars);
  });
  return core;
}

/** Gives the core's groups the present hyper-parameters. */
export function applyHyper({ groupOf }: Settings, { core }: Built): void {
  const known = new Map<TfjsGroup, Values>();
  for (const group of core.groups) {
    const own = groupOf(group.params[0]!.name);
    const values = known.get(own) ?? { ...(own.hyper as Values) };
    known.set(own, values);
    group.stage(values)();
  }
}
