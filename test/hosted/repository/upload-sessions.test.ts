// Upload sessions: one writer at a time, a time-out, and many of them.
import { randomBytes } from 'node:crypto';
import { readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { chunk, createBody, createPlace, type Place, readBlob } from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;
const content = randomBytes(300_000);
const digest = digestOf(content);
const HOUR = 3600 * 1000;
const DAY = 24 * HOUR;

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

const uploadFiles = () => readdir(join(place.directory, 'drafts'));
const start = async () => (await hosted.uploads.start('local/app')).id;

test('lets one writer at a time into a session: the next one waits, and has its range checked then', async () => {
  const id = await start();
  const body = createBody();
  const first = hosted.uploads.append('local/app', id, { body: body.stream });
  body.send(content.subarray(0, 1000));
  const again = hosted.uploads.append('local/app', id, chunk(content.subarray(0, 1000), 0));
  const refused = expect(again).rejects.toMatchObject({ code: 'RANGE_INVALID', detail: { size: 2000 } });
  const next = hosted.uploads.append('local/app', id, chunk(content.subarray(2000), 2000));
  const status = hosted.uploads.get('local/app', id);
  body.send(content.subarray(1000, 2000));
  body.end();
  expect(await first).toEqual({ id, size: 2000 });
  await refused;
  expect(await next).toEqual({ id, size: 300_000 });
  expect(await status).toEqual({ id, size: 300_000 });
  await hosted.uploads.finish('local/app', id, digest);
});

test('two sessions of one blob end well at once, and its content is there once', async () => {
  const ids = await Promise.all(Array.from({ length: 8 }, () => start()));
  await Promise.all(ids.map(id => hosted.uploads.finish('local/app', id, digest, chunk(content))));
  expect(content.equals(await readBlob(hosted, 'local/app', digest))).toBe(true);
  expect(await place.inventory()).toEqual([digest]);
});

describe('a sweep', () => {
  /** As if its last bytes had come so long before now, by the clock of the disk. */
  const age = (id: string, ms: number) =>
    utimes(join(place.directory, 'drafts', id), new Date(), new Date(Date.now() - ms));

  test('removes an upload that got no bytes for longer than the time-out, and no other', async () => {
    const [old, fresh] = [await start(), await start()];
    await hosted.uploads.append('local/app', old, chunk(content));
    place.advance(DAY + 1000);
    await age(fresh, -60_000);
    await hosted.expireUploads();
    await expect(hosted.uploads.get('local/app', old)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    expect(await hosted.uploads.get('local/app', fresh)).toEqual({ id: fresh, size: 0 });
    expect(await uploadFiles()).toEqual([fresh]);
    expect(await place.records.list('hosted.upload', { limit: 10 })).toEqual([fresh]);
  });

  test('keeps to the time-out that was asked for', async () => {
    hosted = await place.open({ uploadTimeoutMs: HOUR });
    await start();
    await hosted.expireUploads();
    expect(await uploadFiles()).toHaveLength(1);
    place.advance(2 * HOUR);
    await hosted.expireUploads();
    expect(await uploadFiles()).toEqual([]);
  });

  test('leaves an upload alone whose bytes came while the clock was years behind', async () => {
    const id = await start();
    await hosted.uploads.append('local/app', id, chunk(content.subarray(0, 1000)));
    await age(id, 50 * 365 * DAY);
    await hosted.expireUploads();
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 1000 });
  });

  test('leaves an upload alone that is being written', async () => {
    const id = await start();
    const body = createBody();
    const running = hosted.uploads.append('local/app', id, { body: body.stream });
    await age(id, 2 * DAY);
    place.advance(2 * DAY);
    await hosted.expireUploads();
    body.send(content);
    body.end();
    expect(await running).toEqual({ id, size: 300_000 });
  });
});

test('keeps going with more sessions than it leases hashes of', async () => {
  hosted = await place.open({ maxUploads: 2_000 });
  const id = await start();
  await hosted.uploads.append('local/app', id, chunk(content.subarray(0, 1000)));
  for (let i = 0; i < 1001; i++) await start();
  await hosted.uploads.finish('local/app', id, digest, chunk(content.subarray(1000), 1000));
  expect(await hosted.blobs.head('local/app', digest)).toEqual({ size: 300_000 });
});

describe('an upload that has just begun', () => {
  const recorded = () => place.records.list('hosted.upload', { limit: 10 });

  beforeEach(async () => {
    hosted = await place.open({ keepUploadsAfterMs: DAY });
  });

  test('ends with its next request, and had neither a record nor a file', async () => {
    const id = await start();
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 0 });
    expect([await recorded(), await uploadFiles()]).toEqual([[], []]);
    await hosted.uploads.finish('local/app', id, digest, chunk(content));
    expect(content.equals(await readBlob(hosted, 'local/app', digest))).toBe(true);
    await expect(hosted.uploads.get('local/app', id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    expect([await recorded(), await uploadFiles()]).toEqual([[], []]);
  });

  test('is cancelled, and belongs to its repository alone', async () => {
    const id = await start();
    const unknown = { code: 'BLOB_UPLOAD_UNKNOWN' };
    await expect(hosted.uploads.get('local/other', id)).rejects.toMatchObject(unknown);
    await hosted.uploads.cancel('local/app', id);
    await expect(hosted.uploads.get('local/app', id)).rejects.toMatchObject(unknown);
  });

  test('survives a crash once it has bytes that were acknowledged', async () => {
    const id = await start();
    await hosted.uploads.append('local/app', id, chunk(content.subarray(0, 1000)));
    hosted = await place.open();
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 1000 });
  });

  test('survives a crash while it takes a large blob', async () => {
    const id = await start();
    const body = createBody();
    const sending = hosted.uploads.finish('local/app', id, digest, { body: body.stream });
    await expect.poll(recorded).toEqual([id]);
    body.send(content);
    body.end();
    await sending;
    expect(await recorded()).toEqual([]);
  });

  test('keeps what came of a small blob before its client broke off', async () => {
    const id = await start();
    async function* breakOff() {
      yield content.subarray(0, 1000);
      throw new Error('the client has left');
    }
    const sending = hosted.uploads.finish('local/app', id, digest, { body: breakOff(), size: content.byteLength });
    await expect(sending).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
    await hosted.close();
    hosted = await place.open();
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 1000 });
    await hosted.uploads.finish('local/app', id, digest, chunk(content.subarray(1000), 1000));
  });

  test('survives a stop', async () => {
    const id = await start();
    await hosted.close();
    hosted = await place.open();
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 0 });
  });

  test('survives a crash after a moment', async () => {
    hosted = await place.open({ keepUploadsAfterMs: 1 });
    const id = await start();
    await expect.poll(recorded).toEqual([id]);
    hosted = await place.open();
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 0 });
  });

  test('counts among those of its repository', async () => {
    hosted = await place.open({ keepUploadsAfterMs: DAY, maxUploads: 1 });
    const id = await start();
    await expect(start()).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
    await hosted.uploads.finish('local/app', id, digest, chunk(content));
    await start();
  });
});

describe('a repository with as many uploads as it may have', () => {
  const tooMany = { code: 'TOOMANYREQUESTS', message: expect.stringContaining('local/app has 2 uploads in progress') };
  let ids: readonly string[];

  beforeEach(async () => {
    hosted = await place.open({ maxUploads: 2 });
    ids = [await start(), await start()];
  });

  test('begins no other, leaves nothing of it, and stands in the way of no other repository', async () => {
    await expect(start()).rejects.toMatchObject(tooMany);
    expect(await uploadFiles()).toHaveLength(2);
    expect(await hosted.uploads.start('local/other')).toMatchObject({ size: 0 });
  });

  test('begins no other after a restart either', async () => {
    hosted = await place.open({ maxUploads: 2 });
    await expect(start()).rejects.toMatchObject(tooMany);
  });

  test('begins no more than that at once', async () => {
    await hosted.uploads.cancel('local/app', ids[0] ?? '');
    const results = await Promise.allSettled(Array.from({ length: 5 }, start));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  test.each<[string, (id: string) => Promise<void>]>([
    ['finished', id => hosted.uploads.finish('local/app', id, digest, chunk(content))],
    ['cancelled', id => hosted.uploads.cancel('local/app', id)],
    ['spoilt', id => hosted.uploads.finish('local/app', id, digest, chunk(content.subarray(1))).catch(() => {})],
    [
      'timed out',
      async id => {
        const later = new Date(Date.now() + 2 * DAY);
        for (const other of ids) if (other !== id) await utimes(join(place.directory, 'drafts', other), later, later);
        place.advance(2 * DAY);
        await hosted.expireUploads();
      },
    ],
  ])('begins one again when one is %s', async (_, end) => {
    await end(ids[0] ?? '');
    await start();
    await expect(start()).rejects.toMatchObject(tooMany);
  });
});
