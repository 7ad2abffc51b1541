// Made from crate/ by `npm run kernels`; do not edit it.

/** The fingerprint of the sources, by scripts/project.mjs. */
export const sources = "5e1ab931e7dce8f4";

/** The alphabet of the kernels' texts. A byte is an index in it; larger ones are one of the last two characters and another. */
export const alphabet =
  "!#%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_abcdefghijklmnopqrstuvwxyz{|}~";
