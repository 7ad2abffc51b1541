import * as jax from "@jax-js/jax";
import * as downhill from "downhill/jax";
import { fit } from "./fit.mjs";
console.log(await fit(jax, downhill));
