// The registries by their names and with their credentials, and what has neither: the address of a layer.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { UpstreamEntry } from '../../src/upstream/registry/registry-client.ts';
import { startRegistry } from '../support/registry.ts';
import { failure, listen, open } from './server.ts';

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

test.each(['quay.io:0443', 'quay.io:00443', 'quay.io:99999', '8.8:443', '0x08.8.8.8', '[2001:db8:0::1]'])(
  'is not open to %s: another spelling of an address would pass by the entry that it has',
  name => {
    const upstreams = open({ 'quay.io': { deny: ['**'] } });
    expect(() => upstreams.get(name)).toThrow(expect.objectContaining({ code: 'DENIED' }));
  },
);

test.each(['quay.io', 'QUAY.io:443', 'lab.example:5000', '8.8.8.8', '[2001:db8::1]:5000'])('is open to %s', name => {
  expect(open({}).get(name).name).toBe(name.toLowerCase().replace(/:443$/, ''));
});

const encode = (value: string) => Buffer.from(value).toString('base64');

test.each<[string, object]>([
  ['a password', { auth: encode('me:canary-secret') }],
  ['an identity token', { auth: encode('me:'), identitytoken: 'canary-secret' }],
])('pulls with %s of the docker config, and with no other host has it', async (_, auth) => {
  const registry = await startRegistry({ requireToken: { username: 'me', password: 'canary-secret' } });
  onTestFinished(() => registry.close());
  registry.put('a', [{ mediaType: mediaTypes.ociManifest, raw: Buffer.from('{}'), tags: ['b'] }]);
  const folder = await mkdtemp(join(tmpdir(), 'veneer-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const dockerConfigPath = join(folder, 'config.json');
  const entries = { lab: { url: registry.url } };
  await writeFile(dockerConfigPath, JSON.stringify({ auths: { [registry.host]: auth } }));
  await open(entries, { dockerConfigPath }).get('lab').getManifest('a', 'b');
  await writeFile(dockerConfigPath, JSON.stringify({ auths: { 'other.lab.test': auth } }));
  const error = await failure(open(entries, { dockerConfigPath }).get('lab').getManifest('a', 'b'));
  expect(error).toMatchObject({ code: 'UNAUTHORIZED' });
});

test('prefers the credentials of its entry', async () => {
  const registry = await startRegistry({ requireToken: { username: 'me', password: 'canary-secret' } });
  onTestFinished(() => registry.close());
  const credentials = { username: 'me', password: 'canary-secret' };
  const upstreams = open({ lab: { url: registry.url, credentials } }, { dockerConfigPath: '/does/not/exist' });
  expect(await failure(upstreams.get('lab').getManifest('a', 'b'))).toMatchObject({ code: 'NAME_UNKNOWN' });
});

test('opens a layer address on a private host only where that is allowed', async () => {
  const server = await listen((_, res) => res.end('layer'));
  const url = new URL(server.url);
  await expect(open({}).openUrl(url)).rejects.toMatchObject({ code: 'DENIED' });
  const { body } = await open({}, { allowPrivateUrls: true }).openUrl(url);
  expect(await text(body)).toBe('layer');
  await expect(open({}).openUrl(new URL('file:///etc/passwd'))).rejects.toMatchObject({ code: 'DENIED' });
});

test('opens a layer address with no credentials, not even where it asks for them', async () => {
  const server = await listen((_, res) => res.writeHead(401, { 'www-authenticate': 'Basic' }).end());
  const upstreams = open(
    { lab: { url: server.url, credentials: { username: 'me', password: 'canary' } } },
    { allowPrivateUrls: true },
  );
  await expect(upstreams.openUrl(new URL(server.url))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  expect(server.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
});

test.each<[string, string, Record<string, UpstreamEntry>, object]>([
  ['an alias', 'lab', { lab: { url: 'http://127.0.0.1:5000' } }, { host: '127.0.0.1:5000', isInsecure: true }],
  ['Docker Hub', 'index.docker.io', {}, { host: 'docker.io', isInsecure: false }],
  [
    'a mirror of Docker Hub',
    'docker.io',
    { 'docker.io': { url: 'http://127.0.0.1:5000' } },
    { host: '127.0.0.1:5000' },
  ],
  ['a public registry', 'QUAY.io', {}, { host: 'quay.io', isInsecure: false }],
  ['one without a checked certificate', 'a.test', { 'a.test': { tls: { insecure: true } } }, { isInsecure: true }],
])('describes %s as a program has to reach it', (_, name, entries, expected) => {
  expect(open(entries).describe(name)).toMatchObject(expected);
});

test('describes no registry below a path, for no reference can say that', () => {
  const upstreams = open({ lab: { url: 'https://example.org/registry' } });
  expect(() => upstreams.describe('lab')).toThrow(expect.objectContaining({ code: 'UNSUPPORTED' }));
});

test.each<[string, UpstreamEntry['credentials'], object | undefined]>([
  ['a password', { username: 'me', password: 'p' }, { username: 'me', password: 'p' }],
  ['an identity token, with which a program cannot log in', { username: 'me', identityToken: 't' }, undefined],
  ['none', undefined, undefined],
])('gives out credentials for a program to log in: %s', async (_, credentials, expected) => {
  const upstreams = open({ lab: { url: 'http://127.0.0.1:1', credentials } });
  expect(await upstreams.findCredentials('lab')).toEqual(expected);
  await expect(open({}, { openUpstreams: false }).findCredentials('lab')).rejects.toMatchObject({ code: 'DENIED' });
});
