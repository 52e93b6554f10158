// Pushing to a real registry, which is a Veneer behind a socket: with and without credentials, blobs, mounts, manifests and tags.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { Pusher } from '../../src/upstream/upstream.ts';
import { type GuardedServer, startGuarded } from '../app/callers.ts';
import { makeIndex } from '../conformance/documents.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { failure, open, openPusher, pushed } from './server.ts';

describe('a registry that anyone may push to', () => {
  let server: TestServer;
  let url: string;

  beforeAll(async () => {
    server = await startServer();
    url = `http://127.0.0.1:${server.port}`;
  });

  afterAll(() => server.close());

  test.each([
    ['no bytes', 0],
    ['one byte', 1],
    ['more than one chunk of a socket', 3_000_000],
  ])('takes a blob of %s, which is then there', async (_, size) => {
    const pusher = openPusher({ url });
    const raw = randomBytes(size);
    expect(await pusher.hasBlob('local/app', digestOf(raw))).toBe(false);
    await pusher.putBlob('local/app', pushed(raw));
    expect(await pusher.hasBlob('local/app', digestOf(raw))).toBe(true);
    const { body } = await server.send('GET', `/v2/local/app/blobs/${digestOf(raw)}`);
    expect(body.equals(raw)).toBe(true);
  });

  test('takes a manifest by its tag and by its digest, to the byte', async () => {
    const pusher = openPusher({ url });
    const { raw, digest, mediaType } = makeIndex([]);
    expect(await pusher.findManifest('local/tags', '1')).toBeUndefined();
    for (const reference of ['1', digest])
      await pusher.putManifest('local/tags', { reference, raw, digest, mediaType });
    expect(await pusher.findManifest('local/tags', '1')).toBe(digest);
    const { body, headers } = await server.send('GET', '/v2/local/tags/manifests/1');
    expect([body.equals(raw), headers['content-type']]).toEqual([true, mediaTypes.ociIndex]);
  });

  test('mounts a blob of another repository, and says so where there is none', async () => {
    const pusher = openPusher({ url });
    const raw = Buffer.from('to be mounted');
    const mount = () => pusher.mountBlob('local/to', digestOf(raw), { from: 'local/from' });
    expect(await mount()).toBe(false);
    await pusher.putBlob('local/from', pushed(raw));
    expect(await mount()).toBe(true);
    expect(await pusher.hasBlob('local/to', digestOf(raw))).toBe(true);
  });

  test('leaves no upload behind where it could not mount', async () => {
    const few = await server.restart({ hosted: { maxUploads: 1 } });
    const pusher = openPusher({ url: `http://127.0.0.1:${few.port}` });
    const raw = Buffer.from('nowhere');
    expect(await pusher.mountBlob('local/few', digestOf(raw), { from: 'local/from' })).toBe(false);
    await pusher.putBlob('local/few', pushed(raw));
    server = few;
    url = `http://127.0.0.1:${few.port}`;
  });

  test('refuses other bytes than the digest says, in its own words', async () => {
    const error = await failure(
      openPusher({ url }).putBlob('local/app', { ...pushed(Buffer.from('a')), digest: digestOf(Buffer.from('b')) }),
    );
    expect(error).toMatchObject({ name: 'RegistryError', code: 'DIGEST_INVALID', status: 400 });
  });

  test('refuses a manifest whose blobs are not there', async () => {
    const config = { mediaType: mediaTypes.ociConfig, digest: digestOf(Buffer.from('gone')), size: 4 };
    const manifest = { schemaVersion: 2, mediaType: mediaTypes.ociManifest, config, layers: [] };
    const raw = Buffer.from(JSON.stringify(manifest));
    const { mediaType } = manifest;
    const work = openPusher({ url }).putManifest('local/app', {
      reference: '1',
      raw,
      digest: digestOf(raw),
      mediaType,
    });
    await expect(work).rejects.toMatchObject({ code: 'MANIFEST_BLOB_UNKNOWN', status: 404 });
  });
});

describe('a registry that wants a token', () => {
  let server: GuardedServer;
  let url: string;
  const raw = Buffer.from('a layer');

  beforeAll(async () => {
    server = await startGuarded();
    url = `http://127.0.0.1:${server.port}`;
  });

  afterAll(() => server.close());

  const as = (username: string): Pusher => openPusher({ url, credentials: { username, password: 'password' } });

  test('takes what is pushed with credentials that may', async () => {
    await as('writer').putBlob('local/app', pushed(raw));
    expect(await as('reader').hasBlob('local/app', digestOf(raw))).toBe(true);
  });

  test('takes a mount from a repository that the credentials may read', async () => {
    await as('admin').putBlob('local/other', pushed(raw));
    expect(await as('admin').mountBlob('local/third', digestOf(raw), { from: 'local/other' })).toBe(true);
  });

  test.each([
    ['with none', undefined, 'UNAUTHORIZED'],
    ['that may only pull', 'reader', 'DENIED'],
  ])('refuses credentials %s', async (_, user, code) => {
    const pusher = user ? as(user) : openPusher({ url });
    const error = await failure(pusher.putBlob('local/app', pushed(raw)));
    expect(error).toMatchObject({ name: 'RegistryError', code });
    expect(error.message).toMatch(`lab: push of local/app/blobs/${digestOf(raw)}: `);
  });
});

test('pushes to no registry that the configuration closes, and to no private address without an entry', async () => {
  expect(() => open({}, { openUpstreams: false }).getPusher('quay.io')).toThrow(
    expect.objectContaining({ code: 'DENIED' }),
  );
  const work = open({})
    .getPusher('127.0.0.1:1')
    .putBlob('a', pushed(Buffer.from('x')));
  await expect(work).rejects.toMatchObject({ code: 'DENIED' });
});
