import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const ts = fileURLToPath(new URL("ts/", import.meta.url));

export default defineConfig({
  // Examples import the package by its names.
  resolve: {
    alias: [
      { find: /^downhill$/, replacement: `${ts}index.ts` },
      { find: /^downhill\/(tfjs|jax|torch)$/, replacement: `${ts}$1/index.ts` },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/package/*/**"], // programs of other projects
    typecheck: { enabled: true, include: ["test/**/*.test-d.ts"] },
    testTimeout: 600_000,
    hookTimeout: 120_000,
    maxWorkers: "100%", // of the cores: what threads do is tested for its results
  },
});
