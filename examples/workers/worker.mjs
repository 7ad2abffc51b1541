// Starts gradients.ts in a worker: on Node 20 workers do not inherit the loader of TypeScript.
import { tsImport } from "tsx/esm/api";

await tsImport("./gradients.ts", import.meta.url);
