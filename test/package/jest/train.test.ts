import * as downhill from "downhill";

test("trains", () => {
  const arena = downhill.createArenaSync({ threads: 1 });
  const { w } = arena.tensors({ w: [3] });
  const optimizer = downhill.sgd({ w }, { lr: 0.5 });
  w.grad.fill(1);
  optimizer.step();
  expect([...w.data]).toEqual([-0.5, -0.5, -0.5]);
});
