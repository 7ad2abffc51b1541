/**
 * A clock, and turns of the event loop. Tests often replace timers and clocks by fakes that do not advance (Jest, Vitest,
 * sinon). So steps use what Node's own modules have, and what the globals were at the time of import.
 */

import { allowed, nodeModule } from "./platform.js";

const { performance } = nodeModule("perf_hooks") ?? globalThis;
const clock = performance.now;

const { setImmediate } = nodeModule("timers") ?? {};
/** Node's `setImmediate`; undefined in browsers, and if it was a fake at the time of import. Only fakes have a clock. */
const immediate = setImmediate && "clock" in setImmediate ? undefined : setImmediate;

/** Milliseconds, for intervals. */
export const now = (): number => clock.call(performance);

/** Globals, or what Node's module has of them. */
interface Turns {
  readonly scheduler?: { postTask?(task: () => void): Promise<void> };
  readonly document?: { readonly defaultView: Window | null };
  readonly MessageChannel?: typeof globalThis.MessageChannel;
}

/** Returns a promise that is fulfilled in the next turn of the event loop. A timer would wait for some milliseconds. */
export function nextTurn(): Promise<void> {
  if (immediate) return new Promise((resolve) => void immediate(resolve));
  const { scheduler, document, MessageChannel } = (nodeModule("worker_threads") ?? globalThis) as Turns;
  if (scheduler?.postTask) return scheduler.postTask(() => {});
  return new Promise((resolve) => {
    if (document?.defaultView) return sendToItself(document.defaultView, resolve);
    // A channel for each turn: Node takes many messages of one channel in the same turn.
    const channel = allowed(() => MessageChannel && new MessageChannel());
    if (channel === undefined) return void setTimeout(resolve);
    const { port1, port2 } = channel;
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}

const TURN = "downhill turn";

/**
 * Sends a message to the page itself, and calls `resolve` when it arrives. WebKit has no `postTask`, and sends messages of a
 * channel through another process, which takes a millisecond.
 */
function sendToItself(page: Window, resolve: () => void): void {
  const listener = (event: MessageEvent) => {
    if (event.data !== TURN || event.source !== page) return;
    event.stopImmediatePropagation(); // the page's own listeners do not expect it
    page.removeEventListener("message", listener, { capture: true });
    resolve();
  };
  page.addEventListener("message", listener, { capture: true });
  page.postMessage(TURN, "*");
}
