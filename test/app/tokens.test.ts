// Tokens: what one stands for is all that it serves, for as long as it lives, and nobody else gets to know it.
import { createHook } from 'node:async_hooks';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';

const HOUR = 3_600_000;
const containerConfig = { env: ['A=1'] };

let app: TestApp;
let nowMs: number;

beforeEach(async () => {
  nowMs = Date.parse('2026-01-02T03:04:05Z');
  app = await startApp({ now: () => new Date(nowMs) });
  app.putImage();
});

afterEach(() => app.close());

test('live for their time, over restarts, and are unknown from then on', async () => {
  const { token, name } = await app.submit({ containerConfig });
  nowMs += 36 * HOUR - 1;
  await app.restart();
  expect((await app.head(name, '1')).size).toBeGreaterThan(0);
  nowMs += 1;
  await expectUnknown(`/v2/${name}/manifests/1`);
  expect((await app.request(`/v1alpha2/container/${token}/status`)).status).toBe(404);
});

const MINUTE = 60_000;
const SHORT_IDLE = { tokens: { workflow: { idle: '20m' } } };

test('of a workflow outlive what Nextflow keeps of an answer, and the queue of a cluster, unused', async () => {
  const { name } = await app.submit({ containerConfig, workflowId: 'w1' });
  // wave.tokens.cache.maxDuration, and a night in the queue.
  nowMs += 30 * MINUTE + 12 * HOUR;
  expect((await app.request(`/v2/${name}/manifests/1`)).status).toBe(200);
});

test('of a workflow live as long as they are used, over restarts, and 48 hours at most', async () => {
  await app.configure(SHORT_IDLE);
  const { token, name } = await app.submit({ containerConfig, workflowId: 'w1' });
  const { token: unused } = await app.submit({ containerConfig, workflowId: 'w1' });
  const endOf = async (id: string) => Object(await (await app.request(`/container-token/${id}`)).json()).expiration;
  expect(Date.parse(await endOf(token))).toBe(nowMs + 20 * MINUTE);
  const startedMs = nowMs;
  const expected = [];
  for (nowMs += 19 * MINUTE; nowMs < startedMs + 48 * HOUR; nowMs += 19 * MINUTE) {
    if (expected.length === 5) await app.restart();
    expected.push((await app.request(`/v2/${name}/manifests/1`)).status);
  }
  expect(new Set(expected)).toEqual(new Set([200]));
  nowMs = startedMs + 48 * HOUR;
  for (const id of [token, unused]) expect((await app.request(`/v1alpha2/container/${id}/status`)).status).toBe(404);
});

test('of a workflow end when nobody uses them', async () => {
  await app.configure(SHORT_IDLE);
  const { token, name } = await app.submit({ containerConfig, workflowId: 'w1' });
  nowMs += 20 * 60_000;
  await expectUnknown(`/v2/${name}/manifests/1`);
  expect((await app.request(`/container-token/${token}`)).status).toBe(404);
});

test('of a workflow that are revoked stay so, regardless of who uses them meanwhile', async () => {
  const { token, name } = await app.submit({ containerConfig, workflowId: 'w1' });
  nowMs += 10 * 60_000;
  const uses = Array.from({ length: 5 }, () => app.request(`/v2/${name}/manifests/1`));
  await Promise.all([...uses, app.request(`/container-token/${token}`, { method: 'DELETE' })]);
  await expectUnknown(`/v2/${name}/manifests/1`);
});

test('end when they are deleted', async () => {
  const { token, name } = await app.submit({ containerConfig });
  const { digest } = await app.head(name, '1');
  expect((await app.request(`/container-token/${token}`, { method: 'DELETE' })).status).toBe(200);
  for (const reference of ['1', digest]) await expectUnknown(`/v2/${name}/manifests/${reference}`);
  await app.restart();
  await expectUnknown(`/v2/${name}/manifests/1`);
});

test.each(['0123456789ab', 'latest', '..%2f..', '%30123456789ab'])(
  'that were never given out are unknown (%s)',
  token => expectUnknown(`/v2/wt/${token}/library/app/manifests/1`),
);

test('serve their own repository and tag', async () => {
  const { token, name } = await app.submit({ containerConfig });
  await expectUnknown(`/v2/wt/${token}/library/other/manifests/1`, 'library/app');
  const response = await app.request(`/v2/${name}/manifests/2`);
  expect([response.status, await response.json()]).toMatchObject([404, { errors: [{ code: 'MANIFEST_UNKNOWN' }] }]);
  expect(await (await app.request(`/v2/${name}/tags/list`)).json()).toEqual({ name, tags: ['1'] });
});

test('of an image by its digest serve that image by its new digest alone', async () => {
  const { root } = app.putImage();
  const containerImage = `${app.registry.host}/library/app@${root.digest}`;
  const { name, targetDigest } = await app.submit({ containerImage, containerConfig });
  expect((await app.head(name, targetDigest)).digest).toBe(targetDigest);
  expect((await app.request(`/v2/${name}/manifests/1`)).status).toBe(404);
});

test('are told to no upstream, however they are misspelt', async () => {
  await app.close();
  app = await startApp({ config: { defaultUpstream: 'lab' } });
  const image = app.putImage();
  const { token } = await app.submit({ containerConfig });
  app.registry.requests.length = 0;
  for (const path of [`wt/${token}/manifests/1`, `wt/${token}/tags/list`, `wt/${token}/blobs/${image.root.digest}`]) {
    expect((await app.request(`/v2/${path}`)).status).toBe(404);
  }
  expect(app.registry.requests).toEqual([]);
});

test('are not in the log, however they are written', async () => {
  const { token, name } = await app.submit({ containerConfig });
  const digits = [...token].map(digit => `%${digit.charCodeAt(0).toString(16)}`).join('');
  const paths = [
    `/v2/${name}/manifests/1`,
    `/v2/wt%2F${token}%2flibrary/app/manifests/1`,
    `/v2/wt/${digits}/a/manifests/1`,
  ];
  const twice = `/v2/wt/${token}/wt/${token}/manifests/1`;
  const api = ['', '/status'].map(end => `/v1alpha2/container/${token}${end}`);
  for (const path of [...paths, twice, ...api, `/container-token/${token}`, `/view/containers/${token}`])
    await app.request(path);
  expect(app.log.join('')).toContain('/v2/wt/');
  expect(app.log.join('')).not.toContain(token);
});

async function expectUnknown(path: string, message = 'is unknown, has expired or was revoked'): Promise<void> {
  const response = await app.request(path);
  const errors = [{ code: 'NAME_UNKNOWN', message: expect.stringContaining(message) }];
  expect([response.status, await response.json()]).toEqual([404, { errors }]);
}

test('leave no timer behind once they are given out, pulled or pushed by', async () => {
  const timers = new Set<number>();
  const hook = createHook({
    init(id, type) {
      if (type === 'Timeout') timers.add(id);
    },
    destroy: id => void timers.delete(id),
  }).enable();
  try {
    const request = async (at: number) => {
      const { name } = await app.submit({ containerConfig: { env: [`A=${at}`] } });
      const { digest } = await app.head(name, '1');
      await (await app.request(`/v2/${name}/manifests/${digest}`)).arrayBuffer();
      await app.request('/v2/local/app/blobs/uploads/', { method: 'POST' });
    };
    for (let at = 0; at < 5; at += 1) await request(at);
    const before = timers.size;
    for (let at = 5; at < 25; at += 1) await request(at);
    // One for each of them would be twenty. Those that were cleared a moment ago are told later.
    await expect.poll(() => timers.size - before).toBeLessThan(5);
  } finally {
    hook.disable();
  }
});
