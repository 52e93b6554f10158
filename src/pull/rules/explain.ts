// Explains which rules match an image, why, and what they do to it.
import { checkAvailable, isChosen } from '../../augment/augmentation.ts';
import type { Digest } from '../../oci/digest.ts';
import { formatPlatform, normalizePlatform, type Platform } from '../../oci/platform.ts';
import type { Reference } from '../../oci/reference.ts';
import type { ExplainedImage, Explanation } from '../../rules/explanation.ts';
import type { Rules, Verdict } from '../../rules/rules.ts';
import { listImages } from '../images.ts';
import { imageName, type Origin, type Origins, originName } from '../origin.ts';
import { createReader } from '../source-reader.ts';
import { createExplainImage } from './explain-image.ts';
import { createOutcomes, type Outcome, type OutcomesDeps } from './rule-outcome.ts';

export interface ExplainOptions {
  /** Only this image of an index. */
  readonly platform?: Platform | undefined;
  /** Undefined for anonymous. */
  readonly caller?: string | undefined;
  /** Ends the wait for a build of the image, like that of a pull. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Throws RegistryError where the source is unavailable, and MANIFEST_UNKNOWN for a missing platform. Failures to apply rules are part of
 * the explanation.
 */
export type Explain = (reference: Reference, options?: ExplainOptions) => Promise<Explanation>;

export function createExplain({
  origins,
  rules,
  ...deps
}: OutcomesDeps & { readonly origins: Pick<Origins, 'locate'>; readonly rules: Rules }): Explain {
  const outcomes = createOutcomes(deps);

  return async ({ registry, repository, digest, tag = 'latest' }, { platform, caller, signal } = {}) => {
    const origin = origins.locate(registry, repository);
    // One state for the whole explanation, whatever is loaded meanwhile.
    const state = rules.current;
    const subject = { repository: originName(origin), tag: digest ? undefined : tag, caller };
    const question = { origin, state, subject };
    const outcome = digest ? await outcomes.ofDigest(question, digest) : await outcomes.ofTag(question, tag, signal);
    return {
      image: digest ? `${originName(origin)}@${digest}` : imageName(origin, tag),
      ...(caller !== undefined && { caller }),
      rules: state.judge(subject).map(toVerdict),
      ...(await explainOutcome(outcome, { origin, platform, digest })),
    };
  };
}

function toVerdict({ rule, applies, reason }: Verdict): Explanation['rules'][number] {
  const { platform } = rule.match;
  return { name: rule.name, applies, reason, ...(platform && { platforms: [...platform] }) };
}

interface ExplainedTarget {
  readonly origin: Origin;
  /** Undefined for all. */
  readonly platform: Platform | undefined;
  /** The digest by which the image is requested. */
  readonly digest: Digest | undefined;
}

type ExplainedOutcome = Omit<Explanation, 'image' | 'caller' | 'rules'>;

async function explainOutcome(outcome: Outcome, target: ExplainedTarget): Promise<ExplainedOutcome> {
  const { sourceDigest, reason, pinned } = outcome;
  const common = { reason, ...(pinned && { pinned }), sourceDigest };
  switch (outcome.kind) {
    case 'plain':
      return {
        ...{ outcome: 'unchanged', ...common, digest: sourceDigest },
        platforms: await explainPlain(sourceDigest, target),
      };
    case 'augmented':
      return { ...common, ...(await explainAugmented(outcome, target)) };
    case 'refused':
    case 'failed':
      return { outcome: outcome.kind, ...common, platforms: [] };
  }
}

/** Every image of the source, unchanged. */
async function explainPlain(root: Digest, { origin, platform }: ExplainedTarget): Promise<ExplainedImage[]> {
  const reader = createReader(origin);
  const candidates = await listImages(await origin.registry.getManifest(origin.repository, root), reader);
  const wanted = choose(candidates, platform);
  return Promise.all(
    wanted.map(async ({ platform: own, read }) => {
      const { digest } = await read();
      return { platform: nameOf(own), rules: [], sourceDigest: digest, digest, differences: [], layers: [] };
    }),
  );
}

async function explainAugmented(
  { steps, ruleLayers, augmented, sourceDigest }: Extract<Outcome, { kind: 'augmented' }>,
  { origin, platform, digest }: ExplainedTarget,
): Promise<Pick<ExplainedOutcome, 'outcome' | 'sourceDigest' | 'digest' | 'platforms'>> {
  const { registry, repository } = origin;
  const { readConfig } = createReader(origin);
  const readManifest = (named: Digest) => registry.getManifest(repository, named);
  const explainImage = createExplainImage({ steps, ruleLayers, augmented, readManifest, readConfig });
  // A digest may belong to one image of the index only.
  const named = augmented.images.find(({ target }) => target === digest);
  const root = named ?? { source: sourceDigest, target: augmented.root.digest };
  const wanted = choose(named ? [named] : augmented.images, platform);
  return {
    outcome: root.source === root.target ? 'unchanged' : 'changed',
    ...{ sourceDigest: root.source, digest: root.target },
    platforms: await Promise.all(wanted.map(explainImage)),
  };
}

/** Throws MANIFEST_UNKNOWN, listing the available platforms, where none matches. */
function choose<T extends { readonly platform: Platform }>(
  images: readonly T[],
  platform: Platform | undefined,
): readonly T[] {
  if (!platform) return images;
  checkAvailable(
    [platform],
    images.map(image => image.platform),
  );
  return images.filter(image => isChosen(image.platform, [platform]));
}

function nameOf(platform: Platform): string {
  return formatPlatform(normalizePlatform(platform));
}
