// The outcome of a pull under the rules, determined without a pull and without storing anything.
import type { Augmented } from '../../augment/augment.ts';
import { type Augmentation, type Steps, stepsFor } from '../../augment/augmentation.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { Platform } from '../../oci/platform.ts';
import type { DerivationRecord, DerivedDigests } from '../../rules/derived-digests.ts';
import type { RuleLayer, RuleOptions, RuleSet, Subject } from '../../rules/rules.ts';
import type { Augmentations } from '../derived-images.ts';
import { imageName, type Origin, originName } from '../origin.ts';

export interface OutcomesDeps {
  readonly derivedDigests: Pick<DerivedDigests, 'find'>;
  readonly augmentations: Augmentations;
}

interface Question {
  readonly origin: Origin;
  readonly subject: Subject;
  readonly state: RuleSet;
}

/** `reason` is one line; `pinned` says whose digest it is where the image is requested by one. */
export type Outcome = { readonly sourceDigest: Digest; readonly reason: string } & (
  | { readonly kind: 'plain'; readonly pinned?: 'upstream' }
  | ({ readonly kind: 'augmented'; readonly pinned?: 'made' } & Applied)
  | { readonly kind: 'refused' | 'failed'; readonly pinned?: 'upstream' | 'made' }
);

/** The effect of rules on the image. */
interface Applied {
  readonly steps: Steps;
  /** For each layer of each step, the layer as in the rule. Undefined where that is no longer known. */
  readonly ruleLayers: readonly (readonly RuleLayer[])[];
  readonly augmented: Augmented;
}

interface Outcomes {
  /** Throws RegistryError where the tag cannot be resolved. `signal` ends the wait for a build, like that of a pull. */
  ofTag(question: Question, tag: string, signal?: AbortSignal): Promise<Outcome>;
  ofDigest(question: Question, digest: Digest): Promise<Outcome>;
}

export function createOutcomes({ derivedDigests, augmentations }: OutcomesDeps): Outcomes {
  const findRefusing = createFindRefusing(augmentations);

  async function ofDerived(
    origin: Origin,
    { sourceName, sourceDigest, steps, layerSources }: DerivationRecord,
  ): Promise<Outcome> {
    const common = { sourceDigest, pinned: 'made' } as const;
    return orFailed(common, async () => {
      const augmented = await augmentations.get({ origin, sourceName, sourceDigest, steps, layerSources });
      return {
        ...common,
        kind: 'augmented',
        reason: describeDerivation(sourceName, steps),
        steps,
        ruleLayers: [],
        augmented,
      };
    });
  }

  async function ofPinned({ origin, subject, state }: Question, digest: Digest): Promise<Outcome> {
    const common = { sourceDigest: digest, pinned: 'upstream' } as const;
    const manifest = await origin.registry.getManifest(origin.repository, digest);
    if (manifest.kind === 'other') return { ...common, kind: 'plain', reason: NO_IMAGE };
    return orFailed(common, async () => {
      const image = { origin, digest, caller: subject.caller };
      const refusing = await findRefusing(state, image);
      if (refusing.length === 0) return { ...common, kind: 'plain', reason: UNTOUCHED };
      return { ...common, kind: 'refused', reason: refusePinned(refusing, image).message };
    });
  }

  return {
    async ofTag({ origin, subject, state }, tag, signal) {
      const sourceDigest = await origin.registry.resolveTag(origin.repository, tag, { ...(signal && { signal }) });
      return orFailed({ sourceDigest }, async () => {
        const ruled = await state.find(subject);
        if (!ruled) return { kind: 'plain', sourceDigest, reason: 'no rule matches it' };
        const { steps, layerSources, ruleLayers = [] } = ruled;
        const sourceName = imageName(origin, tag);
        const augmented = await augmentations.get({ origin, sourceName, sourceDigest, steps, layerSources });
        return {
          kind: 'augmented',
          sourceDigest,
          reason: describeChange(augmented, steps),
          steps,
          ruleLayers,
          augmented,
        };
      });
    },
    async ofDigest(question, digest) {
      const record = await derivedDigests.find(question.subject.repository, digest);
      if (record?.kept?.includes(digest)) return ofUnchanged(record, digest);
      return record ? ofDerived(question.origin, record) : ofPinned(question, digest);
    },
  };
}

function ofUnchanged({ sourceName }: DerivationRecord, digest: Digest): Outcome {
  const reason = `${sourceName} resolved to it, and no rule changed it`;
  return { kind: 'plain', pinned: 'upstream', sourceDigest: digest, reason };
}

const UNTOUCHED = "it is requested by the upstream's digest, and served unchanged";
const NO_IMAGE = 'it is not an image: rules do not change artifacts';

/** An error of a pull is the result to explain. */
async function orFailed(
  common: { readonly sourceDigest: Digest; readonly pinned?: 'upstream' | 'made' },
  find: () => Promise<Outcome>,
): Promise<Outcome> {
  try {
    return await find();
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    return { ...common, kind: 'failed', reason: error.message };
  }
}

function describeChange({ images }: Augmented, steps: Steps): string {
  if (images.length === 0) return NO_IMAGE;
  const isSame = images.every(({ source, target }) => source === target);
  return isSame ? `none of its platforms is changed by ${namesOf(steps)}` : `changed by ${namesOf(steps)}`;
}

/** A tag may have resolved to an image that no rule matches, where other digests are refused. */
function describeDerivation(sourceName: string, steps: Steps): string {
  const names = namesOf(steps);
  return names === ''
    ? `it is what ${sourceName} resolved to`
    : `derived from ${sourceName} by ${names}, and does not change any more`;
}

function namesOf(steps: Steps): string {
  return steps.flatMap(({ rule }) => rule ?? []).join(', ');
}

// Pinned digests of the upstream that rules refuse: an image that they would change is never served unchanged.

interface PinnedImage {
  readonly origin: Origin;
  /** Of an image or an index. */
  readonly digest: Digest;
  /** Undefined for anonymous. */
  readonly caller: string | undefined;
}

/** The rules that refuse pulling the image by this digest; none: allowed. Throws RegistryError. */
type FindRefusing = (rules: RuleSet, image: PinnedImage) => Promise<readonly RuleOptions[]>;

const NOTHING: Augmentation = { layers: [], attestations: 'drop' };

/** A no-op, to examine an image as if it were changed. */
export const NO_STEPS: Steps = [{ augmentation: NOTHING }];

export function createFindRefusing(augmentations: Augmentations): FindRefusing {
  return async (rules, { origin, digest, caller }) => {
    const repository = originName(origin);
    const refusing = rules.refusesPinned({ repository, caller });
    if (refusing.length === 0) return [];
    const { steps = [], layerSources = [] } = (await rules.find({ repository, tag: undefined, caller })) ?? {};
    const known = steps.filter(step => refusing.some(({ name }) => name === step.rule));
    const pull = { origin, sourceName: repository, sourceDigest: digest, layerSources };
    const { root, images } = await augmentations.get({ ...pull, steps: known.length > 0 ? known : NO_STEPS });
    const changes = root.digest !== digest;
    // What a rule for some tags does to the image is unknown: it counts as changing it.
    const isOpen = ({ name }: RuleOptions) => changes || !known.some(({ rule }) => rule === name);
    return refusing.filter(rule => isOpen(rule) && images.some(({ platform }) => isFor(rule, platform)));
  };
}

/** The error of a pull by such a digest. */
export function refusePinned(rules: readonly RuleOptions[], { origin, digest }: PinnedImage): RegistryError {
  const names = rules.map(({ name }) => name);
  const subject = names.length === 1 ? `the rule ${names} changes` : `the rules ${names.join(', ')} change`;
  return new RegistryError(
    'DENIED',
    `${subject} ${originName(origin)}, and ${digest} is the unchanged upstream image, which may not be pulled here (pinned: refused): pull it by its tag, or by the digest that the tag has here`,
    { detail: { rules: names, digest } },
  );
}

function isFor({ match }: RuleOptions, platform: Platform): boolean {
  return stepsFor([{ platforms: match.platform, augmentation: NOTHING }], platform).length > 0;
}
