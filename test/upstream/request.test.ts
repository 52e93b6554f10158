// Redirects: followed by hand, with nothing of ours to another host and nowhere that is private.
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { parseLocation } from '../../src/upstream/request.ts';
import { failure, json, listen, lookupAt, openLab, type Server } from './server.ts';

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
  const blob = await openLab({ url: server.url, credentials }).openBlob('a', DIGEST);
  expect(await text(blob.body)).toBe('x');
});

test('sends to another host what it asks for, and nothing of ours', async () => {
  const other = await listen((_, res) => res.end('x'));
  const host = `blobs.other.test:${other.port}`;
  const server = await listenAndRedirect(() => `http://user:pass@${host}/x?sig=1`);
  const blob = await openLab({ url: server.url, credentials, redirectHosts: [host] }, { lookup }).openBlob('a', DIGEST);
  expect(await text(blob.body)).toBe('x');
  expect(server.requests.at(-1)?.headers.authorization).toContain('Basic');
  expect(other.requests[0]?.url).toBe('/x?sig=1');
  expect(Object.keys(other.requests[0]?.headers ?? {}).toSorted()).toEqual(['accept-encoding', 'connection', 'host']);
});

test('sends no authorization to a host that another one redirects back to', async () => {
  const other = await listen((_, res) => res.writeHead(307, { location: `${server.url}/chosen` }).end());
  const server = await listenAndRedirect(() => `http://blobs.other.test:${other.port}/x`);
  const redirectHosts = [`blobs.other.test:${other.port}`, new URL(server.url).host];
  const lab = openLab({ url: server.url, credentials, redirectHosts }, { lookup });
  expect(await failure(lab.openBlob('a', DIGEST))).toMatchObject({ code: 'UNAUTHORIZED' });
  expect(server.requests.at(-1)?.headers.authorization).toBeUndefined();
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
  const error = await failure(openLab({ url: server.url }, { lookup }).openBlob('a', DIGEST));
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
    const work = openLab({ url: server.url, redirectHosts }, { lookup }).openBlob('a', DIGEST);
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
  const error = await failure(openLab({ url: server.url }).openBlob('a', DIGEST));
  expect(error).toMatchObject({ status: 502, message: expect.stringContaining('redirects') });
  expect(server.requests).toHaveLength(6);
});

test('refuses a status that is neither an answer nor an error', async () => {
  const server = await listen((_, res) => res.writeHead(304).end());
  expect(await failure(openLab({ url: server.url }).openBlob('a', DIGEST))).toMatchObject({ status: 502 });
});
