// Made from crate/ by `npm run kernels`; do not edit it.

/** The fingerprint of the sources, by scripts/project.mjs. */
export const sources = "b3cb6f9305d1eb3e";

/** The alphabet of the kernels' texts. A byte is an index in it; larger ones are one of the last two characters and another. */
export const alphabet =
  "!#%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz{|}~";
