// The link journal: what it says is what the records say, whatever happens in between, and it never stands in the way of a push.
import { appendFile, mkdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createUploadFiles } from '../../../src/content/upload-files.ts';
import { type LinkJournal, openLinkJournal, readLinkJournal } from '../../../src/hosted/repair/link-journal.ts';
import { createHostedRepositories } from '../../../src/hosted/repositories.ts';
import { createHostedStore } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { bytes, createPlace, type Place, pushBlob, pushSmall } from '../fixture.ts';

let place: Place;
let path: string;
let journal: LinkJournal;

beforeEach(async () => {
  place = await createPlace();
  path = join(place.directory, 'links.jsonl');
  journal = open();
});

afterEach(async () => {
  await journal.close();
  await place.remove();
});

function open(): LinkJournal {
  return openLinkJournal({ directory: place.directory, records: place.records, now: () => new Date() });
}

async function openHosted() {
  const stores = { content: place.content, records: journal.records, memory: createMemory() };
  const store = createHostedStore({ ...stores, now: () => new Date() });
  return createHostedRepositories(store, await createUploadFiles(place));
}

const WHAT = { 'hosted.blob': 'blobs', 'hosted.manifest': 'manifests', 'hosted.tag': 'tags' } as const;

/** That it has each record of links, without what bytes tell, and no other. */
async function expectSame(): Promise<void> {
  const journaled = await readLinkJournal(place.directory);
  for (const [collection, name] of Object.entries(WHAT)) {
    const recorded = (await place.records.entries(collection, { limit: 1e6 })).map(({ key, value }) => {
      const { size, references: _, subject: __, ...rest } = JSON.parse(Buffer.from(value).toString());
      return [key, name === 'blobs' ? { size, ...rest } : rest];
    });
    const said = [...(journaled?.[name as 'blobs'] ?? [])].filter(([, { value }]) => value);
    expect(Object.fromEntries(said.map(([key, { value }]) => [key, value]))).toEqual(Object.fromEntries(recorded));
  }
}

describe('it says what the records say', () => {
  test('of pushes, moved tags, mounts and deletions', async () => {
    const hosted = await openHosted();
    const a = await pushSmall(hosted, 'local/app', 'a', { tags: ['1', 'latest'] });
    const b = await pushSmall(hosted, 'local/app', 'b', { tags: ['latest'] });
    await hosted.blobs.mount('local/other', a.layer, { isReadable: () => true });
    await expectSame();
    await hosted.tags.delete('local/app', 'latest');
    await hosted.manifests.delete('local/app', a.digest);
    await hosted.blobs.delete('local/app', a.layer);
    await expectSame();
    const said = await readLinkJournal(place.directory);
    expect(said?.tags.get('local/app:1')).toMatchObject({ goneAt: expect.any(String) });
    expect(said?.manifests.get(`local/app@${b.digest}`)?.value).toMatchObject({ untaggedAt: expect.any(String) });
  });

  test('of several processes, also after one of them has rewritten it', async () => {
    const { locks } = place.records;
    const records = { ...place.records, locks: { ...locks, areShared: true } };
    const [one, two] = [0, 1].map(() =>
      openLinkJournal({ directory: place.directory, records, now: () => new Date() }),
    );
    for (const [at, own] of [one, two, one, two].entries()) {
      const stores = { content: place.content, records: own?.records ?? records, memory: createMemory() };
      const hosted = createHostedRepositories(
        createHostedStore({ ...stores, now: () => new Date() }),
        await createUploadFiles(place),
      );
      await pushSmall(hosted, 'local/app', `image ${at}`, { tags: [`${at}`, 'latest'] });
      if (at === 1) await two?.rewrite();
    }
    await expectSame();
    await Promise.all([one?.close(), two?.close()]);
  });

  test('is not written where several machines share the records', async () => {
    await rm(path, { force: true });
    const unwritten = openLinkJournal({
      directory: place.directory,
      records: place.records,
      now: () => new Date(),
      isWritten: false,
    });
    await unwritten.records.put('hosted.tag', 'local/app:1', Buffer.from('{}'));
    await unwritten.rewrite();
    expect(await stat(path).catch(() => undefined)).toBeUndefined();
  });

  test('over restarts, of records that are older than it, and where it was deleted', async () => {
    await pushSmall(await openHosted(), 'local/app', 'a', { tags: ['1'] });
    await journal.close();
    await rm(path);
    journal = open();
    await pushSmall(await openHosted(), 'local/app', 'b', { tags: ['2'] });
    await journal.sweep();
    await expectSame();
    journal = open();
    await pushSmall(await openHosted(), 'local/app', 'c', { tags: ['1'] });
    await expectSame();
  });

  test('while it is written again', async () => {
    const hosted = await openHosted();
    const pushing = [0, 1, 2].map(async worker => {
      for (let at = 0; at < 20; at += 1) {
        const { digest } = await pushSmall(hosted, 'local/app', `${worker} ${at}`, { tags: [`${worker}`] });
        if (at % 3 === 0) await hosted.manifests.delete('local/app', digest);
      }
    });
    for (let at = 0; at < 20; at += 1) await journal.rewrite();
    await Promise.all(pushing);
    await expectSame();
  });
});

test('it is written again once after a start, and when most of it is of the past', async () => {
  const put = (at: number) => {
    const value = Buffer.from(JSON.stringify({ size: at, pushedAt: '2030-01-01T00:00:00.000Z' }));
    return journal.records.put('hosted.blob', `local/app@sha256:${'0'.repeat(64)}`, value);
  };
  const size = async () => (await stat(path)).size;
  for (let at = 0; at < 100; at += 1) await put(at);
  await journal.sweep();
  expect(await size()).toBeLessThan(300);
  for (let at = 0; at < 100; at += 1) await put(at);
  const grown = await size();
  await journal.sweep();
  expect(await size()).toBe(grown);
  await appendFile(path, `\n${'x'.repeat(2 * 1024 * 1024)}`);
  await journal.sweep();
  expect(await size()).toBeLessThan(300);
  await expectSame();
});

test('a line that was cut or is damaged is left out, and spoils no other', async () => {
  await pushSmall(await openHosted(), 'local/app', 'a', { tags: ['1'] });
  await journal.close();
  await truncate(path, (await stat(path)).size - 5);
  await appendFile(path, '\nno JSON\n{"collection":"hosted.tag","key":"local/app:9","value":{"digest":"none"}}');
  journal = open();
  await pushBlob(await openHosted(), 'local/app', bytes('later'));
  expect(await readLinkJournal(place.directory)).toMatchObject({ damaged: 3 });
  expect((await readLinkJournal(place.directory))?.blobs.size).toBe(3);
});

test('a disk that does not take it fails no push, and what it lacks comes with the next sweep', async () => {
  await mkdir(path);
  await pushSmall(await openHosted(), 'local/app', 'a', { tags: ['1'] });
  await expect(journal.sweep()).rejects.toThrow();
  await rm(path, { recursive: true });
  await journal.sweep();
  await expectSame();
});

test('it leases nothing but links, and a record of an unknown shape is left out', async () => {
  await journal.records.put('token', 'secret', bytes('{"secret":"hush"}'));
  await journal.records.put('hosted.tag', 'local/app:odd', bytes('{"of":"another release"}'));
  await pushSmall(await openHosted(), 'local/app', 'a', { tags: ['1'] });
  await journal.sweep();
  const text = await readFile(path, 'utf8');
  expect(text).not.toContain('hush');
  expect(text).not.toContain('odd');
  expect((await stat(path)).mode & 0o077).toBe(0);
});

test('there is none where there was none', async () => {
  expect(await readLinkJournal(place.directory)).toBeUndefined();
});
