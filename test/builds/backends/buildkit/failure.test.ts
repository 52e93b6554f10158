// Why builds failed, from recorded ones (fixtures/buildkit) and from what BuildKit and its client are known to say.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { describeFailure } from '../../../../src/builds/backends/buildkit/failure.ts';
import { createProgressReader } from '../../../../src/builds/backends/buildkit/progress.ts';
import type { Failure } from '../../../../src/builds/record.ts';
import { parsePlatforms } from '../../../../src/oci/platform.ts';

test.each<[fixture: string, platforms: string, failure: Failure]>([
  [
    'failing-run',
    'linux/amd64,linux/arm64',
    {
      kind: 'build',
      platform: 'linux/arm64',
      step: 'RUN [ "$(uname -m)" != aarch64 ] || { echo not here >&2; exit 7; }',
      reason: String.raw`"/bin/sh -c [ \"$(uname -m)\" != aarch64 ] || { echo not here >&2; exit 7; }" ended with exit code 7`,
    },
  ],
  [
    'missing-file',
    'linux/amd64,linux/arm64',
    { kind: 'build', platform: 'linux/arm64', step: 'COPY missing.txt /', reason: '"/missing.txt": not found' },
  ],
  [
    'missing-base',
    'linux/arm64',
    {
      kind: 'build',
      platform: 'linux/arm64',
      step: 'FROM 127.0.0.1:5000/library/none:1',
      reason: '127.0.0.1:5000/library/none:1: not found',
    },
  ],
  [
    'missing-platform',
    'linux/s390x',
    {
      kind: 'build',
      platform: 'linux/s390x',
      step: 'FROM 127.0.0.1:5000/library/bb:1',
      reason: '127.0.0.1:5000/library/bb:1: no match for platform in manifest: not found',
    },
  ],
  [
    'syntax-error',
    'linux/arm64',
    { kind: 'build', reason: 'dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)' },
  ],
  [
    'refused-push',
    'linux/arm64',
    { kind: 'build', platform: 'linux/arm64', reason: expect.stringMatching(/^failed to push .*: 401 Unauthorized$/) },
  ],
  [
    'unreachable-registry',
    'linux/arm64',
    {
      kind: 'infrastructure',
      platform: 'linux/arm64',
      reason: expect.stringMatching(/^failed to push .*: connection refused$/),
    },
  ],
])('of the recorded build %s', (fixture, platforms, failure) => {
  const reader = createProgressReader(parsePlatforms(platforms), () => undefined);
  for (const line of readFileSync(`fixtures/buildkit/${fixture}.txt`, 'utf8').trimEnd().split('\n')) reader.read(line);
  reader.end();
  const step = reader.findFailed();
  expect(describeFailure({ step, errorText: reader.findErrorText(), end: 'exit code 1' })).toEqual(failure);
});

test.each<[kind: Failure['kind'], errorText: string]>([
  ['build', 'failed to solve: target stage "nope" could not be found'],
  ['build', 'failed to solve: granting entitlement network.host is not allowed by build daemon configuration'],
  ['build', 'failed to solve: failed to push h/x:1: server message: insufficient_scope: authorization failed'],
  [
    'build',
    'failed to solve: failed to push h/x:1: unexpected status from PUT request to https://h/v2/: 404 Not Found',
  ],
  [
    'build',
    'failed to solve: x.invalid/a:1: failed to do request: Head "…": dial tcp: lookup x.invalid on 10.0.0.1:53: no such host',
  ],
  [
    'build',
    'failed to solve: process "/bin/sh -c curl x || echo connection refused" did not complete successfully: exit code: 7',
  ],
  ['build', 'failed to solve: something that nobody has seen yet'],
  [
    'infrastructure',
    'failed to solve: failed to push h/x:1: unexpected status from POST request to https://h/v2/: 503 Service Unavailable',
  ],
  [
    'infrastructure',
    'failed to solve: failed to push h/x:1: unexpected status from HEAD request to https://h/v2/: 429 Too Many Requests',
  ],
  [
    'infrastructure',
    'failed to solve: h/x:1: failed to do request: Head "https://h/v2/": dial tcp 10.0.0.1:443: i/o timeout',
  ],
  ['infrastructure', 'failed to solve: Unavailable: error reading from server: EOF'],
  ['infrastructure', 'failed to solve: failed to prepare x: mkdir /var/lib/buildkit/1: no space left on device'],
  ['infrastructure', 'failed to solve: lease "abc": not found'],
  [
    'infrastructure',
    'listing workers for Build: failed to list workers: Unavailable: connection error: desc = "transport: Error while dialing"',
  ],
  ['infrastructure', 'could not load client certificate'],
])('is of kind %s where the client says: %s', (kind, said) => {
  const failure = describeFailure({ step: undefined, errorText: `error: ${said}`, end: 'exit code 1' });
  expect(failure.kind).toBe(kind);
  expect(failure.reason).toBe(
    said.startsWith('failed to solve: process') ? failure.reason : said.replace('failed to solve: ', ''),
  );
});

test('is of the infrastructure where the client was killed and said nothing', () => {
  expect(describeFailure({ step: undefined, errorText: '', end: 'SIGKILL' })).toEqual({
    kind: 'infrastructure',
    reason: 'the builder ended with SIGKILL',
  });
});

test('has a reason of one short line, however long the command was', () => {
  const error = `process "/bin/sh -c ${'make\n&& '.repeat(1_000)}" did not complete successfully: exit code: 2`;
  const step = { name: '[1/1] RUN make', platform: undefined, instruction: 'RUN make', error };
  const { reason } = describeFailure({ step, errorText: '', end: 'exit code 1' });
  expect(reason).toMatch(/^"\/bin\/sh -c make && .*…" ended with exit code 2$/);
  expect(reason.length).toBeLessThan(200);
});

test('says of an image that the policy denies why it may not be read', () => {
  const denied =
    'error: failed to solve: h:5000/x:1: failed to resolve source metadata for h:5000/x:1: could not resolve image due to policy: source "docker-image://h:5000/x:1" denied by policy: source denied by policy';
  expect(describeFailure({ step: undefined, errorText: denied, end: 'exit code 1' })).toMatchObject({
    kind: 'build',
    reason: expect.stringMatching(/^h:5000\/x:1 may not be read: /),
  });
});
