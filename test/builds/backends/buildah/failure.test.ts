// Whose fault a failure is, from what buildah 1.28 said of real ones.
import { expect, test } from 'vitest';
import { describeBuildFailure, describePushFailure } from '../../../../src/builds/backends/buildah/failure.ts';

const refused =
  'pinging container registry 127.0.0.1:1: Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused';

test.each([
  ['RUN exit 7', 'building at STEP "RUN exit 7": exit status 7', 'build', '"RUN exit 7" ended with exit code 7'],
  [
    'RUN echo "a": b',
    'building at STEP "RUN echo "a": b": while running runtime: exit status 1',
    'build',
    '"RUN echo "a": b" ended with exit code 1',
  ],
  [
    'RUN echo connection refused; false',
    'building at STEP "RUN echo connection refused; false": exit status 1',
    'build',
    '"RUN echo connection refused; false" ended with exit code 1',
  ],
  [
    'COPY nope /x',
    'building at STEP "COPY nope /x": checking on sources under "/b/context": copier: stat: "/nope": no such file or directory',
    'build',
    '"/nope": no such file or directory',
  ],
  [
    'FROM h/nope:1',
    'creating build container: initializing source docker://h/nope:1: reading manifest 1 in h/nope: manifest unknown: manifest unknown',
    'build',
    'docker://h/nope:1: reading manifest 1 in h/nope: manifest unknown: manifest unknown',
  ],
  [
    'FROM h/nope:1',
    'creating build container: initializing source docker://h/nope:1: reading manifest 1 in h/nope: unauthorized: authentication required',
    'build',
    'docker://h/nope:1: reading manifest 1 in h/nope: unauthorized: authentication required',
  ],
  [
    'FROM 127.0.0.1:1/nope:1',
    `creating build container: initializing source docker://127.0.0.1:1/nope:1: ${refused}`,
    'infrastructure',
    `docker://127.0.0.1:1/nope:1: ${refused}`,
  ],
  [
    'FROM h/a:1',
    'creating build container: writing blob: storing blob to file "/b/x": write /b/x: no space left on device',
    'infrastructure',
    'writing blob: storing blob to file "/b/x": write /b/x: no space left on device',
  ],
])('%s: %s', (instruction, errorText, kind, reason) => {
  expect(describeBuildFailure({ errorText, instruction, platform: 'linux/arm64', end: 'exit code 125' })).toEqual({
    kind,
    reason,
    platform: 'linux/arm64',
    step: instruction,
  });
});

test.each([
  [
    'crun: cgroups in hybrid mode not supported',
    'infrastructure',
    'buildah cannot run a step here: crun: cgroups in hybrid mode not supported',
  ],
  ['runc: exec: "/bin/sh": stat /bin/sh: no such file', 'build', 'runc: exec: "/bin/sh": stat /bin/sh: no such file'],
])('a runtime that does not begin a step: %s', (runtimeFault, kind, reason) => {
  const errorText = 'building at STEP "RUN make": while running runtime: exit status 1';
  const failed = { errorText, instruction: 'RUN make', platform: 'linux/amd64', end: 'exit code 1', runtimeFault };
  expect(describeBuildFailure(failed)).toMatchObject({ kind, reason });
});

test.each([
  ['exec: "slirp4netns": executable file not found in $PATH', 'infrastructure'],
  ['error during unshare(CLONE_NEWUSER): Operation not permitted', 'infrastructure'],
])('what the machine lacks is not the fault of a step: %s', (error, kind) => {
  const errorText = `building at STEP "RUN make": ${error}`;
  const failed = { errorText, instruction: 'RUN make', platform: 'linux/amd64', end: 'exit code 1' };
  expect(describeBuildFailure(failed)).toMatchObject({ kind, reason: error });
});

test.each([
  ['The target "nope" was not found in the provided Dockerfile', 'exit code 125', 'build'],
  ['', 'SIGKILL', 'infrastructure'],
])('without a step: %j', (errorText, end, kind) => {
  expect(describeBuildFailure({ errorText, instruction: undefined, platform: 'linux/amd64', end })).toEqual({
    kind,
    reason: errorText || 'buildah ended with SIGKILL',
    platform: 'linux/amd64',
  });
});

test.each([
  [
    `pushing image "sha256:1" to "docker://127.0.0.1:1/x:1": trying to reuse blob sha256:2 at destination: ${refused}`,
    'infrastructure',
    `push to 127.0.0.1:1/x:1: trying to reuse blob sha256:2 at destination: ${refused}`,
  ],
  [
    'pushing image "sha256:1" to "docker://h/x:1": writing blob: initiating layer upload to /v2/x/blobs/uploads/ in h: unauthorized: authentication required',
    'build',
    'push to h/x:1: writing blob: initiating layer upload to /v2/x/blobs/uploads/ in h: unauthorized: authentication required',
  ],
  [
    'uploading manifest 1 to h/x: received unexpected HTTP status: 503 Service Unavailable',
    'infrastructure',
    undefined,
  ],
  ['uploading manifest 1 to h/x: received unexpected HTTP status: 405 Method Not Allowed', 'build', undefined],
  ['something that nobody knows', 'infrastructure', undefined],
])('push: %s', (errorText, kind, reason = errorText) => {
  expect(describePushFailure({ errorText, end: 'exit code 125' })).toEqual({ kind, reason });
});

test('is one line of a bounded length', () => {
  const { reason } = describePushFailure({ errorText: 'x'.repeat(10_000), end: '' });
  expect(reason).toMatch(/^x{300}…$/);
});
