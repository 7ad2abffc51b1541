import * as downhill from "downhill";
import { train } from "./train.mjs";
train(downhill).then(postMessage, (error) => postMessage(String(error)));
