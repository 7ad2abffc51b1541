/** The peer downhill: this build, and with `--against` another build. */

import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type * as downhill from "downhill";
import { root } from "../../scripts/project.mjs";
import { type Arm, arm, asyncArm } from "../stopwatch.js";
import { factoryIn, type Work } from "../work.js";
import { fillGradient, inThreads, type Peer, type Settings } from "./peer.js";

type Build = typeof downhill;

/** Makes an arena with the tensors of a work, and an optimizer of them. */
export async function setUp(build: Build, { shapes, rule, options, whole }: Work, threads: number) {
  const arena = await build.createArena({ threads });
  const model = arena.tensors(Object.fromEntries(shapes.map((shape, i) => [`w${i}`, shape])));
  for (const { data, grad } of Object.values(model)) {
    data.fill(0.5);
    fillGradient(grad);
  }
  const optimizer = factoryIn(build, rule)(model, { ...options, ...(whole && { clipNorm: 1, ema: 0.999 }) });
  return { arena, model, optimizer };
}

export function downhillPeer(): Peer {
  const builds: { readonly name: string; readonly build: Build }[] = [];
  let threads: readonly number[] = [];
  return {
    async start(settings: Settings) {
      threads = settings.threads;
      const folders = [root, ...(settings.against === undefined ? [] : [resolve(settings.against)])];
      for (const [i, folder] of folders.entries()) {
        const build = (await import(pathToFileURL(join(folder, "dist/index.js")).href)) as Build;
        builds.push({ name: i === 0 ? "downhill" : "downhill of the other build", build });
      }
      return "downhill";
    },
    async arms(work) {
      const arms: Arm[] = [];
      for (const count of threads) {
        for (const { name, build } of builds) {
          const { arena, optimizer } = await setUp(build, work, count);
          const title = `${name}, ${inThreads(count)}`;
          arms.push(arm(title, () => optimizer.step(), () => arena.free())); // prettier-ignore
          if (work.case === "async") arms.push(asyncArm(`${title}, stepAsync`, () => optimizer.stepAsync()));
        }
      }
      return arms;
    },
  };
}
