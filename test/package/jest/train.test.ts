import * as downhill from "downhill";
import { train } from "./train.mjs";

test("trains", async () => {
  expect(await train(downhill)).toBe("trained, on several threads");
});
