/** A small convolutional network on MNIST through `model.fit`, twice: with TensorFlow.js's own Adam, and with downhill's. */

import * as tf from "@tensorflow/tfjs-core";
import * as layers from "@tensorflow/tfjs-layers";
import { adam } from "downhill/tfjs";

export interface Images {
  readonly count: number;
  readonly pixels: number;
  readonly images: Float32Array;
  readonly labels: Int32Array;
}

export interface Options {
  readonly train: Images;
  readonly test: Images;
  readonly samples: number;
  readonly epochs: number;
  readonly say: (line: string) => void;
}

const CLASSES = 10;

function network(): layers.Sequential {
  const seeded = (seed: number) => layers.initializers.glorotUniform({ seed });
  const { averagePooling2d, conv2d, maxPooling2d, flatten, dense } = layers.layers;
  return layers.sequential({
    layers: [
      averagePooling2d({ inputShape: [28, 28, 1], poolSize: 2 }), // the backend cpu would take minutes for all pixels
      conv2d({ filters: 8, kernelSize: 3, activation: "relu", kernelInitializer: seeded(1) }),
      maxPooling2d({ poolSize: 2 }),
      conv2d({ filters: 16, kernelSize: 3, activation: "relu", kernelInitializer: seeded(2) }),
      flatten(),
      dense({ units: CLASSES, activation: "softmax", kernelInitializer: seeded(3) }),
    ],
  });
}

const tensors = ({ images, labels, pixels }: Images, count: number) => ({
  x: tf.tensor(images.subarray(0, count * pixels), [count, 28, 28, 1]),
  y: tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d(labels.subarray(0, count), "int32"), CLASSES), "float32")),
});

/** Trains with both optimizers and reports the losses, the accuracies and the time of a step. */
export async function train({ train, test, samples, epochs, say }: Options): Promise<void> {
  const [fitted, held] = [tensors(train, Math.min(samples, train.count)), tensors(test, Math.min(1000, test.count))];
  const optimizers: [string, tf.Optimizer][] = [
    ["TensorFlow.js's Adam", tf.train.adam(1e-3)],
    ["downhill's adam", adam({ lr: 1e-3, eps: 1e-7 })],
  ];
  for (const [name, optimizer] of optimizers) {
    const times: number[] = [];
    const apply = optimizer.applyGradients.bind(optimizer);
    optimizer.applyGradients = (gradients) => {
      const start = performance.now();
      apply(gradients);
      times.push(performance.now() - start);
    };
    const model = network();
    model.compile({ optimizer, loss: "categoricalCrossentropy", metrics: ["accuracy"] });
    await model.fit(fitted.x, fitted.y, {
      ...{ epochs, batchSize: 64, shuffle: false, verbose: 0 },
      callbacks: {
        onEpochEnd: (epoch, logs) => say(`${name}: epoch ${epoch + 1}, loss ${logs!.loss!.toFixed(4)}`),
      },
    });
    const [loss, accuracy] = (model.evaluate(held.x, held.y) as tf.Scalar[]).map((scalar) => scalar.dataSync()[0]!);
    say(`${name}: test loss ${loss!.toFixed(4)}, accuracy ${(100 * accuracy!).toFixed(1)} %`);
    const median = times.sort((a, b) => a - b)[times.length >> 1]!;
    say(`${name}: a step takes ${median.toFixed(3)} ms, the median, on the backend ${tf.getBackend()}`);
    optimizer.dispose();
    model.dispose();
  }
  tf.dispose([fitted.x, fitted.y, held.x, held.y]);
}
