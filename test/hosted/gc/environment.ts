// The environment of a scenario: content, upload files and records that outlive every store over them, and a clock.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInventory, type Inventory } from '../../../src/content/inventory.ts';
import { createUploadFiles } from '../../../src/content/upload-files.ts';
import type { Digest } from '../../../src/oci/digest.ts';
import { createSqliteStore } from '../../../src/state/sqlite.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { createPlace } from '../fixture.ts';
import type { Stores } from '../gate.ts';
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
  /** Has the clock of the records go on until all leases have ended. */
  expireLeases(): void;
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
