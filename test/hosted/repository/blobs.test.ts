// Blobs of a repository: reading, mounting, deleting.
import { randomBytes } from 'node:crypto';
import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { digestHex, digestOf } from '../../../src/oci/digest.ts';
import { createPlace, type Place, pushBlob, pushSmall, readBlob } from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;
const content = randomBytes(2048);
const digest = digestOf(content);
const unknown = { code: 'BLOB_UNKNOWN', status: 404 };
const everyone = { isReadable: () => true };

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

describe('a blob', () => {
  beforeEach(() => pushBlob(hosted, 'local/app', content));

  test('is read whole and in part', async () => {
    const blob = await hosted.blobs.get('local/app', digest);
    expect(blob.size).toBe(2048);
    const part = await new Response(await blob.open({ start: 500, end: 1499 })).arrayBuffer();
    expect(content.subarray(500, 1500).equals(new Uint8Array(part))).toBe(true);
  });

  test('is read only through a repository that links it', async () => {
    await pushBlob(hosted, 'local/other', randomBytes(5));
    await expect(hosted.blobs.head('local/other', digest)).rejects.toMatchObject(unknown);
    await expect(hosted.blobs.get('local/other', digest)).rejects.toMatchObject(unknown);
    await expect(hosted.blobs.get('local', digest)).rejects.toMatchObject(unknown);
  });

  test('of one algorithm is not known by the other', async () => {
    await expect(hosted.blobs.head('local/app', digestOf(content, 'sha512'))).rejects.toMatchObject(unknown);
  });

  const fileOf = () => join(place.directory, 'blobs', 'sha256', digestHex(digest).slice(0, 2), digestHex(digest));

  test.each([
    ['lost', () => rm(fileOf())],
    ['cut short', () => truncate(fileOf(), 5)],
  ])('whose content was %s counts as unknown, and the next push heals it', async (_, harm) => {
    await harm();
    await expect(hosted.blobs.head('local/app', digest)).rejects.toMatchObject(unknown);
    expect(await hosted.blobs.mount('local/other', digest, everyone)).toBe(false);
    await pushBlob(hosted, 'local/app', content);
    expect(content.equals(await readBlob(hosted, 'local/app', digest))).toBe(true);
  });

  test('that goes while it is opened is unknown', async () => {
    const blob = await hosted.blobs.get('local/app', digest);
    await hosted.blobs.delete('local/app', digest);
    await expect(blob.open()).rejects.toMatchObject(unknown);
  });
});

describe('a mount', () => {
  beforeEach(() => pushBlob(hosted, 'local/source', content));

  test.each([
    ['from the repository that is named', { from: 'local/source', ...everyone }],
    ['from any, where none is named', everyone],
    ['from another than the one that is named', { from: 'local/nothing', ...everyone }],
    ['from one that the caller may read', { isReadable: (name: string) => name === 'local/source' }],
  ])('links %s', async (_, source) => {
    expect(await hosted.blobs.mount('local/app', digest, source)).toBe(true);
    expect(content.equals(await readBlob(hosted, 'local/app', digest))).toBe(true);
    expect(await place.inventory()).toEqual([digest]);
  });

  test.each([
    ['a repository that the caller may not read', 'local/source', () => false],
    ['any, where the caller may read none', undefined, () => false],
    ['one that the caller may read but that has it not', 'local/app', (name: string) => name === 'local/app'],
  ])('opens nothing from %s', async (_, from, isReadable) => {
    expect(await hosted.blobs.mount('local/app', digest, { from, isReadable })).toBe(false);
    await expect(hosted.blobs.head('local/app', digest)).rejects.toMatchObject(unknown);
  });

  test('of a blob that is nowhere has to be followed by an upload', async () => {
    const nowhere = digestOf(randomBytes(5));
    expect(await hosted.blobs.mount('local/app', nowhere, { from: 'local/source', ...everyone })).toBe(false);
  });

  test('needs nothing where the blob is in the repository already', async () => {
    expect(await hosted.blobs.mount('local/source', digest, { isReadable: () => false })).toBe(true);
  });

  test('does not take the bytes of a manifest for a blob', async () => {
    const pushed = await pushSmall(hosted, 'local/source', 'a');
    expect(await hosted.blobs.mount('local/app', pushed.digest, everyone)).toBe(false);
    await expect(hosted.blobs.head('local/source', pushed.digest)).rejects.toMatchObject(unknown);
  });

  test('refuses an invalid name', async () => {
    await expect(hosted.blobs.mount('A', digest, everyone)).rejects.toMatchObject({ code: 'NAME_INVALID' });
  });
});

describe('deleting a blob', () => {
  test('takes it from one repository, and its bytes with the last', async () => {
    await pushBlob(hosted, 'local/app', content);
    await hosted.blobs.mount('local/other', digest, everyone);
    await hosted.blobs.delete('local/app', digest);
    await expect(hosted.blobs.head('local/app', digest)).rejects.toMatchObject(unknown);
    expect(content.equals(await readBlob(hosted, 'local/other', digest))).toBe(true);
    await hosted.blobs.delete('local/other', digest);
    expect(await place.inventory()).toEqual([]);
  });

  test('keeps the bytes that a manifest has, too', async () => {
    const { raw, digest: manifest } = await pushSmall(hosted, 'local/app', 'a');
    await pushBlob(hosted, 'local/app', raw);
    await hosted.blobs.delete('local/app', manifest);
    expect((await hosted.manifests.get('local/app', manifest)).raw).toEqual(Buffer.from(raw));
    await pushBlob(hosted, 'local/app', raw);
    await hosted.manifests.delete('local/app', manifest);
    expect(await readBlob(hosted, 'local/app', manifest)).toEqual(new Uint8Array(raw));
  });

  test('is refused while a manifest of the repository refers to it, and done after that', async () => {
    const pushed = await pushSmall(hosted, 'local/app', 'a');
    await pushBlob(hosted, 'local/app', content);
    for (const needed of [pushed.layer, pushed.config]) {
      await expect(hosted.blobs.delete('local/app', needed)).rejects.toMatchObject({
        code: 'UNSUPPORTED',
        status: 405,
        message: expect.stringContaining(pushed.digest),
      });
    }
    await hosted.blobs.delete('local/app', digest);
    await hosted.manifests.delete('local/app', pushed.digest);
    await hosted.blobs.delete('local/app', pushed.layer);
    await hosted.blobs.delete('local/app', pushed.config);
    expect(await place.inventory()).toEqual([]);
  });

  test('is not held up by a manifest of another repository', async () => {
    const pushed = await pushSmall(hosted, 'local/app', 'a');
    await hosted.blobs.mount('local/other', pushed.layer, everyone);
    await hosted.blobs.delete('local/other', pushed.layer);
    expect(await hosted.blobs.head('local/app', pushed.layer)).toBeDefined();
  });

  test('is unknown for what is not there, and twice', async () => {
    await expect(hosted.blobs.delete('local/app', digest)).rejects.toMatchObject(unknown);
    await pushBlob(hosted, 'local/app', content);
    await hosted.blobs.delete('local/app', digest);
    await expect(hosted.blobs.delete('local/app', digest)).rejects.toMatchObject(unknown);
  });

  test('may be switched off', async () => {
    hosted = await place.open({ deletes: { tags: true, manifests: true, blobs: false } });
    await pushBlob(hosted, 'local/app', content);
    await expect(hosted.blobs.delete('local/app', digest)).rejects.toMatchObject({ code: 'UNSUPPORTED', status: 405 });
    expect(await hosted.blobs.head('local/app', digest)).toEqual({ size: 2048 });
  });
});
