import * as downhill from "downhill";
import { train } from "./train.mjs";
globalThis.report = train(downhill).catch(String);
