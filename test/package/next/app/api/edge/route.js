import * as downhill from "downhill";
import module from "downhill/kernels.wasm?module";
import { train } from "../../../train.mjs";

export const runtime = "edge";
export const GET = async () => new Response(await train(downhill, { module }).catch(({ stack }) => stack));
