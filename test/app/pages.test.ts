// Pages of the web through the whole app: nothing that a page has a browser ask is answered, on any route, and no answer does anything in
// one.
import { once } from 'node:events';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, describe, expect, onTestFinished, test } from 'vitest';
import { listRoutes } from '../access/open-routes.ts';
import { HOST, startApp, type TestApp } from '../support/app.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { ADMIN, startGuarded } from './callers.ts';

const INERT = { 'x-content-type-options': 'nosniff', 'content-security-policy': "default-src 'none'; sandbox" };

async function start(settings: Parameters<typeof startServer>[0] = {}): Promise<TestServer> {
  const server = await startServer(settings);
  onTestFinished(() => server.close());
  return server;
}

async function guard(settings: Parameters<typeof startGuarded>[0] = {}): Promise<TestServer> {
  const server = await startGuarded(settings);
  onTestFinished(() => server.close());
  return server;
}

/** What each route answers to each of its methods, and to a preflight, when it is asked with these headers. */
async function askAll({ app }: TestServer, headers: Readonly<Record<string, string>>) {
  const routes = listRoutes(app).filter(({ path }) => !/^\/health(?:z$|\/)/.test(path));
  const preflights = routes.map(({ path }) => ({ name: `OPTIONS ${path}`, method: 'OPTIONS', path }));
  const unknown = { name: 'nothing', method: 'GET', path: '/nothing/here' };
  const answers: { readonly name: string; readonly status: number; readonly headers: Headers }[] = [];
  for (const { name, method, path } of [...routes, ...preflights, unknown]) {
    const isPost = method === 'POST';
    const init = { method, headers: { Host: HOST, ...headers }, ...(isPost && { body: '{}' }) };
    const response = await app.fetch(new Request(`http://${headers.Host ?? HOST}${path}`, init));
    await response.body?.cancel();
    answers.push({ name, status: response.status, headers: response.headers });
  }
  expect(answers.length).toBeGreaterThan(80);
  return answers;
}

type Asked = Readonly<Record<string, string>>;

const PAGES: readonly (readonly [string, Asked])[] = [
  ['of another host', { Origin: 'https://page.example', 'Sec-Fetch-Site': 'cross-site' }],
  ['of another host, to an old browser', { Origin: 'https://page.example' }],
  ['that shows an image of ours', { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors' }],
  ['of another port', { Origin: 'http://127.0.0.1:3000', 'Sec-Fetch-Site': 'same-site' }],
  ['of another port, that shows a frame of ours', { 'Sec-Fetch-Site': 'same-site', 'Sec-Fetch-Mode': 'navigate' }],
  ['that hides its origin', { Origin: 'null' }],
  ['of a file', { Origin: 'file://' }],
  ['of a browser extension', { Origin: 'chrome-extension://abc' }],
];

describe('where this machine may do all', () => {
  test.each<readonly [string, Asked]>([...PAGES])('a page %s gets nothing', async (_, headers) => {
    const server = await start();
    for (const { name, status, headers: answered } of await askAll(server, headers)) {
      expect([name, status, ...answered.keys().filter(key => key.startsWith('access-control-'))]).toEqual([name, 403]);
    }
  });

  test('a page of our own is answered, and what it sends may not push', async () => {
    const server = await start();
    const own = { Host: HOST, 'Sec-Fetch-Site': 'same-origin' };
    expect((await server.send('GET', '/service-info', { headers: own })).status).toBe(200);
    const headers = { ...own, Origin: `http://${HOST}` };
    expect((await server.send('POST', '/v2/local/app/blobs/uploads/', { headers })).status).toBe(403);
  });

  test.each([
    'page.example',
    'page.example:8080',
    'localhost.page.example',
    '127.0.0.1.page.example',
    'localhost.',
    '0.0.0.0',
    '[::]',
    '10.0.0.5',
  ])('a page gets nothing by the name %s that leads here', async Host => {
    const server = await start();
    for (const { name, status } of await askAll(server, { Host })) expect([name, status]).toEqual([name, 421]);
  });

  test.each(['localhost:9', '127.0.0.1', '127.1.2.3:80', '[::1]:8080', 'LOCALHOST', 'veneer:8080', 'builder.example'])(
    'the name %s is ours',
    async Host => {
      const server = await start({ hosts: ['Veneer'], builds: { registryHost: 'builder.example:5000' } });
      expect((await server.send('GET', '/v2/', { headers: { Host } })).status).toBe(200);
    },
  );

  test('a name that is configured for reading opens no more', async () => {
    const server = await start({ hosts: ['veneer'] });
    const push = (Host: string) => server.send('POST', '/v2/local/app/blobs/uploads/', { headers: { Host } });
    expect((await push('veneer')).status).toBe(403);
    expect((await push('localhost')).status).toBe(202);
  });

  test('who asks by another name hears which key to set', async () => {
    const server = await start();
    const { body } = await server.send('GET', '/v2/', { headers: { Host: 'veneer:8080' } });
    expect(body.toString()).toContain('veneer is not a name of this Veneer');
    expect(body.toString()).toContain('add the name to \\"hosts\\" in veneer.yaml');
  });

  test('probes hear by any name that we are up', async () => {
    const server = await start();
    for (const path of ['/health/live', '/health/ready']) {
      const { status } = await server.send('GET', path, { headers: { Host: '10.0.0.5:8080', Origin: 'null' } });
      expect([path, status]).toEqual([path, 200]);
    }
    const other = await server.send('GET', '/health/live/../../v2/', { headers: { Host: '10.0.0.5:8080' } });
    expect(other.status).toBe(421);
  });

  test('the address bar and clients that are no browsers are answered', async () => {
    const server = await start();
    for (const headers of [{ 'Sec-Fetch-Site': 'none', 'Sec-Fetch-Mode': 'navigate' }, { 'Sec-Fetch-Mode': 'cors' }]) {
      expect((await server.send('GET', '/v2/', { headers })).status).toBe(200);
    }
  });

  test.each([
    ['by a whole address before another host', 'GET http://127.0.0.1/v2/ HTTP/1.1\r\nHost: page.example\r\n'],
    ['by the whole address of another host', 'GET http://page.example/v2/ HTTP/1.1\r\nHost: localhost\r\n'],
    ['by a web socket', `GET /v2/ HTTP/1.1\r\nHost: ${HOST}\r\nOrigin: http://page.example\r\nUpgrade: websocket\r\n`],
  ])('nothing is had %s', async (_, head) => {
    const server = await start();
    const socket = connect(server.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.end(`${head}Connection: close\r\n\r\n`);
    expect(await text(socket)).toMatch(/^HTTP\/1.1 4(03|21) /);
  });
});

describe('where access is configured', () => {
  test.each(PAGES)('a page %s gets nothing, regardless of who has logged in', async (_, headers) => {
    const server = await guard();
    for (const { name, status } of await askAll(server, { ...headers, Authorization: ADMIN }))
      expect([name, status]).toEqual([name, 403]);
  });

  test.each([
    ['https://veneer.example', 200],
    [`http://${HOST}`, 200],
    ['http://veneer.example', 403],
    ['https://veneer.example:8443', 403],
    ['http://127.0.0.1:3000', 403],
    ['http://localhost:8080', 403],
  ])('a page of %s, which may be beside us behind a proxy, gets %i', async (Origin, status) => {
    const server = await guard({ publicUrl: 'https://veneer.example' });
    const headers = { Host: HOST, Origin, Authorization: ADMIN };
    expect((await server.send('GET', '/v2/local/app/tags/list', { headers })).status).toBe(status === 200 ? 404 : 403);
  });

  test('any name is ours, unless some are configured', async () => {
    const servers = [await guard(), await guard({ hosts: ['veneer.svc'], publicUrl: 'https://veneer.example' })];
    const names = ['veneer.svc:8080', 'veneer.example', '127.0.0.1', 'page.example', '10.0.0.5'];
    const statuses = servers.map(({ send }) => {
      const ask = (Host: string) => send('GET', '/v2/', { headers: { Host, Authorization: ADMIN } });
      return Promise.all(names.map(async name => (await ask(name)).status));
    });
    expect(await Promise.all(statuses)).toEqual([
      [200, 200, 200, 200, 200],
      [200, 200, 200, 421, 421],
    ]);
  });

  test('what a name of a page that leads here sends is of no origin of ours', async () => {
    const server = await guard({ access: { grants: [{ anyone: true, repositories: ['**'], allow: ['pull'] }] } });
    const headers = { Host: 'page.example', Origin: 'http://page.example', 'Content-Type': 'application/json' };
    const body = JSON.stringify({ containerImage: 'local/app:1' });
    expect((await server.send('POST', '/v1alpha2/container', { headers, body })).status).toBe(403);
  });
});

test('every answer is inert, those of errors too', async () => {
  const server = await guard();
  for (const authorization of [{}, { Authorization: ADMIN }, { Host: 'page.example' }, { Origin: 'null' }]) {
    const answers = await askAll(server, authorization);
    // Our own pages have a policy of their own.
    for (const { name, headers } of answers.filter(each => !/ \/(?:openapi|console(?:$|\/))/.test(each.name))) {
      expect([name, Object.fromEntries(headers)]).toEqual([name, expect.objectContaining(INERT)]);
    }
  }
  const sent = await server.send('GET', `/v2/local/app/blobs/sha256:${'0'.repeat(64)}`, {
    headers: { Authorization: ADMIN },
  });
  expect(sent.headers).toMatchObject({ ...INERT, 'content-type': 'application/json' });
});

describe('a document of an upstream', () => {
  let app: TestApp;

  afterEach(() => app.close());

  test.each([
    ['text/html', 'application/octet-stream'],
    ['TEXT/HTML; charset=utf-8', 'application/octet-stream'],
    ['application/xhtml+xml', 'application/octet-stream'],
    ['image/svg+xml', 'application/octet-stream'],
    ['text/javascript', 'application/octet-stream'],
    ['application/vnd.acme+xml', 'application/octet-stream'],
    ['application/pdf', 'application/octet-stream'],
    ['multipart/x-mixed-replace; boundary=a', 'application/octet-stream'],
    ['application/vnd.acme.thing.v1+json', 'application/vnd.acme.thing.v1+json'],
    ['application/json', 'application/json'],
  ])('of the type %s is served as %s', async (mediaType, served) => {
    app = await startApp();
    const raw = Buffer.from('{"x":"<!doctype html><script>alert(document.domain)</script>"}');
    app.registry.put('library/page', [{ mediaType, raw, tags: ['1'] }]);
    for (const method of ['GET', 'HEAD', 'GET']) {
      const response = await app.request('/v2/lab/library/page/manifests/1', { method });
      expect([response.status, Object.fromEntries(response.headers)]).toEqual([
        200,
        expect.objectContaining({ 'content-type': served, ...INERT }),
      ]);
    }
  });
});

describe('a body of the API', () => {
  const PATHS = ['/v1alpha2/container', '/container-token', '/v1alpha1/inspect'];

  test.each(['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=a', 'text/json', ''])(
    'sent as "%s" is a 415 that says what would be right',
    async type => {
      const server = await start();
      for (const path of PATHS) {
        const headers = { ...(type && { 'Content-Type': type }) };
        const { status, body } = await server.send('POST', path, { headers, body: '{"containerImage":"local/app:1"}' });
        expect([status, body.toString()]).toEqual([415, expect.stringContaining('Content-Type: application/json')]);
      }
    },
  );

  test.each(['application/json', 'application/json; charset=utf-8', 'Application/JSON', 'application/vnd.acme+json'])(
    'sent as %s is read',
    async type => {
      const server = await start();
      for (const path of PATHS) {
        const sent = { headers: { 'Content-Type': type }, body: '{"containerImage":"local/"}' };
        const { status, body } = await server.send('POST', path, sent);
        expect([status, body.toString()]).toEqual([400, expect.stringContaining('containerImage: ')]);
      }
    },
  );
});

describe('whatever a request names', () => {
  const odd = fc.oneof(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 6 }),
    fc.constantFrom(
      '\r\nX-Forged: y',
      '"',
      '\\',
      '€',
      '\0',
      '..',
      '%',
      '\u2028',
      '\x1b[31m',
      '<script>',
      'local/app',
      'a',
    ),
  );
  const name = fc.array(odd, { minLength: 1, maxLength: 3 }).map(parts => parts.map(encodeURIComponent));
  const route = fc.constantFrom(
    ...['/v2/N/manifests/M', '/v2/N/blobs/M', '/v2/N/tags/list?last=M&n=M', '/v2/N/referrers/M?artifactType=M'],
    ...['/v2/N/blobs/uploads/?mount=M&from=M', '/v2/N/blobs/uploads/M?digest=M', '/v2/N/manifests/M?ns=M', '/M/M'],
    ...['/v2/N/manifests/1?tag=M', '/v1alpha2/container/M', '/container-token/M', '/v1alpha1/builds/M/logs'],
    ...['/v1alpha1/builds?after=M&status=M', '/v1/rules/explain?image=M&platform=M&caller=M', '/token?scope=M'],
    ...['/v1/cache/content?repository=M', '/v1/hosted/collect?dryRun=M', '/token?service=M'],
  );
  const method = fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE');
  const authorization = fc.constantFrom(undefined, ADMIN, 'Basic eDp5', 'Bearer x', `Bearer vnr_${'0'.repeat(40)}`);

  test.each([
    ['with access', guard],
    ['without', start],
  ])('it adds no header and no line to the log, %s, and is no fault of ours', async (_, open) => {
    const server = await open({ defaultUpstream: 'none', openUpstreams: false });
    const asked = fc.record({ route, method, authorization, N: name, M: name });
    await fc.assert(
      fc.asyncProperty(asked, async ({ N, M, ...request }) => {
        const path = request.route.replaceAll('N', N.join('/')).replaceAll('M', M.join('%2F'));
        const headers = { ...(request.authorization && { Authorization: request.authorization }) };
        const answer = await server.send(request.method, path, { headers });
        expect([path, answer.status < 500, answer.headers['x-forged']]).toEqual([path, true, undefined]);
      }),
      { numRuns: 1000 },
    );
    expect(server.log.filter(line => line.trimEnd().includes('\n') || line.includes('"level":50'))).toEqual([]);
  });
});
