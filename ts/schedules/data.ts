/** Makes schedules from data. */

import { isRecord, mapValues, noOption, show, wrongKind } from "../option.js";
import { type Observed, Plateau } from "./plateau.js";
import type { Schedule, ScheduleFactory } from "./schedule.js";
import * as factories from "./index.js";

/**
 * Makes a schedule from its data.
 * @param data the result of `schedule.toJSON()`, or of `JSON.parse(JSON.stringify(schedule))`
 * @throws a TypeError or RangeError for other data, and for options that the schedule's own factory refuses.
 */
export function scheduleFrom(data: unknown): Schedule {
  return scheduleIn(data, 0);
}

/** The largest depth of schedules and lists in each other. */
const MAX_DEPTH = 64;

function scheduleIn(data: unknown, depth: number): Schedule {
  if (!isRecord(data) || !("schedule" in data)) {
    throw wrongKind(`scheduleFrom: expected what a schedule's toJSON gave, such as { schedule: "stepLR", … }`, data);
  }
  const { schedule: name, observed, ...options } = data;
  const all = factories as unknown as Readonly<Record<string, ScheduleFactory>>;
  if (typeof name !== "string" || !Object.hasOwn(all, name)) {
    throw noOption("scheduleFrom", "", typeof name === "string" ? name : show(name), Object.keys(all), "schedule");
  }
  const schedule = all[name]!(mapValues(options, (value) => revived(value, depth)));
  if (observed !== undefined) {
    if (!(schedule instanceof Plateau)) throw new TypeError(`scheduleFrom: ${name} observes nothing, got observed`);
    schedule.observed = revived(observed) as Observed;
  }
  return schedule;
}

/** Converts an option from JSON: data of schedules become schedules, and "Infinity" a number. */
export function revived(value: unknown, depth = 0): unknown {
  if (depth > MAX_DEPTH) throw new RangeError(`scheduleFrom: data must be at most ${MAX_DEPTH} levels deep, got more`);
  if (typeof value === "string" && /^(-?Infinity|NaN)$/.test(value)) return Number(value);
  if (Array.isArray(value)) return value.map((item) => revived(item, depth + 1));
  if (typeof value !== "object" || value === null) return value ?? undefined;
  if ("schedule" in value) return scheduleIn(value, depth + 1);
  return mapValues(value as Readonly<Record<string, unknown>>, (item) => revived(item, depth + 1));
}
