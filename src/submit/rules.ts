// Applies the rules to an image for which a caller requests a token: decided with the request, and pinned like everything else.
import { type Caller, subjectOf } from '../access/access.ts';
import type { Step } from '../augment/augmentation.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import { RegistryError } from '../oci/errors.ts';
import { type Origin, originName } from '../pull/origin.ts';
import { type LeaseRuleLayers, ruleLayersIn } from '../rules/layers/layer-store.ts';
import type { Rules } from '../rules/rules.ts';

export interface RequestedImage {
  readonly origin: Origin;
  /** Undefined where it is requested by digest. */
  readonly tag: string | undefined;
}

export interface RuledChanges {
  readonly ruleSteps: readonly Step[];
  /** Of all layers of the steps. */
  readonly ruleLayerSources: readonly LayerSource[];
}

/**
 * No steps where no rule applies. Their layers are leased slightly longer than the lifetime of a token issued now. Throws DENIED for a
 * digest that a rule for some tags refuses.
 */
export type FindRuled = (caller: Caller, image: RequestedImage) => Promise<RuledChanges>;

/** The token is issued a moment later. */
const EXPIRY_SLACK_MS = 60_000;

export function createFindRuled({
  rules,
  leaseRuleLayers,
  now,
  ttlMs,
}: {
  readonly rules: Rules;
  readonly leaseRuleLayers: LeaseRuleLayers;
  readonly now: () => Date;
  /** The lifetime of tokens. */
  readonly ttlMs: number;
}): FindRuled {
  return async (caller, { origin, tag }) => {
    const { current } = rules;
    const subject = { repository: originName(origin), tag, caller: subjectOf(caller) || undefined };
    const { steps = [], layerSources = [] } = (await current.find(subject)) ?? {};
    const refusing = tag === undefined ? current.refusesPinned(subject) : [];
    const unapplied = refusing.find(({ name }) => !steps.some(({ rule }) => rule === name));
    if (unapplied) throw refuseDigest(unapplied.name, subject.repository);
    const stored = ruleLayersIn(layerSources);
    if (stored.length > 0) await leaseRuleLayers(stored, new Date(now().getTime() + ttlMs + EXPIRY_SLACK_MS));
    return { ruleSteps: steps, ruleLayerSources: layerSources };
  };
}

function refuseDigest(rule: string, repository: string): RegistryError {
  const reason = `the rule ${rule} matches some tags of ${repository}, and it is unknown which of them has this digest`;
  return new RegistryError('DENIED', `${reason} (pinned: refused): name the image by its tag`);
}
