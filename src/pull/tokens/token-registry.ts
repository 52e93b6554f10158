// A registry as seen through a token: only its derived image, and what the token gives access to.
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { TagPage } from '../../upstream/upstream.ts';
import { type AugmentedRegistry, createAugmentedRegistry, createImageOverlay } from '../augmented-registry.ts';
import type { Augmentations, Derivation, DerivedImage } from '../derived-images.ts';
import type { Layers } from '../layers/layers.ts';
import { imageName, type Origin } from '../origin.ts';
import type { Registry } from '../registry.ts';
import type { TokenRecord } from './record.ts';
import { createTokenReach } from './token-reach.ts';

/** What a token serves. */
interface TokenImage extends Derivation {
  /** The only tag that is served; undefined where the image was requested by digest. */
  readonly tag: string | undefined;
  /** The digest that the tag must have; undefined where a build was still making the source. */
  readonly targetDigest: Digest | undefined;
}

/** What a token serves, once the digest of its source is known. */
export function tokenImage(record: TokenRecord, sourceDigest: Digest, origin: Origin): TokenImage {
  const { tag, targetDigest, ruleSteps = [], augmentation, layerSources } = record;
  const steps = [...ruleSteps, { augmentation }];
  return { origin, sourceName: imageName(origin, tag), sourceDigest, targetDigest, steps, layerSources, tag };
}

/** The registry of the image's origin, for one request: the signal is the client's. */
export type WithToken = (token: TokenImage, signal?: AbortSignal) => AugmentedRegistry;

export function createWithToken({
  augmentations,
  layers,
  memory,
}: {
  readonly augmentations: Augmentations;
  readonly layers: Pick<Layers, 'get' | 'head'>;
  readonly memory: Memory;
}): WithToken {
  const reachOf = createTokenReach(memory);

  /** Only content of the source that the token reaches. For anything else the answer does not depend on what the repository has. */
  function restrict(token: TokenImage, derive: () => Promise<DerivedImage>): Registry {
    const { registry } = token.origin;
    const findReach = async () => reachOf(token, await derive());

    async function requireBlob(digest: Digest): Promise<void> {
      if (await (await findReach()).hasBlob(digest)) return;
      throw new RegistryError('BLOB_UNKNOWN', `this token serves ${token.sourceName}, which has no ${digest}`);
    }

    return {
      ...registry,
      async getManifest(repository, digest) {
        refuseSource(token, await derive(), digest);
        if (await (await findReach()).hasManifest(digest)) return registry.getManifest(repository, digest);
        throw unknown(`this token serves ${token.sourceName}, not ${digest}`);
      },
      async headBlob(repository, digest) {
        await requireBlob(digest);
        return registry.headBlob(repository, digest);
      },
      async getBlob(repository, digest, options) {
        await requireBlob(digest);
        return registry.getBlob(repository, digest, options);
      },
      listTags: async (_, page) => ({ tags: tagsOf(token, page), hasMore: false }),
      async findReferrers(repository, digest, options) {
        if (!(await (await findReach()).hasSubject(digest))) return undefined;
        return registry.findReferrers(repository, digest, options);
      },
    };
  }

  return (token, signal) => {
    const derive = () => augmentations.get(token, signal);
    const overlay = {
      ...createImageOverlay(derive, token.layerSources),
      async resolveTag(_: string, tag: string) {
        if (tag !== token.tag) throw unknown(`this token serves ${token.sourceName}, not the tag "${tag}"`);
        const image = await derive();
        const { digest } = image.root;
        if (digest === (token.targetDigest ?? digest)) return { digest, image };
        throw unknown(
          `this token was issued for ${token.targetDigest} by another version of Veneer: submit the request again`,
        );
      },
    };
    return createAugmentedRegistry(restrict(token, derive), overlay, layers);
  };
}

function tagsOf({ tag }: TokenImage, { n = 1, last = '' }: TagPage): readonly string[] {
  return tag !== undefined && n > 0 && tag > last ? [tag] : [];
}

/** The originals of images that the token changes are never served, whatever digest is requested. */
function refuseSource(token: TokenImage, { root, images, unchanged }: DerivedImage, digest: Digest): void {
  if (unchanged.has(digest)) return;
  const rewritten = images.find(image => image.source === digest && image.target !== digest);
  const isSourceRoot = digest === token.sourceDigest && root.digest !== digest;
  if (!rewritten && !isSourceRoot) return;
  throw unknown(`${digest} is the source image; through this token it is ${rewritten?.target ?? root.digest}`);
}

function unknown(message: string): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', message);
}
