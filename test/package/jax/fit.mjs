// A regression whose loss falls.
export async function fit({ defaultDevice, init, numpy: np, random, tree, valueAndGrad }, { adamw }) {
  await init("wasm");
  defaultDevice("wasm");
  const x = random.uniform(random.key(1), [64, 3]);
  const loss = ({ w, b }) => np.mean(np.square(np.matmul(x.ref, w).add(b).sub(x.ref.sum(1))));
  const solver = adamw({ lr: 0.05, weightDecay: 0 });
  let params = { w: np.zeros([3]), b: np.ones([1]) };
  let state = solver.init(tree.ref(params));
  const losses = [];
  for (let step = 0; step < 200; step++) {
    const [value, grads] = valueAndGrad(loss)(tree.ref(params));
    losses.push(value.js());
    [params, state] = solver.step(params, grads, state);
  }
  if (!(losses[199] < losses[0] / 50)) throw new Error(`the loss fell from ${losses[0]} to ${losses[199]} only`);
  return "trained";
}
