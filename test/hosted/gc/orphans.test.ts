// Content that no record names: it may be what a crash left, or all that is left of records that were lost. And records of content that is gone.
import { rm, utimes } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBlobFiles } from '../../../src/content/blob-files.ts';
import { createInventory } from '../../../src/content/inventory.ts';
import { createUploadFiles } from '../../../src/content/upload-files.ts';
import { createGarbageCollector } from '../../../src/hosted/gc/collector.ts';
import { GcRefused } from '../../../src/hosted/gc/orphans.ts';
import { createHostedRepositories } from '../../../src/hosted/repositories.ts';
import { createHostedStore } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { createProcessLocks } from '../../../src/state/locks.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { bytes, chunk, createPlace, type Place, pushBlob, pushSmall, readBlob } from '../fixture.ts';
import { createGate, InjectedFault } from '../gate.ts';
import { createMemoryEnvironment } from './environment.ts';
import { outcomeOf } from './fixture.ts';

const memory = createMemory();

const HOUR = 3600 * 1000;
const content = bytes('some content');
const digest = digestOf(content);

let place: Place;
let reason: string | undefined;
let now: () => Date;

beforeEach(async () => {
  place = await createPlace();
  reason = undefined;
  now = () => new Date();
});

afterEach(() => place.remove());

/** A store over what is on the disk, and over these records. */
async function open(records = place.records) {
  const { directory } = place;
  const store = createHostedStore({
    memory,
    content: place.content,
    records,
    now: () => now(),
    reasonToKeep: () => reason,
  });
  const collector = createGarbageCollector(store, { inventory: createInventory(directory) });
  return {
    hosted: createHostedRepositories(store, await createUploadFiles({ directory })),
    collect: collector.collect,
  };
}

async function age(hours: number): Promise<void> {
  const { pathOf } = createBlobFiles(place.directory);
  const time = new Date(Date.now() - hours * HOUR);
  for (const digest of await place.inventory()) await utimes(pathOf(digest), time, time);
}

async function push(images: number): Promise<void> {
  const { hosted } = await open();
  for (let at = 0; at < images; at += 1) await pushSmall(hosted, 'local/app', `${at}`, { tags: [`${at}`] });
}

describe('a file whose record is lost', () => {
  test('stays for the grace from its own time, whatever the records say', async () => {
    await push(1);
    const { collect } = await open(createMemoryStore());
    await age(23);
    expect((await collect()).orphans.blobs).toBe(0);
    expect(await place.inventory()).toHaveLength(3);
    await age(25);
    expect((await collect({ dryRun: true })).orphans.blobs).toBe(3);
    expect((await collect()).orphans.blobs).toBe(3);
    expect(await place.inventory()).toEqual([]);
  });

  test.each([true, false])('stays with all others where most would go, and that is said: dryRun %s', async dryRun => {
    await push(7);
    await age(48);
    const { hosted, collect } = await open(createMemoryStore());
    await pushSmall(hosted, 'local/new', 'new', { tags: ['new'] });
    await expect(collect({ dryRun })).rejects.toThrow(GcRefused);
    await expect(collect({ dryRun })).rejects.toThrow(
      /^nothing was collected: 21 of 24 files \(.+\) belong to no repository.*veneer repair.*--force$/,
    );
    expect(await place.inventory()).toHaveLength(24);
    expect((await collect({ dryRun, force: true })).orphans.blobs).toBe(21);
    expect(await place.inventory()).toHaveLength(dryRun ? 24 : 3);
  });

  test('goes without a word where it is one of a few, or most is linked', async () => {
    await push(8);
    for (let at = 0; at < 11; at += 1) await place.content.put(bytes(`left by a crash: ${at}`));
    await age(48);
    const { collect } = await open();
    expect((await collect()).orphans.blobs).toBe(11);
    expect(await place.inventory()).toHaveLength(24);
  });

  test.each(['whole', 'not whole'])('stays when a push of the same fails, and the records are %s', async condition => {
    await push(0);
    const before = await open();
    await pushBlob(before.hosted, 'local/app', content);
    reason = condition === 'whole' ? undefined : 'the records are older';
    const { hosted } = await open(createMemoryStore());
    const { id } = await hosted.uploads.start('local/app');
    const finished = hosted.uploads.finish('local/app', id, digest, chunk(bytes('other bytes')));
    await expect(finished).rejects.toMatchObject({ code: 'DIGEST_INVALID' });
    expect(Buffer.from(await readBlob(before.hosted, 'local/app', digest)).equals(content)).toBe(true);
  });
});

describe('what a run has unlinked and, as it died, not deleted', () => {
  const NEEDED = 3;
  const UNNEEDED = 12;

  /** Of a registry in memory, where a run would find that most of the content belongs to no repository. */
  async function createLitteredRegistry() {
    const environment = await createMemoryEnvironment();
    const open = (gate = createGate(undefined, {})) => {
      const { content, uploadFiles, records } = gate.around(environment);
      // They end with their process.
      const own = { ...records, locks: createProcessLocks() };
      const store = createHostedStore({ memory, content, records: own, now: () => new Date(environment.time) });
      return {
        hosted: createHostedRepositories(store, uploadFiles),
        collector: createGarbageCollector(store, { inventory: environment.files }),
      };
    };
    const { hosted } = open();
    await pushSmall(hosted, 'local/app', 'needed', { tags: ['needed'] });
    for (let at = 0; at < UNNEEDED; at += 1) await pushBlob(hosted, 'local/app', bytes(`unneeded ${at}`));
    environment.time += 48 * HOUR;
    return { environment, open };
  }

  test('is deleted by the next one, wherever it died, and however much of the content that is', async () => {
    let isDead = true;
    for (let crashAfter = 0; isDead; crashAfter += 1) {
      const { environment, open } = await createLitteredRegistry();
      const gate = createGate(undefined, { crashAfter });
      await gate.passAll([
        open(gate)
          .collector.collect()
          .then(() => {}),
      ]);
      isDead = gate.isDead();
      const { collector } = open();
      const rehearsed = await collector.collect({ dryRun: true });
      const report = await collector.collect();
      expect(outcomeOf(report)).toEqual(outcomeOf(rehearsed));
      expect(await environment.inventory()).toHaveLength(NEEDED);
      expect(await environment.records.list('hosted.removal', { limit: 10 })).toEqual([]);
      await environment.remove();
    }
  });

  /** A run that has unlinked all of it, and deletes nothing. */
  async function interrupt() {
    const { environment, open } = await createLitteredRegistry();
    const gate = createGate(undefined, { faultyWrites: Array.from({ length: UNNEEDED }, (_, at) => at + 1) });
    await expect(open(gate).collector.collect()).rejects.toThrow(InjectedFault);
    expect(await environment.inventory()).toHaveLength(NEEDED + UNNEEDED);
    return { environment, ...open() };
  }

  test('stays where it was pushed again since', async () => {
    const { environment, hosted, collector } = await interrupt();
    await pushBlob(hosted, 'local/other', bytes('unneeded 0'));
    expect(await collector.collect()).toMatchObject({ orphans: { blobs: UNNEEDED - 1 }, removed: { blobs: 0 } });
    expect(await environment.inventory()).toHaveLength(NEEDED + 1);
    await environment.remove();
  });

  test('is judged like all that no repository links where it was stored again since', async () => {
    const { environment, collector } = await interrupt();
    environment.time += HOUR;
    for (let at = 0; at < UNNEEDED; at += 1) await environment.content.put(bytes(`unneeded ${at}`));
    environment.time += 48 * HOUR;
    await expect(collector.collect()).rejects.toThrow(GcRefused);
    expect(await environment.inventory()).toHaveLength(NEEDED + UNNEEDED);
    await environment.remove();
  });
});

describe('content that the disk has lost', () => {
  const removeFile = (gone: Digest) => rm(createBlobFiles(place.directory).pathOf(gone));

  test('is reported as missing with the repositories that link it, until it is pushed again', async () => {
    await push(40);
    const { hosted, collect } = await open();
    expect((await collect()).missing).toEqual({ blobs: 0, bytes: 0, content: [] });
    await pushBlob(hosted, 'local/app', content);
    await pushBlob(hosted, 'local/other', content);
    await removeFile(digest);
    const missing = {
      blobs: 1,
      bytes: content.byteLength,
      content: [{ digest, size: content.byteLength, repositories: ['local/app', 'local/other'] }],
    };
    expect((await collect({ dryRun: true })).missing).toEqual(missing);
    expect((await collect()).missing).toEqual(missing);
    await pushBlob(hosted, 'local/other', content);
    expect((await collect()).missing.blobs).toBe(0);
  });

  test('is not reported once nobody needs it, and a dry run says so beforehand', async () => {
    const { hosted, collect } = await open();
    await pushBlob(hosted, 'local/app', content);
    await removeFile(digest);
    now = () => new Date(Date.now() + 25 * HOUR);
    expect(await collect({ dryRun: true })).toMatchObject({ removed: { blobs: 1 }, missing: { blobs: 0 } });
    expect(await collect()).toMatchObject({ removed: { blobs: 1 }, missing: { blobs: 0 } });
  });

  test('is counted whole, and named in part where it is much', async () => {
    await push(9);
    const { collect } = await open();
    for (const gone of await place.inventory()) await removeFile(gone);
    const { missing } = await collect();
    expect(missing.blobs).toBe(27);
    expect(missing.content).toHaveLength(20);
  });
});

describe('while the records may not be all that there were', () => {
  test('nothing is collected, by force neither, and what helps is said', async () => {
    const { hosted, collect } = await open();
    await pushBlob(hosted, 'local/app', content);
    await place.content.put(bytes('left by a crash'));
    await age(48);
    reason = 'the records are older than the bytes: put back the right ones';
    for (const options of [{}, { dryRun: true }, { force: true }]) {
      await expect(collect(options)).rejects.toThrow(`nothing was collected: ${reason}`);
    }
    expect(await place.inventory()).toHaveLength(2);
  });

  test('who deletes gets what he wants, and the bytes stay for records that may come back', async () => {
    const { hosted } = await open();
    const pushed = await pushSmall(hosted, 'local/app', 'a', { tags: ['a'] });
    reason = 'the records are older';
    await hosted.manifests.delete('local/app', pushed.digest);
    await hosted.blobs.delete('local/app', pushed.layer);
    await expect(hosted.blobs.head('local/app', pushed.layer)).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(await place.inventory()).toHaveLength(3);
    reason = undefined;
    await hosted.blobs.delete('local/app', pushed.config);
    expect(await place.inventory()).toHaveLength(2);
  });
});
