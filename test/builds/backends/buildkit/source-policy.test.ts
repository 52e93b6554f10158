// What a build may read: its bases, pinned to digests, and no other image.
import { expect, test } from 'vitest';
import type { PinnedBase } from '../../../../src/builds/backend.ts';
import { createSourcePolicy, normalizeImage } from '../../../../src/builds/backends/buildkit/source-policy.ts';
import { plainOrder } from '../../../support/plain-order.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const SCANNER = 'docker-image://docker.io/docker/buildkit-syft-scanner*';

test('reads each base as what it is pinned to, wherever that is, and denies all else', () => {
  const bases: readonly [string, PinnedBase][] = [
    ['alpine:3', { name: `docker.io/library/alpine@${DIGEST}`, isInsecure: false }],
    [`local/tools/x@${DIGEST}`, { name: `127.0.0.1:8080/local/tools/x@${DIGEST}`, isInsecure: true }],
  ];
  const containerFile = `FROM alpine:3\nCOPY --from=local/tools/x@${DIGEST} a b\nCOPY --from=late c d\n`;
  expect(policyOf(containerFile, {}, bases)).toEqual({
    version: 1,
    rules: [
      denyAll,
      allow('docker.io/library/alpine:3'),
      allow(`docker.io/local/tools/x@${DIGEST}`),
      allow('docker.io/library/late:latest'),
      allow(`docker.io/library/alpine@${DIGEST}`),
      allow(`127.0.0.1:8080/local/tools/x@${DIGEST}`),
      allowLike('docker-image://docker.io/library/alpine:3@*'),
      allowLike(`docker-image://docker.io/local/tools/x@${DIGEST}@*`),
      allowLike('docker-image://docker.io/library/late:latest@*'),
      convert('docker.io/library/alpine:3', `docker.io/library/alpine@${DIGEST}`),
      convert(`docker.io/local/tools/x@${DIGEST}`, `127.0.0.1:8080/local/tools/x@${DIGEST}`),
    ],
  });
});

test('lets a build without bases read nothing', () => {
  expect(policyOf('FROM scratch\n').rules).toEqual([denyAll]);
});

test('lets an SBOM be made by the scanner of BuildKit', () => {
  expect(policyOf('FROM scratch\n', { attestations: { sbom: true } }).rules).toEqual([denyAll, allowLike(SCANNER)]);
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

const denyAll = { action: 'DENY', selector: { identifier: 'docker-image*', matchType: 'WILDCARD' } };

function allow(image: string) {
  return { action: 'ALLOW', selector: { identifier: `docker-image://${image}`, matchType: 'EXACT' } };
}

function allowLike(identifier: string) {
  return { action: 'ALLOW', selector: { identifier, matchType: 'WILDCARD' } };
}

function convert(image: string, pinned: string) {
  return { ...allow(image), action: 'CONVERT', updates: { identifier: `docker-image://${pinned}` } };
}

function policyOf(containerFile: string, more: object = {}, bases: readonly [string, PinnedBase][] = []) {
  return createSourcePolicy(plainOrder({ bases: new Map(bases) }, { containerFile, ...more }));
}
