// The access log over a socket: one line a request, when its last byte has left, with what operators look for.
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { basic } from '../access/fixture.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { startGuarded } from './callers.ts';

let registry: TestRegistry;
let server: TestServer;
let image: ReturnType<typeof generateImage>;

beforeEach(async () => {
  registry = await startRegistry();
  image = generateImage({ seed: 7, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
  registry.put(
    'library/app',
    [...image.content].map(([digest, content]) => ({
      ...content,
      ...(digest === image.root.digest && { tags: ['1'] }),
    })),
  );
  server = await start();
});

afterEach(async () => {
  await server.close();
  await registry.close();
});

async function start(config: object = {}): Promise<TestServer> {
  return startServer({ upstreams: { lab: { url: registry.url } }, ...config });
}

/** The lines of requests so far, once there are so many. */
async function linesOf(count: number): Promise<readonly Record<string, unknown>[]> {
  const find = () => server.log.map(line => JSON.parse(line)).filter(({ msg }) => msg === 'request');
  await expect.poll(() => find().length).toBe(count);
  return find();
}

const PATH = '/v2/lab/library/app/manifests/1';

test('a pull has one line for each request, with how its content was found', async () => {
  await server.send('GET', PATH, { headers: { 'User-Agent': 'docker/28.0.1 \u00e9' } });
  await server.send('GET', PATH);
  const layer = [...image.content.keys()].find(digest => digest !== image.root.digest) ?? '';
  const isBlob = !(image.content.get(layer)?.mediaType ?? '').includes('manifest');
  await server.send('GET', `/v2/lab/library/app/${isBlob ? 'blobs' : 'manifests'}/${layer}`);
  const [first, second, third] = await linesOf(3);
  expect(first).toMatchObject({
    ...{ level: 30, method: 'GET', path: PATH, status: 200, address: '127.0.0.1', userAgent: 'docker/28.0.1 ?' },
    ...{ repository: 'lab/library/app', reference: '1', cache: 'miss', upstream: 'lab' },
    ...{
      requestId: expect.stringMatching(/^[\w-]{36}$/),
      upstreamMs: expect.any(Number),
      durationMs: expect.any(Number),
    },
  });
  expect(first?.bytesSent).toBeGreaterThan(image.root.size);
  // Each with its own head, though the connection is kept.
  for (const line of [first, second]) {
    expect(line?.bytesReceived).toBeGreaterThan(PATH.length);
    expect(line?.bytesReceived).toBeLessThan(200);
  }
  expect(second).toMatchObject({ cache: 'hit', status: 200 });
  expect(second).not.toHaveProperty('upstream');
  expect(third).toMatchObject({ cache: 'miss', reference: layer, upstream: 'lab' });
});

test('an error has its code and its message in the line, and no stack', async () => {
  registry.intercept((_request, response) => Boolean(response.writeHead(500).end('boom')));
  const { status } = await server.send('GET', PATH);
  await server.send('GET', '/v2/lab/Bad/manifests/1');
  await server.send('GET', '/nothing');
  const lines = await linesOf(3);
  expect(status).toBe(502);
  expect(lines.map(({ status, level, error, reason }) => [status, level, error, reason])).toEqual([
    [502, 40, 'UNKNOWN', expect.stringMatching(/^lab: library\/app\/manifests\/1: status 500/)],
    [400, 30, 'NAME_INVALID', expect.any(String)],
    [404, 30, 'Not Found', 'there is no such route for GET'],
  ]);
  expect(server.log.join('')).not.toContain('"stack"');
});

test('the id of a request comes from its client where that is sound, and is echoed', async () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  const traceparent = `00-${traceId}-b7ad6b7169203331-01`;
  const echoed = async (headers: Record<string, string>) =>
    (await server.send('GET', '/v2/', { headers })).headers['x-request-id'];
  expect(await echoed({ 'X-Request-Id': 'job-42/pull.1' })).toBe('job-42/pull.1');
  expect(await echoed({ traceparent })).toBe(traceId);
  expect(await echoed({ 'X-Request-Id': 'of its own', traceparent })).toBe(traceId);
  for (const odd of ['a b', 'x'.repeat(129), '"', '']) {
    expect(await echoed({ 'X-Request-Id': odd })).toMatch(/^[\da-f-]{36}$/);
  }
  for (const bad of [`00-${'0'.repeat(32)}-b7ad6b7169203331-01`, `ff-${traceId}-b7ad6b7169203331-01`, 'nonsense']) {
    expect(await echoed({ traceparent: bad })).toMatch(/^[\da-f-]{36}$/);
  }
  const lines = await linesOf(10);
  expect(lines.map(({ requestId, traceId: id }) => [requestId, id]).slice(0, 2)).toEqual([
    ['job-42/pull.1', undefined],
    [traceId, traceId],
  ]);
});

test('behind a trusted proxy the address is that of the client, and it is not a caller on this machine', async () => {
  const forwarded = { headers: { 'X-Forwarded-For': '198.51.100.7' } };
  expect((await server.send('POST', '/v2/local/app/blobs/uploads/', forwarded)).status).toBe(202);
  server = await server.restart({ trustedProxies: { addresses: ['127.0.0.1'] } });
  expect((await server.send('POST', '/v2/local/app/blobs/uploads/', forwarded)).status).toBe(403);
  expect((await linesOf(1))[0]).toMatchObject({ address: '198.51.100.7', status: 403, error: 'DENIED' });
});

test('a client that leaves before its answer has a line of its own status', async () => {
  const asked = Promise.withResolvers<void>();
  registry.intercept(() => {
    asked.resolve();
    return true;
  });
  const socket = connect(server.port, '127.0.0.1');
  socket.end(`GET ${PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
  await asked.promise;
  socket.destroy();
  await once(socket, 'close');
  expect((await linesOf(1))[0]).toMatchObject({ status: 499, aborted: true, repository: 'lab/library/app' });
});

test('a body that breaks is reported in the line of its request', async () => {
  const blob = [...image.content].find(([, { mediaType }]) => mediaType.includes('layer'));
  const [digest = '', content] = blob ?? [];
  registry.intercept(({ url = '' }, response) => {
    if (!url.includes(digest)) return false;
    response.writeHead(200, { 'Content-Length': content?.raw.byteLength ?? 0 });
    response.write(content?.raw.subarray(0, 10), () => response.destroy());
    return true;
  });
  await server.send('GET', PATH);
  await expect(server.send('GET', `/v2/lab/library/app/blobs/${digest}`)).rejects.toThrow();
  const [, line] = await linesOf(2);
  expect(line).toMatchObject({ aborted: true, reason: expect.stringContaining('lab'), error: 'UNKNOWN' });
  expect(server.log.join('')).not.toContain('"stack"');
});

test('what changes something, or tries to, has its caller, its address, an action and a target', async () => {
  const guarded = await startGuarded({ upstreams: { lab: { url: registry.url } } });
  onTestFinished(() => guarded.close());
  const as = (user: string) => ({ Authorization: basic(user, 'password'), 'Content-Type': 'application/json' });
  const send = (user: string, method: string, path: string, body?: object) =>
    guarded.send(method, path, { headers: as(user), ...(body && { body: JSON.stringify(body) }) });
  const submitted = await send('admin', 'POST', '/v1alpha2/container', {
    containerImage: 'lab/library/app:1',
    workflowId: 'wf',
  });
  const { requestId } = JSON.parse(submitted.body.toString());
  const empty = { schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [] };
  const manifest = { headers: { ...as('admin'), 'Content-Type': empty.mediaType }, body: JSON.stringify(empty) };
  await guarded.send('PUT', '/v2/local/app/manifests/1', manifest);
  await send('reader', 'DELETE', '/v2/local/app/manifests/1');
  await send('admin', 'DELETE', '/v2/local/app/manifests/1');
  await send('reader', 'GET', '/token?service=veneer&scope=repository:local/app:pull');
  await send('reader', 'POST', '/v1/cache/prune?unusedMs=1');
  await send('admin', 'DELETE', `/container-token/${requestId}`);
  await send('admin', 'DELETE', '/v1/tokens?workflow=wf%0a');
  const find = () => guarded.log.map(line => JSON.parse(line)).filter(({ msg }) => msg === 'request');
  await expect.poll(() => find().length).toBe(8);
  const shown = `${requestId.slice(0, 8)}…`;
  expect(find().map(({ action, caller, status, target }) => [action, caller, status, target])).toEqual([
    ['token.issue', 'admin', 200, `${shown} lab/library/app:1`],
    ['manifest.push', 'admin', 201, undefined],
    ['manifest.delete', 'reader', 403, undefined],
    ['manifest.delete', 'admin', 202, undefined],
    ['bearer-token.issue', 'reader', 200, 'repository:local/app:pull'],
    [undefined, 'reader', 403, undefined],
    ['token.revoke', 'admin', 200, shown],
    ['token.revoke', 'admin', 200, 'workflow wf\\n'],
  ]);
  expect(find().every(({ address }) => address === '127.0.0.1')).toBe(true);
  expect(JSON.stringify(find())).not.toContain(requestId);
});
