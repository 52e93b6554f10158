// The images that a manifest leads to, each with its platform, however deep indexes nest.
import { checkAvailable, isChosen } from '../augment/choice.ts';
import { isUnknownPlatform, type SourceReader } from '../augment/source.ts';
import { type Descriptor, findManifests } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/errors.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { Manifest } from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-type.ts';
import type { Platform } from '../oci/platform.ts';
import { withinBudget } from './source-reader.ts';

/** An entry for a platform. */
export interface Candidate {
  readonly platform: Platform;
  /** Fetched when it is wanted: an index may tell the platform by itself. */
  readonly read: () => Promise<Manifest>;
}

const MAX_DEPTH = 4;
const MAX_TOTAL_ENTRIES = 512;

/** In the order of the index, all of them. Throws as `findImages` does. */
export function listImages(root: Manifest, reader: SourceReader): Promise<readonly Candidate[]> {
  return Array.fromAsync(findImages(root, reader));
}

/** The first image for a platform: what comes after it is not read. Throws MANIFEST_UNKNOWN, naming those there are, when there is none. */
export async function chooseImage(root: Manifest, platform: Platform, reader: SourceReader): Promise<Manifest> {
  const available: Platform[] = [];
  for await (const candidate of findImages(root, reader)) {
    if (isChosen(candidate.platform, [platform])) return candidate.read();
    available.push(candidate.platform);
  }
  checkAvailable([platform], available);
  return root;
}

/** One after the other, in the order of the index. Throws MANIFEST_INVALID for an index that is too deep or large. */
async function* findImages(root: Manifest, source: SourceReader): AsyncGenerator<Candidate> {
  const reader = withinBudget(source);
  let total = 0;
  yield* visit(root, 1);

  async function* visit(manifest: Manifest, depth: number): AsyncGenerator<Candidate> {
    if (manifest.kind === 'other') return;
    if (manifest.kind === 'image') {
      const platform = configPlatform(parseImageConfig(await reader.readConfig(manifest.config)));
      yield { platform, read: async () => manifest };
      return;
    }
    const entries = findManifests(manifest.manifests);
    total += entries.length;
    if (depth > MAX_DEPTH) throw invalid(`its indexes nest deeper than ${MAX_DEPTH}`);
    if (total > MAX_TOTAL_ENTRIES) throw invalid(`it has more than ${MAX_TOTAL_ENTRIES} entries`);
    for (const entry of entries) yield* visitEntry(entry, depth);
  }

  async function* visitEntry(entry: Descriptor, depth: number): AsyncGenerator<Candidate> {
    const { mediaType, platform } = entry;
    const read = () => reader.readManifest(entry);
    if (!platform?.architecture || isIndexType(mediaType)) yield* visit(await read(), depth + 1);
    else if (!isUnknownPlatform(platform)) yield { platform, read };
  }
}

function invalid(reason: string): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid index: ${reason}`);
}
