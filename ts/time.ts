/**
 * A clock, and turns of the event loop. Tests often replace timers and clocks by fakes that do not advance (Jest, Vitest,
 * sinon). So steps use what Node's own modules have, and what the globals were at the time of import.
 */

import { EMPTY_MODULE, nodeModule } from "./platform.js";

const { performance } = nodeModule("perf_hooks") ?? globalThis;
const clock = performance.now;

const { setImmediate } = nodeModule("timers") ?? {};
/** Node's `setImmediate`; undefined in browsers, and if it was a fake at the time of import. Only fakes have a clock. */
const immediate = setImmediate && "clock" in setImmediate ? undefined : setImmediate;

/** Milliseconds, for intervals. */
export const now = (): number => clock.call(performance);

/** Returns a promise that is fulfilled in the next turn of the event loop. A timer would wait for some milliseconds. */
export const nextTurn = (): Promise<void> =>
  new Promise((resolve) => {
    if (immediate) return void immediate(resolve);
    const { MessageChannel } = nodeModule("worker_threads") ?? {};
    // Browsers compile in another thread. No task of this one waits until the result comes, so a page can show a frame. A
    // timer is for platforms that forbid to compile.
    if (!MessageChannel)
      return void WebAssembly.compile(EMPTY_MODULE).then(
        () => resolve(),
        () => setTimeout(resolve),
      );
    // A channel for each turn: Node takes many messages of one channel in the same turn.
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
