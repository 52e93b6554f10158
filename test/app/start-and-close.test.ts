// Starts that fail and closings that fail: neither holds on to what others wait for.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createApp } from '../../src/app/app.ts';
import { createSweeping } from '../../src/app/sweeping.ts';
import { type Config, configSchema } from '../../src/config/schema.ts';
import { lockDirectory } from '../../src/state/data-directory.ts';
import { createMemoryStore } from '../support/memory-records.ts';

const log = pino({ level: 'silent' });
let dataDir: string;
let config: Config;

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'veneer-start-'));
  config = configSchema({}).parse({ dataDir, builds: { backends: ['embedded'] } });
});

afterEach(async () => {
  vi.restoreAllMocks();
  await rm(dataDir, { recursive: true });
});

test.each(['content', 'hosted', 'rules', 'builds'])(
  'a start that fails at its folder %s leaves the data directory free',
  async folder => {
    const path = join(dataDir, folder);
    await writeFile(path, 'in the way');
    await expect(createApp({ config, log, version: '0.0.0' })).rejects.toThrow(/EEXIST|ENOTDIR/);
    await rm(path);
    const app = await createApp({ config, log, version: '0.0.0' });
    await app.close();
  },
);

test('builders are looked for once requests are served, for which a close does not wait', async () => {
  const lines: string[] = [];
  const heard = pino({ level: 'info' }, { write: line => void lines.push(line) });
  const isFound = () => lines.some(line => line.includes('builds with embedded'));
  const never = new Promise<void>(() => {});
  const unheard = await createApp({ config, log: heard, version: '0.0.0', listening: never });
  await unheard.close();
  expect(isFound()).toBe(false);
  const listening = Promise.withResolvers<void>();
  const app = await createApp({ config, log: heard, version: '0.0.0', listening: listening.promise });
  try {
    expect(isFound()).toBe(false);
    listening.resolve();
    await expect.poll(isFound).toBe(true);
  } finally {
    await app.close();
  }
});

test('a close continues where a part of it fails, and says so in the end', async () => {
  const app = await createApp({ config, log, version: '0.0.0' });
  vi.spyOn(DatabaseSync.prototype, 'close').mockImplementationOnce(() => {
    throw new Error('cannot be closed');
  });
  await expect(app.close()).rejects.toThrow('cannot be closed');
  lockDirectory(dataDir).release();
});

test('a sweep that runs is waited for, and one that fails holds up no other', async () => {
  const gate = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const ended: string[] = [];
  const sweeping = createSweeping({
    ...{ config, log, records: createMemoryStore() },
    clock: { now: () => new Date(), deleteBy: () => new Date() },
    reasonToKeep: () => undefined,
    collector: { collect: () => Promise.reject(new Error('not asked for')) },
    sweeps: [
      () => Promise.reject(new Error('no')),
      async () => {
        begun.resolve();
        await gate.promise;
        ended.push('sweep');
      },
    ],
    everySweepMs: 1,
  });
  await begun.promise;
  const closed = sweeping.close().then(() => ended.push('closed'));
  await new Promise(resolve => setImmediate(resolve));
  expect(ended).toEqual([]);
  gate.resolve();
  await closed;
  expect(ended.at(-1)).toBe('closed');
  expect(ended.filter(each => each === 'closed')).toHaveLength(1);
});

test('nothing is swept or collected while the records may not be all that there were', async () => {
  const ran: string[] = [];
  let looks = 0;
  let reason: string | undefined = 'the records are older';
  const records = createMemoryStore();
  const sweeping = createSweeping({
    ...{ config, log, records: { ...records, sweep: async () => ran.push('records') && 0 } },
    clock: { now: () => new Date(), deleteBy: () => new Date() },
    reasonToKeep() {
      looks += 1;
      return reason;
    },
    collector: { collect: async () => Promise.reject(ran.push('collection')) },
    sweeps: [async () => ran.push('room')],
    everySweepMs: 1,
  });
  await expect.poll(() => looks).toBeGreaterThan(5);
  expect(ran).toEqual([]);
  reason = undefined;
  await expect.poll(() => new Set(ran)).toEqual(new Set(['records', 'room', 'collection']));
  await sweeping.close();
});
