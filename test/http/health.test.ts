// What a service says of itself.
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { createHealth } from '../../src/http/health.ts';

const log = pino({ level: 'silent' });
const about = { version: '1.2.3', commit: '4962856', log };

test('names the level of its API, its own version and what it was built from', async () => {
  const response = await createHealth({ ...about, checkReady: async () => {} }).request('/service-info');
  expect(await response.json()).toEqual({
    serviceInfo: { version: '1.37.0', commitId: '4962856', veneerVersion: '1.2.3' },
  });
});

test.each(['/health/live', '/health/ready'])('%s is up', async path => {
  const response = await createHealth({ ...about, checkReady: async () => {} }).request(path);
  expect([response.status, await response.json()]).toEqual([200, { status: 'UP' }]);
});

test('is alive but not ready while records cannot be read, and keeps the cause to its log', async () => {
  const health = createHealth({ ...about, checkReady: () => Promise.reject(new Error('secret')) });
  const ready = await health.request('/health/ready');
  expect([(await health.request('/health/live')).status, ready.status]).toEqual([200, 503]);
  expect(await ready.text()).not.toContain('secret');
});
