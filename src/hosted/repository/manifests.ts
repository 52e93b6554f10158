// Manifests of a repository, stored byte for byte. distribution-spec "Pushing Manifests", "Deleting Manifests".
import { ContentTooLarge } from '../../content/store.ts';
import { type Digest, digestAlgorithm, digestOf } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../../oci/manifest.ts';
import { parseRepository, parseTag } from '../../oci/reference.ts';
import type { Linker } from '../linker.ts';
import { findManifestRecord, type ManifestLink, unlinkManifest } from '../links.ts';
import { absent, linkKey } from '../records.ts';
import type { HostedStore } from '../store.ts';
import { checkReferences, refuseMove, refuseRemoval } from './integrity.ts';
import { parseDocument } from './manifest-document.ts';

export interface HostedManifests {
  /** Throws MANIFEST_UNKNOWN, or NAME_UNKNOWN where the repository is empty. */
  get(repository: string, digest: Digest): Promise<Manifest>;
  /**
   * Throws SIZE_INVALID (413) above 4 MiB, TAG_INVALID (414 for more than 50 tags), DIGEST_INVALID, MANIFEST_INVALID, MANIFEST_BLOB_UNKNOWN
   * for references that must be pushed first, and DENIED for an immutable tag that points elsewhere.
   */
  put(repository: string, push: ManifestPush): Promise<PushedManifest>;
  /**
   * Removes the manifest and every tag that points to it. Throws DENIED where an immutable tag needs it, UNSUPPORTED where deletion is
   * disabled.
   */
  delete(repository: string, digest: Digest): Promise<void>;
}

/** distribution-spec "Pushing Manifests". */
export interface ManifestPush {
  readonly raw: Uint8Array;
  readonly contentType: string;
  /** The digest of the path. */
  readonly digest?: Digest | undefined;
  /** The tag of the path, or the tag parameters beside a digest. */
  readonly tags: readonly string[];
}

export interface PushedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly size: number;
  readonly subject: Digest | undefined;
  /** Missing references that are allowed to be missing. */
  readonly missing: readonly Digest[];
}

const MAX_TAGS = 50;

/** `heal` rewrites a damaged manifest from memory, if it is there; returns whether it did. */
export function createManifests(
  store: HostedStore,
  linker: Pick<Linker, 'manifest'>,
): HostedManifests & { restore(digest: Digest): Promise<boolean> } {
  const { content, records, options, memory } = store;
  // A function of bytes and type, so never stale; the records decide whether a repository has them.
  const parsed = memory.openCache<Manifest>();

  async function read(repository: string, digest: Digest, mediaType: string): Promise<Manifest> {
    const raw = await content.read(digest, MAX_MANIFEST_BYTES).catch(absentIfTooLarge);
    if (!raw) {
      const reason = `the manifest ${digest} of ${repository} is lost or damaged: push it again`;
      throw new RegistryError('MANIFEST_UNKNOWN', reason);
    }
    return { ...parseManifest(raw, mediaType), digest, mediaType };
  }

  async function check(link: ManifestLink): Promise<readonly Digest[]> {
    const { repository, digest, document, tags } = link;
    const current = await records.manifests.find(linkKey(repository, digest));
    if (current && current.mediaType !== document.mediaType) {
      throw new RegistryError('MANIFEST_INVALID', `invalid manifest: ${digest} is stored here as ${current.mediaType}`);
    }
    for (const tag of tags) await refuseMove(store, repository, tag, digest);
    return checkReferences(store, repository, document);
  }

  /** A file larger than the content of its digest is damaged. */
  async function findStored(digest: Digest, size: number): Promise<Uint8Array | undefined> {
    return (await content.find(digest))?.size === size ? content.read(digest, size) : undefined;
  }

  async function keep(raw: Uint8Array, digest: Digest, isStored = true): Promise<void> {
    // Another process may have deleted what this one remembers, or has in its cache.
    const isThere = isStored && !store.locks.areShared;
    const stored = isThere ? await findStored(digest, raw.byteLength) : undefined;
    if (stored && Buffer.compare(stored, raw) === 0) return;
    await content.put(raw, digestAlgorithm(digest));
  }

  async function deleteNow(locked: HostedStore, repository: string, digest: Digest): Promise<void> {
    const record = await findManifestRecord(store, repository, digest);
    if (!record) throw await absent(records, repository, 'MANIFEST_UNKNOWN', `manifest ${digest}`);
    await refuseRemoval(store, repository, digest);
    await unlinkManifest(locked, repository, digest, record);
  }

  return {
    async restore(digest) {
      const manifest = parsed.get(digest);
      if (!manifest) return false;
      const isRestored = await store.ifNeeded(digest, async () => {
        await keep(manifest.raw, digest);
        return true;
      });
      return isRestored ?? false;
    },
    async get(repository, digest) {
      await store.recentAccess.touch(linkKey(repository, digest));
      const record = await records.manifests.get(linkKey(repository, digest));
      if (!record) throw await absent(records, repository, 'MANIFEST_UNKNOWN', `manifest ${digest}`);
      const known = parsed.get(digest);
      if (known?.mediaType === record.mediaType) return known;
      const manifest = await read(repository, digest, record.mediaType);
      parsed.set(digest, manifest);
      return manifest;
    },
    async put(repository, push) {
      const link = parsePush(repository, push);
      // Checked before the bytes are written, to fail early, and again under the lock, where nothing can change any more.
      let missing = await check(link);
      const checkAgain = async () => {
        missing = await check(link);
      };
      await store.withLease(link.digest, async (lease, isStored) => {
        await keep(push.raw, link.digest, isStored);
        await linker.manifest(link, { check: checkAgain, lease });
      });
      const { digest, size, document } = link;
      return { digest, mediaType: document.mediaType, size, subject: document.subject?.digest, missing };
    },
    async delete(repository, digest) {
      if (!options.deletes.manifests) {
        throw new RegistryError('UNSUPPORTED', 'manifests cannot be deleted from this registry');
      }
      await store.withLock(repository, locked => deleteNow(locked, repository, digest));
    },
  };
}

function parsePush(repository: string, { raw, contentType, digest: promised, tags }: ManifestPush): ManifestLink {
  parseRepository(repository);
  const size = raw.byteLength;
  if (size > MAX_MANIFEST_BYTES) {
    throw new RegistryError('SIZE_INVALID', `a manifest has at most ${MAX_MANIFEST_BYTES} bytes`, { status: 413 });
  }
  if (tags.length > MAX_TAGS) {
    throw new RegistryError('TAG_INVALID', `a push sets at most ${MAX_TAGS} tags`, { status: 414 });
  }
  const digest = digestOf(raw, promised ? digestAlgorithm(promised) : 'sha256');
  if (promised && digest !== promised) {
    throw new RegistryError('DIGEST_INVALID', `the manifest has digest ${digest}, not ${promised}`);
  }
  return {
    repository,
    digest,
    size,
    document: parseDocument(raw, contentType),
    tags: [...new Set(tags.map(parseTag))],
  };
}

/** A file larger than any manifest is damaged. */
function absentIfTooLarge(error: unknown): undefined {
  if (!(error instanceof ContentTooLarge)) throw error;
}
