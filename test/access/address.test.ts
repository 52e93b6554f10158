// Which client a request is from, behind proxies that are trusted and others.
import { expect, test } from 'vitest';
import { createForwarding, type TrustedProxies } from '../../src/access/address.ts';

const addresses = ['10.0.0.0/8', '127.0.0.1', 'fd00::/8'];

function find(
  peer: string,
  sent: Readonly<Record<string, string>>,
  header: TrustedProxies['header'] = 'X-Forwarded-For',
) {
  return createForwarding({ addresses, header }).findClient(peer, name => sent[name]);
}

test.each([
  ['a client without a proxy', '192.0.2.1', '203.0.113.9', '192.0.2.1'],
  ['the client of a proxy', '10.0.0.5', '203.0.113.9', '203.0.113.9'],
  ['the client of two proxies', '10.0.0.5', '203.0.113.9, 10.1.1.1', '203.0.113.9'],
  ['what a client claims before its own address', '10.0.0.5', '1.1.1.1, 203.0.113.9', '203.0.113.9'],
  ['a client with a port', '127.0.0.1', '203.0.113.9:4711', '203.0.113.9'],
  ['an IPv6 client', 'fd00::5', '[2001:db8::9]:4711', '2001:db8::9'],
  ['an IPv4 peer of an IPv6 socket', '::ffff:10.0.0.5', '203.0.113.9', '203.0.113.9'],
  ['an untrusted one of them', '::ffff:192.0.2.1', '203.0.113.9', '192.0.2.1'],
  ['a hop that is no address', '10.0.0.5', '203.0.113.9, unknown', 'unknown'],
  ['a hop behind a proxy that is no address', '10.0.0.5', 'evil, 10.9.9.9', 'unknown'],
  ['nothing but proxies', '10.0.0.5', '10.0.0.7, 10.0.0.6', '10.0.0.7'],
  ['an empty header', '10.0.0.5', '', 'unknown'],
])('finds %s', (_, peer, forwarded, client) => {
  expect(find(peer, { 'X-Forwarded-For': forwarded })).toBe(client);
});

test.each([
  ['for=203.0.113.9;proto=https', '203.0.113.9'],
  ['for="203.0.113.9:80"', '203.0.113.9'],
  ['proto=https; For="[2001:db8::9]:4711"', '2001:db8::9'],
  ['for=1.1.1.1, for=203.0.113.9', '203.0.113.9'],
  ['for="1.1.1.1, for=203.0.113.9', '203.0.113.9'],
  ['for=_hidden', 'unknown'],
  ['by=203.0.113.9', 'unknown'],
])('reads Forwarded: %s', (forwarded, client) => {
  expect(find('10.0.0.5', { Forwarded: forwarded }, 'Forwarded')).toBe(client);
});

test('believes the one header that is configured', () => {
  const both = { 'X-Forwarded-For': '1.1.1.1', Forwarded: 'for=203.0.113.9' };
  expect(find('10.0.0.5', both)).toBe('1.1.1.1');
  expect(find('10.0.0.5', both, 'Forwarded')).toBe('203.0.113.9');
  expect(find('10.0.0.5', { Forwarded: 'for=203.0.113.9' })).toBe('10.0.0.5');
});

test('reads no more than the last 32 hops', () => {
  const hops = ['203.0.113.9', ...Array.from({ length: 40 }, (_, at) => `10.0.0.${at}`)].join();
  expect(find('10.0.0.5', { 'X-Forwarded-For': hops })).toBe('10.0.0.8');
});

test('trusts nobody by default', () => {
  const { isTrusted, findClient } = createForwarding({ addresses: [], header: 'X-Forwarded-For' });
  expect(isTrusted('127.0.0.1')).toBe(false);
  expect(findClient('127.0.0.1', () => '203.0.113.9')).toBe('127.0.0.1');
  expect(findClient(undefined, () => '203.0.113.9')).toBeUndefined();
});
