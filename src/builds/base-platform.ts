// Which image of a base is for a platform, and what there is where none is: a builder may take another's files without a word.
import type { Descriptor } from '../oci/descriptor.ts';
import { configPlatform, parseImageConfig } from '../oci/image-config.ts';
import type { ImageManifest, Manifest } from '../oci/manifest.ts';
import { isIndexType } from '../oci/media-type.ts';
import { formatPlatform, isSamePlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import { withOlderArms } from './arm-variants.ts';
import type { BaseImage } from './images.ts';

interface Found {
  /** Undefined where there is none for the platform. */
  readonly manifest: ImageManifest | undefined;
  /** What was looked at: all that there is, where none is for the platform. */
  readonly there: readonly string[];
}

const MAX_DEPTH = 4;
/** Of entries that do not say what they are for, and have to be read. */
const MAX_READ = 64;

/** One for the platform itself comes first, then one for an older arm, whose code it runs. Throws what `image` throws. */
export async function findPlatformImage(image: BaseImage, platform: Platform): Promise<Found> {
  const candidates = await listCandidates(image);
  const there = [...new Set(candidates.map(each => formatPlatform(normalizePlatform(each.platform))))];
  for (const wanted of withOlderArms([normalizePlatform(platform)])) {
    const found = candidates.find(each => isSamePlatform(each.platform, wanted));
    const manifest = found && (await found.read());
    if (manifest?.kind === 'image') return { manifest, there };
  }
  return { manifest: undefined, there };
}

/** In words for people. */
export function describeAbsence(reference: string, platform: Platform, { there }: Found): string {
  return `${reference} is not there for ${formatPlatform(platform)}; there is ${there.join(', ') || 'no image at all'}`;
}

interface Candidate {
  readonly platform: Platform;
  readonly read: () => Promise<Manifest>;
}

async function listCandidates(image: BaseImage): Promise<readonly Candidate[]> {
  const candidates: Candidate[] = [];
  let left = MAX_READ;
  await visit(image.root, 1);
  return candidates;

  async function visit(manifest: Manifest, depth: number): Promise<void> {
    if (manifest.kind === 'image') {
      const platform = configPlatform(parseImageConfig(await image.readConfig(manifest.config)));
      add(platform, async () => manifest);
    }
    if (manifest.kind !== 'index' || depth > MAX_DEPTH) return;
    for (const entry of manifest.manifests) await visitEntry(entry, depth);
  }

  async function visitEntry(entry: Descriptor, depth: number): Promise<void> {
    const read = () => image.readManifest(entry);
    if (entry.platform && !isIndexType(entry.mediaType)) return add(entry.platform, read);
    if (left === 0) return;
    left -= 1;
    await visit(await read(), depth + 1);
  }

  /** What describes an image is none. */
  function add(platform: Platform, read: Candidate['read']): void {
    if (platform.os !== 'unknown') candidates.push({ platform, read });
  }
}
