// Connections: which addresses a stranger may make us reach, and whose certificates we take and show.
import { TLSSocket } from 'node:tls';
import { expect, test } from 'vitest';
import { isPublicAddress } from '../../src/upstream/addresses.ts';
import { failure, json, listen, lookupAt, open, openLab, pem } from './server.ts';

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

test.each(['localhost', '127.0.0.1', '[::1]', '[::ffff:7f00:1]'])('does not dial %s without an entry', async host => {
  const server = await listen((_, res) => res.end());
  const error = await failure(open({}).get(`${host}:${server.port}`).getManifest('a', 'b'));
  expect(error).toMatchObject({ code: 'DENIED', message: expect.stringContaining('private') });
});

test.each([
  ['a private address', ['10.0.0.1']],
  ['our own machine', ['127.0.0.1']],
  ['a metadata service', ['169.254.169.254']],
  ['a public address and a private one', ['8.8.8.8', '127.0.0.1']],
])('does not dial a name that is at %s', async (_, addresses) => {
  const server = await listen((_, res) => res.end('{}'));
  const upstreams = open({}, { lookup: lookupAt(...addresses) });
  const error = await failure(upstreams.get(`rebound.example:${server.port}`).getManifest('a', 'b'));
  expect(error).toMatchObject({ code: 'DENIED', message: expect.stringContaining('rebound.example') });
  await expect(upstreams.openUrl(new URL(`http://rebound.example:${server.port}`))).rejects.toMatchObject({
    code: 'DENIED',
  });
  expect(server.requests).toHaveLength(0);
});

test('dials a name at a private address that has an entry', async () => {
  const server = await listen((_, res) => res.end('{}'));
  const name = `registry.lab.test:${server.port}`;
  const upstreams = open({ [name]: { url: `http://${name}` } }, { lookup: lookupAt('127.0.0.1') });
  expect((await upstreams.get(name).getManifest('a', 'b')).raw).toHaveLength(2);
});

test('speaks plain http only where the url of an entry says so', async () => {
  const server = await listen((_, res) => res.end('{}'));
  const name = `registry.lab.test:${server.port}`;
  const upstreams = open({ [name]: {} }, { lookup: lookupAt('127.0.0.1') });
  expect(await failure(upstreams.get(name).getManifest('a', 'b'))).toMatchObject({ status: 502 });
  expect(server.requests).toHaveLength(0);
});

test.each([
  ['takes a certificate of the CA in ca', { ca: pem('ca.pem') }, true],
  ['refuses a certificate of an unknown CA', {}, false],
  ['refuses a certificate of another CA', { ca: pem('client.pem') }, false],
  ['takes any certificate where it is insecure', { insecure: true }, true],
])('%s', async (_, tls, isTaken) => {
  const server = await listen((_, res) => res.end('{}'), {});
  const work = openLab({ url: server.url, tls }).getManifest('a', 'b');
  if (isTaken) expect((await work).raw).toHaveLength(2);
  else
    expect(await failure(work)).toMatchObject({ status: 502, message: expect.stringContaining('connection failed') });
  expect(server.requests).toHaveLength(isTaken ? 1 : 0);
});

test('refuses a certificate for another name', async () => {
  const server = await listen((_, res) => res.end('{}'), {});
  const entry = { url: `https://evil.other.test:${server.port}`, tls: { ca: pem('ca.pem') } };
  const error = await failure(openLab(entry, { lookup: lookupAt('127.0.0.1') }).getManifest('a', 'b'));
  expect(error.message).toContain('ERR_TLS_CERT_ALTNAME_INVALID');
});

const mutual = { requestCert: true, rejectUnauthorized: false, ca: pem('ca.pem') };
const identity = { ca: pem('ca.pem'), cert: pem('client.pem'), key: pem('client.key') };

test('shows its own certificate to the upstream', async () => {
  const server = await listen((req, res) => json(res, 200, isKnown(req.socket)), mutual);
  const { raw } = await openLab({ url: server.url, tls: identity }).getManifest('a', 'b');
  expect(Buffer.from(raw).toString()).toBe('true');
});

test('shows its own certificate to no host that a redirect leads to', async () => {
  const blobs = await listen((req, res) => json(res, 200, isKnown(req.socket)), mutual);
  const host = `blobs.other.test:${blobs.port}`;
  const server = await listen((_, res) => res.writeHead(307, { location: `https://${host}/x` }).end(), mutual);
  const entry = { url: server.url, tls: identity, redirectHosts: [host] };
  const { raw } = await openLab(entry, { lookup: lookupAt('127.0.0.1') }).getManifest('a', 'b');
  expect(Buffer.from(raw).toString()).toBe('false');
});

function isKnown(socket: unknown): boolean {
  return socket instanceof TLSSocket && socket.authorized;
}
