// Digests of the upstream's that clients pin, where rules refuse that: nothing that these would change goes out as it is.
import type { Augmentation } from '../../augment/augmentation.ts';
import { type Steps, stepsFor } from '../../augment/steps.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { Platform } from '../../oci/platform.ts';
import type { RuleOptions, RuleSet } from '../../rules/rules.ts';
import type { Augmentations } from '../derived-images.ts';
import { type Origin, originName } from '../origin.ts';

interface PinnedImage {
  readonly origin: Origin;
  /** Of an image or an index. */
  readonly digest: Digest;
  /** Undefined for who has no name. */
  readonly caller: string | undefined;
}

/** The rules that do not let the image be pulled by this digest; none: it may be. Throws RegistryError. */
type FindRefusing = (rules: RuleSet, image: PinnedImage) => Promise<readonly RuleOptions[]>;

const NOTHING: Augmentation = { layers: [], attestations: 'drop' };

/** What changes no image, to look at one as if it were changed. */
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
    // What a rule for some tags makes of the image cannot be known: it counts as if it would change it.
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
    `${subject} ${originName(origin)}, and ${digest} is the image as it is upstream, which may not be pulled here (pinned: refused): pull it by its tag, or by the digest that the tag has here`,
    { detail: { rules: names, digest } },
  );
}

function isFor({ match }: RuleOptions, platform: Platform): boolean {
  return stepsFor([{ platforms: match.platform, augmentation: NOTHING }], platform).length > 0;
}
