const tf = require("@tensorflow/tfjs");
const downhill = require("downhill/tfjs");
import("./fit.mjs").then(async ({ fit }) => console.log(await fit(tf, downhill)));
