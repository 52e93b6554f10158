// Manifests of a repository, kept to the byte. distribution-spec "Pushing Manifests", "Deleting Manifests".
import { ContentTooLarge } from '../content/store.ts';
import { type Digest, digestAlgorithm, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../oci/manifest.ts';
import { parseRepository, parseTag } from '../oci/reference.ts';
import { parseDocument } from './document.ts';
import type { HostedManifests, ManifestPush } from './hosted.ts';
import { refuseMove, refuseRemoval } from './immutable.ts';
import { findManifestRecord, linkManifest, type ManifestLink, unlinkManifest } from './manifest-links.ts';
import { linkKey } from './records.ts';
import { checkReferences } from './references.ts';
import { absent } from './repositories.ts';
import type { Room } from './room.ts';

const MAX_TAGS = 50;

interface ManifestsOfRoom extends HostedManifests {
  /** Writes one that was damaged anew, where it is in memory. Whether it was. */
  heal(digest: Digest): Promise<boolean>;
}

export function createManifests(room: Room): ManifestsOfRoom {
  const { content, records, options, memory } = room;
  // Of bytes and their type, so it is never wrong; whether a repository has them, the records say.
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
      throw new RegistryError('MANIFEST_INVALID', `invalid manifest: ${digest} is here as ${current.mediaType}`);
    }
    for (const tag of tags) await refuseMove(room, repository, tag, digest);
    return checkReferences(room, repository, document);
  }

  /** A file that is larger than what has the digest is damaged. */
  async function findKept(digest: Digest, size: number): Promise<Uint8Array | undefined> {
    return (await content.find(digest))?.size === size ? content.read(digest, size) : undefined;
  }

  async function keep(raw: Uint8Array, digest: Digest): Promise<void> {
    const kept = await findKept(digest, raw.byteLength);
    if (kept && Buffer.compare(kept, raw) === 0) return;
    await content.ingest(ReadableStream.from([raw]), { digest, size: raw.byteLength }).done;
  }

  async function deleteNow(repository: string, digest: Digest): Promise<void> {
    const record = await findManifestRecord(room, repository, digest);
    if (!record) throw await absent(room, repository, 'MANIFEST_UNKNOWN', `manifest ${digest}`);
    await refuseRemoval(room, repository, digest);
    await unlinkManifest(room, repository, digest, record);
  }

  return {
    async heal(digest) {
      const manifest = parsed.get(digest);
      if (!manifest) return false;
      return room.exclusively(async () => {
        if (!(await room.isNeeded(digest))) return false;
        await keep(manifest.raw, digest);
        return true;
      });
    },
    async get(repository, digest) {
      await room.looks.look(linkKey(repository, digest));
      const record = await records.manifests.get(linkKey(repository, digest));
      if (!record) throw await absent(room, repository, 'MANIFEST_UNKNOWN', `manifest ${digest}`);
      const known = parsed.get(digest);
      if (known?.mediaType === record.mediaType) return known;
      const manifest = await read(repository, digest, record.mediaType);
      parsed.set(digest, manifest);
      return manifest;
    },
    async put(repository, push) {
      const link = parsePush(repository, push);
      // Before its bytes are written, for nothing; and again, when nothing can change any more.
      await check(link);
      const missing = await room.hold(link.digest, async () => {
        await keep(push.raw, link.digest);
        return room.exclusively(async () => {
          const missing = await check(link);
          await linkManifest(room, link);
          return missing;
        });
      });
      const { digest, size, document } = link;
      return { digest, mediaType: document.mediaType, size, subject: document.subject?.digest, missing };
    },
    async delete(repository, digest) {
      if (!options.deletes.manifests) {
        throw new RegistryError('UNSUPPORTED', 'manifests cannot be deleted from this registry');
      }
      await room.exclusively(() => deleteNow(repository, digest));
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

/** A file that is larger than any manifest is damaged. */
function absentIfTooLarge(error: unknown): undefined {
  if (!(error instanceof ContentTooLarge)) throw error;
}
