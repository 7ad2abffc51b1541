/** The shapes of the tensors of well-known models. An optimizer depends on a model only through these. */

import type { Shape } from "downhill";

const repeat = <T>(count: number, items: readonly T[]): T[] => Array.from({ length: count }, () => items).flat();

/** LeCun et al., 1998, with dense connections between the second pooling and the third convolution: 61,706 parameters. */
const lenet5: Shape[] = [
  [6, 1, 5, 5], [6],
  [16, 6, 5, 5], [16],
  [120, 400], [120],
  [84, 120], [84],
  [10, 84], [10],
]; // prettier-ignore

/** He et al., 2015, as in torchvision: 11,689,512 parameters. */
function resnet18(): Shape[] {
  const norm = (channels: number): Shape[] => [[channels], [channels]];
  const block = (from: number, to: number): Shape[] => [
    [to, from, 3, 3],
    ...norm(to),
    [to, to, 3, 3],
    ...norm(to),
    ...(from === to ? [] : [[to, from, 1, 1], ...norm(to)]),
  ];
  const stages = [64, 128, 256, 512].flatMap((to, i) => [...block(i === 0 ? 64 : to / 2, to), ...block(to, to)]);
  return [[64, 3, 7, 7], ...norm(64), ...stages, [1000, 512], [1000]];
}

/** GPT-2 small: Radford et al., 2019. The output layer and the embedding are one tensor: 124,439,808 parameters. */
function gpt2(): Shape[] {
  const width = 768;
  const norm: Shape[] = [[width], [width]];
  const layer: Shape[] = [
    ...norm,
    [width, 3 * width], [3 * width],
    [width, width], [width],
    ...norm,
    [width, 4 * width], [4 * width],
    [4 * width, width], [width],
  ]; // prettier-ignore
  return [[50257, width], [1024, width], ...repeat(12, layer), ...norm];
}

export const models: Readonly<Record<string, readonly Shape[]>> = {
  "100 of 64 x 64": repeat(100, [[64, 64]]),
  "LeNet-5": lenet5,
  "ResNet-18": resnet18(),
  "GPT-2 small": gpt2(),
};
