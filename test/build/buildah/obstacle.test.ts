// What buildah is not asked to do.
import { expect, test } from 'vitest';
import type { Isolation } from '../../../src/build/buildah/command.ts';
import { findBuildahObstacle } from '../../../src/build/buildah/obstacle.ts';
import { plainSpec, type SpecFields } from '../../support/plain-order.ts';

test.each<[name: string, fields: SpecFields, isolation: Isolation, obstacle: RegExp | undefined]>([
  ['a plain build', {}, 'oci', undefined],
  ['gzip', { compression: { mode: 'gzip' } }, 'oci', undefined],
  ['gzip of a level', { compression: { mode: 'gzip', level: 9 } }, 'oci', /gzip alone/],
  ['zstd', { compression: { mode: 'zstd' } }, 'oci', /gzip alone/],
  ['eStargz', { compression: { mode: 'estargz' } }, 'oci', /gzip alone/],
  ['layers of bases packed anew', { compression: { mode: 'gzip', force: true } }, 'oci', /gzip alone/],
  ['an SBOM', { attestations: { sbom: true } }, 'oci', /attestations/],
  ['a provenance', { attestations: { provenance: 'min' } }, 'oci', /attestations/],
  ['no network', { network: 'none' }, 'rootless', undefined],
  ['no network, with chroot', { network: 'none' }, 'chroot', /isolation/],
  ['a value that is too long', { args: { A: 'x'.repeat(130_000) } }, 'oci', /120 KiB/],
])('%s', (_, fields, isolation, obstacle) => {
  const found = findBuildahObstacle(plainSpec(fields), isolation);
  if (obstacle) expect(found).toMatch(obstacle);
  else expect(found).toBeUndefined();
});
