// Connections: which addresses a stranger may make us reach, and whose certificates we take and show.
import { TLSSocket } from 'node:tls';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { expect, test } from 'vitest';
import { isPublicAddress } from '../../src/upstream/transport/connector.ts';
import { failure, json, listen, lookupAt, open, openUpstream, pem } from './server.ts';

test.each(['8.8.8.8', '192.0.1.1', '100.128.0.1', '::ffff:8.8.8.8', '2606:4700::1111', '2a00:1450:4001::5efe:1'])(
  'counts %s as public',
  address => expect(isPublicAddress(address)).toBe(true),
);

// The special-purpose address registries of IANA, which RFC 6890 began, with multicast and what was withdrawn.
test.each([
  '0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.31.196.0/24',
  '192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4',
  '240.0.0.0/4 255.255.255.255/32 168.63.129.16/32',
  '::/96 ::1/128 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001:1::1/128 2001:1::2/128',
  '2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16',
  '2620:4f:8000::/48 3fff::/20 4000::/3 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8',
])('counts no address of %s as public', text => {
  const blocks = text.split(' ').map(block => ipaddr.parseCIDR(block));
  fc.assert(
    fc.property(fc.constantFrom(...blocks), fc.uint8Array({ minLength: 16, maxLength: 16 }), ([net, bits], random) => {
      const address = ipaddr.fromByteArray(
        net.toByteArray().map((byte, at) => {
          const free = 0xff >> Math.min(Math.max(bits - at * 8, 0), 8);
          return (byte & ~free) | ((random[at] ?? 0) & free);
        }),
      );
      expect(isPublicAddress(address.toString()), address.toString()).toBe(false);
    }),
  );
});

const hex = (bytes: readonly number[]) =>
  Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{4})/, '$1:');

// Each is a way in which an IPv6 address carries an IPv4 one.
test.each([
  ['compatible', v4 => `::${hex(v4)}`],
  ['mapped', v4 => `::ffff:${hex(v4)}`],
  ['translated', v4 => `::ffff:0:${hex(v4)}`],
  ['NAT64', v4 => `64:ff9b::${hex(v4)}`],
  ['NAT64 of the own network', v4 => `64:ff9b:1::${hex(v4)}`],
  ['6to4', v4 => `2002:${hex(v4)}::1`],
  ['Teredo server', v4 => `2001:0:${hex(v4)}::1`],
  ['Teredo client', v4 => `2001::${hex(v4.map(byte => byte ^ 0xff))}`],
  ['ISATAP', v4 => `2606:4700::5efe:${hex(v4)}`],
  ['ISATAP, universal', v4 => `2606:4700::200:5efe:${hex(v4)}`],
] satisfies [string, (v4: number[]) => string][])('counts no private IPv4 address as public that is %s', (_, embed) => {
  const starts = [
    [127, 0],
    [10, 1],
    [172, 16],
    [192, 168],
    [169, 254],
    [100, 64],
  ];
  fc.assert(
    fc.property(fc.constantFrom(...starts), fc.tuple(fc.nat(255), fc.nat(255)), (start, end) => {
      expect(isPublicAddress(embed([...start, ...end]))).toBe(false);
    }),
  );
});

test.each(['example.org', '', 'fe80::1%eth0', '1.2.3.4.5'])(
  'counts %j, which is no address of a host, as not public',
  text => expect(isPublicAddress(text)).toBe(false),
);

test.each(['localhost', '127.0.0.1', '[::1]', '[::ffff:7f00:1]', '[::7f00:1]', '[64:ff9b::7f00:1]'])(
  'does not dial %s without an entry',
  async host => {
    const server = await listen((_, res) => res.end());
    const error = await failure(open({}).get(`${host}:${server.port}`).getManifest('a', 'b'));
    expect(error).toMatchObject({ code: 'DENIED', message: expect.stringContaining('private') });
  },
);

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
  const work = openUpstream({ url: server.url, tls }).getManifest('a', 'b');
  if (isTaken) expect((await work).raw).toHaveLength(2);
  else
    expect(await failure(work)).toMatchObject({ status: 502, message: expect.stringContaining('connection failed') });
  expect(server.requests).toHaveLength(isTaken ? 1 : 0);
});

test('refuses a certificate for another name', async () => {
  const server = await listen((_, res) => res.end('{}'), {});
  const entry = { url: `https://evil.other.test:${server.port}`, tls: { ca: pem('ca.pem') } };
  const error = await failure(openUpstream(entry, { lookup: lookupAt('127.0.0.1') }).getManifest('a', 'b'));
  expect(error.message).toContain('ERR_TLS_CERT_ALTNAME_INVALID');
});

const mutual = { requestCert: true, rejectUnauthorized: false, ca: pem('ca.pem') };
const identity = { ca: pem('ca.pem'), cert: pem('client.pem'), key: pem('client.key') };

test('shows its own certificate to the upstream', async () => {
  const server = await listen((req, res) => json(res, 200, isKnown(req.socket)), mutual);
  const { raw } = await openUpstream({ url: server.url, tls: identity }).getManifest('a', 'b');
  expect(Buffer.from(raw).toString()).toBe('true');
});

test('shows its own certificate to no host that a redirect leads to', async () => {
  const blobs = await listen((req, res) => json(res, 200, isKnown(req.socket)), mutual);
  const host = `blobs.other.test:${blobs.port}`;
  const server = await listen((_, res) => res.writeHead(307, { location: `https://${host}/x` }).end(), mutual);
  const entry = { url: server.url, tls: identity, redirectHosts: [host] };
  const { raw } = await openUpstream(entry, { lookup: lookupAt('127.0.0.1') }).getManifest('a', 'b');
  expect(Buffer.from(raw).toString()).toBe('false');
});

function isKnown(socket: unknown): boolean {
  return socket instanceof TLSSocket && socket.authorized;
}
