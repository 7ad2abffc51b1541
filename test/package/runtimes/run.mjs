import * as downhill from "downhill";
import { train } from "./train.mjs";
console.log(await train(downhill));
