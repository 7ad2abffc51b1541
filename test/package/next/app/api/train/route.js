import * as downhill from "downhill";
import { train } from "../../../train.mjs";

export const dynamic = "force-dynamic";
export const GET = async () => new Response(await train(downhill).catch(({ stack }) => stack));
