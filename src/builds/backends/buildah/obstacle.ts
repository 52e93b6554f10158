// What buildah cannot do, or would leave out without a word.

import { findNeeds } from '../../needed-steps.ts';
import type { Compression, ContainerFileSpec } from '../../spec.ts';
import { findCommandObstacle } from '../buildkit/obstacle.ts';
import { isRemote } from '../embedded/copy-step.ts';
import { type Ability, isCutOff } from './isolation.ts';

/** Why buildah cannot do this spec; undefined where it can. Of what is not known yet, it is thought that it can. */
export function findBuildahObstacle(spec: ContainerFileSpec, ability: Ability | undefined): string | undefined {
  const { sbom, provenance } = spec.attestations;
  if (sbom || provenance !== 'none') return 'attestations need a BuildKit: buildah makes none';
  if (spec.compression && !isPlainGzip(spec.compression)) {
    return 'buildah packs layers with gzip alone, at its own level: another compression needs a BuildKit';
  }
  return findStepObstacle(spec, ability) ?? findCommandObstacle(spec);
}

function findStepObstacle(spec: ContainerFileSpec, ability: Ability | undefined): string | undefined {
  const { way, fault } = ability ?? {};
  if (way && spec.network === 'none' && way.isolation === 'chroot' && !isCutOff(way)) {
    return 'a RUN without a network needs the isolation oci or rootless: with chroot it has that of the machine here';
  }
  if (way && spec.network === 'host' && isCutOff(way)) {
    return 'a RUN with the network of the machine needs `hostNetwork: true` of this builder';
  }
  for (const step of findNeeds(spec)?.steps ?? []) {
    if (step.kind === 'run' && fault !== undefined) return `line ${step.line}: no RUN works with it: ${fault}`;
    const demand = step.kind === 'run' ? step.demands.find(each => !isGranted(each, spec)) : undefined;
    // Newer ones do as they are told, and ask nobody.
    if (demand !== undefined) return `line ${step.line}: RUN ${demand} is not allowed`;
    if (step.kind === 'add' && way && isCutOff(way) && step.sources.some(isRemote)) {
      return `line ${step.line}: without a network of its own for steps it fetches nothing remote`;
    }
  }
  return undefined;
}

function isGranted(demand: string, { network }: ContainerFileSpec): boolean {
  return demand === '--network=host' && network === 'host';
}

function isPlainGzip({ mode, level, force = false }: Compression): boolean {
  return mode === 'gzip' && level === undefined && !force;
}
