import * as downhill from "downhill";
import module from "downhill/kernels.wasm";
import { train } from "./train.mjs";

export default {
  async fetch() {
    const without = await downhill.createArena().catch(({ message }) => message);
    if (!String(without).includes("the option module")) return new Response(`no advice: ${without}`);
    return new Response(await train(downhill, { module }).catch(({ stack }) => stack));
  },
};
