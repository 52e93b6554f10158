// Bases pinned to digests.
import { expect, test } from 'vitest';
import type { PinnedBase } from '../../../src/build/backend.ts';
import { normalizeImage, pinBases } from '../../../src/build/buildkit/source-policy.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

test('reads each base as what it is pinned to, wherever that is', () => {
  const bases: readonly [string, PinnedBase][] = [
    ['alpine:3', { name: `docker.io/library/alpine@${DIGEST}`, isInsecure: false }],
    [`local/tools/x@${DIGEST}`, { name: `127.0.0.1:8080/local/tools/x@${DIGEST}`, isInsecure: true }],
  ];
  expect(pinBases(new Map(bases))).toEqual({
    version: 1,
    rules: [
      {
        action: 'CONVERT',
        selector: { identifier: 'docker-image://docker.io/library/alpine:3', matchType: 'EXACT' },
        updates: { identifier: `docker-image://docker.io/library/alpine@${DIGEST}` },
      },
      {
        action: 'CONVERT',
        selector: { identifier: `docker-image://docker.io/local/tools/x@${DIGEST}`, matchType: 'EXACT' },
        updates: { identifier: `docker-image://127.0.0.1:8080/local/tools/x@${DIGEST}` },
      },
    ],
  });
});

test.each([
  ['alpine', 'docker.io/library/alpine:latest'],
  ['alpine:3', 'docker.io/library/alpine:3'],
  ['docker.io/alpine', 'docker.io/library/alpine:latest'],
  ['index.docker.io/team/app:1', 'docker.io/team/app:1'],
  ['team/app', 'docker.io/team/app:latest'],
  ['localhost/app', 'localhost/app:latest'],
  ['127.0.0.1:5000/library/bb:1', '127.0.0.1:5000/library/bb:1'],
  ['host:5000/app', 'host:5000/app:latest'],
  ['ghcr.io/a/b/c:d', 'ghcr.io/a/b/c:d'],
])('knows %s as BuildKit does: %s', (name, normalized) => {
  expect(normalizeImage(name)).toBe(normalized);
});
