// A registry with the rules applied for one caller: a tag resolves to the derived image, which stays available by digest to callers who
// resolved it.
import { LRUCache } from 'lru-cache';
import type { Digest } from '../../oci/digest.ts';
import type { DerivationRecord, DerivedDigests } from '../../rules/derived-digests.ts';
import type { Rules } from '../../rules/rules.ts';
import type { CallOptions } from '../../upstream/upstream.ts';
import {
  type AugmentedRegistry,
  createAugmentedRegistry,
  type Overlay,
  type ResolvedTag,
} from '../augmented-registry.ts';
import type { Augmentations, Derivation, DerivedImage } from '../derived-images.ts';
import type { Layers } from '../layers/layers.ts';
import { imageName, type Origin, originName } from '../origin.ts';
import type { Registry } from '../registry.ts';
import { createFindRefusing, NO_STEPS, refusePinned } from './rule-outcome.ts';

/** `caller` is undefined for anonymous; `isExistenceCheck`: only existence is reported. */
export type WithRules = (
  registry: Registry,
  caller: string | undefined,
  isExistenceCheck?: boolean,
) => AugmentedRegistry;

const MAX_REFUSED = 10_000;

export function createWithRules({
  rules,
  derivedDigests,
  augmentations,
  layers,
}: {
  readonly rules: Rules;
  readonly derivedDigests: DerivedDigests;
  readonly augmentations: Augmentations;
  readonly layers: Pick<Layers, 'get' | 'head'>;
}): WithRules {
  const findRefusing = createFindRefusing(augmentations);
  /** Refused manifests: containerd requests them once more as blobs, and would accept those. */
  const refused = new LRUCache<string, true>({ maxSize: MAX_REFUSED, sizeCalculation: () => 1 });

  /** Of images in memory: most pulls store what was stored before. */
  const recorded = new WeakMap<DerivedImage, ReturnType<typeof recordOf>>();

  /** Resolves the derived image of a tag. It is available by digest before the caller learns of it. */
  async function applyRules(
    origin: Origin,
    tag: string,
    { signal, digest: sourceDigest, caller }: Source & CallOptions,
  ): Promise<ResolvedTag> {
    const { current } = rules;
    const subject = { repository: originName(origin), tag, caller };
    const found = await current.find(subject);
    const isPinning = current.refusesPinned(subject).length > 0;
    if (!found && !isPinning) return { digest: sourceDigest };
    const { steps, layerSources } = found ?? { steps: NO_STEPS, layerSources: [] };
    const derivation = { origin, sourceName: imageName(origin, tag), sourceDigest, steps, layerSources };
    const image = await augmentations.get(derivation, signal);
    const { digest } = image.root;
    // Where digests of the upstream are refused, one that a tag resolves to is not.
    const mustRecord = digest !== sourceDigest || (isPinning && image.images.length > 0);
    if (mustRecord) await recordDerivation(derivation, image);
    return { digest, image };
  }

  /** Makes the image, with everything it refers to, available by digest. */
  async function recordDerivation(derivation: Derivation, image: DerivedImage): Promise<void> {
    const known = recorded.get(image);
    const current = known && isOfLayers(known.record, derivation) ? known : recordOf(derivation, image);
    recorded.set(image, current);
    await derivedDigests.keep(current.record, current.members);
  }

  /** Throws DENIED for a digest of the upstream that a rule refuses, unless a tag resolved to it. */
  async function requireUnpinned(origin: Origin, source: Source): Promise<void> {
    const { current } = rules;
    const repository = originName(origin);
    if (current.refusesPinned({ repository, caller: source.caller }).length === 0) return;
    if (await derivedDigests.find(repository, source.digest)) return;
    const image = { origin, ...source };
    const refusing = await findRefusing(current, image);
    if (refusing.length === 0) return;
    refused.set(`${repository}@${source.digest}`, true);
    throw refusePinned(refusing, image);
  }

  async function requireBlob(origin: Origin, source: Source): Promise<void> {
    if (refused.has(`${originName(origin)}@${source.digest}`)) await requireUnpinned(origin, source);
  }

  return (registry, caller, isExistenceCheck = false) => {
    const guarded: Registry = {
      ...registry,
      async getManifest(repository, digest, options) {
        const manifest = await registry.getManifest(repository, digest, options);
        // Before a push its client checks which content exists.
        const isOpen = manifest.kind === 'other' || (registry.isHosted && isExistenceCheck);
        if (!isOpen) await requireUnpinned({ registry, repository }, { digest, caller });
        return manifest;
      },
      async headBlob(repository, digest) {
        await requireBlob({ registry, repository }, { digest, caller });
        return registry.headBlob(repository, digest);
      },
      async getBlob(repository, digest, options) {
        await requireBlob({ registry, repository }, { digest, caller });
        return registry.getBlob(repository, digest, options);
      },
    };
    const overlay: Overlay = {
      async resolveTag(repository, tag, options) {
        const digest = await registry.resolveTag(repository, tag, options);
        return applyRules({ registry, repository }, tag, { digest, caller, signal: options?.signal });
      },
      async find(repository, digest) {
        const origin = { registry, repository };
        const record = await derivedDigests.find(originName(origin), digest);
        if (!record || record.kept?.includes(digest)) return undefined;
        const { sourceName, sourceDigest, steps, layerSources } = record;
        const image = () => augmentations.get({ origin, sourceName, sourceDigest, steps, layerSources });
        const layer = layerOf(record, digest);
        // Callers without access to the source must not get layers of its derived image, unless those are open to all who may pull.
        if (layer && registry.scope !== undefined) await image();
        return { layer, image };
      },
    };
    const augmented = createAugmentedRegistry(guarded, overlay, layers);
    // Before a push its client checks which content exists: only pushed content counts.
    return registry.isHosted ? { ...augmented, headBlob: guarded.headBlob } : augmented;
  };
}

/** An unchanged image of the upstream, and the caller. */
interface Source {
  readonly digest: Digest;
  readonly caller: string | undefined;
}

/** What it takes to derive the image again, and the digests that it is available by. */
function recordOf({ origin, ...derivation }: Derivation, image: DerivedImage) {
  const { sourceName, sourceDigest, steps, layerSources } = derivation;
  const place = { registry: origin.registry.name, repository: origin.repository };
  const moved = [...image.moved.values()];
  const unchanged = [...image.unchanged];
  const members = [...image.derived.keys(), ...unchanged, ...[...layerSources, ...moved].map(layer => layer.digest)];
  const movedLayers = moved.length > 0 ? { movedLayers: moved } : {};
  const root = image.root.digest;
  const record: DerivationRecord = {
    ...place,
    sourceName,
    sourceDigest,
    steps,
    layerSources,
    root,
    kept: unchanged,
    ...movedLayers,
  };
  return { record, members };
}

/** The same layers may have moved to another place. */
function isOfLayers({ layerSources }: DerivationRecord, derivation: Derivation): boolean {
  const { length } = derivation.layerSources;
  return layerSources.length === length && layerSources.every((source, at) => source === derivation.layerSources[at]);
}

function layerOf({ layerSources, movedLayers = [] }: DerivationRecord, digest: Digest) {
  return [...layerSources, ...movedLayers].find(layer => layer.digest === digest);
}
