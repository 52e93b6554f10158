// Bases pinned in the text of a Containerfile.
import { expect, test } from 'vitest';
import { pinFile } from '../../../../src/builds/backends/docker/backend.ts';

const bases = new Map([
  ['alpine', { name: 'docker.io/library/alpine@sha256:1', isInsecure: false }],
  ['local/a.b:1', { name: '127.0.0.1:80/local/a.b@sha256:2', isInsecure: true }],
]);
const alpine = 'docker.io/library/alpine@sha256:1';

test.each([
  ['FROM', 'FROM alpine\n', `FROM ${alpine}\n`, ['local/a.b:1']],
  [
    'FROM with a platform',
    'from --platform=linux/arm64  alpine AS x',
    `from --platform=linux/arm64  ${alpine} AS x`,
    ['local/a.b:1'],
  ],
  ['--from', 'FROM scratch\nCOPY --from=alpine /a /\n', `FROM scratch\nCOPY --from=${alpine} /a /\n`, ['local/a.b:1']],
  [
    'all of them',
    'FROM local/a.b:1 AS a\nFROM alpine\n',
    `FROM 127.0.0.1:80/local/a.b@sha256:2 AS a\nFROM ${alpine}\n`,
    [],
  ],
  ['nothing that only begins like one', 'FROM alpine:3\nRUN echo FROM alpine\n', undefined, ['alpine', 'local/a.b:1']],
  ['nothing that is like a pattern', 'FROM local/aXb:1\n', undefined, ['alpine', 'local/a.b:1']],
  ['no name of a stage', 'FROM alpine AS alpine\nCOPY --from=alpine /a /\n', undefined, ['alpine', 'local/a.b:1']],
])('pins %s', (_, text, pinned = text, missed) => {
  expect(pinFile(text, bases)).toEqual({ text: pinned, missed });
});
