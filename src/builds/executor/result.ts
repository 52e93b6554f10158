// What a builder pushed, entry by entry.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { configPlatform, parseImageConfig } from '../../oci/image-config.ts';
import type { ImageManifest, Manifest } from '../../oci/manifest.ts';
import { normalizePlatform, type Platform } from '../../oci/platform.ts';
import type { BaseImage, BaseImages } from '../images.ts';
import { BuildFailure } from '../maker.ts';

/** An image that was pushed: its name with the tag, and the digest that the builder told. */
export interface Built {
  readonly image: string;
  readonly digest: Digest;
}

export interface Result {
  readonly isIndex: boolean;
  readonly images: readonly BuiltImage[];
  readonly attestations: readonly Attestation[];
}

interface BuiltImage {
  readonly descriptor: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>;
  readonly platform: Platform;
}

/** An entry that describes another one. */
interface Attestation {
  readonly descriptor: Descriptor;
  readonly subject: string | undefined;
}

/** Throws BuildFailure for what is neither an image nor an index of images. */
export async function readResult({ image, digest }: Built, images: Pick<BaseImages, 'open'>): Promise<Result> {
  const base = await images.open(image, digest);
  const { root } = base;
  if (root.kind !== 'index') return { isIndex: false, images: [await readImage(base, root)], attestations: [] };
  const described = root.manifests.filter(isAttestation);
  const others = root.manifests.filter(entry => !isAttestation(entry));
  return {
    isIndex: true,
    images: await Promise.all(others.map(entry => readEntry(base, entry))),
    attestations: described.map(descriptor => ({
      descriptor,
      subject: descriptor.annotations?.['vnd.docker.reference.digest'],
    })),
  };
}

function isAttestation({ platform }: Descriptor): boolean {
  return platform?.os === 'unknown' && platform.architecture === 'unknown';
}

async function readEntry(base: BaseImage, entry: Descriptor): Promise<BuiltImage> {
  const image = await readImage(base, await base.readManifest(entry));
  return entry.platform ? { ...image, platform: normalizePlatform(entry.platform) } : image;
}

async function readImage(base: BaseImage, manifest: Manifest): Promise<BuiltImage> {
  const { mediaType, digest, raw } = requireImage(manifest);
  const config = parseImageConfig(await base.readConfig(requireImage(manifest).config));
  return {
    descriptor: { mediaType, digest, size: raw.byteLength },
    platform: normalizePlatform(configPlatform(config)),
  };
}

function requireImage(manifest: Manifest): ImageManifest {
  if (manifest.kind === 'image') return manifest;
  throw new BuildFailure({
    kind: 'infrastructure',
    reason: `the builder pushed ${manifest.digest}, which is no image`,
  });
}
