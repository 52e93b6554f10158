// What a build without a builder cannot do, as far as the spec shows it.
import { parsePlatform } from '../../oci/platform.ts';
import type { ContainerFile } from '../containerfile/container-file.ts';
import { globalScope } from '../containerfile/global-scope.ts';
import { InvalidContainerFile } from '../containerfile/invalid.ts';
import { parseContainerFile } from '../containerfile/parse.ts';
import { effectiveInstructions, findTarget, neededStages, resolveBase } from '../containerfile/stages.ts';
import type { ContainerFileSpec } from '../spec.ts';
import { TooMuchWork } from '../work.ts';
import { isRemote } from './copy-step.ts';

const BUILDERS = 'install BuildKit, docker with buildx, or buildah';
const OFFICIAL_SYNTAX = /^(?:docker\.io\/)?docker\/dockerfile(?:-upstream)?(?:[:@]|$)/;
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
  try {
    return findFileObstacle(parseContainerFile(spec.containerFile), spec);
  } catch (error) {
    if (error instanceof InvalidContainerFile || error instanceof TooMuchWork) return undefined;
    throw error;
  }
}

function findFileObstacle(file: ContainerFile, spec: ContainerFileSpec): string | undefined {
  const syntax = Object.hasOwn(spec.args, 'BUILDKIT_SYNTAX') ? spec.args.BUILDKIT_SYNTAX : file.syntax?.value;
  if (syntax && !OFFICIAL_SYNTAX.test(syntax))
    return `the frontend ${JSON.stringify(syntax)} runs in a builder: ${BUILDERS}`;
  for (const platform of spec.platforms) {
    const target = parsePlatform(platform);
    const scope = globalScope(file, { build: target, target }, spec);
    for (const index of neededStages(file, findTarget(file, spec.stage), scope)) {
      const instructions = effectiveInstructions(file, index, resolveBase(file, index, scope));
      for (const { kind, line, ...rest } of instructions) {
        if (kind === 'run') return `line ${line}: RUN needs a builder: ${BUILDERS}`;
        const isFetched = 'sources' in rest && rest.sources.some(isRemote);
        if (isFetched) return `line ${line}: what is remote is fetched by a builder: ${BUILDERS}`;
      }
    }
  }
  return undefined;
}
