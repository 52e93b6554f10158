// The environment of a scenario: content, upload files and records that outlive every store over them, and a clock.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInventory, type Inventory } from '../../../src/content/inventory.ts';
import { createUploadFiles } from '../../../src/content/upload-files.ts';
import type { Digest } from '../../../src/oci/digest.ts';
import { createSqliteStore } from '../../../src/state/sqlite.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { createPlace } from '../fixture.ts';
import type { Stores } from '../gate.ts';
import { createMemoryPlace } from '../memory-place.ts';
import type { Event } from './history.ts';

export const DAY = 24 * 3600 * 1000;

export interface Environment extends Stores {
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

const beginning = () => ({ history: [], time: Date.UTC(2030, 0, 1), ticks: 0 });

/** For very many scenarios. */
export async function createMemoryEnvironment(): Promise<Environment> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-environment-'));
  await mkdir(join(directory, 'drafts'));
  const place = createMemoryPlace(() => new Date(environment.time));
  const environment: Environment = {
    ...beginning(),
    ...place,
    directory,
    records: createMemoryStore(),
    inventory: async () => (await Array.fromAsync(place.files.list())).sort(),
    remove: () => rm(directory, { recursive: true }),
  };
  return environment;
}

/** What a service has. */
export async function createDiskEnvironment(): Promise<Environment> {
  const place = await createPlace(directory => createSqliteStore({ path: join(directory, 'records.db') }));
  const { directory, content, records, inventory, remove } = place;
  const uploadFiles = await createUploadFiles(place);
  const all = { files: createInventory(directory), inventory, remove };
  return { ...beginning(), directory, content, records, uploadFiles, ...all };
}
