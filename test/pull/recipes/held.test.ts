// A pull that waits for a build, and what it gets when the build ends, fails, or takes too long.
import { expect, test } from 'vitest';
import type { Builds } from '../../../src/builds/builds.ts';
import type { BuildRecord, Failure } from '../../../src/builds/record.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { awaitBuild } from '../../../src/pull/recipes/wait-for-build.ts';
import { recordOf } from './recipe-fixture.ts';

const ID = 'bd-0123456789abcdef_1';
const LOG = `/v1alpha1/builds/${ID}/logs`;
const options = { holdMs: 10_000, logAddress: (id: string) => `/v1alpha1/builds/${id}/logs` };

function endsAs(record: Partial<BuildRecord> | undefined): Pick<Builds, 'wait'> {
  return { wait: async () => record && { ...recordOf(ID), ...record } };
}

const never: Pick<Builds, 'wait'> = {
  wait: (_id, signal) => new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
};

async function errorOf(waiting: Promise<unknown>): Promise<RegistryError> {
  const error = await waiting.catch(caught => caught);
  if (error instanceof RegistryError) return error;
  throw new Error('no error of a registry', { cause: error });
}

test('gives the record of a build that succeeds', async () => {
  const digest = digestOf(new Uint8Array());
  expect(await awaitBuild(endsAs({ status: 'succeeded', digest }), ID, options)).toMatchObject({ id: ID, digest });
});

test('sends a client away at the deadline, and says that the build continues', async () => {
  const error = await errorOf(awaitBuild(never, ID, { ...options, holdMs: 1 }));
  expect(error).toMatchObject({ code: 'UNAVAILABLE', status: 503, detail: { build: ID, log: LOG } });
  expect(error.retryAfterSeconds).toBeGreaterThan(0);
  expect(error.message).toBe(
    `the image is still being built: ${ID} is still running, and its log is ${LOG}; pull again`,
  );
});

test.each<[string, Failure | undefined, string]>([
  [
    'a failed one',
    { kind: 'build', reason: 'exit code 2', platform: 'linux/arm64', step: 'RUN make' },
    '[linux/arm64 RUN make] exit code 2',
  ],
  ['one without a place', { kind: 'infrastructure', reason: 'the builder is gone' }, 'the builder is gone'],
  ['a cancelled one', { kind: 'cancelled', reason: 'cancelled by ann' }, 'cancelled by ann'],
  ['a lost one', { kind: 'lost', reason: 'under way in 3 crashes' }, 'under way in 3 crashes'],
  ['one without a reason', undefined, 'it has no result'],
])('tells a client of %s why, and where the log is', async (_name, failure, reason) => {
  const error = await errorOf(awaitBuild(endsAs({ status: 'failed', ...(failure && { failure }) }), ID, options));
  expect(error).toMatchObject({ code: 'MANIFEST_UNKNOWN', status: 404, detail: { build: ID, log: LOG } });
  expect(error.message).toBe(`the build ${ID} failed: ${reason}; its log is ${LOG}`);
});

test.each(['queued', 'running'] as const)(
  'sends a client away from a %s build when the service stops',
  async status => {
    const error = await errorOf(awaitBuild(endsAs({ status }), ID, options));
    expect(error).toMatchObject({ code: 'UNAVAILABLE', status: 503, detail: { build: ID, log: LOG } });
  },
);

test('says of a build that is not known any more to pull again', async () => {
  expect(await errorOf(awaitBuild(endsAs(undefined), ID, options))).toMatchObject({
    code: 'MANIFEST_UNKNOWN',
    message: `the build ${ID} is not known any more: pull again`,
  });
});

test('ends the wait of a client that leaves, with its reason', async () => {
  const client = new AbortController();
  const waiting = awaitBuild(never, ID, { ...options, signal: client.signal });
  const reason = new Error('the client left');
  client.abort(reason);
  await expect(waiting).rejects.toBe(reason);
});

test('is not silent about a fault of ours', async () => {
  const broken: Pick<Builds, 'wait'> = {
    wait: async () => {
      throw new TypeError('a fault');
    },
  };
  await expect(awaitBuild(broken, ID, options)).rejects.toThrow('a fault');
});
