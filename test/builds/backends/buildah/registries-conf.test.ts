// Which registries buildah reaches over plain HTTP.
import { expect, test } from 'vitest';
import { registriesConf } from '../../../../src/builds/backends/buildah/workspace.ts';
import { plainOrder } from '../../../support/plain-order.ts';

const UNQUALIFIED = 'unqualified-search-registries = ["docker.io"]\nshort-name-mode = "disabled"\n';
const insecure = (host: string) => `\n[[registry]]\nlocation = "${host}"\ninsecure = true\n`;
const target = (name: string, isInsecure: boolean) => ({ name, image: name, isInsecure });

test('all registries speak TLS, unless the order says otherwise', () => {
  expect(registriesConf(plainOrder())).toBe(UNQUALIFIED);
});

test('those that the order says speak plain HTTP, each once', () => {
  const order = plainOrder({
    target: target('host:5000/repo:tag', true),
    cache: target('cache.example/repo:tag', false),
    bases: new Map([
      ['a', { name: 'host:5000/a@sha256:1', isInsecure: true }],
      ['b', { name: 'other:80/a@sha256:1', isInsecure: true }],
    ]),
  });
  expect(registriesConf(order)).toBe(UNQUALIFIED + insecure('host:5000') + insecure('other:80'));
});

test.each([
  ['FROM 127.0.0.1:5000/a:1\n', {}, ['127.0.0.1:5000']],
  ['FROM localhost/a:1\n', {}, ['localhost']],
  ['ARG R\nFROM $R/a\n', { R: 'localhost:81' }, ['localhost:81']],
  ['FROM my.localhost/a\n', {}, []],
  ['FROM localhost.example.com/a\n', {}, []],
  ['FROM 10.127.0.0.1/a\n', {}, []],
])("a registry of this machine's own may: %j", (containerFile, args, hosts) => {
  expect(registriesConf(plainOrder({}, { containerFile, args }))).toBe(UNQUALIFIED + hosts.map(insecure).join(''));
});
