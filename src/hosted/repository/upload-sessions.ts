// Upload sessions: a record with the repository of an upload, a file with its bytes, and one caller at a time.
import { randomUUID } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { UploadFile, UploadFiles } from '../../content/upload-files.ts';
import type { DigestAlgorithm } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { keysOf } from '../../state/store.ts';
import type { HostedRecords, UploadRecord } from '../records.ts';
import type { HostedStore } from '../store.ts';

export interface Session {
  readonly id: string;
  readonly repository: string;
  readonly file: UploadFile;
}

interface Sessions {
  /** Throws TOOMANYREQUESTS where the repository has `maxUploads` of them. */
  start(repository: string, algorithm: DigestAlgorithm): Promise<Session>;
  /** Runs `work` exclusively on a session. Throws BLOB_UPLOAD_UNKNOWN for one that is unknown, or belongs to another repository. */
  use<T>(repository: string, id: string, work: (session: Session) => Promise<T>): Promise<T>;
  /** Forgets a session whose record and file are gone. Inside `use`. */
  forget(id: string): Promise<void>;
  /** Removes a session and its bytes. Inside `use`. */
  end(id: string): Promise<void>;
  /** Removes the unused sessions and files that received no bytes since `deadline`. */
  expire(deadline: Date): Promise<void>;
}

/** Files with a running hash. One evicted from memory is rehashed from disk when it is finished. */
const MAX_OPEN_FILES = 1_000;

export function createSessions(store: HostedStore, uploadFiles: UploadFiles): Sessions {
  const { uploads } = store.records;
  const openUploads = createOpenUploads(store.records, store.options.maxUploads);
  const { locks } = store;
  const open = new LRUCache<string, UploadFile>({ max: MAX_OPEN_FILES });

  async function openFile(id: string, { algorithm }: UploadRecord): Promise<UploadFile | undefined> {
    const known = open.get(id);
    if (known && !locks.areShared) return known;
    const found = await uploadFiles.open(id, algorithm);
    // Another process may have received bytes: then the running hash lacks them.
    const file = known && known.size === found?.size ? known : found;
    if (file) open.set(id, file);
    return file;
  }

  async function find(repository: string, id: string): Promise<Session> {
    const record = await uploads.find(id);
    const file = record?.repository === repository ? await openFile(id, record) : undefined;
    if (!file) throw unknownUpload(repository);
    return { id, repository, file };
  }

  // The bytes first: on a full disk, removing the record may need their space.
  async function end(id: string): Promise<void> {
    open.delete(id);
    await uploadFiles.discard(id);
    await uploads.delete(id);
    await forget(id);
  }

  async function forget(id: string): Promise<void> {
    open.delete(id);
    store.options.quota.endUpload?.(id);
    await openUploads.remove(id);
  }

  async function create(id: string, repository: string, algorithm: DigestAlgorithm): Promise<UploadFile> {
    const file = await uploadFiles.create(id, algorithm);
    try {
      await uploads.put(id, { repository, algorithm, startedAt: store.now().toISOString() });
      return file;
    } catch (error) {
      await uploadFiles.discard(id);
      throw error;
    }
  }

  async function expireOne(id: string, deadline: Date): Promise<void> {
    await locks.withFreeLock(lockOf(id), async () => {
      const touched = await uploadFiles.findTouched(id);
      if (touched && touched >= deadline) return;
      // A clock that was behind has dated the file too early; the record has the trusted time.
      const startedAt = touched && (await uploads.find(id))?.startedAt;
      if (startedAt === undefined || Date.parse(startedAt) < deadline.getTime()) await end(id);
    });
  }

  return {
    async start(repository, algorithm) {
      const id = randomUUID();
      return locks.withLock(lockOf(id), async () => {
        await openUploads.add(id, repository);
        try {
          const file = await create(id, repository, algorithm);
          open.set(id, file);
          return { id, repository, file };
        } catch (error) {
          await openUploads.remove(id);
          throw error;
        }
      });
    },
    use: (repository, id, work) => locks.withLock(lockOf(id), async () => work(await find(repository, id))),
    forget,
    end,
    async expire(deadline) {
      for (const id of await uploadFiles.list()) await expireOne(id, deadline);
      // Records whose file is gone, because of a crash between the two.
      for await (const id of keysOf(uploads, '')) await expireOne(id, deadline);
    },
  };
}

function lockOf(id: string): string {
  return `hosted-upload/${id}`;
}

function unknownUpload(repository: string): RegistryError {
  return new RegistryError(
    'BLOB_UPLOAD_UNKNOWN',
    `${repository} has no such upload: it ended, timed out or never existed`,
  );
}

/**
 * How many uploads of this process are open in each repository, and of others those that it found at its first upload. Each is a file and a record until it ends or times out: without a limit, anyone with push
 * rights could fill the disk with empty ones.
 */
interface OpenUploads {
  /** Counts an upload that is about to begin. Throws TOOMANYREQUESTS where its repository has too many. */
  add(id: string, repository: string): Promise<void>;
  /** An upload is over, and its record is gone. */
  remove(id: string): Promise<void>;
}

function createOpenUploads({ uploads }: HostedRecords, max: number): OpenUploads {
  const repositories = new Map<string, string>();
  const counts = new Map<string, number>();
  let counted: Promise<void> | undefined;

  function count(id: string, repository: string, step: 1 | -1): void {
    if (step === 1) repositories.set(id, repository);
    else repositories.delete(id);
    counts.set(repository, (counts.get(repository) ?? 0) + step);
    if (counts.get(repository) === 0) counts.delete(repository);
  }

  /** Those of an earlier process. */
  async function countRecords(): Promise<void> {
    for await (const id of keysOf(uploads, '')) {
      const record = await uploads.find(id);
      if (record && !repositories.has(id)) count(id, record.repository, 1);
    }
  }

  async function untilCounted(): Promise<void> {
    counted ??= countRecords().catch(error => {
      counted = undefined;
      throw error;
    });
    await counted;
  }

  return {
    async add(id, repository) {
      await untilCounted();
      if ((counts.get(repository) ?? 0) >= max) {
        const message = `${repository} has ${max} uploads in progress: finish or cancel some of them, or wait until they time out`;
        throw new RegistryError('TOOMANYREQUESTS', message);
      }
      count(id, repository, 1);
    },
    async remove(id) {
      await counted?.catch(() => {});
      const repository = repositories.get(id);
      if (repository !== undefined) count(id, repository, -1);
    },
  };
}
