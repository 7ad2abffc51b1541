const test = (displayName, testEnvironment, extension, transform) => ({
  displayName,
  testEnvironment,
  transform,
  testMatch: [`**/*.test.${extension}`],
  extensionsToTreatAsEsm: extension === "ts" ? [".ts"] : [],
});
export default {
  projects: [
    test("node", "node", "js", {}),
    test("jsdom", "jsdom", "js", {}),
    test("ts-jest", "node", "ts", { "\\.ts$": ["ts-jest", { useESM: true, tsconfig: "tsconfig.json" }] }),
  ],
};
