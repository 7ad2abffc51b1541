/** Helpers of tests that run in Node and in browsers. */

import * as tf from "@tensorflow/tfjs-core";

/** Numbers that are the same in every run. */
export function numbers(size: number, seed: number): Float32Array {
  let state = (seed + 1) * 2654435761;
  return Float32Array.from({ length: size }, () => {
    state = Math.imul(state ^ (state >>> 15), 2246822519) + 374761393;
    return ((state >>> 8) / 2 ** 24 - 0.5) * 2;
  });
}

/** Returns the numbers of tensors and buffers. */
export const counted = () => {
  const { numTensors, numDataBuffers } = tf.memory();
  return { numTensors, numDataBuffers };
};
