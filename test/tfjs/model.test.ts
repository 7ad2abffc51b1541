/** Models of tfjs-layers: compile, fit, save, load. */

import * as tf from "@tensorflow/tfjs-core";
import * as layers from "@tensorflow/tfjs-layers";
import { describe, expect, test } from "vitest";
import { train } from "../../examples/tfjs/train.js";
import { examples } from "../registry.js";
import * as downhill from "../../ts/tfjs/index.js";
import { adam, adamw, scheduleFreeAdamw, sgd } from "../../ts/tfjs/index.js";
import { warmupCosineDecay } from "../../ts/schedules/index.js";
import { configOf, optionsFrom } from "../../ts/tfjs/config.js";
import { backends, counted, numbers, use } from "./backends.js";

const loss = "meanSquaredError";
const data = () => ({ x: tf.tensor(numbers(64 * 6, 1), [64, 6]), y: tf.tensor(numbers(64, 2), [64, 1]) });

function model(optimizer: tf.Optimizer) {
  const seed = (seed: number) => layers.initializers.glorotUniform({ seed });
  const model = layers.sequential({
    layers: [
      layers.layers.dense({ inputShape: [6], units: 9, activation: "relu", kernelInitializer: seed(1) }),
      layers.layers.dense({ units: 1, kernelInitializer: seed(2) }),
    ],
  });
  model.compile({ optimizer, loss }); // compiles without a cast
  return model;
}

test("the example trains a convolutional network with both optimizers", async () => {
  await use("cpu");
  const images = (count: number) => ({
    count,
    pixels: 784,
    images: numbers(count * 784, 3),
    labels: Int32Array.from({ length: count }, (_, i) => i % 10),
  });
  const lines: string[] = [];
  const say = (line: string) => void lines.push(line);
  await train({ train: images(64), test: images(16), samples: 64, epochs: 2, say });
  const losses = lines.flatMap((line) => /(epoch \d,|test) loss (\S+\d)/.exec(line)?.[2] ?? []).map(Number);
  expect(losses).toHaveLength(6);
  expect(losses.slice(3)).toEqual(losses.slice(0, 3));
  expect(losses[1]).toBeLessThan(losses[0]!);
});

/** A place in memory for a saved model. */
function storage() {
  let saved: tf.io.ModelArtifacts;
  return {
    save: async (artifacts: tf.io.ModelArtifacts) => {
      saved = JSON.parse(JSON.stringify(artifacts)); // as a file has it
      saved.weightData = artifacts.weightData!;
      return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" as const } };
    },
    load: async () => saved,
  };
}

const weightsOf = (model: layers.LayersModel) => model.getWeights().map((weight) => [...weight.dataSync()]);

async function fit(model: layers.LayersModel, epochs: number): Promise<number[]> {
  const { x, y } = data();
  const { history } = await model.fit(x, y, { epochs, batchSize: 16, shuffle: false, verbose: 0 });
  tf.dispose([x, y]);
  return history.loss as number[];
}

describe.each(backends)("on %s", (backend) => {
  test("fit lowers the loss, and follows TensorFlow.js's own Adam", async () => {
    await use(backend);
    const ours = model(adam({ lr: 0.01, eps: 1e-7 }));
    const theirs = model(tf.train.adam(0.01));
    const [here, there] = [await fit(ours, 5), await fit(theirs, 5)];
    expect(here.at(-1)).toBeLessThan(here[0]!);
    here.forEach((loss, i) => expect(loss).toBeCloseTo(there[i]!, 4));
  });

  test("a saved model goes on as one that was not saved", async () => {
    await use(backend);
    const lr = warmupCosineDecay({ peakValue: 0.02, warmupSteps: 4, decaySteps: 100 });
    const optimizer = () =>
      adamw({ lr, weightDecay: 0.1, clipNorm: 1, groups: [{ variables: /bias/, weightDecay: 0 }] });
    const whole = model(optimizer());
    await fit(whole, 2);
    const place = storage();
    await whole.save(place, { includeOptimizer: true });
    const loaded = await layers.loadLayersModel(place);
    expect(loaded.optimizer.getConfig()).toEqual(whole.optimizer.getConfig());
    expect(loaded.optimizer.iterations).toBe(whole.optimizer.iterations);
    await fit(whole, 2);
    await fit(loaded, 2);
    expect(weightsOf(loaded)).toEqual(weightsOf(whole));
  });

  test("nothing leaks", async () => {
    await use(backend);
    const before = counted();
    const optimizer = scheduleFreeAdamw({ ema: 0.9 });
    const network = model(optimizer);
    await fit(network, 1);
    await network.save(storage(), { includeOptimizer: true });
    const between = counted();
    await fit(network, 2);
    optimizer.eval();
    optimizer.train();
    await network.save(storage(), { includeOptimizer: true });
    expect(counted()).toEqual(between);
    optimizer.dispose();
    network.dispose();
    expect(counted()).toEqual(before);
  });
});

test("the parameters of evaluation, and those of training again", async () => {
  await use("wasm");
  const optimizer = scheduleFreeAdamw({ lr: 0.05 });
  const network = model(optimizer);
  await fit(network, 2);
  const training = weightsOf(network);
  optimizer.eval();
  expect(weightsOf(network)).not.toEqual(training);
  await expect(fit(network, 1)).rejects.toThrow("call train() first");
  optimizer.train();
  expect(weightsOf(network)).toEqual(training);
  await fit(network, 1);
});

describe("a model that was loaded beside the one that was saved, whose variables have other names", () => {
  async function savedAndLoaded(optimizer: tf.Optimizer) {
    const network = model(optimizer);
    await fit(network, 2);
    const place = storage();
    await network.save(place, { includeOptimizer: true });
    return [network, await layers.loadLayersModel(place)] as const;
  }

  test.each([adam, sgd])("has the same groups", async (factory) => {
    await use("cpu");
    const [network, loaded] = await savedAndLoaded(factory({ groups: [{ variables: /bias$/, lr: 0 }] }));
    expect(loaded.trainableWeights.map(({ name }) => name)).not.toEqual(
      network.trainableWeights.map(({ name }) => name),
    );
    await fit(network, 2);
    await fit(loaded, 2);
    expect(weightsOf(loaded)).toEqual(weightsOf(network));
  });

  test("has the state of the layers that are not frozen, and later of those that were", async () => {
    await use("cpu");
    const network = model(adam({ lr: 0.05 }));
    const setTrainable = (network: layers.LayersModel, trainable: boolean) => {
      network.layers[0]!.trainable = trainable;
      network.compile({ optimizer: network.optimizer, loss });
    };
    await fit(network, 2);
    setTrainable(network, false);
    const place = storage();
    await network.save(place, { includeOptimizer: true });
    const loaded = await layers.loadLayersModel(place);
    for (const trainable of [false, true]) {
      for (const one of [network, loaded]) {
        setTrainable(one, trainable);
        await fit(one, 2);
      }
      expect(weightsOf(loaded)).toEqual(weightsOf(network));
    }
  });

  test("refuses eval() before its first step, and is not saved before train()", async () => {
    await use("cpu");
    const [, loaded] = await savedAndLoaded(scheduleFreeAdamw({ lr: 0.05 }));
    const optimizer = loaded.optimizer as ReturnType<typeof scheduleFreeAdamw>;
    expect(() => optimizer.eval()).toThrow("gets its variables at the next step; make it first");
    await fit(loaded, 1);
    optimizer.eval();
    await expect(optimizer.getWeights()).rejects.toThrow("call train() first");
    optimizer.train();
    await optimizer.getWeights();
  });
});

test("copies of a model's weights stay as they are", async () => {
  for (const backend of backends) {
    await use(backend);
    const online = model(adam({ lr: 0.1 }));
    await fit(online, 1);
    const target = model(adam());
    target.setWeights(online.getWeights()); // TensorFlow.js shares the data
    const copied = weightsOf(target);
    const clones = online.getWeights().map((weight) => tf.clone(weight));
    const reshaped = online.getWeights().map((weight) => tf.reshape(weight, [-1]));
    await fit(online, 1);
    expect(weightsOf(target)).toEqual(copied);
    expect(clones.map((clone) => [...clone.dataSync()])).toEqual(copied);
    expect(reshaped.map((clone) => [...clone.dataSync()])).toEqual(copied);
    expect(weightsOf(online)).not.toEqual(copied);
  }
});

test("tf.memory() counts what it counts for TensorFlow.js's own", async () => {
  await use("wasm");
  const count = (optimizer: tf.Optimizer) => {
    const variable = tf.variable(tf.zeros([16]));
    const before = tf.memory();
    tf.tidy(() => optimizer.applyGradients({ [variable.name]: tf.ones([16]) }));
    const after = tf.memory();
    return after.numTensors - before.numTensors;
  };
  expect(count(adam())).toBe(2 + 1); // the moments, and the memory of the kernels
  expect(count(tf.train.adam(0.1))).toBe(2);
});

describe("options as data", () => {
  test.each(Object.entries(downhill).map(([name, factory]) => [name, factory] as const))("%s", (_, factory) => {
    const optimizer = factory();
    expect(optimizer).toBeInstanceOf(tf.Optimizer);
    const { constructor } = optimizer as any;
    const again = constructor.fromConfig(constructor, optimizer.getConfig());
    expect(again.getConfig()).toEqual(optimizer.getConfig());
    expect(optimizer.getClassName()).toMatch(/^Downhill[A-Z]/);
    optimizer.dispose();
  });

  /** As tfjs-layers reads a file: `convertPythonicToTs`. */
  const read = (data: any): any => {
    const camel = (text: string) => text.replace(/_+(\w|$)/g, (_, letter) => letter.toUpperCase());
    if (typeof data === "string") return camel(data);
    if (Array.isArray(data)) return data.map(read);
    if (typeof data !== "object" || data === null) return data;
    return Object.fromEntries(Object.entries(data).map(([key, item]) => [camel(key), read(item)]));
  };
  const throughFile = (options: object) =>
    optionsFrom({ ...read(JSON.parse(JSON.stringify(configOf(adamw.rule, options as any, [])))), customObjects: {} });

  test.each(examples.map((schedule) => [schedule.name, schedule] as const))("schedule %s", (_, schedule) => {
    const { lr } = throughFile({ lr: schedule }) as { lr: typeof schedule };
    for (let step = 0; step < 100; step++) expect(lr.at(step)).toBe(schedule.at(step));
  });

  test("infinite numbers, and words with an underscore", () => {
    const options = { clipNorm: Infinity, adjustLr: "match_rms_adamw", betas: [0.9, 0.99] };
    expect(throughFile(options)).toEqual(options);
  });

  test("a function is refused", () => {
    expect(() => adamw({ lr: () => 1 }).getConfig()).toThrow("adamw: lr is a function, which a file cannot hold");
  });

  test.each([
    [null, "fromConfig: config must be what getConfig() returned, got null"],
    [[], "fromConfig: config must be what getConfig() returned, got []"],
    [{ groups: {} }, "adamw: groups must be a list of groups { variables, ...options }, got an object (Object)"],
    [{ groups: [null] }, "adamw: groups[0] must be { variables, ...options }, with a pattern"],
    [{ groups: [{ variables: {} }] }, "adamw: groups[0] must be { variables, ...options }, with a pattern"],
  ])("a config that is damaged is refused: %j", (config, message) => {
    const { constructor } = adamw() as any;
    expect(() => constructor.fromConfig(constructor, config)).toThrow(message);
  });

  test("the present hyper-parameters", () => {
    const optimizer = adamw({ lr: 0.1 });
    optimizer.hyper.lr = 0.2;
    optimizer.hyper.eps = 1e-6;
    expect(optimizer.getConfig()).toEqual({ lr: 0.2, eps: 1e-6 });
    optimizer.hyper.lr = 1e-3; // the default
    expect(optimizer.getConfig()).toEqual({ lr: 1e-3, eps: 1e-6 });
  });

  test("the present hyper-parameters of groups", () => {
    const optimizer = sgd({ lr: 0.1, groups: [{ variables: ["a"], momentum: 0.9 }, { variables: ["b"] }] });
    expect(() => ((optimizer.groups[0] as any).hyper = { lr: 1 })).toThrow("hyper is always the same object");
    optimizer.groups[0]!.hyper.lr = 0.5;
    optimizer.groups[2]!.hyper.lr = 0.2;
    const groups = [
      { variables: ["a"], lr: 0.5, momentum: 0.9 },
      { variables: ["b"], lr: 0.1 },
    ];
    expect(optimizer.getConfig()).toEqual({ lr: 0.2, groups });
  });
});
