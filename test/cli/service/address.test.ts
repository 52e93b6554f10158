// Where the service is that a command speaks to.
import { expect, test } from 'vitest';
import { type AddressSources, findServiceUrl } from '../../../src/cli/service/service.ts';
import { findOwnUrl } from '../../../src/config/own-address.ts';

const own = new URL('http://127.0.0.1:9000');
const find = (sources: Partial<AddressSources>) =>
  findServiceUrl({ server: undefined, env: {}, findOwn: () => own, ...sources }).href;

test.each<[string, Partial<AddressSources>, string]>([
  [
    '--server goes first',
    { server: 'https://veneer.example', env: { VENEER_URL: 'http://b' } },
    'https://veneer.example/',
  ],
  ['VENEER_URL goes second', { env: { VENEER_URL: 'http://b:1' } }, 'http://b:1/'],
  ['an empty VENEER_URL is none', { env: { VENEER_URL: '' } }, 'http://127.0.0.1:9000/'],
  ['the configuration goes last', {}, 'http://127.0.0.1:9000/'],
])('%s', (_, sources, url) => {
  expect(find(sources)).toBe(url);
});

test('the configuration is not read where the address is known', () => {
  expect(find({ server: 'http://a', findOwn: () => expect.unreachable() })).toBe('http://a/');
});

test.each<[string, Partial<AddressSources>, string]>([
  ['no URL', { server: 'localhost:8080' }, '--server: expected an http or https URL'],
  [
    'credentials',
    { env: { VENEER_URL: 'http://ada:secret@b' } },
    'VENEER_URL: expected an http or https URL without credentials',
  ],
  ['a path', { server: 'http://a/v2' }, '--server: must have no path, such as http://127.0.0.1:8080'],
  [
    'an address that nobody knows',
    { findOwn: () => undefined },
    'the configuration does not say where the service listens',
  ],
])('%s is refused', (_, sources, message) => {
  expect(() => find(sources)).toThrow(message);
});

test.each([
  [{ host: '127.0.0.1', port: 8080 }, undefined, 'http://127.0.0.1:8080/'],
  [{ host: '0.0.0.0', port: 80 }, new URL('https://veneer.example'), 'http://localhost/'],
  [{ host: '::', port: 8080 }, undefined, 'http://localhost:8080/'],
  [{ host: '::1', port: 8080 }, undefined, 'http://[::1]:8080/'],
  [{ host: '127.0.0.1', port: 0 }, new URL('https://veneer.example'), 'https://veneer.example/'],
  [{ host: '127.0.0.1', port: 0 }, undefined, undefined],
])('a service that listens on %j, with publicUrl %s, is asked at %s', (listen, publicUrl, url) => {
  expect(findOwnUrl({ listen, publicUrl })?.href).toBe(url);
});
