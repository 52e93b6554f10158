// Submitting what has to be made first: an image from a Containerfile or from packages, a copy, a frozen image.
import type { Context } from 'hono';
import type { Submitted } from '../build/builds.ts';
import type { Origins } from '../proxy/origin.ts';
import type { TokenLedger } from '../tokens/ledger.ts';
import type { NewTokenRecord } from '../tokens/record.ts';
import type { SubmitRequest } from './augment-schema.ts';
import type { Asked, ReadBuild } from './build-request.ts';
import type { ReadCopy } from './copy-request.ts';
import type { RatedBuilds } from './rated-builds.ts';
import { type Building, shownRequest } from './submit-response.ts';

/** Throws ApiError or RegistryError, in words for people. */
export type SubmitBuilt = (c: Context, request: SubmitRequest) => Promise<Building>;

export interface SubmitBuiltDeps {
  readonly origins: Origins;
  readonly readBuild: ReadBuild;
  readonly readCopy: ReadCopy;
  readonly builds: RatedBuilds;
  readonly ledger: TokenLedger;
}

export function createSubmitBuilt({ origins, readBuild, readCopy, builds, ledger }: SubmitBuiltDeps): SubmitBuilt {
  function toRecord(request: SubmitRequest, { spec, onTop }: Asked, { build }: Submitted): NewTokenRecord {
    const { source, dryRun } = request;
    const { freeze, mirror } = request.build;
    const { registry, repository } = origins.locateName(spec.target.repository);
    return {
      registry: registry.name,
      repository,
      tag: build.image.slice(build.image.lastIndexOf(':') + 1),
      containerImage: source.kind === 'image' ? source.image : build.image,
      buildId: build.id,
      // From here on it needs no record of the build, which may end before the token does.
      ...(build.digest && { sourceDigest: build.digest }),
      ...((freeze || mirror) && { frozenImage: build.image }),
      ...(mirror && { isMirrored: true }),
      ...(dryRun && { isDryRun: true }),
      augmentation: onTop?.augmentation ?? { layers: [], attestations: 'keep' },
      layerSources: onTop?.layerSources ?? [],
      request: shownRequest(request),
    };
  }

  return async (c, request) => {
    const { source, dryRun } = request;
    const asked = await (source.kind === 'image' ? readCopy(c, request, source.image) : readBuild(c, request, source));
    if (!dryRun) await ledger.keepLayers(asked.storedLayers);
    const submitted = await (dryRun ? builds.preview(c, asked.spec) : builds.submit(c, asked.spec));
    return { ...submitted, record: await ledger.issue(toRecord(request, asked, submitted)) };
  };
}
