import { expect, test } from 'vitest';
import { findUnsupportedReason } from '../../../../src/builds/backends/embedded/backend.ts';
import { parseSpec } from '../../../support/build-backends.ts';

test.each<[containerFile: string, fields?: Readonly<Record<string, unknown>>]>([
  ['FROM a\nCOPY b c'],
  ['# syntax=docker/dockerfile:1.7\nFROM a'],
  ['FROM a AS one\nRUN x\nFROM b'],
  ['FROM a AS one\nFROM b\nRUN x', { stage: 'one' }],
  ['FROM a\nONBUILD RUN x'],
  ['FROM a AS one-arm64\nFROM b AS one-amd64\nRUN x\nFROM one-$TARGETARCH', { platforms: ['linux/arm64'] }],
  ['FROM a\nADD a.tar.gz /'],
  ['FROM a', { secrets: ['x'], ssh: ['y'], network: 'none' }],
  ['FROM a', { compression: { mode: 'zstd', level: 19 } }],
  ['no Containerfile at all'],
])('sees nothing in the way of %j %j', (containerFile, fields = {}) => {
  expect(findUnsupportedReason(parseSpec({ containerFile, ...fields }))).toBeUndefined();
});

test.each<[containerFile: string, reason: RegExp, fields?: Readonly<Record<string, unknown>>]>([
  ['FROM a\n\nRUN x', /^line 3: RUN needs a builder: install BuildKit, docker with buildx, or buildah$/],
  ['FROM a AS one\nRUN x\nFROM b\nCOPY --from=one x y', /^line 2: RUN/],
  ['FROM a AS one\nONBUILD RUN x\nFROM one', /RUN/],
  [
    'FROM a AS one-amd64\nRUN x\nFROM b AS one-arm64\nFROM one-$TARGETARCH',
    /RUN/,
    { platforms: ['linux/arm64', 'linux/amd64'] },
  ],
  ['FROM a\nADD https://x.example/y /', /remote/],
  ['FROM a\nADD git@x.example:y/z.git /', /remote/],
  ['# syntax=other.example/frontend\nFROM a', /frontend/],
  ['FROM a', /frontend/, { args: { BUILDKIT_SYNTAX: 'other' } }],
  ['FROM a', /SBOM/, { attestations: { sbom: true } }],
  ['FROM a', /provenance/, { attestations: { provenance: 'min' } }],
  ['FROM a', /estargz/, { compression: { mode: 'estargz' } }],
  ['FROM a', /compresses the layers of base images again/, { compression: { mode: 'gzip', force: true } }],
  ['FROM a', /levels up to 9/, { compression: { mode: 'gzip', level: 10 } }],
])('says why %j is unsupported', (containerFile, reason, fields = {}) => {
  expect(findUnsupportedReason(parseSpec({ containerFile, ...fields }))).toMatch(reason);
});
