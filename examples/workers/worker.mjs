// Starts gradients.ts in a worker. On Node 20, workers do not inherit the loader for TypeScript.
import { tsImport } from "tsx/esm/api";

await tsImport("./gradients.ts", import.meta.url);
