// Whether what was pushed is what was asked for: a builder may leave a platform out, and say nothing of it.
import { formatPlatform, normalizePlatform } from '../../oci/platform.ts';
import type { BaseImages, Destination } from '../images.ts';
import { BuildFailure } from '../maker.ts';
import type { ContainerFileSpec } from '../spec.ts';
import { type Built, type Result, readResult } from './result.ts';

/** Throws BuildFailure unless the tag is the image that was told. */
export async function checkTag({ image, digest }: Built, destination: Destination): Promise<void> {
  const found = await destination.findTag(tagOf(image));
  if (found !== digest) throw wrong(`${image} is ${found ?? 'not there'}, but the builder told ${digest}`);
}

/** Throws BuildFailure, naming what is missing or too much, unless the image has exactly the platforms of the spec. */
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
  if (!wantsAttestations(spec)) return attestations.length > 0 ? 'nobody asked for its attestations' : undefined;
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
