// Crashes: what was acknowledged is there after a restart, and a collection removes what was not.
import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createUploadFiles } from '../../src/content/upload-files.ts';
import type { HostedRepositories } from '../../src/hosted/repositories.ts';
import { digestOf, parseDigest } from '../../src/oci/digest.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { audit } from './audit.ts';
import {
  bytes,
  chunk,
  createPlace,
  type Parts,
  type Place,
  pushBlob,
  pushSmall,
  putManifest,
  readBlob,
} from './fixture.ts';

let place: Place;
const content = bytes('some content');
const digest = digestOf(content);
const DAY = 24 * 3600 * 1000;

beforeEach(async () => {
  place = await createPlace(directory => createSqliteStore({ path: join(directory, 'records.db') }));
});

afterEach(() => place.remove());

/** Runs `work` until it calls `stopAt`, and never continues from there: the process is dead for all that the disk can tell. */
async function crash(
  stopAt: (stop: () => Promise<never>) => Partial<Parts>,
  work: (hosted: HostedRepositories) => Promise<unknown>,
) {
  const stopped = Promise.withResolvers<void>();
  const parts = stopAt(() => {
    stopped.resolve();
    return new Promise<never>(() => {});
  });
  const hosted = await place.open({}, parts);
  void work(hosted);
  await stopped.promise;
}

const noWrite = (stop: () => Promise<never>) => ({ records: { ...place.records, write: stop } });

async function expectSweptClean(): Promise<void> {
  const hosted = await place.open();
  await hosted.expireUploads();
  await place.collect();
  place.advance(DAY + 60_000);
  await hosted.expireUploads();
  await audit(place);
}

describe('a crash', () => {
  test('after a blob was moved to its place, and before it was linked, leaves nothing', async () => {
    await crash(noWrite, hosted => pushBlob(hosted, 'local/app', content));
    expect(await place.inventory()).toEqual([digest]);
    const hosted = await place.open();
    await expect(hosted.blobs.head('local/app', digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(await hosted.blobs.mount('local/app', digest, { isReadable: () => true })).toBe(false);
    await expectSweptClean();
    expect(await place.inventory()).toEqual([]);
  });

  test('there does not keep the blob from being pushed again', async () => {
    await crash(noWrite, hosted => pushBlob(hosted, 'local/app', content));
    const hosted = await place.open();
    await pushBlob(hosted, 'local/app', content);
    await expectSweptClean();
    expect(Buffer.from(await readBlob(hosted, 'local/app', digest)).equals(content)).toBe(true);
  });

  test('after the bytes of a manifest were kept, and before it was linked, leaves nothing', async () => {
    const hosted = await place.open();
    const { raw } = await pushSmall(hosted, 'local/app', 'a', { tags: ['a'] });
    const next = Buffer.concat([raw, bytes(' ')]);
    await crash(noWrite, again => putManifest(again, 'local/app', next, { tags: ['a', 'b'] }));
    expect(await place.inventory()).toContain(digestOf(next));
    const after = await place.open();
    expect(await after.tags.resolve('local/app', 'a')).toBe(digestOf(raw));
    await expectSweptClean();
    expect(await place.inventory()).not.toContain(digestOf(next));
  });

  test('after a blob was unlinked, and before its bytes were deleted, leaves nothing', async () => {
    await pushBlob(await place.open(), 'local/app', content);
    const noDelete = (stop: () => Promise<never>) => ({ content: { ...place.content, delete: stop } });
    await crash(noDelete, hosted => hosted.blobs.delete('local/app', digest));
    expect(await place.inventory()).toEqual([digest]);
    await expectSweptClean();
    expect(await place.inventory()).toEqual([]);
  });

  test('after a file was made, and before its session was recorded, leaves nothing', async () => {
    const noPut = (stop: () => Promise<never>) => ({ records: { ...place.records, put: stop } });
    await crash(noPut, hosted => hosted.uploads.start('local/app'));
    expect(await readdir(join(place.directory, 'drafts'))).toHaveLength(1);
    await expectSweptClean();
    expect(await readdir(join(place.directory, 'drafts'))).toEqual([]);
  });

  test('in the middle of an upload leaves the upload, for as long as its time-out', async () => {
    const before = await place.open();
    const { id } = await before.uploads.start('local/app');
    await before.uploads.append('local/app', id, chunk(content.subarray(0, 5)));
    const hosted = await place.open();
    await hosted.expireUploads();
    await hosted.uploads.finish('local/app', id, digest, chunk(content.subarray(5), 5));
    await expectSweptClean();
    expect(await place.inventory()).toEqual([digest]);
  });
});

test('upload files are found again by anyone who opens the directory', async () => {
  const { id } = await (await place.open()).uploads.start('local/app', { algorithm: 'sha512' });
  expect(await (await createUploadFiles(place)).list()).toEqual([id]);
});

test('what a killed process had acknowledged is there', async () => {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'pusher.ts'), place.directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const acknowledged: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged.push(line);
    if (acknowledged.length === 60) child.kill('SIGKILL');
  }
  const hosted = await place.open();
  for (const line of acknowledged) {
    const [kind, digest = ''] = line.split(' ');
    if (kind === 'blob') await readBlob(hosted, 'local/app', parseDigest(digest));
    else expect((await hosted.manifests.get('local/app', parseDigest(digest))).kind).toBe('image');
  }
  expect(acknowledged.length).toBeGreaterThanOrEqual(60);
  await expectSweptClean();
});
