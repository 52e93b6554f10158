// The images that a manifest leads to, each with its platform, however deep indexes nest.
import { checkAvailable, isChosen } from '../augment/choice.ts';
import { isUnknownPlatform, type SourceReader } from '../augment/source.ts';
import type { Descriptor } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { Manifest } from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';

/** An entry for a platform. */
export interface Candidate {
  readonly platform: Platform;
  /** Fetched when it is wanted: an index may tell the platform by itself. */
  readonly read: () => Promise<Manifest>;
}

const MAX_DEPTH = 4;
const MAX_TOTAL_ENTRIES = 512;

/** In the order of the index. Throws MANIFEST_INVALID for an index that is too deep or large. */
export function listImages(root: Manifest, reader: SourceReader): Promise<readonly Candidate[]> {
  let total = 0;
  return visit(root, 1);

  async function visit(manifest: Manifest, depth: number): Promise<readonly Candidate[]> {
    if (manifest.kind === 'other') return [];
    if (manifest.kind === 'image') {
      const platform = configPlatform(parseImageConfig(await reader.readConfig(manifest.config)));
      return [{ platform, read: async () => manifest }];
    }
    total += manifest.manifests.length;
    if (depth > MAX_DEPTH) throw invalid(`its indexes nest deeper than ${MAX_DEPTH}`);
    if (total > MAX_TOTAL_ENTRIES) throw invalid(`it has more than ${MAX_TOTAL_ENTRIES} entries`);
    return (await Promise.all(manifest.manifests.map(entry => visitEntry(entry, depth)))).flat();
  }

  async function visitEntry(entry: Descriptor, depth: number): Promise<readonly Candidate[]> {
    const { mediaType, platform } = entry;
    const read = () => reader.readManifest(entry);
    if (!platform?.architecture || isIndexType(mediaType)) return visit(await read(), depth + 1);
    return isUnknownPlatform(platform) ? [] : [{ platform, read }];
  }
}

/** The first image for a platform. Throws MANIFEST_UNKNOWN, naming those there are, when there is none. */
export async function chooseImage(root: Manifest, platform: Platform, reader: SourceReader): Promise<Manifest> {
  const candidates = await listImages(root, reader);
  checkAvailable(
    [platform],
    candidates.map(candidate => candidate.platform),
  );
  const chosen = candidates.find(candidate => isChosen(candidate.platform, [platform]));
  return chosen ? chosen.read() : root;
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid index: ${reason}`);
}
