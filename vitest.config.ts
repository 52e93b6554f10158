import { configDefaults, defineConfig } from 'vitest/config';

/** Needs an executable that nobody can install: test/conformance/README.md says how to build it. */
const CONFORMANCE_SUITE = 'test/conformance/suite.test.ts';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...configDefaults.exclude, ...(process.env.VENEER_CONFORMANCE ? [] : [CONFORMANCE_SUITE])],
    testTimeout: 20_000,
  },
});
