// Checks what a builder pushed against the spec, entry by entry: a builder may silently omit a platform.
import type { Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { configPlatform, parseImageConfig } from '../../oci/image-config.ts';
import type { ImageManifest, Manifest } from '../../oci/manifest.ts';
import { formatPlatform, normalizePlatform, type Platform } from '../../oci/platform.ts';
import { BuildFailure } from '../execution.ts';
import type { BaseImage, BaseImages, Destination } from '../images.ts';
import type { ContainerFileSpec } from '../spec.ts';

/** A pushed image: its name with the tag, and the digest that the builder reported. */
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

/** An entry that describes another entry. */
interface Attestation {
  readonly descriptor: Descriptor;
  readonly subject: string | undefined;
}

/** Throws BuildFailure unless the tag points to the reported digest. */
export async function checkTag({ image, digest }: Built, destination: Destination): Promise<void> {
  const found = await destination.findTag(tagOf(image));
  if (found !== digest) throw wrong(`${image} is ${found ?? 'not there'}, but the builder reported ${digest}`);
}

/**
 * Throws BuildFailure, which names what is missing or unexpected, unless the image has exactly the platforms and attestations of the spec.
 */
export async function checkPlatforms(
  spec: ContainerFileSpec,
  built: Built,
  images: Pick<BaseImages, 'open'>,
): Promise<void> {
  const result = await readResult(built, images);
  const faults = [findFormFault(spec, result), ...findPlatformFaults(spec, result), findAttestationFault(spec, result)];
  const found = faults.filter(fault => fault !== undefined);
  if (found.length > 0) throw wrong(`${built.image} is not what was asked for: ${found.join('; ')}`);
}

/** Throws BuildFailure if it is neither an image nor an index of images. */
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

function findFormFault(spec: ContainerFileSpec, { isIndex }: Result): string | undefined {
  if (spec.platforms.length > 1) return isIndex ? undefined : 'it is one image, and no index';
  return isIndex && !wantsAttestations(spec) ? 'it is an index, and not the image of its one platform' : undefined;
}

function findPlatformFaults(spec: ContainerFileSpec, { images }: Result): readonly string[] {
  const wanted = spec.platforms;
  const found = images.map(({ platform }) => formatPlatform(normalizePlatform(platform)));
  const missing = wanted.filter(platform => !found.includes(platform));
  const extra = found.filter((platform, i) => !wanted.includes(platform) || found.indexOf(platform) < i);
  return [
    ...(missing.length > 0 ? [`${missing.join(', ')} is missing`] : []),
    ...(extra.length > 0 ? [`${extra.join(', ')} is too much`] : []),
  ];
}

function findAttestationFault(spec: ContainerFileSpec, { images, attestations }: Result): string | undefined {
  if (!wantsAttestations(spec))
    return attestations.length > 0 ? 'it has attestations that were not requested' : undefined;
  const subjects = attestations.map(({ subject }) => subject);
  const bare = images.filter(({ descriptor }) => !subjects.includes(descriptor.digest));
  if (bare.length === 0) return undefined;
  return `the attestations of ${bare.map(({ platform }) => formatPlatform(platform)).join(', ')} are missing`;
}

function wantsAttestations({ attestations }: ContainerFileSpec): boolean {
  return attestations.sbom || attestations.provenance !== 'none';
}

export function tagOf(image: string): string {
  return image.slice(image.lastIndexOf(':') + 1);
}

function wrong(reason: string): BuildFailure {
  return new BuildFailure({ kind: 'infrastructure', reason });
}
