// What waits for the lock of a repository is linked by one write, as far as it is independent of each other.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLinker, type Linker } from '../../src/hosted/linker.ts';
import { parseDocument } from '../../src/hosted/repository/manifest-document.ts';
import { createHostedStore, type HostedChange, type Quota } from '../../src/hosted/store.ts';
import { createMemory } from '../../src/memory.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { Change, RecordStore } from '../../src/state/store.ts';
import { createPlace, json, type Place } from './fixture.ts';

const repository = 'local/app';
let place: Place;
let writes: (readonly Change[])[];
let changes: HostedChange[];
let accounted: number[];

beforeEach(async () => {
  place = await createPlace();
  [writes, changes, accounted] = [[], [], []];
});

afterEach(() => place.remove());

function openLinker({ maxBytes = Number.POSITIVE_INFINITY, fail = (_: number) => {} } = {}): Linker {
  const { content, records } = place;
  let used = 0;
  const write: RecordStore['write'] = async (changed, options) => {
    writes.push(changed);
    fail(writes.length);
    await records.write(changed, options);
  };
  const account: Quota['account'] = async (_repository, bytes, write) => {
    accounted.push(bytes);
    if (used + bytes > maxBytes) throw new Error('too much');
    await write({ changes: [], expected: [] });
    used += bytes;
  };
  const options = { quota: { admitUpload() {}, account }, onChange: (change: HostedChange) => changes.push(change) };
  const stores = { content, records: { ...records, write }, memory: createMemory(), now: () => new Date() };
  return createLinker(createHostedStore({ ...stores, options }));
}

const outcomes = async (linking: readonly Promise<void>[]) =>
  (await Promise.allSettled(linking)).map(({ status }) => status);

const count = async (collection: string) => (await place.records.list(collection, { limit: 99 })).length;

describe('blobs that arrive together', () => {
  const blobs = ['a', 'b', 'c', 'b'].map(text => ({ digest: digestOf(Buffer.from(text)), size: 1 }));

  /** Links all of them in one turn of the event loop. */
  const linkAll = ({ blob: link }: Linker) =>
    outcomes(blobs.map(blob => link({ repository, ...blob }, { also: [], lease: undefined })));

  test('are linked by one write, each counts once, and what comes twice is written twice', async () => {
    expect(await linkAll(openLinker())).toEqual(Array.from({ length: 4 }, () => 'fulfilled'));
    expect([writes.length, accounted]).toEqual([2, [3]]);
    expect(await count('hosted.blob')).toBe(3);
  });

  test('are linked as far as they may be, where not all may', async () => {
    expect(await linkAll(openLinker({ maxBytes: 2 }))).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect(await count('hosted.blob')).toBe(2);
  });
});

describe('manifests that arrive together', () => {
  const known = async () => {};

  function linkOf(name: string, tags: readonly string[]) {
    const raw = json({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [], annotations: { name } });
    const document = parseDocument(raw, mediaTypes.ociIndex);
    return { repository, digest: digestOf(raw), size: raw.byteLength, document, tags };
  }

  const tagOf = async (tag: string) => {
    const value = await place.records.get('hosted.tag', `${repository}:${tag}`);
    return value && JSON.parse(Buffer.from(value).toString()).digest;
  };

  test('are linked by one write, with blobs, and each is reported', async () => {
    const { manifest, blob } = openLinker();
    const links = ['a', 'b', 'c'].map(name => linkOf(name, [name]));
    const blobLink = { repository, digest: digestOf(Buffer.from('blob')), size: 4 };
    const linking = links.map(link => manifest(link, { check: known, lease: undefined }));
    await Promise.all([...linking, blob(blobLink, { also: [], lease: undefined })]);
    expect(writes).toHaveLength(1);
    expect(accounted).toEqual([links.reduce((sum, { size }) => sum + size, 4)]);
    expect(changes.map(({ digest }) => digest)).toEqual([...links, blobLink].map(({ digest }) => digest));
    expect(await Promise.all(['a', 'b', 'c'].map(tagOf))).toEqual(links.map(({ digest }) => digest));
  });

  test('are checked after what they have in common with others is written', async () => {
    const { manifest } = openLinker();
    const [first, second] = [linkOf('a', ['same']), linkOf('b', ['same'])];
    const isFree = async () => {
      if ((await tagOf('same')) !== undefined) throw new RegistryError('DENIED', 'the tag is taken');
    };
    const linking = [first, second].map(link => manifest(link, { check: isFree, lease: undefined }));
    expect(await outcomes(linking)).toEqual(['fulfilled', 'rejected']);
    expect([writes.length, await tagOf('same'), await count('hosted.manifest')]).toEqual([1, first.digest, 1]);
  });

  test('move a tag one after the other', async () => {
    const { manifest } = openLinker();
    const links = ['a', 'b', 'c'].map(name => linkOf(name, ['same']));
    await Promise.all(links.map(link => manifest(link, { check: known, lease: undefined })));
    expect([writes.length, await tagOf('same'), await count('hosted.tagged')]).toEqual([3, links[2]?.digest, 1]);
  });

  test('are not looked at again and again while they wait for each other', async () => {
    const { manifest } = openLinker();
    const links = Array.from({ length: 40 }, (_, at) => linkOf(String(at), ['same']));
    let checks = 0;
    const check = async () => {
      checks += 1;
    };
    await Promise.all(links.map(link => manifest(link, { check, lease: undefined })));
    expect(await tagOf('same')).toBe(links.at(-1)?.digest);
    expect(checks).toBeLessThanOrEqual(2 * links.length);
  });

  test('are linked each for itself where all together could not be written', async () => {
    const { manifest } = openLinker({
      fail(attempt) {
        if (attempt <= 2) throw new Error('the disk is broken');
      },
    });
    const links = ['a', 'b', 'c'].map(name => linkOf(name, [name]));
    const linking = links.map(link => manifest(link, { check: known, lease: undefined }));
    expect(await outcomes(linking)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
    expect(await count('hosted.manifest')).toBe(2);
  });

  test('of many references do not make one write without bounds', async () => {
    const { manifest } = openLinker();
    const references = Array.from({ length: 400 }, (_, at) => digestOf(Buffer.from(String(at))));
    const links = ['a', 'b', 'c', 'd'].map(name => {
      const link = linkOf(name, [name]);
      const blobs = references.map(digest => ({ mediaType: 'a/b', digest, size: 1 }));
      return { ...link, document: { ...link.document, blobs } };
    });
    await Promise.all(links.map(link => manifest(link, { check: known, lease: undefined })));
    expect([writes.length, await count('hosted.manifest')]).toEqual([2, 4]);
  });
});
