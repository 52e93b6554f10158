// Which hosts may be reached, and what goes along on a redirect.
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { isPublicAddress } from '../../src/upstream/addresses.ts';
import { parseChallenges, parseRealm } from '../../src/upstream/challenge.ts';
import { createDialer } from '../../src/upstream/dialer.ts';
import { parseLocation, read } from '../../src/upstream/request.ts';
import { json, listen, open } from './server.ts';

const DIGEST = digestOf(Buffer.from('x'));

test('knows docker.io by all its names and others in any case', () => {
  const upstreams = open({ 'index.docker.io': {}, Lab: { url: 'http://127.0.0.1:1' } });
  expect(['docker.io', 'registry-1.docker.io', 'lab'].map(name => upstreams.has(name))).toEqual([true, true, true]);
  expect(upstreams.get('Registry-1.Docker.io')).toBe(upstreams.get('docker.io'));
  expect(upstreams.get('quay.io:443')).toBe(upstreams.get('QUAY.io'));
  expect([upstreams.get('index.docker.io').name, upstreams.has('quay.io')]).toEqual(['docker.io', false]);
});

test('refuses what has no entry when it is closed, and what is no host when it is open', () => {
  const denied = expect.objectContaining({ code: 'DENIED' });
  expect(() => open({}, { openUpstreams: false }).get('quay.io')).toThrow(denied);
  expect(() => open({}).get('evil@host.example')).toThrow(denied);
  expect(() => open({}).get('library')).toThrow(denied);
});

test.each(['localhost', '127.0.0.1', '[::1]', '[::ffff:127.0.0.1]'])(
  'does not dial %s without an entry',
  async host => {
    const server = await listen((_, res) => res.end());
    const work = open({})
      .get(`${host}:${new URL(server.url).port}`)
      .getManifest('a', 'b');
    await expect(work).rejects.toMatchObject({ code: 'DENIED', message: expect.stringContaining('private') });
  },
);

test.each([
  ['8.8.8.8', true],
  ['2606:4700::1111', true],
  ['10.0.0.1', false],
  ['100.64.0.1', false],
  ['169.254.169.254', false],
  ['168.63.129.16', false],
  ['0.0.0.0', false],
  ['255.255.255.255', false],
  ['224.0.0.1', false],
  ['::', false],
  ['fe80::1', false],
  ['fd00:ec2::254', false],
  ['64:ff9b::7f00:1', false],
  ['::ffff:10.0.0.1', false],
  ['example.org', false],
])('whether %s is public is %s', (address, expected) => {
  expect(isPublicAddress(address)).toBe(expected);
});

test('follows a redirect on the same host with its authorization', async () => {
  const credentials = { username: 'me', password: 'canary' };
  const server = await listen((req, res) => {
    if (!req.headers.authorization) json(res, 401, {}, { 'www-authenticate': 'Basic' });
    else if (req.url === '/there') res.end('x');
    else res.writeHead(307, { location: '/there' }).end();
  });
  const blob = await open({ lab: { url: server.url, credentials } })
    .get('lab')
    .openBlob('a', DIGEST);
  expect(await text(blob.body)).toBe('x');
});

test('sends no authorization along to another host', async () => {
  const timeouts = { connectMs: 2000, headersMs: 5000, bodyMs: 5000 };
  const dialer = createDialer({ timeouts, retries: 0, retryDelayMs: 1, isGuarded: false });
  onTestFinished(() => dialer.destroy());
  const other = await listen((_, res) => res.end('x'));
  const server = await listen((_, res) => res.writeHead(307, { location: other.url }).end());
  const authorizer = { find: () => 'Bearer canary', answer: async () => 'Bearer canary', forget: () => {} };
  const attempt = { upstream: 'x', action: 'blob', missing: 'BLOB_UNKNOWN' } as const;
  const dialers = { own: dialer, guarded: dialer };
  const auth = { authorizer, scope: 'x' };
  const response = await read(new URL(server.url), { method: 'GET', attempt, dialers, auth });
  await response.body.dump();
  expect(server.requests[0]?.headers.authorization).toBe('Bearer canary');
  expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
});

test('does not follow a redirect to a private address elsewhere', async () => {
  const inside = await listen((_, res) => res.end('secret'));
  const server = await listen((_, res) => res.writeHead(307, { location: `${inside.url}/x?sig=canary` }).end());
  const error = await open({ lab: { url: server.url } })
    .get('lab')
    .openBlob('a', DIGEST)
    .catch(e => e);
  expect(error).toMatchObject({ code: 'DENIED' });
  expect(error.message).not.toContain('canary');
  expect(inside.requests).toHaveLength(0);
});

test.each(['http://a.example/x', 'ftp://a.example/x', undefined])('refuses a redirect from https to %s', location => {
  const attempt = { upstream: 'x', action: 'blob', missing: 'BLOB_UNKNOWN' } as const;
  const parse = () => parseLocation(location, new URL('https://a.example'), attempt);
  expect(parse).toThrow(expect.objectContaining({ status: 502 }));
});

test('gives up after five redirects', async () => {
  const server = await listen((_, res) => res.writeHead(302, { location: '/again' }).end());
  const work = open({ lab: { url: server.url } })
    .get('lab')
    .openBlob('a', DIGEST);
  await expect(work).rejects.toMatchObject({ status: 502, message: expect.stringContaining('redirects') });
  expect(server.requests).toHaveLength(6);
});

test('opens a layer address on a private host only where that is allowed', async () => {
  const server = await listen((_, res) => res.end('layer'));
  const url = new URL(server.url);
  await expect(open({}).openUrl(url)).rejects.toMatchObject({ code: 'DENIED' });
  const { body } = await open({}, { allowPrivateUrls: true }).openUrl(url);
  expect(await text(body)).toBe('layer');
  await expect(open({}).openUrl(new URL('file:///etc/passwd'))).rejects.toMatchObject({ code: 'DENIED' });
});

test.each([
  ['https://auth.docker.io/token', 'https://registry-1.docker.io', true],
  ['http://auth.docker.io/token', 'https://registry-1.docker.io', false],
  ['https://docker.io.evil.example/token', 'https://registry-1.docker.io', false],
  ['https://evil.github.io/token', 'https://good.github.io', false],
  ['https://b.co.uk/token', 'https://a.co.uk', false],
  ['https://10.0.0.2/token', 'https://10.0.0.1', false],
  ['file:///token', 'https://a.example', false],
])('whether the realm %s fits %s is %s', (realm, url, fits) => {
  const attempt = { upstream: 'x', action: 'token request', missing: 'UNAUTHORIZED' } as const;
  const parse = () => parseRealm(realm, new URL(url), attempt).href;
  if (fits) expect(parse()).toBe(realm);
  else expect(parse).toThrow(expect.objectContaining({ status: 502 }));
});

test('reads several challenges with quoted commas and escapes', () => {
  const [basic, bearer] = parseChallenges('Basic realm="a, b=\\"c\\"", BEARER Realm=x , scope="p:q:pull,push"');
  expect([basic?.scheme, basic?.parameters.get('realm')]).toEqual(['basic', 'a, b="c"']);
  expect([bearer?.scheme, bearer?.parameters.get('realm')]).toEqual(['bearer', 'x']);
  expect(bearer?.parameters.get('scope')).toBe('p:q:pull,push');
});
