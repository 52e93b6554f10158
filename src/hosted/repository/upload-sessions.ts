// Upload sessions: a record with the repository of an upload, a file with its bytes, and one caller at a time.
import { randomUUID } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { isUploadId, type UploadFile, type UploadFiles } from '../../content/upload-files.ts';
import type { DigestAlgorithm } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { entriesOf, keysOf } from '../../state/store.ts';
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
  /** Makes a session, with what it has received, survive the process. Inside `use`. */
  keep(id: string): Promise<void>;
  /** Whether it is kept, or will be without being asked for. */
  isKept(id: string): boolean;
  /** Forgets a session whose record and file are gone. Inside `use`. */
  forget(id: string): Promise<void>;
  /** Removes a session and its bytes. Inside `use`. */
  end(id: string): Promise<void>;
  /** Removes the unused sessions and files that received no bytes since `deadline`. */
  expire(deadline: Date): Promise<void>;
  /** Keeps all sessions that are not in use. */
  close(): Promise<void>;
}

/** Files with a running hash. One evicted from memory is rehashed from disk when it is finished. */
const MAX_OPEN_FILES = 1_000;

export function createSessions(store: HostedStore, uploadFiles: UploadFiles): Sessions {
  const { uploads } = store.records;
  const { locks } = store;
  const openUploads = createOpenUploads(store.records, { max: store.options.maxUploads, areShared: locks.areShared });
  const open = new LRUCache<string, UploadFile>({ max: MAX_OPEN_FILES });
  // Most uploads end at once, by the next request: their sessions need neither a record nor a file. Other processes would not know them.
  const keepAfterMs = locks.areShared ? 0 : store.options.keepUploadsAfterMs;
  const young = createYoungSessions(keepAfterMs, id => locks.withLock(lockOf(id), () => keep(id)));

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
    const begun = young.get(id);
    if (begun?.repository === repository) return begun;
    const record = await uploads.find(id);
    const file = record?.repository === repository ? await openFile(id, record) : undefined;
    if (!file) throw unknownUpload(repository);
    return { id, repository, file };
  }

  // The bytes first: on a full disk, removing the record may need their space.
  async function end(id: string): Promise<void> {
    open.delete(id);
    await uploadFiles.discard(id);
    if (!young.get(id)) await uploads.delete(id);
    await forget(id);
  }

  async function forget(id: string): Promise<void> {
    open.delete(id);
    young.delete(id);
    store.options.quota.endUpload?.(id);
    await openUploads.remove(id);
  }

  async function keep(id: string): Promise<void> {
    const session = young.get(id);
    if (!session) return;
    const { file, repository, algorithm, startedAt } = session;
    await file.keep?.();
    await uploads.put(id, { repository, algorithm, startedAt });
    open.set(id, file);
    young.delete(id);
  }

  async function begin(id: string, repository: string, algorithm: DigestAlgorithm): Promise<Session> {
    const file = await uploadFiles.create(id, algorithm, { isHeld: keepAfterMs > 0 });
    const session = { id, repository, algorithm, startedAt: store.now().toISOString(), file };
    young.add(session);
    if (keepAfterMs > 0) return session;
    try {
      await keep(id);
      return session;
    } catch (error) {
      young.delete(id);
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
      const startNow = async () => {
        await openUploads.add(id, repository);
        try {
          return await begin(id, repository, algorithm);
        } catch (error) {
          await openUploads.remove(id);
          throw error;
        }
      };
      // Nobody else knows the id yet, and what is new does not expire: a lock of all processes is not worth its transactions.
      return locks.areShared ? startNow() : locks.withLock(lockOf(id), startNow);
    },
    async use(repository, id, work) {
      // It would become the name of a lock.
      if (!isUploadId(id)) throw unknownUpload(repository);
      return locks.withLock(lockOf(id), async () => work(await find(repository, id)));
    },
    keep,
    isKept: id => !young.get(id),
    forget,
    end,
    async expire(deadline) {
      for (const id of await uploadFiles.list()) await expireOne(id, deadline);
      // Records whose file is gone, because of a crash between the two.
      for await (const id of keysOf(uploads, '')) await expireOne(id, deadline);
    },
    async close() {
      // One that is in use ends with its request.
      const keepFree = (id: string) => locks.withFreeLock(lockOf(id), () => keep(id));
      await Promise.allSettled(young.stop().map(keepFree));
    },
  };
}

type YoungSession = Session & UploadRecord;

/** Sessions that only this process knows, each for a moment: then it is kept, and again where that failed. */
function createYoungSessions(keepAfterMs: number, keep: (id: string) => Promise<void>) {
  /** In the order of `dueAt`, by the monotonic clock. */
  const sessions = new Map<string, { readonly session: YoungSession; readonly dueAt: number }>();
  /** One for all. */
  let timer: NodeJS.Timeout | undefined;

  function add(session: YoungSession): void {
    sessions.set(session.id, { session, dueAt: performance.now() + keepAfterMs });
    if (keepAfterMs > 0) timer ??= setTimeout(keepDue, keepAfterMs).unref();
  }

  function keepDue(): void {
    const now = performance.now();
    for (const [id, { session, dueAt }] of sessions) {
      if (dueAt > now) break;
      // Again later, unless it is kept or ends meanwhile.
      sessions.delete(id);
      sessions.set(id, { session, dueAt: now + keepAfterMs });
      void keep(id).catch(() => {});
    }
    const [next] = sessions.values();
    timer = next && setTimeout(keepDue, Math.max(1, next.dueAt - now)).unref();
  }

  return {
    get: (id: string) => sessions.get(id)?.session,
    add,
    delete: (id: string) => void sessions.delete(id),
    /** Of all that are left. */
    stop(): readonly string[] {
      clearTimeout(timer);
      return [...sessions.keys()];
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
 * How many uploads are open in each repository: of this process, and of others as far as they were counted. Each is a file and a record until it
 * ends or times out: without a limit, anyone with push rights could fill the disk with empty ones.
 */
interface OpenUploads {
  /** Counts an upload that is about to begin. Throws TOOMANYREQUESTS where its repository has too many. */
  add(id: string, repository: string): Promise<void>;
  /** An upload is over, and its record is gone. */
  remove(id: string): Promise<void>;
}

/** The interval between counts of what other processes have begun and ended. */
const RECOUNT_MS = 1_000;

function createOpenUploads(
  { uploads }: HostedRecords,
  { max, areShared }: { readonly max: number; readonly areShared: boolean },
): OpenUploads {
  const repositories = new Map<string, string>();
  const counts = new Map<string, number>();
  let counted: Promise<void> | undefined;
  let countedAt = Number.NEGATIVE_INFINITY;

  function count(id: string, repository: string, step: 1 | -1): void {
    if (step === 1) repositories.set(id, repository);
    else repositories.delete(id);
    counts.set(repository, (counts.get(repository) ?? 0) + step);
    if (counts.get(repository) === 0) counts.delete(repository);
  }

  /** Those of an earlier process. */
  async function countRecords(): Promise<void> {
    for await (const { key, value } of entriesOf(uploads, '')) {
      if (!repositories.has(key)) count(key, value.repository, 1);
    }
  }

  /** Other processes may have begun and ended some. */
  async function recount(): Promise<void> {
    if (areShared && performance.now() - countedAt > RECOUNT_MS) {
      repositories.clear();
      counts.clear();
      counted = undefined;
    }
    await untilCounted();
  }

  async function untilCounted(): Promise<void> {
    if (!counted) countedAt = performance.now();
    counted ??= countRecords().catch(error => {
      counted = undefined;
      throw error;
    });
    await counted;
  }

  return {
    async add(id, repository) {
      await recount();
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
