// Uploads in progress in a bucket, for processes that share it and the records, but no disk: any of them can continue any upload. The bytes of a
// request are received on this disk, and then stored as an object, a part of the upload. The record of the upload lists its parts: what it does
// not list has not arrived. The bytes of a push in one request do not become a part, so that they are sent to the bucket only once.
import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { VerifiedFile } from '../../content/store.ts';
import {
  createUploadFiles,
  isUploadId,
  type LocalUploadFile,
  type UploadFile,
  type UploadFiles,
} from '../../content/upload-files.ts';
import { type Digest, type DigestAlgorithm, digestAlgorithm, digestHex } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { RecordConflict } from '../../state/store.ts';
import type { HostedRecords, UploadRecord } from '../records.ts';

type Part = NonNullable<UploadRecord['parts']>[number];

/** Objects by name: `<id of the upload>/<where it begins>-<algorithm>-<hex>`. Throws UNAVAILABLE (503) while the service is away. */
export interface UploadParts {
  /** Stores a verified and synced file, which is moved. */
  put(name: string, file: VerifiedFile): Promise<void>;
  /** The bytes of a part with this digest; undefined where it is absent. The caller reads the stream to its end or cancels it. */
  open(name: string, digest: Digest): Promise<ReadableStream<Uint8Array> | undefined>;
  /** Makes content of a part with this digest within the service. Returns false where that cannot be done. */
  promote(name: string, part: Part): Promise<boolean>;
  delete(name: string): Promise<void>;
  /** Those whose names begin so. */
  list(prefix: string): AsyncIterable<{ readonly name: string; readonly storedAt: Date }>;
}

interface SharedUploadsDeps {
  /** Where bytes are received; files of an earlier process are removed. */
  readonly directory: string;
  /** Turns a file that is verified and synced into content. */
  readonly commit: (path: string, digest: Digest) => Promise<void>;
  readonly parts: UploadParts;
  readonly records: Pick<HostedRecords, 'uploads' | 'write'>;
  readonly now: () => Date;
}

/** Each part is an entry in the record of its upload. */
const MAX_PARTS = 10_000;

export async function createSharedUploads(deps: SharedUploadsDeps): Promise<UploadFiles> {
  const { directory, commit, parts, records } = deps;
  await rm(join(directory, 'drafts'), { recursive: true, force: true });
  const received = await createUploadFiles({ directory, commit });

  /** Discards what a failed request has left. */
  async function receive(id: string, algorithm: DigestAlgorithm): Promise<LocalUploadFile> {
    await received.discard(id);
    return received.create(id, algorithm, { isHeld: true });
  }

  const openUpload = (id: string, algorithm: DigestAlgorithm, stored: readonly Part[]) =>
    createSharedUpload({ ...deps, id, stored, receive: as => receive(as, algorithm), discard: received.discard });

  return {
    create: async (id, algorithm) => openUpload(id, algorithm, []),
    async open(id, algorithm) {
      const record = await records.uploads.find(id);
      return record && openUpload(id, algorithm, record.parts ?? []);
    },
    async findTouched(id) {
      const record = await records.uploads.find(id);
      if (record) return new Date(record.receivedAt ?? record.startedAt);
      const times = await Array.fromAsync(parts.list(`${id}/`), ({ storedAt }) => storedAt.getTime());
      return times.length === 0 ? undefined : new Date(Math.max(...times));
    },
    async discard(id) {
      await received.discard(id);
      for await (const { name } of parts.list(`${id}/`)) await parts.delete(name);
    },
    async list() {
      const ids = new Set<string>();
      for await (const { name } of parts.list('')) ids.add(name.slice(0, name.indexOf('/')));
      return [...ids].filter(isUploadId);
    },
  };
}

interface SharedUploadDeps extends Pick<SharedUploadsDeps, 'parts' | 'records' | 'now'> {
  readonly id: string;
  readonly stored: readonly Part[];
  /** An empty file, on this disk as soon as it has to be. */
  readonly receive: (id: string) => Promise<LocalUploadFile>;
  readonly discard: (id: string) => Promise<void>;
}

function createSharedUpload({ id, parts, records, now, receive, discard, ...deps }: SharedUploadDeps): UploadFile {
  let { stored } = deps;
  /** What has arrived, and is no part yet. */
  let tail: LocalUploadFile | undefined;
  const storedSize = () => stored.reduce((sum, { size }) => sum + size, 0);

  async function drop(): Promise<void> {
    tail = undefined;
    await discard(id);
  }

  /** Throws UNAVAILABLE where another process has changed the upload meanwhile. */
  async function addToRecord(part: Part): Promise<void> {
    const { record, expected } = await records.uploads.expecting(id);
    const before = record?.parts ?? [];
    if (!record || before.length !== stored.length) throw overtaken();
    const next = { ...record, parts: [...before, part], receivedAt: now().toISOString() };
    await records.write([records.uploads.putting(id, next)], { expected: [expected] }).catch(error => {
      throw error instanceof RecordConflict ? overtaken(error) : error;
    });
  }

  async function* readAll(): AsyncGenerator<Uint8Array> {
    let start = 0;
    for (const { digest, size } of stored) {
      const body = await parts.open(nameOf(id, start, digest), digest);
      if (!body) throw lost(start);
      yield* body;
      start += size;
    }
    if (tail && tail.size > 0) yield* createReadStream((await tail.seal()).path);
  }

  /** In a separate file, so that a failure leaves the upload as it is. */
  async function commitWhole(expected: Digest): Promise<void> {
    const name = randomUUID();
    try {
      const whole = await receive(name);
      await whole.append(readAll());
      await whole.commit(expected);
    } catch (error) {
      await discard(name).catch(() => {});
      throw error;
    }
  }

  return {
    get size() {
      return storedSize() + (tail?.size ?? 0);
    },
    async append(pieces, options) {
      tail ??= await receive(id);
      await tail.append(pieces, options);
    },
    async publish() {
      if (!tail || tail.size === 0) return;
      if (stored.length >= MAX_PARTS) throw tooMany();
      const { path, digest, size } = await tail.seal();
      await parts.put(nameOf(id, storedSize(), digest), { path, digest, size });
      await addToRecord({ digest, size });
      stored = [...stored, { digest, size }];
      await drop();
    },
    async truncate(size) {
      const left = size - storedSize();
      if (left < 0) throw new RangeError('the parts of an upload cannot be truncated');
      if (left === 0) await drop();
      else await tail?.truncate(left);
    },
    async commit(expected) {
      if (stored.length === 0) {
        await (tail ?? (await receive(id))).commit(expected);
        tail = undefined;
        return;
      }
      const [first, ...others] = stored;
      const isWhole = first?.digest === expected && others.length === 0 && !tail?.size;
      const isPromoted = isWhole && (await parts.promote(nameOf(id, 0, expected), first));
      if (!isPromoted) await commitWhole(expected);
      await drop();
    },
    async clear() {
      let start = 0;
      for (const { digest, size } of stored) {
        // What is left is removed when the upload would have timed out.
        await parts.delete(nameOf(id, start, digest)).catch(() => {});
        start += size;
      }
    },
  };
}

/** Digits to sort by, up to 10 TB. */
const DIGITS = 13;

function nameOf(id: string, start: number, digest: Digest): string {
  return `${id}/${String(start).padStart(DIGITS, '0')}-${digestAlgorithm(digest)}-${digestHex(digest)}`;
}

function overtaken(cause?: unknown): RegistryError {
  const message = 'another replica has changed this upload meanwhile: get its status and resume';
  return new RegistryError('UNAVAILABLE', message, { status: 503, retryAfterSeconds: 1, cause });
}

function lost(start: number): RegistryError {
  return new RegistryError('BLOB_UPLOAD_UNKNOWN', `the upload has lost its bytes from ${start} on: start another`);
}

function tooMany(): RegistryError {
  return new RegistryError('BLOB_UPLOAD_INVALID', `an upload may have ${MAX_PARTS} chunks: send larger ones`);
}
