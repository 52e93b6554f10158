// A registry as a token lets it be seen: the one image that the token names, as it became, and what hangs from it.
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { TagPage } from '../../upstream/upstream.ts';
import { type AugmentedRegistry, createAugmentedRegistry, createImageOverlay } from '../augmented-registry.ts';
import type { Augmentations, Derivation, DerivedImage } from '../derived-images.ts';
import type { Layers } from '../layers/layers.ts';
import type { Registry } from '../registry.ts';
import { createTokenReach } from './token-reach.ts';

/** What a token stands for. */
export interface TokenImage extends Derivation {
  /** The only tag that is served; undefined where the image was named by its digest. */
  readonly tag: string | undefined;
  /** What the tag was promised to serve; undefined where a build made the source, of which nothing was known then. */
  readonly targetDigest: Digest | undefined;
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

  /** Of the source, what hangs from the token. Of all else it is not told whether the repository has it. */
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
        throw unknown(`this token serves ${token.sourceName}, and not ${digest}`);
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
          `this token was given out for ${token.targetDigest}, which another version made: submit the request anew`,
        );
      },
    };
    return createAugmentedRegistry(restrict(token, derive), overlay, layers);
  };
}

function tagsOf({ tag }: TokenImage, { n = 1, last = '' }: TagPage): readonly string[] {
  return tag !== undefined && n > 0 && tag > last ? [tag] : [];
}

/** The image that the token changes is never served as it was, by no digest of it, unless it is for a platform that stays. */
function refuseSource(token: TokenImage, { root, images, kept }: DerivedImage, digest: Digest): void {
  if (kept.has(digest)) return;
  const rewritten = images.find(image => image.source === digest && image.target !== digest);
  const isSourceRoot = digest === token.sourceDigest && root.digest !== digest;
  if (!rewritten && !isSourceRoot) return;
  throw unknown(`${digest} is the source image; through this token it is ${rewritten?.target ?? root.digest}`);
}

function unknown(message: string): RegistryError {
  return new RegistryError('MANIFEST_UNKNOWN', message);
}
