// What a token gives access to: its derived image, the source, and referrers of either. Nothing of it is stored: it is found by walking
// from the two roots, with the same result after a restart, and cached in memory for a while.
import pLimit from 'p-limit';
import { createSingleFlight } from '../../cache/read-through/single-flight.ts';
import { type ManifestDocument, parseDocument } from '../../hosted/repository/manifest-document.ts';
import type { Memory } from '../../memory.ts';
import type { Digest } from '../../oci/digest.ts';
import { orUndefined, RegistryError } from '../../oci/errors.ts';
import { type Manifest, parseManifest } from '../../oci/manifest.ts';
import { isLayerType, isManifestType, mediaTypes } from '../../oci/media-type.ts';
import type { Derivation, DerivedImage } from '../derived-images.ts';
import { type Origin, originName } from '../origin.ts';

/** Derived content itself is not looked up here. Every function throws what the registry throws, but not for absent content. */
interface TokenReach {
  /** Whether it is a manifest of the derived image, an attestation or artifact of its source, or a referrer of them. */
  hasManifest(digest: Digest): Promise<boolean>;
  /** Whether it is named by a manifest of the image, of its source, or of their referrers. */
  hasBlob(digest: Digest): Promise<boolean>;
  /** Whether it is a manifest of the image or its source, or a referrer of them: the token then gives access to its own referrers, too. */
  hasSubject(digest: Digest): Promise<boolean>;
}

type ReachOf = (pull: Derivation, image: DerivedImage) => TokenReach;

/** A part of what the token reaches. */
interface Parts {
  /** The subjects whose referrers are reached. */
  readonly subjects: ReadonlySet<Digest>;
  readonly manifests: ReadonlySet<Digest>;
  readonly blobs: ReadonlySet<Digest>;
  /** Whether something was absent that may appear later, or that others may add to. */
  readonly mayGrow: boolean;
}

const NO_PARTS: Parts = { subjects: new Set(), manifests: new Set(), blobs: new Set(), mayGrow: false };

/** Limits of one walk. */
const MAX_WALKED = 100_000;
const MAX_MANIFESTS = 1024;
const MAX_READS = 8;
/** A referrer may have its own, like a signed SBOM. */
const MAX_SUBJECT_DEPTH = 4;
const MAX_SUBJECTS = 64;
const MAX_REFERRERS = 256;
/** How long an incomplete result is cached: otherwise requests for arbitrary digests would contact the upstream each time. */
const GROWING_MEMORY_MS = 60_000;
/** How registries report that there are no referrers, or that they do not support the query. */
const NO_REFERRERS: readonly number[] = [400, 401, 403, 404, 405, 501];

export function createTokenReach(memory: Memory): ReachOf {
  const reached = memory.openCache<Parts>();
  const flight = createSingleFlight<Parts>();

  function remember(key: string, find: () => Promise<Parts>): Promise<Parts> {
    const known = reached.get(key);
    if (known) return Promise.resolve(known);
    return flight(key, async () => {
      const found = await find();
      reached.set(key, found, found.mayGrow ? { ttlMs: GROWING_MEMORY_MS } : {});
      return found;
    });
  }

  function findDerivedBlobs(key: string, image: DerivedImage): ReadonlySet<Digest> {
    const known = reached.get(key);
    if (known) return known.blobs;
    const documents = [...image.derived.values()].filter(({ mediaType }) => isManifestType(mediaType));
    const blobs = new Set(documents.flatMap(document => linksOf(document).blobs.map(({ digest }) => digest)));
    reached.set(key, { ...NO_PARTS, blobs });
    return blobs;
  }

  return ({ origin, sourceDigest }, image) => {
    const { root, derived } = image;
    const key = `${originName(origin)}#${origin.registry.scope ?? ''}@${sourceDigest} ${root.digest}`;
    const readSource = (digest: Digest) => readReachable(origin, digest);
    const readResult = async (digest: Digest) => {
      const document = derived.get(digest);
      return document ? parseManifest(document.raw, document.mediaType, digest) : readSource(digest);
    };

    const findResult = () => remember(`${key} result`, () => walk([root.digest], readResult));
    const findSource = () =>
      remember(`${key} source`, async () => {
        const images = new Set<Digest>();
        const parts = await walk([sourceDigest], readSource, ({ kind, digest }) => {
          if (kind !== 'other') images.add(digest);
        });
        // Only derived images are served.
        return { ...parts, manifests: parts.manifests.difference(images) };
      });
    const findShown = () => reached.get(`${key} shown`) ?? NO_PARTS;
    const findAbout = () => remember(`${key} about`, readAbout);

    /** The image, its source, and the referrers found for them. */
    async function isSubject(digest: Digest): Promise<boolean> {
      if ((await findResult()).subjects.has(digest) || findShown().subjects.has(digest)) return true;
      return (await findSource()).subjects.has(digest);
    }

    /** A referrer names its subject, so no list is needed. */
    async function isReferrer(digest: Digest, depth = 1): Promise<boolean> {
      const manifest = await readSource(digest);
      const subject = manifest && linksOf(manifest).subject?.digest;
      if (!subject || subject === digest) return false;
      const isReached =
        (await isSubject(subject)) || (depth < MAX_SUBJECT_DEPTH && (await isReferrer(subject, depth + 1)));
      if (!isReached) return false;
      const found = await walk([digest], readSource);
      reached.set(`${key} shown`, merge([findShown(), found]));
      return true;
    }

    async function readAbout(): Promise<Parts> {
      const found: Parts[] = [];
      let size = 0;
      const queue = [...(await findSource()).subjects.union((await findResult()).subjects)];
      const asked = new Set<Digest>();
      const seen = new Set<Digest>();
      for (let subject = queue.shift(); subject && asked.size < MAX_SUBJECTS; subject = queue.shift()) {
        if (asked.has(subject) || derived.has(subject)) continue;
        asked.add(subject);
        for (const referrer of await listReferrers(origin, subject)) {
          if (seen.has(referrer) || seen.size >= MAX_REFERRERS || size > MAX_WALKED) continue;
          seen.add(referrer);
          const parts = await walk([referrer], readSource);
          size += parts.blobs.size + parts.manifests.size;
          found.push(parts);
          queue.push(referrer);
        }
      }
      return { ...merge(found), mayGrow: true };
    }

    return {
      async hasManifest(digest) {
        if ((await findResult()).manifests.has(digest) || findShown().manifests.has(digest)) return true;
        if ((await findSource()).manifests.has(digest) || (await isReferrer(digest))) return true;
        return (await findAbout()).manifests.has(digest);
      },
      async hasBlob(digest) {
        // True for most, and independent of memory and disk.
        if (findDerivedBlobs(`${key} made`, image).has(digest)) return true;
        // Clients request manifests as blobs, too.
        const has = ({ manifests, blobs }: Parts) => blobs.has(digest) || manifests.has(digest);
        if (has(await findResult()) || has(findShown()) || has(await findSource())) return true;
        return has(await findAbout());
      },
      hasSubject: async digest => (await isSubject(digest)) || isReferrer(digest),
    };
  };
}

/**
 * Everything that the roots lead to. An entry of an index that does not exist as a manifest is taken for a blob, like the layers of a build
 * cache.
 */
async function walk(
  roots: readonly Digest[],
  read: (digest: Digest) => Promise<Manifest | undefined>,
  onManifest: (manifest: Manifest) => void = () => {},
): Promise<Parts> {
  const manifests = new Set<Digest>();
  const blobs = new Set<Digest>();
  const limit = pLimit(MAX_READS);
  const asked = new Set<Digest>(roots);
  let mayGrow = false;

  async function visit(digest: Digest, mediaType = ''): Promise<void> {
    const manifest = await limit(() => read(digest));
    if (!manifest) {
      mayGrow ||= !isLayerType(mediaType);
      return void blobs.add(digest);
    }
    manifests.add(digest);
    onManifest(manifest);
    const links = linksOf(manifest);
    for (const blob of links.blobs) blobs.add(blob.digest);
    const next = links.manifests.filter(entry => !asked.has(entry.digest));
    for (const entry of next) asked.add(entry.digest);
    if (asked.size > MAX_MANIFESTS || blobs.size > MAX_WALKED) throw tooLarge();
    await Promise.all(next.map(entry => visit(entry.digest, entry.mediaType)));
  }

  await Promise.all(roots.map(root => visit(root))).finally(() => limit.clearQueue());
  return { subjects: manifests, manifests, blobs, mayGrow };
}

/** Undefined for content that is missing, or not a valid manifest. */
function readReachable({ registry, repository }: Origin, digest: Digest): Promise<Manifest | undefined> {
  return orUndefined(registry.getManifest(repository, digest), [400, 404]);
}

async function listReferrers({ registry, repository }: Origin, subject: Digest): Promise<readonly Digest[]> {
  const digests: Digest[] = [];
  let last: Digest | undefined;
  do {
    const page = await orUndefined(registry.findReferrers(repository, subject, { last }), NO_REFERRERS);
    const index = page && parseManifest(page.raw, mediaTypes.ociIndex);
    if (index?.kind === 'index') digests.push(...index.manifests.map(({ digest }) => digest));
    last = page?.last;
  } while (last && digests.length < MAX_REFERRERS);
  return digests;
}

type Links = Pick<ManifestDocument, 'blobs' | 'manifests' | 'subject'>;

const NO_LINKS: Links = { blobs: [], manifests: [], subject: undefined };

/** None for an unknown type. */
function linksOf({ raw, mediaType }: Pick<Manifest, 'raw' | 'mediaType'>): Links {
  try {
    return parseDocument(raw, mediaType);
  } catch (error) {
    if (error instanceof RegistryError) return NO_LINKS;
    throw error;
  }
}

function merge(all: readonly Parts[]): Parts {
  const union = (field: 'subjects' | 'manifests' | 'blobs') => new Set(all.flatMap(parts => [...parts[field]]));
  return { subjects: union('subjects'), manifests: union('manifests'), blobs: union('blobs'), mayGrow: false };
}

function tooLarge(): RegistryError {
  const reason = `more than ${MAX_MANIFESTS} manifests, or ${MAX_WALKED} blobs`;
  return new RegistryError('MANIFEST_INVALID', `the image is too large for a token: it has ${reason}`);
}
