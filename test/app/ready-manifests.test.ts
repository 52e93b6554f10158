// Manifests that were served a moment ago: answered past the routes, as the routes would, and by them again once anything has changed.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createAccessTokens } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { makeIndex } from '../conformance/documents.ts';
import { startApp, type TestApp } from '../support/app.ts';

const index = makeIndex([]);
const HOSTED = `/v2/local/app/manifests/${index.digest}`;

let app: TestApp;
let uptimeMs: number;
/** Of an image of the upstream's. */
let path: string;

beforeEach(async () => {
  uptimeMs = 0;
  app = await startApp({ now: () => new Date(), uptimeMs: () => uptimeMs });
  path = `/v2/lab/library/app/manifests/${app.putImage().root.digest}`;
});

afterEach(() => app.close());

type Server = Awaited<ReturnType<TestApp['listen']>>;

function ask(server: Server, path: string, init: RequestInit = {}): Promise<Response> {
  return fetch(`http://${server.host}${path}`, init);
}

/** How many of two requests for the same were answered past the routes, and the status of the last. */
async function askTwice(server: Server, path: string, init: RequestInit = {}) {
  const before = server.answered;
  await (await ask(server, path, init)).bytes();
  const last = await ask(server, path, init);
  await last.bytes();
  return { status: last.status, ready: server.answered - before };
}

/** Until an answer is ready: what the first one brings is recorded, and a record that changes ends what was ready. */
async function warm(server: Server, path: string, init: RequestInit = {}): Promise<void> {
  const before = server.answered;
  const isReady = async () => {
    await (await ask(server, path, init)).bytes();
    return server.answered > before;
  };
  await expect.poll(isReady).toBe(true);
}

const put = (server: Server) =>
  ask(server, HOSTED, { method: 'PUT', headers: { 'Content-Type': index.mediaType }, body: new Uint8Array(index.raw) });

test.each(['GET', 'HEAD'])('gives the headers and bytes of the answer before: %s', async method => {
  await using server = await app.listen();
  const read = async () => {
    const response = await ask(server, path, { method, headers: { 'X-Request-Id': 'the-same' } });
    const { date: _, ...headers } = Object.fromEntries(response.headers);
    return { status: response.status, headers, body: await response.text() };
  };
  const first = await read();
  expect(server.answered).toBe(0);
  await warm(server, path, { method });
  const { answered } = server;
  expect(await read()).toEqual(first);
  expect(server.answered).toBe(answered + 1);
  expect(first).toMatchObject({
    status: 200,
    headers: { 'content-security-policy': expect.anything(), 'x-request-id': 'the-same' },
  });
});

test('a ready answer has its own id and a whole line in the log', async () => {
  await using server = await app.listen();
  await warm(server, path);
  const { answered } = server;
  const headers = { 'User-Agent': 'docker/28.0.1' };
  const [one, other] = [await ask(server, path, { headers }), await ask(server, path, { headers })];
  const raw = await one.bytes();
  await other.bytes();
  expect(server.answered).toBe(answered + 2);
  const id = one.headers.get('X-Request-Id');
  expect(id).toMatch(/^[\da-f-]{36}$/);
  expect(other.headers.get('X-Request-Id')).not.toBe(id);
  const find = () => app.log.map(line => JSON.parse(line)).filter(({ requestId }) => requestId === id);
  await expect.poll(find).toEqual([
    expect.objectContaining({
      ...{ method: 'GET', path, status: 200, address: '127.0.0.1', userAgent: 'docker/28.0.1', cache: 'hit' },
      ...{ reference: path.split('/').at(-1), bytesSent: expect.any(Number), durationMs: expect.any(Number) },
    }),
  ]);
  expect(find()[0].bytesSent).toBeGreaterThan(raw.byteLength);
});

describe('behind a trusted proxy', () => {
  const trustedProxies = { addresses: ['127.0.0.1'] };
  const foreign = { 'X-Forwarded-For': '198.51.100.7' };

  test('an answer to a caller on this machine is none to a client elsewhere', async () => {
    await app.configure({ trustedProxies });
    await using server = await app.listen();
    await warm(server, path);
    const { answered } = server;
    await (await ask(server, path, { headers: foreign })).bytes();
    expect(server.answered).toBe(answered);
    await (await ask(server, path)).bytes();
    expect(server.answered).toBe(answered + 1);
  });

  test('a client elsewhere has no right of a network that is granted to the proxy', async () => {
    const grants = [{ networks: ['127.0.0.0/8'], repositories: ['lab/**'], allow: ['pull'] }];
    await app.configure({ trustedProxies, access: { grants } });
    await using server = await app.listen();
    await warm(server, path);
    expect(await askTwice(server, path, { headers: foreign })).toEqual({ status: 401, ready: 0 });
    expect(await askTwice(server, path)).toEqual({ status: 200, ready: 2 });
  });

  test('a peer that is not trusted cannot claim another address', async () => {
    await app.configure({ trustedProxies: { addresses: ['192.0.2.1'] } });
    await using server = await app.listen();
    await warm(server, path);
    expect(await askTwice(server, path, { headers: foreign })).toEqual({ status: 200, ready: 2 });
  });
});

test('an answer to GET is none to HEAD, nor to another name', async () => {
  await using server = await app.listen();
  await warm(server, path);
  const { answered } = server;
  await ask(server, path, { method: 'HEAD' });
  await ask(server, path.replace('/lab/', `/${app.registry.host}/`));
  expect(server.answered).toBe(answered);
});

test.each([
  ['a condition', { 'If-None-Match': '*' }, 304],
  ['a page of the web', { Origin: 'http://pages.example' }, 403],
  ['a password', { Authorization: `Basic ${btoa('a:b')}` }, 200],
])('leaves %s to the routes', async (_, headers, status) => {
  await using server = await app.listen();
  await warm(server, path);
  expect(await askTwice(server, path, { headers })).toEqual({ status, ready: 0 });
});

test('leaves a tag, a namespace and a token to the routes', async () => {
  await using server = await app.listen();
  const { name, targetDigest } = await app.submit({ containerConfig: { env: ['A=b'] } });
  const { ready } = await askTwice(server, '/v2/lab/library/app/manifests/1');
  expect(ready).toBe(0);
  const { ready: inNamespace } = await askTwice(server, `${path.replace('/lab', '')}?ns=${app.registry.host}`);
  expect(inNamespace).toBe(0);
  expect(await askTwice(server, `/v2/${name}/manifests/${targetDigest}`)).toEqual({ status: 200, ready: 0 });
});

describe('a tag of a hosted repository', () => {
  const TAG = '/v2/local/app/manifests/one';
  const tag = (server: Server, { raw, mediaType }: typeof index) =>
    ask(server, TAG, { method: 'PUT', headers: { 'Content-Type': mediaType }, body: new Uint8Array(raw) });

  test('is ready until it points to something else', async () => {
    await using server = await app.listen();
    expect((await tag(server, index)).status).toBe(201);
    await warm(server, TAG);
    expect(await askTwice(server, TAG)).toEqual({ status: 200, ready: 2 });
    const other = makeIndex([], { annotations: { other: 'one' } });
    expect((await tag(server, other)).status).toBe(201);
    expect((await ask(server, TAG)).headers.get('Docker-Content-Digest')).toBe(other.digest);
  });

  test('is logged as the routes do, by its tag', async () => {
    await using server = await app.listen();
    await tag(server, index);
    await (await ask(server, TAG)).bytes();
    await warm(server, TAG);
    await (await ask(server, TAG)).bytes();
    const lines = () =>
      app.log
        .map(line => JSON.parse(line))
        .filter(({ method, path }) => method === 'GET' && path === TAG)
        .map(({ reference, cache, repository }) => ({ reference, cache, repository }));
    const { answered } = server;
    await expect.poll(() => lines().length).toBeGreaterThan(answered);
    expect(new Set(lines().map(line => JSON.stringify(line))).size).toBe(1);
  });

  test('is left to the routes for a caller whose pulls are counted', async () => {
    const grants = [{ networks: ['127.0.0.0/8'], repositories: ['local/**'], allow: ['pull', 'push'] }];
    await app.configure({ access: { grants } });
    await using server = await app.listen();
    expect((await tag(server, index)).status).toBe(201);
    await warm(server, HOSTED);
    expect(await askTwice(server, TAG)).toEqual({ status: 200, ready: 0 });
  });

  test('is ready for others with the same Accept', async () => {
    await using server = await app.listen();
    await tag(server, index);
    const headers = { Accept: index.mediaType };
    await warm(server, TAG, { headers });
    const { answered } = server;
    await (await ask(server, TAG, { headers: { Accept: 'application/json' } })).bytes();
    expect(server.answered).toBe(answered);
  });
});

test('a large manifest is left to the routes: each answer past them has the bytes in memory until they are read', async () => {
  const large = makeIndex([], { annotations: { text: 'x'.repeat(200_000) } });
  await using server = await app.listen();
  const target = `/v2/local/app/manifests/${large.digest}`;
  const headers = { 'Content-Type': large.mediaType };
  await ask(server, target, { method: 'PUT', headers, body: new Uint8Array(large.raw) });
  await askTwice(server, target);
  expect(await askTwice(server, target)).toEqual({ status: 200, ready: 0 });
});

test('an answer is good for a second', async () => {
  await using server = await app.listen();
  await warm(server, path);
  uptimeMs += 1001;
  expect(await askTwice(server, path)).toEqual({ status: 200, ready: 1 });
});

test('what is deleted is gone at once', async () => {
  await using server = await app.listen();
  expect((await put(server)).status).toBe(201);
  await warm(server, HOSTED);
  expect((await ask(server, HOSTED, { method: 'DELETE' })).status).toBe(202);
  expect(await askTwice(server, HOSTED)).toEqual({ status: 404, ready: 0 });
});

test('a rule that refuses what is pinned is active at once', async () => {
  await using server = await app.listen();
  await warm(server, path);
  await app.writeConfig({ rules: [{ name: 'all', match: { image: '**' }, env: { A: 'b' }, pinned: 'refused' }] });
  await app.reloadRules();
  expect(await askTwice(server, path)).toEqual({ status: 403, ready: 0 });
});

test('nothing is ready where a webhook hears of each pull', async () => {
  const endpoints = [{ name: 'hook', url: 'http://127.0.0.1:1/', on: ['pull'] }];
  await app.configure({ events: { endpoints } });
  await using server = await app.listen();
  expect(await askTwice(server, path)).toEqual({ status: 200, ready: 0 });
});

test('rights are those of who asks now, and end when a token is revoked', async () => {
  const grants = [{ anyone: true, repositories: ['local/**'], allow: ['pull'] }];
  await app.configure({ access: { grants } });
  const records = createSqliteStore({ path: join(app.directory, 'data', 'records.db') });
  try {
    const tokens = createAccessTokens({ records, now: () => new Date() });
    const permissions = [{ repositories: ['lab/**'], allow: ['pull' as const] }];
    const { secret, token } = await tokens.issue({ name: 'one', permissions, ttlMs: 60_000 });
    const headers = { Authorization: `Bearer ${secret}` };
    await using server = await app.listen();
    await warm(server, path, { headers });
    expect(await askTwice(server, path)).toEqual({ status: 401, ready: 0 });
    expect(await askTwice(server, path, { headers })).toEqual({ status: 200, ready: 2 });
    await tokens.revoke(token.id);
    expect(await askTwice(server, path, { headers })).toEqual({ status: 401, ready: 0 });
  } finally {
    await records.close();
  }
});

describe('a request whose head was seen before', () => {
  /** A connection of its own. `ask` sends bytes, and gives what comes until `count` answers of this length are there. */
  async function open(server: Server) {
    const [host = '', port] = server.host.split(':');
    const socket = connect(Number(port), host);
    await once(socket, 'connect');
    let received = '';
    socket.on('data', bytes => {
      received += bytes.toString('latin1');
    });
    return {
      async ask(sent: string, isWhole: (received: string) => boolean = isAnswer): Promise<string> {
        received = '';
        socket.write(sent);
        await expect.poll(() => isWhole(received), { interval: 5 }).toBe(true);
        return received;
      },
      [Symbol.dispose]: () => void socket.destroy(),
    };
  }

  function isAnswer(received: string): boolean {
    const end = received.indexOf('\r\n\r\n');
    const [, length = ''] = /^content-length: (\d+)$/im.exec(received) ?? [];
    return end > 0 && received.length === end + 4 + Number(length);
  }

  const isHead = (received: string) => received.endsWith('\r\n\r\n');
  const head = (server: Server, lines = '', method = 'GET') =>
    `${method} ${path} HTTP/1.1\r\nHost: ${server.host}\r\n${lines}\r\n`;
  /** Without what differs by itself. */
  const withoutTime = (answer: string) => answer.replace(/^(Date|X-Request-Id): .*$/gim, '$1');

  test.each([
    ['GET', isAnswer],
    ['HEAD', isHead],
  ])('is answered with the same bytes: %s', async (method, isWhole) => {
    await using server = await app.listen();
    await warm(server, path, { method });
    using connection = await open(server);
    const asked = head(server, '', method);
    const first = await connection.ask(asked, isWhole);
    expect(first).toMatch(/^HTTP\/1.1 200 OK\r\n/);
    const { answered, repeated } = server;
    const second = await connection.ask(asked, isWhole);
    expect(withoutTime(second)).toBe(withoutTime(first));
    expect(second).not.toBe(first);
    expect(server).toMatchObject({ answered: answered + 1, repeated: repeated + 1 });
    const lines = app.log.map(line => JSON.parse(line)).filter(({ requestId }) => second.includes(requestId));
    expect(lines).toEqual([
      expect.objectContaining({ ...{ method, path, status: 200, cache: 'hit' }, bytesSent: second.length }),
    ]);
    expect(lines[0].bytesReceived).toBe(asked.length);
  });

  test('is read as what it is: a part of a body, or of another head', async () => {
    await using server = await app.listen();
    await warm(server, path);
    using connection = await open(server);
    const asked = head(server);
    await connection.ask(asked);
    await connection.ask(asked);
    const { repeated } = server;
    expect(repeated).toBeGreaterThan(0);
    const posted = `POST ${path} HTTP/1.1\r\nHost: ${server.host}\r\nContent-Length: ${asked.length}\r\n\r\n`;
    expect(await connection.ask(posted + asked)).toMatch(/^HTTP\/1.1 4\d\d /);
    expect(server.repeated).toBe(repeated);
    await connection.ask(asked);
    await connection.ask(asked);
    expect(server.repeated).toBe(repeated + 1);
    await connection.ask('GET /nothing HTTP/1.1\r\nX-Begun: ', () => true);
    // The bytes before have arrived once a later request of another connection is answered.
    await (await ask(server, '/v2/')).bytes();
    expect(await connection.ask(asked)).toMatch(/^HTTP\/1.1 404 /);
    expect(server.repeated).toBe(repeated + 1);
  });

  test.each([
    ['an id', 'X-Request-Id: the-same\r\n'],
    ['a trace', 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n'],
    ['a last request', 'Connection: close\r\n'],
    ['a condition', 'If-None-Match: "a"\r\n'],
  ])('is left to the server with %s', async (_, lines) => {
    await using server = await app.listen();
    await warm(server, path);
    for (let time = 0; time < 3; time += 1) {
      using connection = await open(server);
      await connection.ask(head(server));
      await connection.ask(head(server, lines));
    }
    expect(server.repeated).toBe(0);
  });

  test('is left to the routes once anything has changed', async () => {
    await using server = await app.listen();
    await warm(server, path);
    using connection = await open(server);
    await connection.ask(head(server));
    await connection.ask(head(server));
    expect(server.repeated).toBe(1);
    await app.writeConfig({ rules: [{ name: 'all', match: { image: '**' }, env: { A: 'b' }, pinned: 'refused' }] });
    await app.reloadRules();
    expect(await connection.ask(head(server))).toMatch(/^HTTP\/1.1 403 /);
    expect(server.repeated).toBe(1);
  });

  test('keeps nothing of the requests by which it is known', async () => {
    await using server = await app.listen();
    await warm(server, path);
    const { answered } = server;
    setFlagsFromString('--expose-gc');
    const collectGarbage: () => void = runInNewContext('gc');
    const requests: WeakRef<object>[] = [];
    const note = (message: unknown) => {
      if (message instanceof Object && 'request' in message) requests.push(new WeakRef(Object(message.request)));
    };
    subscribe('http.server.request.start', note);
    onTestFinished(() => void unsubscribe('http.server.request.start', note));
    for (let at = 0; at < 30; at += 1) {
      using connection = await open(server);
      await connection.ask(head(server, `User-Agent: client-${at}\r\n`));
    }
    expect(server.answered - answered).toBeGreaterThan(20);
    const countKept = () => {
      collectGarbage();
      return requests.filter(request => request.deref() !== undefined).length;
    };
    expect(requests).toHaveLength(30);
    // The last ones may still be on the stack.
    await expect.poll(countKept).toBeLessThan(10);
  });
});
