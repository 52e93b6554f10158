// What buildah cannot do, or would leave out without a word.
import { findCommandObstacle } from '../buildkit/obstacle.ts';
import type { Compression, ContainerFileSpec } from '../spec.ts';
import type { Isolation } from './command.ts';

/** Why buildah cannot do this spec; undefined where it can. */
export function findBuildahObstacle(spec: ContainerFileSpec, isolation: Isolation): string | undefined {
  const { sbom, provenance } = spec.attestations;
  if (sbom || provenance !== 'none') return 'attestations need a BuildKit: buildah makes none';
  if (spec.compression && !isPlainGzip(spec.compression)) {
    return 'buildah packs layers with gzip alone, at its own level: another compression needs a BuildKit';
  }
  if (isolation === 'chroot' && spec.network === 'none') {
    return 'a RUN without a network needs the isolation oci or rootless: with chroot it has the network of the machine';
  }
  return findCommandObstacle(spec);
}

function isPlainGzip({ mode, level, force = false }: Compression): boolean {
  return mode === 'gzip' && level === undefined && !force;
}
