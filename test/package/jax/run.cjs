const downhill = require("downhill/jax");
// `require("@jax-js/jax")` would load a second copy of it, for CommonJS.
Promise.all([import("@jax-js/jax"), import("./fit.mjs")]).then(async ([jax, { fit }]) =>
  console.log(await fit(jax, downhill)),
);
