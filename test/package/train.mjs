// The same training loop for every host: a regression whose loss falls to the same bits everywhere, a checkpoint that continues to
// these bits, and a step that all threads share. The result is one line of text.
export async function train({ adamw, batches, createArena, load, save }, options = {}) {
  const arena = await createArena(options);
  const make = (arena) => {
    const model = arena.tensors({ weights: [3], bias: [1] });
    return { model, optimizer: adamw(model, { lr: 0.05, weightDecay: 0 }) };
  };
  const inputs = Array.from({ length: 64 }, (_, i) => [((i * 7) % 11) / 11, ((i * 5) % 13) / 13, ((i * 3) % 17) / 17]);
  const targets = inputs.map(([x, y, z]) => 2 * x - y + 0.5 * z + 1);
  const epoch = ({ model, optimizer }, seed) => {
    let loss = 0;
    for (const batch of batches(inputs.length, 16, { seed })) {
      model.weights.grad.fill(0);
      model.bias.grad.fill(0);
      for (const i of batch) {
        const input = inputs[i];
        const error = input.reduce((sum, x, k) => sum + x * model.weights.data[k], model.bias.data[0]) - targets[i];
        loss += (error * error) / inputs.length;
        input.forEach((x, k) => (model.weights.grad[k] += (2 * error * x) / batch.length));
        model.bias.grad[0] += (2 * error) / batch.length;
      }
      optimizer.step();
    }
    return loss;
  };
  const run = make(arena);
  const losses = Array.from({ length: 60 }, (_, seed) => epoch(run, seed));
  const file = save(run.model, run.optimizer);
  const resumed = make(await createArena({ ...options, threads: 1 }));
  load(file, resumed.model, resumed.optimizer);
  for (const one of [run, resumed]) epoch(one, 60);
  if (String(run.model.weights.data) !== String(resumed.model.weights.data)) throw new Error("the checkpoint differs");
  if (!(losses[59] < losses[0] / 50)) throw new Error(`the loss fell from ${losses[0]} to ${losses[59]} only`);
  const result = String([...run.model.weights.data, ...run.model.bias.data]);
  if (result !== "2.0041327476501465,-0.9956533908843994,0.5037961006164551,0.9939717650413513") {
    throw new Error(`other parameters than elsewhere: ${result}`);
  }

  const large = arena.tensor("large", [2 ** 19]);
  large.grad.fill(1);
  const optimizer = adamw([large], { lr: 1, weightDecay: 0 });
  optimizer.step();
  await optimizer.stepAsync();
  if (!large.data.every((x) => x === -2)) throw new Error("a step on all threads is wrong");
  const { threads } = arena;
  arena.free();
  return `trained, on ${threads > 1 ? "several threads" : "one thread"}`;
}
