// What a builder of buildx cannot do, or would leave out without a word.

import type { Compression, ContainerFileSpec } from '../../spec.ts';
import { findCommandObstacle } from '../buildkit/obstacle.ts';
import type { Builder } from './builder.ts';

/** Why the builder cannot do this spec; undefined where it can. Of a builder that is not known yet, what holds for all. */
export function findDockerObstacle(spec: ContainerFileSpec, builder: Builder | undefined): string | undefined {
  if (builder?.driver === 'docker' && !builder.isMultiPlatform)
    return findClassicObstacle(spec) ?? findCommandObstacle(spec);
  return findCommandObstacle(spec);
}

/** Of an engine that keeps images in its classic store, and pushes them from there. */
function findClassicObstacle({ attestations, compression }: ContainerFileSpec): string | undefined {
  const help =
    'create a builder with `docker buildx create --use`, or turn on the containerd image store of the engine';
  if (attestations.sbom || attestations.provenance !== 'none')
    return `this Docker engine makes no attestations: ${help}`;
  if (compression && !isPlainGzip(compression)) return `this Docker engine packs layers with gzip alone: ${help}`;
  return undefined;
}

function isPlainGzip({ mode, level, force = false }: Compression): boolean {
  return mode === 'gzip' && level === undefined && !force;
}
