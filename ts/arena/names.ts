/** The names that tensors may have: those that a checkpoint can store. */

import { show } from "../option.js";

/** The name of the metadata in a file of tensors. */
export const METADATA = "__metadata__";
/** The prefix of the names of state in a checkpoint. */
export const STATE_PREFIX = "optimizer.";

/** The reason why no array in a file can have this name, or undefined. */
export function wrongName(name: string): string | undefined {
  if (name === METADATA || name === "__proto__") return "is reserved";
  if (/[\u0000-\u001f\u007f]/.test(name)) return "has control characters";
  return /\p{Surrogate}/u.test(name) ? "is no Unicode text" : undefined;
}

/** Throws a RangeError for a name that a tensor in a checkpoint cannot have. */
export function checkName(name: string): void {
  const wrong = name.startsWith(STATE_PREFIX) ? `begins with "${STATE_PREFIX}", the prefix of state` : wrongName(name);
  if (wrong) {
    throw new RangeError(`tensor ${show(name)}: a checkpoint cannot have this name, which ${wrong}; choose another`);
  }
}
