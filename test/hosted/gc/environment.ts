// The environment of a scenario: content, upload files and records that outlive every store over them, and a clock.
import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { CountedStore } from '../../../src/cache/eviction/counted-store.ts';
import { createBucketStore } from '../../../src/cache/read-through/bucket-store.ts';
import type { Bucket } from '../../../src/content/bucket.ts';
import { createInventory, type Inventory } from '../../../src/content/inventory.ts';
import type { ContentStore } from '../../../src/content/store.ts';
import { createUploadFiles, type UploadFiles } from '../../../src/content/upload-files.ts';
import type { HostedRecords } from '../../../src/hosted/records.ts';
import { createSharedUploads } from '../../../src/hosted/repository/shared-uploads.ts';
import { createMemory } from '../../../src/memory.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { type Expected, verifyBytes } from '../../../src/oci/verify.ts';
import { createSqliteStore } from '../../../src/state/sqlite.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { createMemoryBucket } from '../../support/memory-bucket.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { createPlace } from '../fixture.ts';
import type { Gate, Stores } from '../gate.ts';
import { createMemoryPlace } from '../memory-place.ts';
import type { Event } from './history.ts';

export const DAY = 24 * 3600 * 1000;

export interface Environment extends Stores {
  /** The records as each of several processes has them, which work at the same time. Absent: there is one process. */
  readonly replicas?: Replicas;
  /** Has all upload files in the end: none. */
  readonly directory: string;
  readonly history: Event[];
  /** Of the clock. */
  time: number;
  /** Orders what happens. */
  ticks: number;
  readonly files: Inventory;
  inventory(): Promise<readonly Digest[]>;
  remove(): Promise<void>;
}

interface Replicas {
  readonly records: readonly RecordStore[];
  /** Where each has no disk in common with the others: its own way to the bucket. Absent: all have the same content and upload files. */
  readonly openBucket?: ((at: number, gate: Gate | undefined) => BucketPart) | undefined;
  /** Has the clock of the records go on until all leases have ended. */
  expireLeases(): void;
}

interface BucketPart {
  readonly content: ContentStore;
  openUploads(records: HostedRecords): Promise<UploadFiles>;
}

/** Two processes over the same records and one bucket, with nothing in common on a disk, and with caches that have nothing. */
export async function createBucketEnvironment(): Promise<Environment> {
  const environment = await withReplicas(
    now => createMemoryEnvironment({ now }),
    async ({ records }) => records,
  );
  const now = () => new Date(shared.time);
  const bucket = createMemoryBucket({ now });
  const open = (through: Bucket, directory: string) =>
    createBucketStore({
      ...{ bucket: through, folder: 'hosted', cache: createEmptyCache(directory), memory: createMemory() },
      onDamaged() {},
      onFailed() {},
    });
  const content = open(bucket, environment.directory);
  const files = content.inventory;
  const { replicas } = environment;
  const shared: Environment = {
    ...environment,
    files,
    // Nothing is remembered: what is there is asked for.
    content: { ...content, find: async digest => (await files.findStoredAt(digest)) && content.find(digest) },
    async inventory() {
      expect([...bucket.objects.keys()].filter(key => key.startsWith('hosted/uploads/'))).toEqual([]);
      return (await Array.fromAsync(files.list())).sort();
    },
    ...(replicas && {
      replicas: {
        ...replicas,
        openBucket(at, gate) {
          const directory = at === 0 ? environment.directory : join(environment.directory, `${at}`);
          const content = open(gate ? gate.aroundBucket(bucket) : bucket, directory);
          const { commit, parts } = content;
          return { content, openUploads: records => createSharedUploads({ directory, commit, parts, records, now }) };
        },
      },
    }),
  };
  return shared;
}

/** A cache of a machine that keeps nothing: files are here only on their way to the bucket. */
function createEmptyCache(directory: string): ContentStore & Pick<CountedStore, 'adopt'> {
  async function receive(body: ReadableStream<Uint8Array>, expected: Expected | undefined) {
    const bytes = new Uint8Array(await new Response(body).arrayBuffer());
    if (expected) verifyBytes(bytes, expected);
    const digest = expected?.digest ?? digestOf(bytes);
    return { bytes, digest, size: bytes.byteLength };
  }

  const cache: ContentStore & Pick<CountedStore, 'adopt'> = {
    find: async () => undefined,
    open: async () => undefined,
    read: async () => undefined,
    put: async (bytes, algorithm) => {
      const expected = { digest: digestOf(bytes, algorithm), size: bytes.byteLength };
      return (await cache.ingest(ReadableStream.from([bytes]), expected).done).digest;
    },
    ingest(body, expected, { storeElsewhere } = {}) {
      const received = receive(body, expected);
      const store = async () => {
        const { bytes, digest, size } = await received;
        const path = join(directory, randomUUID());
        await mkdir(directory, { recursive: true });
        await writeFile(path, bytes);
        await storeElsewhere?.({ path, digest, size }).finally(() => rm(path));
        return { digest, size };
      };
      const done = storeElsewhere ? store() : received;
      const begun = received.then(() => {});
      for (const each of [done, begun]) each.catch(() => {});
      const open = async function* () {
        yield (await received).bytes;
      };
      return { begun, done, received: 0, open: () => ReadableStream.from(open()) };
    },
    adopt: ({ path }) => rm(path),
    async delete() {},
    async close() {},
  };
  return cache;
}

/** Two processes over the same records, whose leases last until the test has them end. */
export async function withReplicas(
  createEnvironment: (now: () => Date) => Promise<Environment>,
  openOther: (environment: Environment, now: () => Date) => Promise<RecordStore>,
): Promise<Environment> {
  let time = Date.UTC(2030, 0, 1);
  const now = () => new Date(time);
  const environment = await createEnvironment(now);
  const other = await openOther(environment, now);
  return {
    ...environment,
    replicas: {
      records: [environment.records, other],
      expireLeases() {
        time += 3_600_000;
      },
    },
    async remove() {
      if (other !== environment.records) await other.close();
      await environment.remove();
    },
  };
}

const beginning = () => ({ history: [], time: Date.UTC(2030, 0, 1), ticks: 0 });

/** For very many scenarios. */
export async function createMemoryEnvironment(options: { readonly now?: () => Date } = {}): Promise<Environment> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-environment-'));
  await mkdir(join(directory, 'drafts'));
  const place = createMemoryPlace(() => new Date(environment.time));
  const environment: Environment = {
    ...beginning(),
    ...place,
    directory,
    records: createMemoryStore(options),
    inventory: async () => (await Array.fromAsync(place.files.list())).sort(),
    remove: () => rm(directory, { recursive: true }),
  };
  return environment;
}

/** What a service has. */
export async function createDiskEnvironment(
  createRecords = (directory: string): RecordStore => createSqliteStore({ path: join(directory, 'records.db') }),
): Promise<Environment> {
  const place = await createPlace(createRecords);
  const { directory, content, records, inventory, remove } = place;
  const uploadFiles = await createUploadFiles(place);
  const all = { files: createInventory(directory), inventory, remove };
  return { ...beginning(), directory, content, records, uploadFiles, ...all };
}
