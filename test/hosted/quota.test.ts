// Quotas: how much repositories may hold, and what is said when they may not hold more.
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createQuota, type QuotaLimit } from '../../src/hosted/quota.ts';
import type { HostedRepositories } from '../../src/hosted/repositories.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { formatSize } from '../../src/oci/wording.ts';
import { audit } from './audit.ts';
import {
  bytes,
  chunk,
  createBody,
  createPlace,
  type Parts,
  type Place,
  pushBlob,
  pushSmall,
  putManifest,
} from './fixture.ts';
import { createRegistry } from './gc/fixture.ts';
import { expectUsageCounted } from './gc/history-checks.ts';

const everyone = { isReadable: () => true };
const local = { repositories: ['local/**'], maxBytes: 1000 };

let place: Place;
let hosted: HostedRepositories;

async function open(limits: readonly QuotaLimit[], parts: Partial<Parts> = {}) {
  const quota = await createQuota({ records: place.records, limits });
  hosted = await place.open({ quota }, parts);
}

const refusal = (message: string) => ({ code: 'DENIED', status: 403, message: expect.stringContaining(message) });

beforeEach(async () => {
  place = await createPlace();
  await open([local]);
});

afterEach(async () => {
  await expectUsageCounted(place.records);
  await place.remove();
});

describe('a quota', () => {
  test('is used up to its last byte, and not beyond', async () => {
    await pushBlob(hosted, 'local/a', randomBytes(600));
    await pushBlob(hosted, 'local/b', randomBytes(400));
    await expect(pushBlob(hosted, 'local/a', randomBytes(1))).rejects.toMatchObject({
      ...refusal(
        'the quota of local/** is too small: 1000 B of 1000 B are used, and this needs 1 B more. Delete what is no longer needed',
      ),
      detail: { quota: 'local/**', usedBytes: 1000, askedBytes: 1, maxBytes: 1000 },
    });
    expect(await place.inventory()).toHaveLength(2);
  });

  test('leases while uploads grow, all of them together, and gives back what ends', async () => {
    const grow = async (repository: string, size: number) => {
      const { id } = await hosted.uploads.start(repository);
      await hosted.uploads.append(repository, id, chunk(randomBytes(size)));
      return id;
    };
    const first = await grow('local/a', 500);
    await grow('local/b', 400);
    await expect(grow('local/c', 200)).rejects.toMatchObject(refusal('900 B of 1000 B are used'));
    await expect(pushBlob(hosted, 'local/c', randomBytes(101))).rejects.toMatchObject({ code: 'DENIED' });
    await pushBlob(hosted, 'local/c', randomBytes(100));
    await hosted.uploads.cancel('local/a', first);
    await grow('local/c', 500);
    await expect(grow('local/c', 1)).rejects.toMatchObject({ code: 'DENIED' });
  });

  test('writes nothing at a start where nothing is hosted', async () => {
    const written: unknown[] = [];
    const records = {
      ...place.records,
      async write(...args: Parameters<typeof place.records.write>) {
        written.push(args);
        await place.records.write(...args);
      },
    };
    await createQuota({ records, limits: [local] });
    expect(written).toEqual([]);
  });

  test('counts manifests too, and lets tags move when it is used up', async () => {
    const { raw, size } = await pushSmall(hosted, 'local/a', 'a', { tags: ['a'] });
    await pushBlob(hosted, 'local/a', randomBytes(1000 - size - 22));
    await expect(putManifest(hosted, 'local/a', bytes(`${Buffer.from(raw)} `))).rejects.toMatchObject(
      refusal(`${size + 1} B more`),
    );
    await putManifest(hosted, 'local/a', raw, { tags: ['b'] });
    expect((await hosted.tags.list('local/a', {})).tags).toEqual(['a', 'b']);
  });

  test('counts what a repository links once, and what two link twice', async () => {
    const content = randomBytes(450);
    for (let i = 0; i < 3; i++) await pushBlob(hosted, 'local/a', content).catch(() => {});
    expect(await hosted.blobs.mount('local/b', digestOf(content), everyone)).toBe(true);
    await expect(hosted.blobs.mount('local/c', digestOf(content), everyone)).rejects.toMatchObject(
      refusal('450 B more'),
    );
    expect(await hosted.blobs.mount('local/b', digestOf(content), everyone)).toBe(true);
  });

  test('gives back what is deleted', async () => {
    const digest = await pushBlob(hosted, 'local/a', randomBytes(900));
    await expect(pushBlob(hosted, 'local/a', randomBytes(200))).rejects.toMatchObject(refusal('200 B more'));
    await hosted.blobs.delete('local/a', digest);
    await pushBlob(hosted, 'local/a', randomBytes(1000));
  });

  test('gives back what is collected', async () => {
    const registry = await createRegistry();
    onTestFinished(registry.remove);
    const quota = await createQuota({ records: registry.place.records, limits: [local] });
    await registry.open({ graceMs: 0 }, { quota });
    await pushBlob(registry.hosted, 'local/a', randomBytes(900));
    await registry.collect();
    await pushBlob(registry.hosted, 'local/a', randomBytes(1000));
    await expectUsageCounted(registry.place.records);
  });

  test('is asked before a body is read, where its size is known', async () => {
    const { id } = await hosted.uploads.start('local/a');
    const unread = () =>
      new ReadableStream<Uint8Array>({ pull: () => expect.unreachable('the body is read') }, { highWaterMark: 0 });
    for (const promised of [{ range: { start: 0, end: 1000 } }, { size: 1001 }]) {
      const sending = hosted.uploads.append('local/a', id, { body: unread(), ...promised });
      await expect(sending).rejects.toMatchObject(refusal('1001 B more'));
    }
    expect(await hosted.uploads.get('local/a', id)).toEqual({ id, size: 0 });
  });

  test('is asked while a body comes in whose size is not known', async () => {
    const { id } = await hosted.uploads.start('local/a');
    const { stream, send } = createBody();
    const sending = hosted.uploads.append('local/a', id, { body: stream });
    send(randomBytes(700));
    send(randomBytes(700));
    await expect(sending).rejects.toMatchObject(refusal('1.4 KiB more'));
    expect((await hosted.uploads.get('local/a', id)).size).toBe(700);
  });

  test('is not overrun by uploads at the same time', async () => {
    const uploads = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const content = randomBytes(300);
        const { id } = await hosted.uploads.start('local/a');
        const isAdmitted = await hosted.uploads.append('local/a', id, chunk(content)).then(
          () => true,
          () => false,
        );
        return { id, digest: digestOf(content), isAdmitted };
      }),
    );
    const ends = await Promise.allSettled(
      uploads
        .filter(({ isAdmitted }) => isAdmitted)
        .map(({ id, digest }) => hosted.uploads.finish('local/a', id, digest)),
    );
    expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect(await place.inventory()).toHaveLength(3);
    await audit(place);
  });

  test('counts nothing of a push that failed', async () => {
    let fails = true;
    const write: Place['records']['write'] = changes =>
      fails ? Promise.reject(new Error('a disk of tears')) : place.records.write(changes);
    await open([local], { records: { ...place.records, write } });
    await expect(pushBlob(hosted, 'local/a', randomBytes(600))).rejects.toThrow('a disk of tears');
    fails = false;
    await pushBlob(hosted, 'local/a', randomBytes(1000));
  });

  test('is about the repositories that its patterns match', async () => {
    await open([{ repositories: ['local/team/**', 'local/one'], maxBytes: 100 }]);
    await pushBlob(hosted, 'local/team/a', randomBytes(60));
    await pushBlob(hosted, 'local/other', randomBytes(900));
    await expect(pushBlob(hosted, 'local/one', randomBytes(60))).rejects.toMatchObject(
      refusal('the quota of local/team/**, local/one'),
    );
  });

  test('is one of several that a repository has to keep', async () => {
    await open([local, { repositories: ['local/small/*'], maxBytes: 10 }]);
    await expect(pushBlob(hosted, 'local/small/a', randomBytes(11))).rejects.toMatchObject(refusal('local/small/*'));
    await pushBlob(hosted, 'local/big', randomBytes(995));
    await expect(pushBlob(hosted, 'local/small/a', randomBytes(10))).rejects.toMatchObject(refusal('local/**'));
  });
});

describe('after a restart', () => {
  test.each([
    ['the same quota', 1000],
    ['another quota', 1100],
  ])('%s counts what is there', async (_, maxBytes) => {
    await pushBlob(hosted, 'local/a', randomBytes(600));
    await pushBlob(hosted, 'local/b', randomBytes(300));
    await open([{ repositories: ['local/*'], maxBytes }]);
    await expect(pushBlob(hosted, 'local/c', randomBytes(201))).rejects.toMatchObject(refusal('900 B of'));
  });

  test('what came while there was no quota is counted', async () => {
    await open([]);
    await pushBlob(hosted, 'local/a', randomBytes(900));
    await open([local]);
    await expect(pushBlob(hosted, 'local/c', randomBytes(200))).rejects.toMatchObject(refusal('900 B of'));
  });

  test('what came before anything was counted is counted', async () => {
    hosted = await place.open();
    await pushBlob(hosted, 'local/a', randomBytes(500));
    await pushSmall(hosted, 'local/b', 'a');
    await open([local]);
    await expect(pushBlob(hosted, 'local/c', randomBytes(300))).rejects.toMatchObject(refusal('1000 B are used'));
  });

  test('a quota that is smaller than what is there keeps it, and takes no more', async () => {
    const digest = await pushBlob(hosted, 'local/a', randomBytes(900));
    await open([{ ...local, maxBytes: 100 }]);
    await expect(pushBlob(hosted, 'local/a', randomBytes(1))).rejects.toMatchObject(refusal('900 B of 100 B'));
    await pushBlob(hosted, 'local/a', new Uint8Array());
    expect(await hosted.blobs.head('local/a', digest)).toEqual({ size: 900 });
  });
});

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1024, '1 KiB'],
  [1536, '1.5 KiB'],
  [1024 * 1024 - 1, '1 MiB'],
  [10 * 1024 ** 3, '10 GiB'],
  [1.25 * 1024 ** 4, '1.3 TiB'],
  [5000 * 1024 ** 4, '5000 TiB'],
])('%d bytes are written %s', (size, text) => {
  expect(formatSize(size)).toBe(text);
});
