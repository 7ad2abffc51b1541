/** The page: the same training in a browser, on the backend `cpu`. `?samples=2000&epochs=2` */

import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-backend-cpu";
import { type Images, train } from "./train.js";

/** The bytes of a file of MNIST after its header. */
async function read(name: string, header: number): Promise<Uint8Array> {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer()).subarray(header);
}

async function load(name: string): Promise<Images> {
  const images = Float32Array.from(await read(`${name}-images-idx3-ubyte`, 16), (byte) => byte / 255);
  const labels = Int32Array.from(await read(`${name}-labels-idx1-ubyte`, 8));
  return { count: labels.length, pixels: images.length / labels.length, images, labels };
}

const chosen = new URLSearchParams(location.search);
const number = (name: string, usual: number) => Number(chosen.get(name) ?? usual);
const say = (line: string) => document.body.append(line, document.createElement("br"));
await tf.setBackend("cpu");
await train({
  ...{ train: await load("train"), test: await load("t10k") },
  ...{ samples: number("samples", 1280), epochs: number("epochs", 2), say },
}).catch((error) => say(String(error)));
say("done");
