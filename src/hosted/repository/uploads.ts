// Uploads of blobs. distribution-spec "Pushing blobs".
import { isDiskFull } from '../../content/free-space.ts';
import type { UploadFile, UploadFiles } from '../../content/upload-files.ts';
import type { ByteRange } from '../../oci/bytes.ts';
import type { Digest, DigestAlgorithm } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { parseRepository } from '../../oci/reference.ts';
import { ContentMismatch } from '../../oci/verify.ts';
import { RecordConflict, RecordStoreAway, RecordStoreBusy } from '../../state/store.ts';
import type { Linker } from '../linker.ts';
import { type HostedStore, refuseFullDisk } from '../store.ts';
import { createSessions, type Session } from './upload-sessions.ts';

/** distribution-spec "Pushing blobs". A call on an unknown session throws BLOB_UPLOAD_UNKNOWN; calls on one session wait for each other. */
export interface Uploads {
  start(repository: string, options?: { readonly algorithm?: DigestAlgorithm | undefined }): Promise<UploadStatus>;
  get(repository: string, id: string): Promise<UploadStatus>;
  /**
   * Appends `body`; bytes that arrived before it broke (BLOB_UPLOAD_INVALID) are retained, so that the client can ask for the status and
   * resume. Throws RANGE_INVALID when `range` does not start at the end of the upload, SIZE_INVALID when the body differs in length from
   * `range`. A full disk ends the upload.
   */
  append(repository: string, id: string, chunk: Chunk): Promise<UploadStatus>;
  /**
   * Appends the last chunk, if any, like `append`, with its errors; then verifies everything, and links the blob. Throws DIGEST_INVALID for
   * other bytes; once everything has arrived, any error ends the upload, but those that pass, as UNAVAILABLE (503): the request may be sent again.
   */
  finish(repository: string, id: string, digest: Digest, chunk?: Chunk): Promise<void>;
  cancel(repository: string, id: string): Promise<void>;
}

export interface UploadStatus {
  readonly id: string;
  /** Bytes received, where the next chunk starts. */
  readonly size: number;
}

export interface Chunk {
  /** Read to its end. After an error it may be partly read: a stream is unlocked, and the caller drains or cancels it. */
  readonly body: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array>;
  /** From Content-Range; absent for a stream. */
  readonly range?: ByteRange | undefined;
  /** From Content-Length: a hint, used to reject a body that is too large before reading it. */
  readonly size?: number | undefined;
}

export function createUploads(
  store: HostedStore,
  linker: Pick<Linker, 'blob'>,
  uploadFiles: UploadFiles,
): Uploads & { expire(): Promise<void>; close(): Promise<void> } {
  const { options, records, now } = store;
  const sessions = createSessions(store, uploadFiles);

  async function append(session: Session, chunk: Chunk, { isLast = false } = {}): Promise<void> {
    const { file, repository, id } = session;
    const before = file.size;
    if (chunk.range && chunk.range.start !== file.size) {
      throw new RegistryError('RANGE_INVALID', `the next chunk of this upload must start at byte ${file.size}`, {
        detail: { size: file.size },
      });
    }
    const promised = chunk.range ? chunk.range.end + 1 : file.size + (chunk.size ?? 0);
    await options.quota.admitUpload(repository, promised, id);
    try {
      await file.append(admitted(piecesOf(chunk), session), { isLast });
    } catch (error) {
      // Its bytes would keep the disk full, and clients start over anyway.
      if (isDiskFull(error)) await sessions.end(session.id).catch(() => {});
      else await publish(file, before).catch(() => {});
      throw error;
    }
  }

  /** Where the bytes cannot be shown to others, the client has to send them again. */
  async function publish(file: UploadFile, before: number): Promise<void> {
    try {
      await file.publish?.();
    } catch (error) {
      await file.truncate(before).catch(() => {});
      throw error;
    }
  }

  async function* admitted(pieces: AsyncIterable<Uint8Array>, { file, repository, id }: Session) {
    let { size } = file;
    for await (const piece of pieces) {
      size += piece.byteLength;
      await options.quota.admitUpload(repository, size, id);
      yield piece;
    }
  }

  /** Where the blob cannot be stored or linked now, the upload goes back to `before`: the client can send its last request again. */
  async function finish(session: Session, digest: Digest, before: number): Promise<void> {
    const { id, repository, file } = session;
    const { size } = file;
    const also = sessions.isKept(id) ? [records.uploads.deleting(id)] : [];
    try {
      await store.withLease(digest, async lease => {
        await file.commit(digest).catch(refuseMismatch);
        // Before the lease ends, and with it what is not linked.
        await linker.blob({ repository, digest, size }, { also, lease }).catch(async error => {
          if (mayPass(error)) await file.truncate(before).catch(() => {});
          throw error;
        });
      });
      void file.clear?.();
      await sessions.forget(id);
    } catch (error) {
      // Anything left after this is removed when it times out.
      const end = () => sessions.end(id).catch(() => {});
      if (mayPass(error)) await file.truncate(before).catch(end);
      else await end();
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
        const before = session.file.size;
        await refuseFullDisk(async () => {
          await sessions.keep(id);
          await append(session, chunk);
        });
        await refuseFullDisk(() => publish(session.file, before));
        return statusOf(session);
      }),
    finish: (repository, id, digest, chunk) =>
      sessions.use(repository, id, async session => {
        const before = session.file.size;
        if (chunk && !isSmall(chunk)) await refuseFullDisk(() => sessions.keep(id));
        if (chunk) await refuseFullDisk(() => append(session, chunk, { isLast: true }));
        await finish(session, digest, before);
      }),
    cancel: (repository, id) => sessions.use(repository, id, session => sessions.end(session.id)),
    close: sessions.close,
    expire: () => sessions.expire(new Date(now().getTime() - options.uploadTimeoutMs)),
  };
}

/** Sending it again costs less than making the upload survive a crash. */
const SMALL_BYTES = 4 * 1024 * 1024;

function isSmall({ size }: Chunk): boolean {
  return size !== undefined && size <= SMALL_BYTES;
}

function statusOf({ id, file }: Session): UploadStatus {
  return { id, size: file.size };
}

/** Whether the same request may succeed later. */
function mayPass(error: unknown): boolean {
  if ([RecordStoreAway, RecordStoreBusy, RecordConflict].some(known => error instanceof known)) return true;
  return error instanceof RegistryError && error.code === 'UNAVAILABLE' && error.status === 503;
}

function refuseMismatch(error: unknown): never {
  if (!(error instanceof ContentMismatch)) throw error;
  throw new RegistryError('DIGEST_INVALID', `the upload does not match its digest: ${error.message}`, {
    cause: error,
  });
}

/**
 * The pieces of a chunk as received. Throws SIZE_INVALID where the body is longer or shorter than its range. Always leaves the body
 * unlocked and uncancelled.
 */
function piecesOf({ body, range }: Chunk): AsyncGenerator<Uint8Array> {
  return range ? checkSize(read(body), range) : read(body);
}

async function* checkSize(pieces: AsyncGenerator<Uint8Array>, range: ByteRange): AsyncGenerator<Uint8Array> {
  const promised = range.end - range.start + 1;
  let size = 0;
  for await (const piece of pieces) {
    size += piece.byteLength;
    if (size > promised) throw wrongSize(`more than ${promised}`, range);
    yield piece;
  }
  if (size < promised) throw wrongSize(`${size}`, range);
}

async function* read(body: Chunk['body']): AsyncGenerator<Uint8Array> {
  const pieces = body instanceof ReadableStream ? body.values({ preventCancel: true }) : body[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await pieces.next().catch(brokenOff);
      if (done) return;
      yield value;
    }
  } finally {
    await pieces.return?.();
  }
}

function brokenOff(cause: unknown): never {
  throw new RegistryError('BLOB_UPLOAD_INVALID', 'the body ended early: get the status of the upload and resume', {
    cause,
  });
}

function wrongSize(found: string, { start, end }: ByteRange): RegistryError {
  return new RegistryError('SIZE_INVALID', `the body has ${found} bytes, and its Content-Range is ${start}-${end}`);
}
