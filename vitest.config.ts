import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  // The example imports the package by its name.
  resolve: { alias: { downhill: fileURLToPath(new URL("ts/index.ts", import.meta.url)) } },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/package/*/**"], // programs of other projects
    typecheck: { enabled: true, include: ["test/**/*.test-d.ts"] },
    testTimeout: 600_000,
    hookTimeout: 120_000,
    maxWorkers: "100%", // of the cores: what threads do is tested for its results
  },
});
