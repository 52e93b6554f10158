// Metrics of the whole app: what they count, who reads them, and that nobody can make more of them.
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { createMeasures } from '../../src/app/measuring.ts';
import { configSchema } from '../../src/config/schema.ts';
import { basic } from '../access/fixture.ts';
import { startApp, type TestApp, type TestAppOptions } from '../support/app.ts';
import { type Metrics, parseMetrics } from '../support/metrics.ts';
import { startServer, type TestServer } from '../support/server.ts';
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
    const measures = createMeasures({ config });
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
