import { statfsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { configDefaults, defineConfig } from 'vitest/config';
import { FlakyTests } from './test/support/flaky-tests.ts';
import { LongestFirst } from './test/support/longest-first.ts';

/** Needs an executable that no package has: test/conformance/README.md says how to build it. */
const CONFORMANCE_SUITE = 'test/conformance/suite.test.ts';
const LEFT_OUT = [...configDefaults.exclude, ...(process.env.VENEER_CONFORMANCE ? [] : [CONFORMANCE_SUITE])];

/** They start real clients, engines and builders, each with its own folders and ports, or wait for slow events. */
const CLIENTS = ['test/clients/**/*.test.ts', 'test/faults/**/*.test.ts'];
/** Those that leave a processor idle while they wait: a cluster, builders whose networks are the machine's, a disk that is full. */
const LARGE = [
  'test/clients/build-{buildah,reads,spread}.test.ts',
  'test/clients/build-kubernetes.test.ts',
  'test/faults/full-disk.test.ts',
];
/** They measure: one file at a time, with nothing else running. */
const ALONE = ['test/attacks/**/*.test.ts', 'test/faults/memory.test.ts'];

/** Apps start threads; without a compile cache each thread strips the types of its modules again. */
const THREADS = { NODE_COMPILE_CACHE: resolve('node_modules/.cache/veneer-tests') };

export default defineConfig({
  test: {
    // For tests that hang. No test measures speed by them: a machine may be slow.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { timeout: 30_000, interval: 20 } },
    // Some need a machine, its network and dozens of processes: where nobody is at hand to try again, that is done once, and reported. An
    // input that was generated and breaks something is one that breaks it.
    retry: { count: process.env.CI ? 1 : 0, condition: /^(?!Property failed)/ },
    reporters: ['default', new FlakyTests()],
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [...LEFT_OUT, ...CLIENTS, ...ALONE],
          // Some of them wait at times: half as many again as processors.
          maxWorkers: Math.ceil(availableParallelism() * 1.5),
          env: { ...findFastDisk(), ...THREADS },
          unstubEnvs: true,
          restoreMocks: true,
          sequence: { groupOrder: 0 },
        },
      },
      {
        extends: true,
        test: {
          name: 'clients',
          include: CLIENTS,
          exclude: [...LEFT_OUT, ...LARGE, ...ALONE],
          // They wait more than they compute.
          maxWorkers: 3,
          env: THREADS,
          sequence: { groupOrder: 1 },
        },
      },
      {
        extends: true,
        test: {
          name: 'large',
          include: LARGE,
          exclude: LEFT_OUT,
          maxWorkers: 2,
          env: THREADS,
          sequence: { groupOrder: 2 },
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: ALONE,
          exclude: LEFT_OUT,
          maxWorkers: 1,
          sequence: { groupOrder: 3 },
        },
      },
    ],
  },
});

/** Temporary folders in memory, if there is room: tests wait for every sync, which is slow on a disk. */
function findFastDisk(): { TMPDIR?: string } {
  try {
    const { bavail, bsize } = statfsSync('/dev/shm');
    return bavail * bsize > 4 * 2 ** 30 ? { TMPDIR: '/dev/shm' } : {};
  } catch {
    return {};
  }
}
