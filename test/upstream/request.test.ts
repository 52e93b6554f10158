// Redirects: followed by hand, with nothing of ours to another host and nowhere that is private.
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import type { UpstreamEntry } from '../../src/upstream/registry/registry-client.ts';
import { parseLocation } from '../../src/upstream/transport/request.ts';
import { failure, json, listen, lookupAt, open, openUpstream, type Server } from './server.ts';

const DIGEST = digestOf(Buffer.from('x'));
const attempt = { upstream: 'x', action: 'blob', missing: 'BLOB_UNKNOWN' } as const;
const credentials = { username: 'me', password: 'canary' };
const lookup = lookupAt('127.0.0.1');

/** A registry with basic credentials that redirects what it is asked for. */
function listenAndRedirect(location: () => string, isDone: (url: string) => boolean = () => false): Promise<Server> {
  return listen((req, res) => {
    if (!req.headers.authorization) json(res, 401, {}, { 'www-authenticate': 'Basic' });
    else if (isDone(req.url ?? '')) res.end('x');
    else res.writeHead(307, { location: location() }).end();
  });
}

test('follows a redirect on the same host with its authorization', async () => {
  const server = await listenAndRedirect(
    () => '/there',
    url => url === '/there',
  );
  const blob = await openUpstream({ url: server.url, credentials }).openBlob('a', DIGEST);
  expect(await text(blob.body)).toBe('x');
});

test('sends to another host what it asks for, and nothing of ours', async () => {
  const other = await listen((_, res) => res.end('x'));
  const host = `blobs.other.test:${other.port}`;
  const server = await listenAndRedirect(() => `http://user:pass@${host}/x?sig=1`);
  const blob = await openUpstream({ url: server.url, credentials, redirectHosts: [host] }, { lookup }).openBlob(
    'a',
    DIGEST,
  );
  expect(await text(blob.body)).toBe('x');
  expect(server.requests.at(-1)?.headers.authorization).toContain('Basic');
  expect(other.requests[0]?.url).toBe('/x?sig=1');
  expect(Object.keys(other.requests[0]?.headers ?? {}).toSorted()).toEqual(['accept-encoding', 'connection', 'host']);
});

test('sends no authorization to a host that another one redirects back to', async () => {
  const other = await listen((_, res) => res.writeHead(307, { location: `${server.url}/chosen` }).end());
  const server = await listenAndRedirect(() => `http://blobs.other.test:${other.port}/x`);
  const redirectHosts = [`blobs.other.test:${other.port}`, new URL(server.url).host];
  const upstream = openUpstream({ url: server.url, credentials, redirectHosts }, { lookup });
  expect(await failure(upstream.openBlob('a', DIGEST))).toMatchObject({ code: 'UNAUTHORIZED' });
  expect(server.requests.at(-1)?.headers.authorization).toBeUndefined();
});

/** A host that wants a token of its own server, and knows who asks for one. */
async function listenWithTokens(realm = (server: Server) => `${server.url}/token`) {
  const server = await listen((req, res) => {
    if (req.url?.startsWith('/token')) return json(res, 200, { token: 'of-the-other' });
    if (req.headers.authorization === 'Bearer of-the-other') return res.end('x');
    const challenge = `Bearer realm="${realm(server)}",service="other",scope="repository:there:pull"`;
    return json(res, 401, {}, { 'www-authenticate': challenge });
  });
  return { server, host: new URL(server.url).host };
}

const anonymous = ({ requests }: Server) =>
  requests.every(({ headers }) => !headers.authorization?.startsWith('Basic'));

test('answers the challenge of a host that a redirect leads to, there and as nobody', async () => {
  const { server: other, host } = await listenWithTokens();
  const server = await listenAndRedirect(() => `${other.url}/v2/there/blobs/x`);
  const upstream = openUpstream({ url: server.url, credentials, redirectHosts: [host] });
  for (const _ of [1, 2]) expect(await text((await upstream.openBlob('a', DIGEST)).body)).toBe('x');
  expect(other.requests.map(({ url }) => url)).toEqual([
    '/v2/there/blobs/x',
    '/token?service=other&scope=repository%3Athere%3Apull',
    '/v2/there/blobs/x',
    '/v2/there/blobs/x',
  ]);
  expect(anonymous(other)).toBe(true);
  expect(server.requests.map(({ headers }) => headers.authorization ?? '')).not.toContain('Bearer of-the-other');
});

test.each<[string, UpstreamEntry, boolean]>([
  ['those configured for it, where the entry trusts it with redirects', {}, true],
  ['none, where it sees the credentials of clients', { passCredentials: true }, false],
])('shows such a host %s', async (_, more, isKnown) => {
  const { server: other, host } = await listenWithTokens();
  const server = await listen((_, res) => res.writeHead(307, { location: `${other.url}/x` }).end());
  const entries = {
    lab: { url: server.url, credentials: { username: 'first', password: 'canary' }, redirectHosts: [host] },
    other: { url: other.url, credentials: { username: 'second', password: 'x' }, ...more },
  };
  const upstreams = open(entries, { scopes: { key: Buffer.alloc(32, 7), lifeMs: 1000 } });
  expect(await text((await upstreams.get('lab').openBlob('a', DIGEST)).body)).toBe('x');
  const shown = other.requests
    .flatMap(({ headers }) => headers.authorization ?? [])
    .filter(sent => sent.startsWith('Basic'));
  expect(shown).toEqual(isKnown ? [`Basic ${Buffer.from('second:x').toString('base64')}`] : []);
});

test.each([
  ['of another domain', (tokens: Server) => `http://thief.example:${tokens.port}/token`, 'neither in the upstream'],
  ['at a private address', (tokens: Server) => `http://auth.other.test:${tokens.port}/token`, 'private'],
  ['that is no URL', () => '/token', 'not a URL'],
])('asks no token server %s on the word of such a host', async (_, realm, reason) => {
  const tokens = await listen((_, res) => json(res, 200, { token: 'of-the-other' }));
  const { server: other } = await listenWithTokens(() => realm(tokens));
  const host = `blobs.other.test:${other.port}`;
  const server = await listen((_, res) => res.writeHead(307, { location: `http://${host}/x` }).end());
  const upstream = openUpstream({ url: server.url, redirectHosts: [host] }, { lookup });
  expect((await failure(upstream.openBlob('a', DIGEST))).message).toContain(reason);
  expect(tokens.requests).toHaveLength(0);
});

test('leaves a layer address whose redirect wants to know who asks', async () => {
  const { server: other } = await listenWithTokens();
  const server = await listen((_, res) => res.writeHead(307, { location: `${other.url}/x` }).end());
  const work = open({}, { allowPrivateUrls: true }).openUrl(new URL(server.url));
  expect(await failure(work)).toMatchObject({ code: 'UNAUTHORIZED' });
  expect(other.requests).toHaveLength(1);
});

test.each([301, 302, 303, 307, 308])('follows a relative redirect of status %i', async status => {
  const server = await listen((req, res) =>
    req.url?.endsWith('/there?x=1') ? res.end('x') : res.writeHead(status, { location: '../there?x=1' }).end(),
  );
  const blob = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  expect(await text(blob.body)).toBe('x');
  expect(server.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
    `GET /v2/a/blobs/${DIGEST}`,
    'GET /v2/a/there?x=1',
  ]);
});

test.each([
  ['at a private address', (port: string) => `http://127.0.0.1:${port}/x?sig=canary`],
  ['at our own machine', (port: string) => `http://localhost:${port}/x?sig=canary`],
  ['whose name is at a private address', (port: string) => `http://blobs.other.test:${port}/x?sig=canary`],
  ['at a metadata service', () => 'http://169.254.169.254/latest/meta-data?sig=canary'],
  ['at a metadata service by another spelling', () => 'http://[::ffff:a9fe:a9fe]/?sig=canary'],
  ['at a metadata service as one number', () => 'http://2852039166/?sig=canary'],
])('does not follow a redirect to a host %s', async (_, locate) => {
  const inside = await listen((_, res) => res.end('secret'));
  const server = await listen((_, res) => res.writeHead(307, { location: locate(inside.port) }).end());
  const error = await failure(openUpstream({ url: server.url }, { lookup }).openBlob('a', DIGEST));
  expect(error).toMatchObject({ code: 'DENIED' });
  expect(error.message).not.toContain('canary');
  expect(inside.requests).toHaveLength(0);
});

test('follows a redirect to a private host that the entry names, on that port alone', async () => {
  const named = await listen((_, res) => res.end('x'));
  const other = await listen((_, res) => res.end('x'));
  for (const [port, count] of [
    [named.port, 1],
    [other.port, 0],
  ] as const) {
    const server = await listen((_, res) => res.writeHead(302, { location: `http://minio.lab.test:${port}/` }).end());
    const redirectHosts = [`minio.lab.test:${named.port}`];
    const work = openUpstream({ url: server.url, redirectHosts }, { lookup }).openBlob('a', DIGEST);
    if (count > 0) expect(await text((await work).body)).toBe('x');
    else expect(await failure(work)).toMatchObject({ code: 'DENIED' });
  }
  expect([named.requests.length, other.requests.length]).toEqual([1, 0]);
});

test.each(['http://a.example/x', 'ftp://a.example/x', 'http://', undefined])(
  'refuses a redirect from https to %s',
  location => {
    const parse = () => parseLocation(location, new URL('https://a.example'), attempt);
    expect(parse).toThrow(expect.objectContaining({ status: 502 }));
  },
);

test('takes no user name and password from a redirect', () => {
  const url = parseLocation('https://me:canary@b.example/x?y', new URL('https://a.example'), attempt);
  expect(url.href).toBe('https://b.example/x?y');
});

test('gives up after five redirects', async () => {
  const server = await listen((_, res) => res.writeHead(302, { location: '/again' }).end());
  const error = await failure(openUpstream({ url: server.url }).openBlob('a', DIGEST));
  expect(error).toMatchObject({ status: 502, message: expect.stringContaining('redirects') });
  expect(server.requests).toHaveLength(6);
});

test('refuses a status that is neither an answer nor an error', async () => {
  const server = await listen((_, res) => res.writeHead(304).end());
  expect(await failure(openUpstream({ url: server.url }).openBlob('a', DIGEST))).toMatchObject({ status: 502 });
});
