/** Checkpoints of a comparison: one file has the current run and the results of the finished ones. */

import { createArenaSync, loadFile, saveFile, type Tensor } from "downhill";
import { UserError } from "./errors.js";
import type { Entry } from "./runs.js";
import type { Course, Finished, Keep } from "./train.js";

/** The data of a checkpoint that is not tensors. */
interface Extra {
  /** The settings that must be the same to continue. */
  readonly setting: Readonly<Record<string, unknown>>;
  readonly finished: Readonly<Record<string, Finished>>;
  /** The current run. */
  readonly name: string;
  readonly course: Course;
}

export class Checkpoints {
  readonly #path: string | undefined;
  readonly #setting: Extra["setting"];
  /** The loss and the time of each step, by run. */
  readonly #logs: Readonly<Record<string, Tensor>>;
  #finished: Readonly<Record<string, Finished>> = {};
  #resumed: { readonly path: string; readonly extra: Extra } | undefined;

  /**
   * @param path where to save; undefined for nowhere
   * @param steps the number of steps of each run, by name
   * @param setting the settings that determine the results
   */
  constructor(path: string | undefined, steps: Readonly<Record<string, number>>, setting: Extra["setting"]) {
    this.#path = path;
    this.#setting = setting;
    const shapes = Object.entries(steps).flatMap(([name, steps]) =>
      ["loss", "seconds"].map((what) => [`${name}.${what}`, [steps]] as const),
    );
    this.#logs = createArenaSync({ threads: 1 }).tensors(Object.fromEntries(shapes));
  }

  /** Reads the finished runs from a file. The current run is restored when its turn comes. */
  async resume(path: string): Promise<void> {
    const { extra } = (await loadFile(path, this.#logs, undefined, { strict: false }).catch(explain)) as {
      extra?: Extra;
    };
    for (const [name, here] of Object.entries(this.#setting)) {
      const [was, is] = [extra?.setting?.[name], here].map((value) => JSON.stringify(value));
      if (was !== is) throw new UserError(`--resume: ${path} is of a run with ${name} ${was}, this is one with ${is}`);
    }
    this.#finished = extra!.finished;
    this.#resumed = { path, extra: extra! };
  }

  /** The result of a run, if it is finished. */
  finished({ name }: Entry): Finished | undefined {
    return this.#finished[name];
  }

  finish({ name }: Entry, result: Finished): void {
    this.#finished = { ...this.#finished, [name]: result };
  }

  /** The log of a run, and how it is saved and restored. */
  of({ name }: Entry): Keep {
    const tensors = (model: Readonly<Record<string, Tensor>>) => [
      ...Object.values(model),
      ...Object.values(this.#logs),
    ];
    return {
      log: { loss: this.#logs[`${name}.loss`]!.data, seconds: this.#logs[`${name}.seconds`]!.data },
      restore: async (model, [optimizer]) => {
        if (this.#resumed?.extra.name !== name) return undefined;
        await loadFile(this.#resumed.path, tensors(model), optimizer);
        return this.#resumed.extra.course;
      },
      save: async (model, [optimizer], course) => {
        if (this.#path === undefined) return;
        const extra: Extra = { setting: this.#setting, finished: this.#finished, name, course };
        await saveFile(this.#path, tensors(model), optimizer, extra).catch(explain);
      },
    };
  }
}

function explain(error: Error): never {
  throw new UserError(error.message);
}
