// What a service says of itself.
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { BackendUnavailable } from '../../../src/builds/execution.ts';
import { createPlatforms } from '../../../src/builds/executor/platforms.ts';
import { createCheckCondition, createHealth } from '../../../src/http/admin/health.ts';
import { createMemoryBackend, createMemoryRegistry } from '../../support/build-backends.ts';

const registry = createMemoryRegistry();
const log = pino({ level: 'silent' });
const about = { version: '1.2.3', commit: '4962856', listBuilders: createPlatforms([]).list };

/** Of a service whose records are as these say. */
function start(records: Partial<Parameters<typeof createCheckCondition>[0]> = {}, more: Partial<typeof about> = {}) {
  const check = createCheckCondition({ log, checkReady: async () => {}, listFaults: () => [], ...records });
  return createHealth({ ...about, ...more, check });
}

test('names the level of its API, its own version and what it was built from', async () => {
  const response = await start().request('/service-info');
  expect(await response.json()).toEqual({
    serviceInfo: { version: '1.37.0', commitId: '4962856', veneerVersion: '1.2.3', builders: [] },
  });
});

test('names its builders and their platforms, and keeps to itself why one does not answer', async () => {
  const here = createMemoryBackend({ registry, name: 'here', platforms: ['linux/amd64', 'linux/arm64/v8'] });
  const listPlatforms = () => Promise.reject(new BackendUnavailable('nothing listens at tcp://10.1.2.3:1234'));
  const away = createMemoryBackend({ registry, name: 'away', listPlatforms });
  const { list: listBuilders } = createPlatforms([here, away]);
  const health = start({}, { listBuilders });
  const text = await (await health.request('/service-info')).text();
  expect(JSON.parse(text).serviceInfo.builders).toEqual([
    { name: 'here', kind: here.kind, isAvailable: true, platforms: ['linux/amd64', 'linux/arm64'] },
    { name: 'away', kind: away.kind, isAvailable: false, platforms: [] },
  ]);
  expect(text).not.toContain('10.1.2.3');
});

test.each(['/health/live', '/health/ready', '/healthz'])('%s is up', async path => {
  const response = await start().request(path);
  expect([response.status, await response.json()]).toEqual([200, { status: 'UP' }]);
});

test('is alive but not ready while records cannot be read, and keeps the cause to its log', async () => {
  const health = start({ checkReady: () => Promise.reject(new Error('secret')) });
  const ready = await health.request('/health/ready');
  expect([(await health.request('/health/live')).status, ready.status]).toEqual([200, 503]);
  expect(await ready.text()).not.toContain('secret');
});

test('names what is known to be wrong with records that cannot be read', async () => {
  const checkReady = () => Promise.reject(new Error('secret'));
  const health = start({
    checkReady,
    listFaults: () => ['the database of the records does not answer (ECONNREFUSED)'],
  });
  expect(await (await health.request('/health/ready')).json()).toMatchObject({
    reason: 'the database of the records does not answer (ECONNREFUSED)',
    parts: [{ part: 'records', status: 'DOWN', fault: 'operator' }],
  });
});

test('is not ready while an operator has to look, and says why', async () => {
  const listFaults = () => ['the records are gone', 'the clock is wrong'];
  const health = start({ listFaults });
  const ready = await health.request('/health/ready');
  expect([(await health.request('/health/live')).status, ready.status]).toEqual([200, 503]);
  expect(await ready.json()).toEqual({
    status: 'DOWN',
    reason: 'the records are gone; the clock is wrong',
    parts: listFaults().map(reason => ({ part: 'records', status: 'DOWN', fault: 'operator', reason })),
  });
});
