// A registry as rules make one caller see it: a tag leads to what they make of its image, and that stays under its digest for who found it so.
import { LRUCache } from 'lru-cache';
import { bytesBlob } from '../../cache/read-through/cached.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseManifest } from '../../oci/manifest.ts';
import type { DerivedDigests } from '../../rules/derived-digests.ts';
import type { Rules } from '../../rules/rules.ts';
import type { CallOptions } from '../../upstream/upstream.ts';
import type { Augmentations } from '../derived-images.ts';
import type { Layers } from '../layers/layers.ts';
import { imageName, type Origin, originName } from '../origin.ts';
import { provenanceReferrers } from '../provenance-referrers.ts';
import type { Registry } from '../registry.ts';
import { createMadeImages } from './made-images.ts';
import { createFindRefusing, NO_STEPS, refusePinned } from './pinned.ts';

interface RuledRegistryDeps {
  readonly rules: Rules;
  readonly made: DerivedDigests;
  readonly augmentations: Augmentations;
  readonly layers: Layers;
}

/** `caller` is undefined for who has no name; `isLook`: whether something is there is all that is told of it. */
export type WithRules = (registry: Registry, caller: string | undefined, isLook?: boolean) => Registry;

const MAX_REFUSED = 10_000;

export function createWithRules({ rules, made, augmentations, layers }: RuledRegistryDeps): WithRules {
  const images = createMadeImages({ made, augmentations });
  const findRefusing = createFindRefusing(augmentations);
  /** Manifests that were refused: containerd asks for them once more, as blobs, and would take them for those. */
  const refused = new LRUCache<string, true>({ maxSize: MAX_REFUSED, sizeCalculation: () => 1 });

  /** What the source of a tag becomes. It can be pulled by its digest before anybody is told of it. */
  async function applyRules(origin: Origin, tag: string, { signal, ...source }: Source & CallOptions): Promise<Digest> {
    const { current } = rules;
    const subject = { repository: originName(origin), tag, caller: source.caller };
    const found = await current.find(subject);
    const isPinning = current.refusesPinned(subject).length > 0;
    if (!found && !isPinning) return source.digest;
    const { steps, layerSources } = found ?? { steps: NO_STEPS, layerSources: [] };
    const pull = { origin, sourceName: imageName(origin, tag), sourceDigest: source.digest, steps, layerSources };
    const image = await augmentations.get(pull, signal);
    const { digest } = image.root;
    // Where digests of the upstream's are refused, one that a tag leads to is not.
    const isToKeep = digest !== source.digest || (isPinning && image.images.length > 0);
    if (isToKeep) await images.keep(pull, image);
    return digest;
  }

  async function requireUnpinned(origin: Origin, source: Source): Promise<void> {
    const image = { origin, ...source };
    const refusing = await findRefusing(rules.current, image);
    if (refusing.length === 0) return;
    refused.set(`${originName(origin)}@${source.digest}`, true);
    throw refusePinned(refusing, image);
  }

  async function requireBlob(origin: Origin, source: Source): Promise<void> {
    if (!refused.has(`${originName(origin)}@${source.digest}`)) return;
    if (await images.isKept(origin, source.digest)) return;
    if (!(await images.find(origin, source.digest))) await requireUnpinned(origin, source);
  }

  return (registry, caller, isLook = false) => ({
    ...registry,
    async resolveTag(repository, tag, options) {
      const digest = await registry.resolveTag(repository, tag, options);
      return applyRules({ registry, repository }, tag, { digest, caller, signal: options?.signal });
    },
    async getManifest(repository, digest, options) {
      const origin = { registry, repository };
      if (await images.isKept(origin, digest)) return registry.getManifest(repository, digest, options);
      const image = await images.find(origin, digest);
      const document = image?.made.get(digest);
      if (document) return parseManifest(document.raw, document.mediaType, digest);
      const manifest = await registry.getManifest(repository, digest, options);
      // Before a push its client asks for what it need not bring.
      const isOpen = image !== undefined || manifest.kind === 'other' || (registry.isHosted && isLook);
      if (!isOpen) await requireUnpinned(origin, { digest, caller });
      return manifest;
    },
    async readConfig(repository, descriptor) {
      const document = await images.findDocument({ registry, repository }, descriptor.digest);
      return document ? document.raw : registry.readConfig(repository, descriptor);
    },
    async headBlob(repository, digest) {
      const origin = { registry, repository };
      await requireBlob(origin, { digest, caller });
      // Before a push its client asks for what it need not bring: that is what was pushed, and no more.
      if (registry.isHosted) return registry.headBlob(repository, digest);
      const layer = await images.findLayer(origin, digest);
      if (layer) return layers.head(layer);
      return (await images.findDocument(origin, digest)) ?? registry.headBlob(repository, digest);
    },
    async getBlob(repository, digest, options) {
      const origin = { registry, repository };
      await requireBlob(origin, { digest, caller });
      const layer = await images.findLayer(origin, digest);
      if (layer) return layers.get(layer);
      const document = await images.findDocument(origin, digest);
      return document ? bytesBlob(document.raw) : registry.getBlob(repository, digest, options);
    },
    async findReferrers(repository, digest, options) {
      const origin = { registry, repository };
      const image = (await images.isKept(origin, digest)) ? undefined : await images.find(origin, digest);
      if (image?.made.has(digest)) return provenanceReferrers(image, digest, options);
      return registry.findReferrers(repository, digest, options);
    },
  });
}

/** An image as it is upstream, and who pulls it. */
interface Source {
  readonly digest: Digest;
  readonly caller: string | undefined;
}
