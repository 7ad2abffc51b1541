/** PyTorch and Optax, each in a Python process of its own that times its own steps when asked. */

import { type ChildProcess, spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Peer } from "./peer.js";

const here = dirname(fileURLToPath(import.meta.url));

/** Makes a peer from a Python script in this folder. */
export function pythonPeer(script: string): Peer {
  let child: ChildProcess | undefined;
  let answers: AsyncIterator<string>;
  let threads: readonly number[];

  /** Sends a request and waits for the answer. Each is one line of JSON. */
  async function ask(request: object): Promise<any> {
    child!.stdin!.write(`${JSON.stringify(request)}\n`);
    return receive();
  }
  async function receive(): Promise<any> {
    const { value, done } = await answers.next();
    if (done) throw new Error(`${script} ended without an answer`);
    const answer = JSON.parse(value);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer;
  }

  return {
    async start({ python, threads: counts }) {
      if (python === undefined) throw new Error("no --python was given (npm run bench -- --help says how to make one)");
      threads = counts;
      child = spawn(python, [join(here, script)], { stdio: ["pipe", "pipe", "ignore"] });
      await new Promise((started, failed) => child!.once("spawn", started).once("error", failed));
      answers = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
      return (await receive()).version;
    },
    async arms(work) {
      const names: string[] = (await ask({ make: work, threads })).arms;
      return names.map((name, i) => ({
        name,
        time: async (count, pause) => (await ask({ arm: name, count, pause })).nanoseconds,
        end: i === 0 ? () => ask({ end: true }) : undefined,
      }));
    },
    stop: () => child?.kill(),
  };
}
