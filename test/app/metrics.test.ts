// Metrics of the whole app: what they count, who reads them, and that nobody can make more of them.
import { writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { createMeasures } from '../../src/app/measuring.ts';
import { configSchema } from '../../src/config/schema.ts';
import { createBlobFiles } from '../../src/content/blob-files.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { basic } from '../access/fixture.ts';
import { receive } from '../events/receiver.ts';
import { startApp, type TestApp, type TestAppOptions } from '../support/app.ts';
import { type Metrics, parseMetrics } from '../support/metrics.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { base64, startBuildApp } from './build-app.ts';
import { ADMIN, startGuarded } from './callers.ts';

const PATH = '/v2/lab/library/app/manifests/1';
const MANIFESTS = '/v2/{name}/manifests/{reference}';

async function open(options?: TestAppOptions): Promise<TestApp> {
  const app = await startApp(options);
  onTestFinished(() => app.close());
  return app;
}

async function readOf(app: TestApp): Promise<Metrics> {
  const response = await app.request('/metrics');
  expect([response.status, response.headers.get('Content-Type')]).toEqual([
    200,
    'text/plain; version=0.0.4; charset=utf-8',
  ]);
  return parseMetrics(await response.text());
}

describe('of requests', () => {
  test('are by route, method and status, with how content was found and how long it took', async () => {
    const app = await open();
    app.putImage();
    await app.request(PATH);
    await app.request(PATH);
    await app.request('/v2/lab/library/app/manifests/none');
    await app.request('/nothing/here');
    const { series, sum } = await readOf(app);
    const labels = { method: 'GET', route: MANIFESTS };
    expect(sum('veneer_http_requests_total', { ...labels, status: '200' })).toBe(2);
    expect(sum('veneer_http_requests_total', { ...labels, status: '404' })).toBe(1);
    expect(sum('veneer_http_requests_total', { route: 'other', status: '404' })).toBe(1);
    expect(sum('veneer_cache_requests_total', { ...labels, result: 'hit' })).toBe(1);
    expect(sum('veneer_cache_requests_total', { ...labels, result: 'miss' })).toBe(1);
    const buckets = [...series].filter(([key]) => key.includes('duration_seconds_bucket') && key.includes(MANIFESTS));
    const counts = buckets.map(([, count]) => count);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(counts.at(-1)).toBe(sum('veneer_http_request_duration_seconds_count', labels));
    expect(sum('veneer_http_request_duration_seconds_sum', labels)).toBeGreaterThan(0);
  });

  test('count bytes both ways, and manifests that are answered before the routes', async () => {
    const app = await open();
    const { root } = app.putImage();
    const server = await app.listen();
    onTestFinished(() => server[Symbol.asyncDispose]());
    const get = async (path: string) => (await fetch(`http://${server.host}${path}`)).text();
    await get(PATH);
    for (let times = 0; times < 5; times += 1) await get(`/v2/lab/library/app/manifests/${root.digest}`);
    expect(server.answered).toBeGreaterThan(0);
    const find = async () => parseMetrics(await get('/metrics'));
    await expect.poll(async () => (await find()).sum('veneer_http_requests_total', { route: MANIFESTS })).toBe(6);
    const { sum } = await find();
    const labels = { method: 'GET', route: MANIFESTS };
    expect(sum('veneer_http_sent_bytes_total', labels)).toBeGreaterThan(6 * root.size);
    expect(sum('veneer_http_received_bytes_total', labels)).toBeGreaterThan(6 * PATH.length);
    expect(sum('veneer_cache_requests_total', { ...labels, result: 'hit' })).toBe(5);
  });

  test('name the rules that were applied', async () => {
    const app = await open({ config: { rules: [{ name: 'marked', match: { image: 'lab/**' }, labels: { a: 'b' } }] } });
    app.putImage();
    for (let times = 0; times < 3; times += 1) await app.request(PATH);
    const { sum } = await readOf(app);
    expect(sum('veneer_rule_requests_total', { rule: 'marked' })).toBe(3);
    expect(sum('veneer_augmented_requests_total')).toBe(3);
  });
});

test('of upstreams are by status and time, with their breakers and what is left of their rates', async () => {
  const app = await open({ config: {} });
  app.putImage();
  app.registry.intercept((_request, response) => {
    response.setHeader('RateLimit-Remaining', '76;w=21600');
    return false;
  });
  await app.request(PATH);
  app.registry.intercept((_request, response) => Boolean(response.writeHead(503).end()));
  for (let times = 0; times < 8; times += 1) await app.request(`/v2/lab/library/app/manifests/${times + 2}`);
  const { sum } = await readOf(app);
  expect(sum('veneer_upstream_requests_total', { upstream: 'lab', status: '200' })).toBeGreaterThan(0);
  expect(sum('veneer_upstream_requests_total', { upstream: 'lab', status: '503' })).toBeGreaterThan(0);
  expect(sum('veneer_upstream_request_duration_seconds_count', { upstream: 'lab' })).toBeGreaterThan(1);
  expect(sum('veneer_upstream_rate_limit_remaining', { upstream: 'lab' })).toBe(76);
  expect(sum('veneer_upstream_breaker_open', { upstream: 'lab' })).toBe(1);
  expect(sum('veneer_upstream_breaker_open', { upstream: 'docker.io' })).toBe(0);
});

describe('of builds', () => {
  test('are by kind and result, with what is in progress, and how long requests wait for one', async () => {
    const app = await startBuildApp();
    onTestFinished(() => app.close());
    const gate = app.holdBase();
    const { buildId, targetImage } = await app.build();
    await gate.asked;
    const pull = app.request(targetImage.replace(/^[^/]+\/(.+):([^:]+)$/, '/v2/$1/manifests/$2'));
    await expect.poll(async () => (await readOf(app)).sum('veneer_held_requests')).toBe(1);
    expect((await readOf(app)).sum('veneer_builds_in_progress', { state: 'running' })).toBe(1);
    const other = await app.build({ containerFile: base64(`FROM ${app.base}\nENV OTHER=yes\n`) });
    await app.request(`/v1alpha1/builds/${other.buildId}/cancel`, { method: 'POST' });
    gate.release();
    await app.ended(buildId);
    expect((await pull).status).toBe(200);
    const { sum } = await readOf(app);
    expect(sum('veneer_builds_total', { kind: 'containerfile', result: 'succeeded' })).toBe(1);
    expect(sum('veneer_builds_total', { kind: 'containerfile', result: 'cancelled' })).toBe(1);
    expect(sum('veneer_build_duration_seconds_count', { kind: 'containerfile' })).toBe(2);
    expect(sum('veneer_build_wait_seconds_count', { kind: 'containerfile' })).toBe(2);
    expect(sum('veneer_builds_in_progress')).toBe(0);
    expect([sum('veneer_held_requests'), sum('veneer_hold_duration_seconds_count')]).toEqual([0, 1]);
  });

  test('and of images that are derived, once for all who want one', async () => {
    const rules = [{ name: 'marked', match: { image: 'lab/**' }, labels: { a: 'b' } }];
    const app = await open({ config: { rules } });
    app.putImage();
    await Promise.all([app.request(PATH), app.request(PATH)]);
    const { sum } = await readOf(app);
    expect(sum('veneer_derived_images_total', { result: 'made' })).toBe(1);
    expect(sum('veneer_derived_images_total', { result: 'failed' })).toBe(0);
    expect(sum('veneer_derivation_duration_seconds_count')).toBe(1);
  });
});

describe('of stored content', () => {
  test('are how much the cache has, and what was evicted', async () => {
    const app = await open({ config: { cache: { maxSize: '1MiB' } } });
    app.putImage({ layers: 1 });
    await app.request(PATH);
    const { sum } = await readOf(app);
    expect(sum('veneer_cache_items')).toBeGreaterThan(0);
    expect(sum('veneer_cache_size_bytes')).toBeGreaterThan(100);
    expect(sum('veneer_cache_limit_bytes')).toBeLessThanOrEqual(2 ** 20);
    expect(sum('veneer_cache_evicted_total')).toBe(0);
    const random = () => Buffer.from(crypto.getRandomValues(new Uint8Array(60_000)));
    for (let at = 0; at < 20; at += 1) {
      const raw = random();
      const digest = digestOf(raw);
      app.registry.put('library/app', [{ raw, mediaType: 'application/octet-stream' }]);
      await (await app.request(`/v2/lab/library/app/blobs/${digest}`)).arrayBuffer();
    }
    await expect
      .poll(async () => (await readOf(app)).sum('veneer_cache_evicted_total', { reason: 'budget' }))
      .toBeGreaterThan(0);
    expect((await readOf(app)).sum('veneer_cache_evicted_bytes_total')).toBeGreaterThan(60_000);
  });

  test('are damages, whoever found them', async () => {
    const app = await open();
    const raw = Buffer.from('what the disk will damage');
    const digest = digestOf(raw);
    app.registry.put('library/app', [{ raw, mediaType: 'application/octet-stream' }]);
    const path = `/v2/lab/library/app/blobs/${digest}`;
    await (await app.request(path)).arrayBuffer();
    await expect.poll(async () => (await readOf(app)).sum('veneer_cache_items')).toBe(1);
    expect((await readOf(app)).sum('veneer_content_damaged_total', { of: 'cache' })).toBe(0);
    await writeFile(
      createBlobFiles(join(app.directory, 'data', 'content')).pathOf(digest),
      'what the disk has damaged',
    );
    await (await app.request(path)).arrayBuffer();
    const labels = { of: 'cache', restored: 'false' };
    await expect.poll(async () => (await readOf(app)).sum('veneer_content_damaged_total', labels)).toBe(1);
  });
});

test('of webhooks are the events that wait, and those that were dropped', async () => {
  const held: ServerResponse[] = [];
  const receiver = await receive(response => void held.push(response));
  const endpoints = [{ name: 'hook', url: receiver.url.href, on: ['pull'], retries: 0 }];
  const app = await open({ config: { events: { endpoints } } });
  app.putImage();
  await app.request(PATH);
  await receiver.arrived(1);
  await app.request(PATH);
  const find = async (name: string) => (await readOf(app)).sum(`veneer_webhook_${name}`, { endpoint: 'hook' });
  expect([await find('backlog_events'), await find('dropped_events_total')]).toEqual([2, 0]);
  held[0]?.writeHead(400).end();
  await receiver.arrived(2);
  expect([await find('backlog_events'), await find('dropped_events_total')]).toEqual([1, 1]);
  held[1]?.writeHead(202).end();
  await expect.poll(() => find('backlog_events')).toBe(0);
});

test('of the process are turns of its event loop, a blocked one among them', async () => {
  const app = await open();
  await app.request('/health/live');
  await setImmediate();
  const until = performance.now() + 300;
  while (performance.now() < until);
  await setImmediate();
  const { sum } = await readOf(app);
  const name = 'veneer_event_loop_delay_seconds';
  const [all = 0, short = 0] = [sum(`${name}_count`), sum(`${name}_bucket`, { le: '0.25' })];
  expect(all).toBeGreaterThan(short);
  expect(sum(`${name}_sum`)).toBeGreaterThan(0.3);
  expect(sum('veneer_build_info', { version: '0.0.0', commit: 'unknown' })).toBe(1);
  expect(sum('process_cpu_seconds_total')).toBeGreaterThan(0);
  expect(sum('process_resident_memory_bytes')).toBeGreaterThan(2 ** 20);
  expect(Math.abs((sum('process_start_time_seconds') ?? 0) + process.uptime() - Date.now() / 1000)).toBeLessThan(5);
});

describe('nobody can make more of them', () => {
  test('by ten thousand names, paths and methods', { timeout: 300_000 }, async () => {
    const app = await open();
    const ask = async (count: number) => {
      for (let at = 0; at < count; at += 1) {
        const [path, method] = [
          [`/v2/local/name-${at}/manifests/tag-${at}`, 'GET'],
          [`/v2/local/name-${at}/blobs/sha256:${String(at).padStart(64, '0')}`, 'HEAD'],
          [`/path-${at}/of/${at}`, 'POST'],
          [`/v2/local/app/tags/list`, `METHOD${at}`],
        ][at % 4] ?? ['', ''];
        await app.request(path ?? '', { method: method ?? '' });
      }
    };
    await ask(400);
    const before = [...(await readOf(app)).series.keys()];
    await ask(10_000);
    const { series, sum } = await readOf(app);
    expect(sum('veneer_http_requests_total')).toBeGreaterThan(10_000);
    // The reading itself has become one.
    expect([...series.keys()].filter(key => !before.includes(key) && !key.includes('"/metrics"'))).toEqual([]);
    expect(series.size).toBeLessThan(400);
    expect(JSON.stringify([...series.keys()])).not.toMatch(/name-|tag-|path-|METHOD/);
  });

  test('by ten thousand upstreams, hosts of redirects and statuses', async () => {
    const config = configSchema({}).parse({ upstreams: { lab: { url: 'https://lab.example' } } });
    const measures = createMeasures({ config, version: '1', commit: '2' });
    for (let at = 0; at < 10_000; at += 1) {
      const upstream = [`host-${at}.example`, `lab (at host-${at}.example)`][at % 2] ?? '';
      const exchange = { upstream, method: 'GET', status: 100 + (at % 900), durationMs: 1, rateRemaining: at };
      measures?.onExchange(exchange);
      measures?.onBreaker({ upstream, state: 'open', reason: '' });
    }
    const { series, sum } = parseMetrics((await measures?.format()) ?? '');
    expect(sum('veneer_upstream_requests_total', { upstream: 'lab' })).toBe(5000);
    expect(sum('veneer_upstream_requests_total', { upstream: 'other' })).toBe(5000);
    expect(series.size).toBeLessThan(250);
  });
});

describe('are read', () => {
  let server: TestServer;
  afterEach(() => server.close());

  const statusOf = async (headers: Readonly<Record<string, string>> = {}) =>
    (await server.send('GET', '/metrics', { headers })).status;

  test('by this machine, where it may do all', async () => {
    server = await startServer();
    expect(await statusOf()).toBe(200);
  });

  test('by nobody where anyone may pull, but by networks that are named', async () => {
    const published = { publicUrl: 'https://veneer.example' };
    server = await startServer(published);
    const refused = await server.send('GET', '/metrics');
    expect([refused.status, refused.body.toString()]).toEqual([403, expect.stringContaining('metrics.networks')]);
    server = await server.restart({ ...published, metrics: { networks: ['127.0.0.0/8', 'fd00::/8'] } });
    expect(await statusOf()).toBe(200);
    server = await server.restart({ ...published, metrics: { networks: ['10.0.0.0/8', '127.0.0.2'] } });
    expect(await statusOf()).toBe(403);
  });

  test('from behind a proxy by the address of its client', async () => {
    const trustedProxies = { addresses: ['127.0.0.1'] };
    server = await startServer({ trustedProxies, metrics: { networks: ['10.0.0.7'] } });
    expect(await statusOf({ 'X-Forwarded-For': '10.0.0.7' })).toBe(200);
    expect(await statusOf({ 'X-Forwarded-For': '10.0.0.8' })).toBe(403);
  });

  test('by who may administer, and no other caller', async () => {
    server = await startGuarded();
    expect(await statusOf()).toBe(401);
    expect(await statusOf({ Authorization: basic('reader', 'password') })).toBe(403);
    expect(await statusOf({ Authorization: ADMIN })).toBe(200);
  });

  test('by nobody where they are off', async () => {
    server = await startServer({ metrics: { enabled: false } });
    expect(await statusOf()).toBe(404);
  });
});
