// The collection that comes by itself.
import { beforeEach, expect, test } from 'vitest';
import type { GcOptions } from '../../../src/hosted/gc/collector.ts';
import { createGcSchedule } from '../../../src/hosted/gc/collector.ts';
import { GcRefused } from '../../../src/hosted/gc/orphans.ts';
import { type GcReport, NOTHING } from '../../../src/hosted/gc/report.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';

const HOUR = 3600 * 1000;
const report: GcReport = {
  dryRun: false,
  startedAt: '2030-01-01T00:00:00.000Z',
  finishedAt: '2030-01-01T00:00:00.000Z',
  repositories: [],
  removed: NOTHING,
  kept: NOTHING,
  orphans: { blobs: 0, bytes: 0 },
  missing: { blobs: 0, bytes: 0, content: [] },
  freedBytes: 0,
};

let records: RecordStore;
let time: number;
let runs: GcOptions[];

beforeEach(() => {
  records = createMemoryStore();
  time = Date.UTC(2030, 0, 1);
  runs = [];
});

function start(collect = async (_: GcOptions): Promise<GcReport> => report) {
  const collector = {
    collect: (options: GcOptions = {}) => {
      runs.push(options);
      return collect(options);
    },
  };
  return createGcSchedule({ collector, records, now: () => new Date(time), everyMs: 24 * HOUR });
}

test('runs at once the first time, and then from time to time', async () => {
  const schedule = start();
  expect(await schedule.runIfDue()).toBe(report);
  time += 24 * HOUR - 1;
  expect(await schedule.runIfDue()).toBeUndefined();
  time += 1;
  expect(await schedule.runIfDue()).toBe(report);
  expect(runs.map(({ dryRun }) => dryRun)).toEqual([undefined, undefined]);
});

test('one that was refused is reported, and tried again when the next one is due, or after a restart', async () => {
  const refuse = () => Promise.reject(new GcRefused('nothing was collected'));
  const schedule = start(refuse);
  await expect(schedule.runIfDue()).rejects.toThrow('nothing was collected');
  time += 24 * HOUR - 1;
  expect(await schedule.runIfDue()).toBeUndefined();
  await expect(start(refuse).runIfDue()).rejects.toThrow('nothing was collected');
  time += 1;
  await expect(schedule.runIfDue()).rejects.toThrow('nothing was collected');
});

test('remembers the last run across a restart', async () => {
  await start().runIfDue();
  time += HOUR;
  expect(await start().runIfDue()).toBeUndefined();
  time += 23 * HOUR;
  expect(await start().runIfDue()).toBe(report);
});

test('counts from the end of a run, and starts no second one meanwhile', async () => {
  const gate = Promise.withResolvers<void>();
  const schedule = start(async () => {
    await gate.promise;
    return report;
  });
  const running = schedule.runIfDue();
  expect(await schedule.runIfDue()).toBeUndefined();
  time += 30 * HOUR;
  gate.resolve();
  expect(await running).toBe(report);
  time += HOUR;
  expect(await schedule.runIfDue()).toBeUndefined();
  expect(runs).toHaveLength(1);
});

test('tells of a run that failed, which is due again', async () => {
  const schedule = start(() => Promise.reject(new Error('a disk of tears')));
  await expect(schedule.runIfDue()).rejects.toThrow('a disk of tears');
  await expect(schedule.runIfDue()).rejects.toThrow('a disk of tears');
});

test('stops a run when it is closed, and starts no more', async () => {
  const schedule = start(
    ({ signal }) => new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason))),
  );
  const running = schedule.runIfDue();
  while (runs.length === 0) await new Promise(setImmediate);
  await schedule.close();
  expect(await running).toBeUndefined();
  expect(await schedule.runIfDue()).toBeUndefined();
  expect(await start().runIfDue()).toBe(report);
});
