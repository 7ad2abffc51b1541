const js = { testMatch: ["**/*.test.js"], transform: {} };
const ts = {
  testMatch: ["**/*.test.ts"],
  transform: { "\\.ts$": ["ts-jest", { useESM: true, tsconfig: "tsconfig.json" }] },
  extensionsToTreatAsEsm: [".ts"],
};
export default {
  projects: ["node", "jsdom"].flatMap((testEnvironment) => [
    { displayName: testEnvironment, testEnvironment, ...js },
    { displayName: `ts-jest-${testEnvironment}`, testEnvironment, ...ts },
  ]),
};
