// Submitting what has to be made first: an image from a Containerfile or from packages, a copy, a frozen image.
import type { Context } from 'hono';
import type { Work } from '../augment/budget.ts';
import type { Submitted } from '../builds/builds.ts';
import { imageName, type Origins } from '../pull/origin.ts';
import type { TokenLedger } from '../pull/tokens/ledger.ts';
import type { NewTokenRecord } from '../pull/tokens/record.ts';
import type { SubmitRequest } from './augment-schema.ts';
import { callerSubject } from './authentication.ts';
import type { Asked, ReadBuild } from './build-request.ts';
import { accountOf } from './caller-rate.ts';
import type { FindRuled, RequestedImage, RuledChanges } from './caller-rules.ts';
import type { ReadCopy } from './copy-request.ts';
import type { RatedBuilds } from './rated-builds.ts';
import { sourceError } from './source-error.ts';
import { type Building, shownRequest } from './submit-response.ts';

/** Throws ApiError or RegistryError, in words for people. */
export type SubmitBuilt = (c: Context, request: SubmitRequest, work: Work) => Promise<Building>;

interface SubmitBuiltDeps {
  readonly origins: Origins;
  readonly readBuild: ReadBuild;
  readonly readCopy: ReadCopy;
  readonly builds: RatedBuilds;
  readonly ledger: TokenLedger;
  readonly findRuled: FindRuled;
}

const NO_RULES: RuledChanges = { ruleSteps: [], ruleLayerSources: [] };

export function createSubmitBuilt(deps: SubmitBuiltDeps): SubmitBuilt {
  const { origins, readBuild, readCopy, builds, ledger, findRuled } = deps;

  /** What is kept under a name of its own stays as it was asked for. */
  async function findRules(c: Context, { freeze, mirror }: SubmitRequest['build'], image: RequestedImage) {
    if (freeze || mirror) return NO_RULES;
    return findRuled(c, image).catch(error => {
      throw sourceError(error, imageName(image.origin, image.tag));
    });
  }

  async function toRecord(c: Context, request: SubmitRequest, made: Asked & Submitted): Promise<NewTokenRecord> {
    const { source, dryRun } = request;
    const { freeze, mirror } = request.build;
    const { spec, onTop, build } = made;
    const origin = origins.locateName(spec.target.repository);
    const tag = build.image.slice(build.image.lastIndexOf(':') + 1);
    const { ruleSteps, ruleLayerSources } = await findRules(c, request.build, { origin, tag });
    return {
      registry: origin.registry.name,
      repository: origin.repository,
      tag,
      containerImage: source.kind === 'image' ? source.image : build.image,
      buildId: build.id,
      // From here on it needs no record of the build, which may end before the token does.
      ...(build.digest && { sourceDigest: build.digest }),
      ...((freeze || mirror) && { frozenImage: build.image }),
      ...(mirror && { isMirrored: true }),
      ...(dryRun && { isDryRun: true }),
      ruleSteps,
      augmentation: onTop?.augmentation ?? { layers: [], attestations: 'keep' },
      layerSources: [...ruleLayerSources, ...(onTop?.layerSources ?? [])],
      caller: callerSubject(c),
      request: shownRequest(request),
    };
  }

  return async (c, request, work) => {
    const { source, dryRun } = request;
    const asked = await (source.kind === 'image'
      ? readCopy(c, request, { image: source.image, work })
      : readBuild(c, request, { source, work }));
    if (!dryRun) await ledger.keepLayers(asked.storedLayers, accountOf(c).key);
    const submitted = await (dryRun ? builds.preview(c, asked.spec) : builds.submit(c, asked.spec));
    const record = await ledger.issue(await toRecord(c, request, { ...asked, ...submitted }));
    return { ...submitted, record, warnings: asked.warnings, moved: asked.moved };
  };
}
