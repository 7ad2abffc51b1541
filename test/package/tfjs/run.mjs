import * as tf from "@tensorflow/tfjs";
import * as downhill from "downhill/tfjs";
import { fit } from "./fit.mjs";
console.log(await fit(tf, downhill));
