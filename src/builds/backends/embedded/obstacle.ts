// What a build without a builder cannot do, as far as the spec shows it.
import { findNeeds, type Needs } from '../../needs.ts';
import type { ContainerFileSpec } from '../../spec.ts';
import { isRemote } from './copy-step.ts';

const BUILDERS = 'install BuildKit, docker with buildx, or buildah';
const MAX_GZIP_LEVEL = 9;

/** Undefined where there is none. A file that is invalid is none either: the build says what is wrong with it. */
export function findObstacle(spec: ContainerFileSpec): string | undefined {
  const { attestations, compression } = spec;
  if (attestations.sbom)
    return `an SBOM needs a builder that looks into the image: install BuildKit, or docker with buildx`;
  if (attestations.provenance !== 'none')
    return `provenance is attested by BuildKit alone: install it, or docker with buildx`;
  if (compression?.mode === 'estargz')
    return 'layers are packed as estargz by BuildKit alone: install it, or docker with buildx';
  if (compression?.force)
    return 'layers of base images are packed anew by BuildKit alone: install it, or docker with buildx';
  if (compression?.mode !== 'zstd' && (compression?.level ?? 0) > MAX_GZIP_LEVEL)
    return `gzip has levels up to ${MAX_GZIP_LEVEL}`;
  const needs = findNeeds(spec);
  return needs && findFileObstacle(needs);
}

function findFileObstacle({ frontend, steps }: Needs): string | undefined {
  if (frontend) return `the frontend ${JSON.stringify(frontend)} runs in a builder: ${BUILDERS}`;
  for (const { kind, line, ...rest } of steps) {
    if (kind === 'run') return `line ${line}: RUN needs a builder: ${BUILDERS}`;
    const isFetched = 'sources' in rest && rest.sources.some(isRemote);
    if (isFetched) return `line ${line}: what is remote is fetched by a builder: ${BUILDERS}`;
  }
  return undefined;
}
