// Uploads: every way that distribution-spec knows to push a blob, and the ways it goes wrong.
import { randomBytes, randomUUID } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BLOBS } from '../../../src/hosted/records.ts';
import type { HostedRepositories } from '../../../src/hosted/repositories.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { type RecordStore, RecordStoreAway } from '../../../src/state/store.ts';
import { bytes, chunk, createBody, createPlace, type Place, pushBlob, readBlob } from '../fixture.ts';

let place: Place;
let hosted: HostedRepositories;
const content = randomBytes(300_000);
const digest = digestOf(content);

beforeEach(async () => {
  place = await createPlace();
  hosted = await place.open();
});

afterEach(() => place.remove());

const uploadFiles = () => readdir(join(place.directory, 'drafts'));
const start = async (algorithm?: 'sha256' | 'sha512') => (await hosted.uploads.start('local/app', { algorithm })).id;

describe.each(['sha256', 'sha512'] as const)('a blob of %s is pushed', algorithm => {
  const wanted = digestOf(content, algorithm);

  afterEach(async () => {
    expect(content.equals(await readBlob(hosted, 'local/app', wanted))).toBe(true);
    expect(await uploadFiles()).toEqual([]);
  });

  test('in one piece, with or without the algorithm announced', async () => {
    await hosted.uploads.finish('local/app', await start(), wanted, chunk(content));
    await hosted.uploads.finish('local/app', await start(algorithm), wanted, chunk(content));
  });

  test('as a stream, then closed', async () => {
    const id = await start();
    expect(await hosted.uploads.append('local/app', id, chunk(content))).toEqual({ id, size: 300_000 });
    await hosted.uploads.finish('local/app', id, wanted);
  });

  test('in chunks', async () => {
    const id = await start();
    for (const at of [0, 100_000, 200_000]) {
      const { size } = await hosted.uploads.append('local/app', id, chunk(content.subarray(at, at + 100_000), at));
      expect(size).toBe(at + 100_000);
    }
    await hosted.uploads.finish('local/app', id, wanted);
  });

  test('in chunks, the last of them with the close', async () => {
    const id = await start();
    await hosted.uploads.append('local/app', id, chunk(content.subarray(0, 100_000), 0));
    await hosted.uploads.finish('local/app', id, wanted, chunk(content.subarray(100_000), 100_000));
  });

  test('in chunks, after some that were out of order', async () => {
    const id = await start();
    const outOfOrder = { code: 'RANGE_INVALID', status: 416 };
    await expect(hosted.uploads.append('local/app', id, chunk(content.subarray(9), 9))).rejects.toMatchObject(
      outOfOrder,
    );
    await hosted.uploads.append('local/app', id, chunk(content.subarray(0, 1000), 0));
    await expect(hosted.uploads.append('local/app', id, chunk(content.subarray(0, 1000), 0))).rejects.toMatchObject(
      outOfOrder,
    );
    await expect(hosted.uploads.finish('local/app', id, wanted, chunk(content, 0))).rejects.toMatchObject(outOfOrder);
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 1000 });
    await hosted.uploads.finish('local/app', id, wanted, chunk(content.subarray(1000), 1000));
  });

  test('over two restarts', async () => {
    const id = await start(algorithm);
    await hosted.uploads.append('local/app', id, chunk(content.subarray(0, 1000)));
    hosted = await place.open();
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 1000 });
    await hosted.uploads.append('local/app', id, chunk(content.subarray(1000, 2000), 1000));
    hosted = await place.open();
    await hosted.uploads.finish('local/app', id, wanted, chunk(content.subarray(2000)));
  });

  test('on, after its body broke off', async () => {
    const id = await start(algorithm);
    const body = createBody();
    const broken = hosted.uploads.append('local/app', id, { body: body.stream });
    body.send(content.subarray(0, 1000));
    const refused = expect(broken).rejects.toMatchObject({ code: 'BLOB_UPLOAD_INVALID' });
    await hosted.blobs.head('local/app', wanted).catch(() => {});
    body.fail(new Error('reset'));
    await refused;
    const { size } = await hosted.uploads.get('local/app', id);
    await hosted.uploads.finish('local/app', id, wanted, chunk(content.subarray(size), size));
  });

  test('twice, to the same end', async () => {
    await pushBlob(hosted, 'local/app', content, wanted);
    await pushBlob(hosted, 'local/app', content, wanted);
  });
});

test.each([
  ['an empty blob', ''],
  ['the empty JSON', '{}'],
])('pushes %s', async (_, text) => {
  const pushed = await pushBlob(hosted, 'local/app', bytes(text));
  expect(await hosted.blobs.head('local/app', pushed)).toEqual({ size: text.length });
  expect(await readBlob(hosted, 'local/app', pushed)).toEqual(bytes(text));
});

describe('other bytes than the digest says are refused, and nothing of them stays', () => {
  const lie = Buffer.concat([content, bytes('oh no')]);
  const refused = { code: 'DIGEST_INVALID', status: 400 };

  test.each([
    ['in one piece', async (id: string) => hosted.uploads.finish('local/app', id, digest, chunk(lie))],
    [
      'after a stream',
      async (id: string) => {
        await hosted.uploads.append('local/app', id, chunk(lie));
        await hosted.uploads.finish('local/app', id, digest);
      },
    ],
    [
      'after a chunk, the last with the close',
      async (id: string) => {
        await hosted.uploads.append('local/app', id, chunk(lie.subarray(0, 1000), 0));
        await hosted.uploads.finish('local/app', id, digest, chunk(lie.subarray(1000), 1000));
      },
    ],
    [
      'of another algorithm',
      async (id: string) => hosted.uploads.finish('local/app', id, digestOf(content, 'sha512'), chunk(lie)),
    ],
    ['with no bytes at all', async (id: string) => hosted.uploads.finish('local/app', id, digest)],
  ])('%s', async (_, push) => {
    const id = await start();
    await expect(push(id)).rejects.toMatchObject(refused);
    await expect(hosted.uploads.get('local/app', id)).rejects.toMatchObject({
      code: 'BLOB_UPLOAD_UNKNOWN',
      status: 404,
    });
    await expect(hosted.blobs.head('local/app', digest)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(await uploadFiles()).toEqual([]);
    expect(await place.inventory()).toEqual([]);
    expect(await place.records.list('hosted.upload', { limit: 10 })).toEqual([]);
  });
});

describe('a body of another length than its range', () => {
  test.each([
    ['is refused when it is shorter', 99],
    ['is refused when it is longer, before more is taken', 101],
  ])('%s', async (_, length) => {
    const id = await start();
    const { body } = chunk(content.subarray(0, length));
    const sent = hosted.uploads.append('local/app', id, { body, range: { start: 0, end: 99 } });
    await expect(sent).rejects.toMatchObject({ code: 'SIZE_INVALID', status: 400 });
    expect(body.locked).toBe(false);
    const { size } = await hosted.uploads.get('local/app', id);
    expect(size).toBe(length < 100 ? length : 0);
    await hosted.uploads.finish('local/app', id, digest, chunk(content.subarray(size), size));
  });
});

test('leaves a refused body unread and unlocked, for the caller to drain', async () => {
  const id = await start();
  const { body } = chunk(content);
  await expect(hosted.uploads.append('local/app', id, { body, range: { start: 5, end: 300_004 } })).rejects.toThrow();
  expect(body.locked).toBe(false);
  expect((await new Response(body).arrayBuffer()).byteLength).toBe(300_000);
});

test.each([
  ['an id that was never given out', randomUUID()],
  ['an id that is no UUID', 'x'],
  ['an id that is a path', '../records.db'],
  ['no id', ''],
])('knows no upload of %s', async (_, id) => {
  const unknown = { code: 'BLOB_UPLOAD_UNKNOWN' };
  await expect(hosted.uploads.get('local/app', id)).rejects.toMatchObject(unknown);
  await expect(hosted.uploads.append('local/app', id, chunk(content))).rejects.toMatchObject(unknown);
  await expect(hosted.uploads.finish('local/app', id, digest, chunk(content))).rejects.toMatchObject(unknown);
  await expect(hosted.uploads.cancel('local/app', id)).rejects.toMatchObject(unknown);
});

test('does not know the uploads of another repository', async () => {
  const id = await start();
  const unknown = { code: 'BLOB_UPLOAD_UNKNOWN' };
  await expect(hosted.uploads.get('local/other', id)).rejects.toMatchObject(unknown);
  await expect(hosted.uploads.finish('local/other', id, digest, chunk(content))).rejects.toMatchObject(unknown);
  await expect(hosted.uploads.cancel('local/other', id)).rejects.toMatchObject(unknown);
  await hosted.uploads.finish('local/app', id, digest, chunk(content));
});

test.each(['Local/app', 'local//app', 'a@b', 'a:b', '', 'a'.repeat(256)])(
  'refuses to push to the name "%s"',
  async name => {
    await expect(hosted.uploads.start(name)).rejects.toMatchObject({ code: 'NAME_INVALID', status: 400 });
  },
);

test('ends a cancelled upload', async () => {
  const id = await start();
  await hosted.uploads.append('local/app', id, chunk(content));
  await hosted.uploads.cancel('local/app', id);
  await expect(hosted.uploads.get('local/app', id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
  expect(await uploadFiles()).toEqual([]);
});

test('takes a body at the pace of the disk', async () => {
  const id = await start();
  let pulled = 0;
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        // All that was pulled before is on disk.
        expect((await stat(join(place.directory, 'drafts', id))).size).toBe(pulled * 300_000);
        pulled += 1;
        controller.enqueue(content);
        if (pulled === 20) controller.close();
      },
    },
    { highWaterMark: 0 },
  );
  expect(await hosted.uploads.append('local/app', id, { body })).toEqual({ id, size: 20 * 300_000 });
});

describe('the same last request succeeds once the records are back, after they went away when the bytes had become content', () => {
  /** The first write of the blob's link fails. */
  function awayOnce(records: RecordStore): RecordStore {
    let isAway = true;
    return {
      ...records,
      async write(changes, options) {
        if (isAway && changes.some(({ collection, kind }) => collection === BLOBS && kind === 'put')) {
          isAway = false;
          throw new RecordStoreAway('away');
        }
        await records.write(changes, options);
      },
    };
  }

  const small = content.subarray(0, 1_000);

  test.each([
    ['a small blob in one request', small, 0],
    ['a large blob in one request', content, 0],
    ['a blob whose bytes came before', content, content.byteLength],
    ['a blob of two chunks, the second one with the close', content, 100_000],
  ])('%s', async (_, blob, before) => {
    const flaky = await place.open({}, { records: awayOnce(place.records) });
    const { id } = await flaky.uploads.start('local/app');
    if (before > 0) await flaky.uploads.append('local/app', id, chunk(blob.subarray(0, before), 0));
    const last = () => (before < blob.byteLength ? chunk(blob.subarray(before), before) : undefined);
    const close = () => flaky.uploads.finish('local/app', id, digestOf(blob), last());
    await expect(close()).rejects.toThrow(RecordStoreAway);
    expect(await flaky.uploads.get('local/app', id)).toEqual({ id, size: before });
    await close();
    expect(Buffer.from(blob).equals(await readBlob(flaky, 'local/app', digestOf(blob)))).toBe(true);
    expect(await uploadFiles()).toEqual([]);
  });
});
