import { createRequire } from "node:module";

// A regression whose loss falls, and a saved model that goes on as the one that was not saved.
export async function fit(tf, { adamw }) {
  const cores = Object.keys(createRequire(import.meta.url).cache).filter((file) =>
    file.includes("tfjs-core/dist/tf-core"),
  );
  if (cores.length !== 1) throw new Error(`tfjs-core is loaded from ${cores.join(", ") || "no known file"}`);
  const x = tf.randomUniform([64, 3], 0, 1, "float32", 1);
  const y = x.matMul([[2], [-1], [0.5]]).add(1);
  const losses = async (model) => {
    const { history } = await model.fit(x, y, { epochs: 40, batchSize: 16, shuffle: false, verbose: 0 });
    return history.loss;
  };
  const model = tf.sequential({ layers: [tf.layers.dense({ units: 1, inputShape: [3], kernelInitializer: "zeros" })] });
  model.compile({ optimizer: adamw({ lr: 0.05, weightDecay: 0 }), loss: "meanSquaredError" });
  const first = await losses(model);
  if (!(first[39] < first[0] / 20)) throw new Error(`the loss fell from ${first[0]} to ${first[39]} only`);

  let saved;
  const handler = tf.io.withSaveHandler(async (artifacts) => {
    saved = artifacts;
    return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: "JSON" } };
  });
  await model.save(handler, { includeOptimizer: true });
  const loaded = await tf.loadLayersModel(tf.io.fromMemory(saved));
  const [whole, resumed] = [await losses(model), await losses(loaded)];
  if (String(whole) !== String(resumed)) throw new Error(`the saved model differs: ${whole}; ${resumed}`);
  if (!(resumed[39] < first[39])) throw new Error(`the loss went from ${first[39]} to ${resumed[39]}`);
  return "trained, saved, and went on";
}
