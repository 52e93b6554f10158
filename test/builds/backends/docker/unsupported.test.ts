// What a builder of buildx is not asked to do.
import { expect, test } from 'vitest';
import { findUnsupportedReason } from '../../../../src/builds/backends/docker/backend.ts';
import type { Builder } from '../../../../src/builds/backends/docker/builder.ts';
import { plainSpec, type SpecFields } from '../../../support/plain-order.ts';

const remote: Builder = {
  ...{ driver: 'remote', platforms: [], hostNetworks: [], isMultiPlatform: true, hasCacheExport: true },
  ...{ hasSourcePolicies: true, keepsImages: false },
};
const classic: Builder = { ...remote, driver: 'docker', isMultiPlatform: false };
const containerd: Builder = { ...remote, driver: 'docker' };
const attested = { attestations: { provenance: 'max' } };

test.each<[name: string, fields: SpecFields, builder: Builder | undefined, reason: RegExp | undefined]>([
  ['a plain build on any', {}, classic, undefined],
  ['gzip on the classic store', { compression: { mode: 'gzip' } }, classic, undefined],
  ['zstd on the classic store', { compression: { mode: 'zstd' } }, classic, /gzip alone/],
  ['zstd on another builder', { compression: { mode: 'zstd' } }, remote, undefined],
  ['attestations on the classic store', attested, classic, /makes no attestations.*buildx create/],
  ['attestations on the containerd store', attested, containerd, undefined],
  ['attestations on another builder', attested, remote, undefined],
  ['attestations on one that is not known yet', attested, undefined, undefined],
  ['a value that is too long', { args: { A: 'x'.repeat(130_000) } }, classic, /120 KiB/],
])('%s', (_, fields, builder, reason) => {
  const found = findUnsupportedReason(plainSpec(fields), builder);
  if (reason) expect(found).toMatch(reason);
  else expect(found).toBeUndefined();
});
