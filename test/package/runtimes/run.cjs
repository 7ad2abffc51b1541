const downhill = require("downhill");
import("./train.mjs").then(async ({ train }) => console.log(await train(downhill)));
