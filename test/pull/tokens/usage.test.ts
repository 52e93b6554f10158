import { pino } from 'pino';
import { expect, test } from 'vitest';
import { createUsage, type Usage } from '../../../src/pull/tokens/usage.ts';
import { createMemoryStore } from '../../support/memory-records.ts';

const records = () => createMemoryStore();

function open(store = records()): Usage {
  return createUsage({ records: store, now: () => new Date('2030-01-02T03:04:05Z'), log: pino({ level: 'silent' }) });
}

const ALL = { date: undefined, org: undefined, arch: undefined };

test('counts by day, organisation and architecture, and after a restart continues from there', async () => {
  const store = records();
  const before = open(store);
  before.count('pulls', { caller: 'ada@example.org', platform: 'linux/arm64' });
  before.count('pulls', { caller: 'bob@example.org', platform: 'linux/amd64,linux/arm64' });
  before.count('builds', { caller: '', platform: undefined });
  await before.close();
  const usage = open(store);
  usage.count('pulls', { caller: 'ada@example.org', platform: 'linux/arm64' });
  expect(await usage.read('pulls', ALL)).toEqual({ count: 3, orgs: { 'example.org': 3 } });
  expect(await usage.read('pulls', { ...ALL, arch: 'arm64' })).toEqual({ count: 2, orgs: { 'example.org': 2 } });
  expect(await usage.read('pulls', { ...ALL, date: '2030-01-01' })).toEqual({ count: 0, orgs: {} });
  expect(await usage.read('builds', ALL)).toEqual({ count: 1, orgs: {} });
  await usage.close();
});

test('counts callers beyond a thousand together, and none is lost', async () => {
  const usage = open();
  for (let at = 0; at < 1500; at++) usage.count('pulls', { caller: `user-${at}`, platform: 'linux/amd64' });
  const { count, orgs } = await usage.read('pulls', ALL);
  expect(count).toBe(1500);
  expect(Object.keys(orgs).length).toBeLessThanOrEqual(1001);
  expect(orgs.others).toBe(500);
  await usage.close();
});
