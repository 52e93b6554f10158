import { configDefaults, defineConfig } from 'vitest/config';

/** Needs an executable that nobody can install: test/conformance/README.md says how to build it. */
const CONFORMANCE_SUITE = 'test/conformance/suite.test.ts';
/** They measure, or share the machine's own docker, containerd and disks: one file at a time, and nothing beside it. */
const ALONE = ['test/attacks/**/*.test.ts', 'test/clients/**/*.test.ts', 'test/faults/**/*.test.ts'];
const LEFT_OUT = [...configDefaults.exclude, ...(process.env.VENEER_CONFORMANCE ? [] : [CONFORMANCE_SUITE])];

export default defineConfig({
  test: {
    // They end what hangs: how fast something is no test of ours tells by them, for a machine may be as slow as it likes.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 30_000, interval: 20 } },
    projects: [
      {
        extends: true,
        test: {
          name: 'many',
          include: ['test/**/*.test.ts'],
          exclude: [...LEFT_OUT, ...ALONE],
          maxWorkers: '100%',
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: ALONE,
          exclude: LEFT_OUT,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
