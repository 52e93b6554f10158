// Inspection: what a reference is now, as its registry has it; an image with its config, or an index.
import { checkAvailable, isChosen } from '../augment/choice.ts';
import { isUnknownPlatform } from '../augment/source.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, MAX_CONFIG_BYTES, parseImageConfig } from '../oci/image-config.ts';
import type { ImageIndex, ImageManifest, Manifest } from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import type { Reference } from '../oci/reference.ts';
import { readBlob } from './blobs.ts';
import type { IncludesDeps } from './includes.ts';
import type { Origin } from './origin.ts';

export type Inspected = { readonly registry: string; readonly repository: string } & (
  | { readonly kind: 'image'; readonly manifest: ImageManifest; readonly config: Uint8Array }
  | { readonly kind: 'index'; readonly manifest: ImageIndex }
);

/**
 * What the reference names, or the image of `platform` in it, however deep its index nests.
 * Throws RegistryError: the upstream's own, MANIFEST_UNKNOWN listing the platforms there are, or MANIFEST_INVALID for no image.
 */
export type Inspect = (reference: Reference, platform?: Platform) => Promise<Inspected>;

interface Candidate {
  readonly manifest: () => Promise<Manifest>;
  readonly platform: Platform;
}

const MAX_DEPTH = 4;
const MAX_TOTAL_ENTRIES = 512;

export function createInspect({ origins, tags, manifests, blobs }: IncludesDeps): Inspect {
  async function readConfig(origin: Origin, { config }: ImageManifest): Promise<Uint8Array> {
    if (config.size > MAX_CONFIG_BYTES) throw invalid(`its config is larger than ${MAX_CONFIG_BYTES} bytes`);
    return readBlob(await blobs.get(origin, config.digest), MAX_CONFIG_BYTES);
  }

  async function choose(origin: Origin, root: Manifest, platform: Platform): Promise<Manifest> {
    const candidates = await listCandidates(origin, root);
    const available = candidates.map(candidate => candidate.platform);
    checkAvailable([platform], available);
    const chosen = candidates.find(candidate => isChosen(candidate.platform, [platform]));
    return chosen ? chosen.manifest() : root;
  }

  function listCandidates(origin: Origin, root: Manifest): Promise<readonly Candidate[]> {
    let total = 0;
    return visit(root, 0);

    async function visit(manifest: Manifest, depth: number): Promise<readonly Candidate[]> {
      if (manifest.kind === 'other') return [];
      if (manifest.kind === 'image') {
        const platform = configPlatform(parseImageConfig(await readConfig(origin, manifest)));
        return isUnknownPlatform(platform) ? [] : [{ manifest: async () => manifest, platform }];
      }
      total += manifest.manifests.length;
      if (depth === MAX_DEPTH) throw invalid(`its indexes nest deeper than ${MAX_DEPTH}`);
      if (total > MAX_TOTAL_ENTRIES) throw invalid(`it has more than ${MAX_TOTAL_ENTRIES} entries`);
      const nested = manifest.manifests.map(async ({ digest, mediaType, platform }) => {
        const get = () => manifests.get(origin, digest);
        if (!platform?.architecture || isIndexType(mediaType)) return visit(await get(), depth + 1);
        return isUnknownPlatform(platform) ? [] : [{ manifest: get, platform }];
      });
      return (await Promise.all(nested)).flat();
    }
  }

  return async (reference, platform) => {
    const origin = origins.locate(reference.registry, reference.repository);
    const digest = reference.digest ?? (await tags.resolve(origin, reference.tag ?? 'latest'));
    const root = await manifests.get(origin, digest);
    const manifest = platform ? await choose(origin, root, platform) : root;
    const place = { registry: origin.upstream.name, repository: origin.repository };
    if (manifest.kind === 'index') return { ...place, kind: 'index', manifest };
    if (manifest.kind === 'other') throw invalid(`${manifest.mediaType} is no image`);
    return { ...place, kind: 'image', manifest, config: await readConfig(origin, manifest) };
  };
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `cannot be inspected: ${reason}`);
}
