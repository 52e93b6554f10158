// Uploads of blobs. distribution-spec "Pushing blobs".
import type { Drafts } from '../content/drafts.ts';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { parseRepository } from '../oci/reference.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { linkBlob } from './blob-links.ts';
import { piecesOf } from './chunk.ts';
import { isDiskFull, refuseFullDisk } from './full-disk.ts';
import type { Chunk, UploadStatus, Uploads } from './hosted.ts';
import type { Room } from './room.ts';
import { createSessions, type Session } from './sessions.ts';

interface UploadsOfRoom extends Uploads {
  /** Removes what timed out. */
  sweep(): Promise<void>;
}

export function createUploads(room: Room, drafts: Drafts): UploadsOfRoom {
  const { options, records, now } = room;
  const sessions = createSessions(room, drafts);

  async function append(session: Session, chunk: Chunk): Promise<void> {
    const { draft, repository, id } = session;
    if (chunk.range && chunk.range.start !== draft.size) {
      throw new RegistryError('RANGE_INVALID', `the next chunk of this upload begins at byte ${draft.size}`, {
        detail: { size: draft.size },
      });
    }
    const promised = chunk.range ? chunk.range.end + 1 : draft.size + (chunk.size ?? 0);
    await options.quota.admitUpload(repository, promised, id);
    try {
      await draft.append(admitted(piecesOf(chunk), session));
    } catch (error) {
      // Its bytes are a part of what fills the disk, and clients begin anew.
      if (isDiskFull(error)) await sessions.end(session.id).catch(() => {});
      throw error;
    }
  }

  async function* admitted(pieces: AsyncIterable<Uint8Array>, { draft, repository, id }: Session) {
    let { size } = draft;
    for await (const piece of pieces) {
      size += piece.byteLength;
      await options.quota.admitUpload(repository, size, id);
      yield piece;
    }
  }

  async function finish(session: Session, digest: Digest): Promise<void> {
    const { id, repository, draft } = session;
    try {
      await room.hold(digest, async () => {
        await draft.keep(digest).catch(refuseMismatch);
        const link = { repository, digest, size: draft.size };
        await room.exclusively(() => linkBlob(room, link, { also: [records.uploads.deleting(id)] }));
      });
      await sessions.forget(id);
    } catch (error) {
      // What is left after this, a sweep removes when its time is out.
      await sessions.end(id).catch(() => {});
      throw error;
    }
  }

  return {
    async start(repository, { algorithm = 'sha256' } = {}) {
      parseRepository(repository);
      return statusOf(await refuseFullDisk(() => sessions.start(repository, algorithm)));
    },
    get: (repository, id) => sessions.use(repository, id, async session => statusOf(session)),
    append: (repository, id, chunk) =>
      sessions.use(repository, id, async session => {
        await refuseFullDisk(() => append(session, chunk));
        return statusOf(session);
      }),
    finish: (repository, id, digest, chunk) =>
      sessions.use(repository, id, async session => {
        if (chunk) await refuseFullDisk(() => append(session, chunk));
        await finish(session, digest);
      }),
    cancel: (repository, id) => sessions.use(repository, id, session => sessions.end(session.id)),
    sweep: () => sessions.expire(new Date(now().getTime() - options.uploadTimeoutMs)),
  };
}

function statusOf({ id, draft }: Session): UploadStatus {
  return { id, size: draft.size };
}

function refuseMismatch(error: unknown): never {
  if (!(error instanceof ContentMismatch)) throw error;
  throw new RegistryError('DIGEST_INVALID', `the upload is not what its digest says: ${error.message}`, {
    cause: error,
  });
}
