// Traces of the whole app, as a collector of OpenTelemetry gets them.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import type { TestAppOptions } from '../support/app.ts';
import { type CollectedSpan, type Collector, startCollector } from '../support/collector.ts';
import { type BuildApp, startBuildApp } from './build-app.ts';

const PATH = '/v2/lab/library/app/manifests/1';
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = `00-${TRACE}-b7ad6b7169203331-01`;

let collector: Collector;

beforeEach(async () => {
  collector = await startCollector();
});

async function start(env: Readonly<Record<string, string>>, options: TestAppOptions = {}): Promise<BuildApp> {
  // The exporter reads the environment of the process.
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  const app = await startBuildApp({ ...options, environment: env });
  onTestFinished(async () => {
    await app.close();
    await collector[Symbol.asyncDispose]();
  });
  return app;
}

/** Sends soon, and at once when as many spans are there as tests wait for. */
const tracing = () => ({ OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: '20' });

async function findSpan(isIt: (span: CollectedSpan) => boolean): Promise<CollectedSpan> {
  await expect.poll(() => collector.spans.some(isIt)).toBe(true);
  const found = collector.spans.find(isIt);
  if (!found) throw new Error('no such span');
  return found;
}

/** The traceparent of each request that the upstream got. */
function watchUpstream({ registry }: BuildApp): readonly (string | undefined)[] {
  const seen: (string | undefined)[] = [];
  registry.intercept(({ headers }) => {
    seen.push(headers.traceparent?.toString());
    return false;
  });
  return seen;
}

test('a request is a span of the trace of its client, and what it asks upstreams are parts of it', async () => {
  const env = {
    ...tracing(),
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment=lab',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-key=abc',
  };
  const app = await start(env);
  const seen = watchUpstream(app);
  const { status } = await app.request(PATH, { headers: { traceparent: PARENT, 'X-Request-Id': 'pull-1' } });
  expect(status).toBe(200);
  const server = await findSpan(({ kind }) => kind === 2);
  expect(server).toMatchObject({
    ...{ traceId: TRACE, parentSpanId: 'b7ad6b7169203331', name: 'GET /v2/{name}/manifests/{reference}' },
    attributes: {
      ...{ 'http.request.method': 'GET', 'http.route': '/v2/{name}/manifests/{reference}', 'url.path': PATH },
      ...{ 'http.response.status_code': 200, 'veneer.cache': 'miss', 'veneer.repository': 'lab/library/app' },
      'veneer.request_id': 'pull-1',
    },
    status: { code: 0 },
  });
  const client = await findSpan(({ kind }) => kind === 3);
  expect(client).toMatchObject({
    ...{ traceId: TRACE, parentSpanId: server.spanId },
    attributes: { 'veneer.upstream': 'lab', 'http.response.status_code': 200, 'server.address': '127.0.0.1' },
  });
  expect(client.attributes['url.full']).toBe(`${app.registry.url}/v2/library/app/manifests/1`);
  const sent = () => collector.spans.filter(({ kind }) => kind === 3).map(({ spanId }) => `00-${TRACE}-${spanId}-01`);
  await expect.poll(() => sent().sort()).toEqual([...seen].sort());
  expect(collector.posts[0]).toBe('POST /v1/traces application/json abc');
  expect(collector.resources[0]).toMatchObject({
    ...{ 'service.name': 'veneer', 'service.version': '0.0.0', 'deployment.environment': 'lab' },
  });
  expect(JSON.parse(app.log.find(line => line.includes(PATH)) ?? '{}')).toMatchObject({ traceId: TRACE });
});

test('a request without a trace begins one, which its line in the log names', async () => {
  const app = await start({ ...tracing(), OTEL_SERVICE_NAME: 'pulls' });
  await app.request('/v2/lab/library/gone/manifests/1');
  const server = await findSpan(({ kind }) => kind === 2);
  expect(server.parentSpanId ?? '').toBe('');
  expect(server.attributes['veneer.reason']).toMatch(/status 404/);
  expect(server.status.code).toBe(0);
  expect(JSON.parse(app.log.find(line => line.includes('/gone/')) ?? '{}').traceId).toBe(server.traceId);
  expect(collector.resources[0]?.['service.name']).toBe('pulls');
});

test('a failing upstream is an error of its span and of the request', async () => {
  const app = await start(tracing());
  app.registry.intercept((_request, response) => Boolean(response.writeHead(500).end()));
  await app.request(PATH);
  for (const kind of [2, 3]) {
    const span = await findSpan(each => each.kind === kind);
    expect([span.status.code, span.attributes['error.type']]).toEqual([2, kind === 2 ? '502' : '500']);
  }
});

test('manifests that are answered before the routes have a span, too', async () => {
  const app = await start(tracing());
  const { headers } = await app.request(PATH);
  const server = await app.listen();
  onTestFinished(() => server[Symbol.asyncDispose]());
  const url = `http://${server.host}/v2/lab/library/app/manifests/${headers.get('Docker-Content-Digest')}`;
  // What the first one brings is recorded, and a record that changes ends what was ready.
  const isReady = async () => {
    await (await fetch(url)).text();
    return server.answered > 0;
  };
  await expect.poll(isReady).toBe(true);
  const { answered } = server;
  await (await fetch(url, { headers: { traceparent: PARENT } })).text();
  expect(server.answered).toBe(answered + 1);
  const span = await findSpan(({ traceId }) => traceId === TRACE);
  expect(span).toMatchObject({ kind: 2, parentSpanId: 'b7ad6b7169203331', attributes: { 'veneer.cache': 'hit' } });
});

test('a build is a part of the trace that asked for it, and what it reads is a part of the build', async () => {
  const app = await start(tracing());
  const body = { containerFile: Buffer.from(`FROM ${app.base}\nENV BUILT=yes\n`).toString('base64') };
  const answer = await app.request('/v1alpha2/container', { method: 'POST', body, headers: { traceparent: PARENT } });
  const { buildId } = Object(await answer.json());
  await app.ended(buildId);
  const build = await findSpan(({ name }) => name === 'build');
  const request = await findSpan(({ name }) => name === 'POST /v1alpha2/container');
  expect(build).toMatchObject({
    ...{ traceId: TRACE, parentSpanId: request.spanId, kind: 1 },
    attributes: { 'veneer.build': buildId, 'veneer.backends': 'embedded' },
  });
  await findSpan(({ kind, parentSpanId }) => kind === 3 && parentSpanId === build.spanId);
});

test('a build that had to wait is a part of the trace that asked for it, not of the one that made room', async () => {
  const builds = { backends: ['embedded'], concurrency: 1 };
  const app = await start(tracing(), { config: { builds } });
  const gate = app.holdBase();
  const submit = async (at: number) => {
    const containerFile = Buffer.from(`FROM ${app.base}\nENV AT=${at}\n`).toString('base64');
    const headers = { traceparent: PARENT.replace(/^00-./, `00-${at}`) };
    const answer = await app.request('/v1alpha2/container', { method: 'POST', body: { containerFile }, headers });
    return String(Object(await answer.json()).buildId);
  };
  const first = await submit(1);
  await gate.asked;
  const second = await submit(2);
  gate.release();
  for (const id of [first, second]) await app.ended(id);
  const traceOf = async (id: string) => (await findSpan(span => span.attributes['veneer.build'] === id)).traceId;
  expect([await traceOf(first), await traceOf(second)]).toEqual([`1${TRACE.slice(1)}`, `2${TRACE.slice(1)}`]);
});

test('a trace that its client does not sample is sent to upstreams and not to the collector', async () => {
  const app = await start(tracing());
  const seen = watchUpstream(app);
  await app.request(PATH, { headers: { traceparent: PARENT.replace(/01$/, '00') } });
  expect(seen.length).toBeGreaterThan(0);
  for (const header of seen) expect(header).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`));
  // The next one is sent after it.
  await app.request('/health/live');
  await findSpan(({ name }) => name === 'GET /health/live');
  expect(collector.spans.filter(({ traceId }) => traceId === TRACE)).toEqual([]);
});

test.each([
  ['without a variable', {}],
  ['that are turned off', { OTEL_TRACES_EXPORTER: 'none', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }],
  ['of an SDK that is turned off', { OTEL_SDK_DISABLED: 'true', OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' }],
])('there are none %s, and upstreams get no header', async (_, env) => {
  const app = await start(env);
  const seen = watchUpstream(app);
  await app.request(PATH, { headers: { traceparent: PARENT } });
  expect(new Set(seen)).toEqual(new Set([undefined]));
});

test('what they take is loaded where they are wanted, and nowhere else', async () => {
  const script = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ load: (url, context, next) => (loaded.push(url), next(url, context)) });
    await import('./src/app/app.ts');
    const { createTracing } = await import('./src/observe/tracing.ts');
    const count = () => loaded.filter(url => /opentelemetry\\/(?:sdk-trace|exporter|core|resources)/.test(url)).length;
    const before = count();
    await createTracing({ env: process.env, version: '0', warn() {} });
    console.log(before, count() > 10);
  `;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script]);
  expect(stdout.trim()).toBe('0 true');
});

test('a sampler of the environment decides what is sent', async () => {
  const app = await start({ ...tracing(), OTEL_TRACES_SAMPLER: 'traceidratio', OTEL_TRACES_SAMPLER_ARG: '0' });
  const seen = watchUpstream(app);
  await app.request(PATH, { headers: { traceparent: PARENT } });
  expect(seen[0]).toMatch(/-00$/);
});

test('what the environment has wrong, and spans that are lost, are reported in the log', async () => {
  const env = { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc', OTEL_TRACES_SAMPLER: 'some', OTEL_EXPORTER_OTLP_TIMEOUT: '50' };
  const app = await start({ ...env, OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9', OTEL_BSP_SCHEDULE_DELAY: '20' });
  await app.request('/health/live');
  const told = () => app.log.map(line => String(JSON.parse(line).msg));
  expect(told()).toContain('the protocol of OTLP is grpc: traces are sent as http/json');
  expect(told()).toContain('OTEL_TRACES_SAMPLER is some: all is sampled');
  await expect.poll(() => told().join('\n')).toMatch(/1 spans could not be sent/);
});
