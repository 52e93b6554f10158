// Names of steps, as BuildKit writes them.
import { expect, test } from 'vitest';
import { parseStep } from '../../../../src/builds/backends/buildkit/steps.ts';

test.each([
  ['[2/3] RUN make', undefined, 'RUN make'],
  ['[ 2/13] RUN make', undefined, 'RUN make'],
  ['[linux/amd64 2/3] RUN make', 'linux/amd64', 'RUN make'],
  ['[linux/arm/v7 2/3] RUN a   &&     b', 'linux/arm/v7', 'RUN a && b'],
  ['[linux/arm64 build 2/3] COPY a [b]', 'linux/arm64', 'COPY a [b]'],
  ['[stage-1 1/1] RUN a', undefined, 'RUN a'],
  ['[linux/amd64->arm64 build 2/2] RUN make', 'linux/arm64', 'RUN make'],
  ['[linux/amd64->arm/v7 build 2/2] RUN make', 'linux/arm/v7', 'RUN make'],
  ['[linux/amd64->windows/amd64 2/2] RUN make', 'windows/amd64', 'RUN make'],
  ['[1/2] FROM a/b:1@sha256:aa', undefined, 'FROM a/b:1@sha256:aa'],
  ['[linux/arm64 internal] load metadata for a/b:1', 'linux/arm64', 'FROM a/b:1'],
  ['[internal] load metadata for a/b:1', undefined, 'FROM a/b:1'],
  ['[2/2] RUN <<END (a\nb...)', undefined, 'RUN <<END (a b...)'],
  ['[internal] load build context', undefined, undefined],
  ['[auth] team/app:pull token for registry.example', undefined, undefined],
  ['exporting to image', undefined, undefined],
  ['', undefined, undefined],
  ['[1/', undefined, undefined],
])('%j is on %s, and is %s', (name, platform, instruction) => {
  expect(parseStep(name)).toEqual({ platform, instruction });
});
