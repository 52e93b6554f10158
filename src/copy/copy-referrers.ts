// What is about an image and goes with a mirror of it: its referrers, and what cosign files under tags made of digests.
import pLimit from 'p-limit';
import { orUndefined } from '../oci/absence.ts';
import { type Digest, digestAlgorithm, digestHex } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { type Manifest, parseManifest } from '../oci/manifest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import type { Origin } from '../pull/origin.ts';
import type { CopyRoot } from './copy-plan.ts';

const SUFFIXES = ['sig', 'att', 'sbom'] as const;
/** Of all images together, and of what is about these. */
const MAX_REFERRERS = 256;
const MAX_ASKED = 4;
/** How registries say that they know of none, or not of the question. */
const NONE: readonly number[] = [400, 404, 405];

/** Of all `subjects`, and of what is found; one that is found in two ways is there twice. Throws MANIFEST_INVALID for too many, and what the registry throws. */
export async function readReferrers(origin: Origin, subjects: readonly Digest[]): Promise<readonly CopyRoot[]> {
  const found: CopyRoot[] = [];
  const asked = new Set(subjects);
  const limit = pLimit(MAX_ASKED);
  let next = subjects;
  while (next.length > 0) {
    const about = (await Promise.all(next.map(subject => limit(() => readAbout(origin, subject))))).flat();
    found.push(...about);
    if (found.length > MAX_REFERRERS) throw tooMany();
    next = [...new Set(about.map(({ manifest }) => manifest.digest)).difference(asked)];
    for (const digest of next) asked.add(digest);
  }
  return found;
}

async function readAbout(origin: Origin, subject: Digest): Promise<readonly CopyRoot[]> {
  const tags = SUFFIXES.map(suffix => `${digestAlgorithm(subject)}-${digestHex(subject)}.${suffix}`);
  const tagged = await Promise.all(tags.map(tag => findTagged(origin, tag)));
  const digests = await listReferrers(origin, subject);
  const referrers = digests.map(async digest => ({ manifest: await read(origin, digest), tags: [] }));
  return [...tagged.flatMap(root => root ?? []), ...(await Promise.all(referrers))];
}

async function findTagged(origin: Origin, tag: string): Promise<CopyRoot | undefined> {
  // No tag is as long as this of a sha512 digest.
  if (tag.length > 128) return undefined;
  const digest = await orUndefined(origin.registry.resolveTag(origin.repository, tag), NONE);
  return digest && { manifest: await read(origin, digest), tags: [tag] };
}

async function listReferrers({ registry, repository }: Origin, subject: Digest): Promise<readonly Digest[]> {
  const digests: Digest[] = [];
  let last: Digest | undefined;
  do {
    const page = await orUndefined(registry.findReferrers(repository, subject, { last }), NONE);
    const index = page && parseManifest(page.raw, mediaTypes.ociIndex);
    if (index?.kind === 'index') digests.push(...index.manifests.map(({ digest }) => digest));
    if (digests.length > MAX_REFERRERS) throw tooMany();
    last = page?.last;
  } while (last);
  return digests;
}

function read({ registry, repository }: Origin, digest: Digest): Promise<Manifest> {
  return registry.getManifest(repository, digest);
}

function tooMany(): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `the image cannot be copied: more than ${MAX_REFERRERS} referrers`);
}
