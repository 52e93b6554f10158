// Collection while clients work, crash and meet faults, in any order and at every point between two steps: nothing that is needed is lost,
// and in the end nothing else is left.
import { join } from 'node:path';
import fc from 'fast-check';
import { test } from 'vitest';
import { createSqliteStore } from '../../../src/state/sqlite.ts';
import { collecting, content, leftovers, moving, peaceful, pushes } from './clients.ts';
import { BLOBS, REPOSITORIES } from './documents.ts';
import {
  createBucketEnvironment,
  createDiskEnvironment,
  createMemoryEnvironment,
  withReplicas,
} from './environment.ts';
import {
  before,
  expectServed,
  expectTold,
  grace,
  pausingPhasesOf,
  phasesOf,
  runScenarios,
  withoutGrace,
} from './plots.ts';

test('with no grace at all: what tags and manifests need is never lost, and nothing else is left', async () => {
  await runScenarios(withoutGrace, { check: expectTold, numRuns: 200 });
});

test('on a real disk with real records, too', async () => {
  await runScenarios(withoutGrace, { createEnvironment: createDiskEnvironment, check: expectTold, numRuns: 12 });
});

test('with the grace time: no push and no pull fails because of a collection', async () => {
  const plots = fc.record({ before, phases: phasesOf(peaceful), policy: grace });
  await runScenarios(plots, { check: expectServed, numRuns: 200 });
});

test('with the grace time: what a client was told is there is there when it relies on it', async () => {
  const lying = REPOSITORIES.flatMap(repository =>
    BLOBS.map((_, blob) => ({ kind: 'pushBlob', repository, blob }) as const),
  );
  const plots = fc.record({
    before: fc.array(leftovers, { maxLength: 2 }).map(some => [...lying, ...some]),
    phases: fc.tuple(fc.record({ actions: fc.tuple(pushes, fc.constant(collecting)), faults: fc.constant({}) })),
    policy: grace,
  });
  await runScenarios(plots, { check: expectServed, numRuns: 400 });
});

test('two processes that share records lose nothing either, also when one of them dies', async () => {
  const createEnvironment = () =>
    withReplicas(
      now => createMemoryEnvironment({ now }),
      async ({ records }) => records,
    );
  await runScenarios(withoutGrace, { createEnvironment, check: expectTold, numRuns: 60 });
});

test('nor do two that have nothing in common but records and a bucket', async () => {
  await runScenarios(withoutGrace, { createEnvironment: createBucketEnvironment, check: expectTold, numRuns: 30 });
});

test('nor does what goes from repository to repository, while it is deleted elsewhere', async () => {
  const createEnvironment = () =>
    withReplicas(
      now => createMemoryEnvironment({ now }),
      async ({ records }) => records,
    );
  const policy = fc.constant({ graceMs: 0, untaggedMs: 0 });
  const plots = fc.record({ before: fc.constant([content]), phases: pausingPhasesOf(moving), policy });
  await runScenarios(plots, { createEnvironment, check: expectTold, numRuns: 300 });
});

test('nor do two with a real disk and real records', async () => {
  const open = (directory: string, now: () => Date) => createSqliteStore({ path: join(directory, 'records.db'), now });
  const createEnvironment = () =>
    withReplicas(
      now => createDiskEnvironment(directory => open(directory, now)),
      async ({ directory }, now) => open(directory, now),
    );
  await runScenarios(withoutGrace, { createEnvironment, check: expectTold, numRuns: 8 });
});
