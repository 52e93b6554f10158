// Where quotas and events hook in.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { HostedRepositories } from '../../src/hosted/repositories.ts';
import type { HostedChange, Quota } from '../../src/hosted/store.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import type { Change } from '../../src/state/store.ts';
import { bytes, chunk, createPlace, type Place, pushBlob, pushSmall, putManifest } from './fixture.ts';

let place: Place;
let hosted: HostedRepositories;

beforeEach(async () => {
  place = await createPlace();
});

afterEach(() => place.remove());

describe('onChange', () => {
  let changes: HostedChange[];

  beforeEach(async () => {
    changes = [];
    hosted = await place.open({ onChange: change => changes.push(change) });
  });

  const BLOB = 'application/octet-stream';
  const inApp = { repository: 'local/app' };

  test('tells of pushes, one for each tag', async () => {
    const { config, layer, digest, mediaType, size, raw } = await pushSmall(hosted, 'local/app', 'a', {
      tags: ['1', '2'],
    });
    await putManifest(hosted, 'local/app', raw);
    expect(changes).toEqual([
      { kind: 'push', ...inApp, digest: config, mediaType: BLOB, size: 12 },
      { kind: 'push', ...inApp, digest: layer, mediaType: BLOB, size: 10 },
      { kind: 'push', ...inApp, digest, mediaType, size, tag: '1' },
      { kind: 'push', ...inApp, digest, mediaType, size, tag: '2' },
      { kind: 'push', ...inApp, digest, mediaType, size },
    ]);
  });

  test('tells of mounts and deletions', async () => {
    const { layer, digest, mediaType, size } = await pushSmall(hosted, 'local/app', 'a', { tags: ['1', '2'] });
    changes = [];
    await hosted.blobs.mount('local/b', layer, { isReadable: () => true });
    await hosted.tags.delete('local/app', '2');
    await hosted.manifests.delete('local/app', digest);
    await hosted.blobs.delete('local/app', layer);
    expect(changes).toEqual([
      { kind: 'push', repository: 'local/b', digest: layer, mediaType: BLOB, size: 10 },
      { kind: 'delete', ...inApp, digest, mediaType, size, tag: '2' },
      { kind: 'delete', ...inApp, digest, mediaType, size, tag: '1' },
      { kind: 'delete', ...inApp, digest, mediaType, size },
      { kind: 'delete', ...inApp, digest: layer, mediaType: BLOB, size: 10 },
    ]);
  });

  test('is notified of a change that is durable already, and of none that was refused', async () => {
    const found: (readonly string[])[] = [];
    hosted = await place.open({
      onChange: () => void place.records.list('hosted.blob', { limit: 5 }).then(keys => found.push(keys)),
    });
    const digest = await pushBlob(hosted, 'local/app', bytes('a'));
    await expect(putManifest(hosted, 'local/app', bytes('{'))).rejects.toThrow();
    await expect(hosted.blobs.delete('local/none', digest)).rejects.toThrow();
    expect(found).toEqual([[`local/app@${digest}`]]);
  });
});

describe('a quota', () => {
  const refused = new RegistryError('DENIED', 'the quota is used up');
  const note = (bytes: number): Change => ({
    kind: 'put',
    collection: 'used',
    key: `${bytes}`,
    value: new Uint8Array(),
  });
  const open = async (quota: Partial<Quota>) => {
    const account: Quota['account'] = (_, _bytes, write) => write({ changes: [], expected: [] });
    hosted = await place.open({ quota: { admitUpload() {}, account, ...quota } });
  };

  test('is asked for what is linked again and unlinked, and its changes are written along', async () => {
    const asked: (readonly [string, number])[] = [];
    await open({
      async account(repository, size, write) {
        asked.push([repository, size]);
        await write({ changes: [note(size)], expected: [] });
      },
    });
    const { digest, layer, size } = await pushSmall(hosted, 'local/app', 'a');
    await pushSmall(hosted, 'local/app', 'a');
    await hosted.blobs.mount('local/b', layer, { isReadable: () => true });
    await hosted.manifests.delete('local/app', digest);
    await hosted.blobs.delete('local/app', layer);
    const expected = [12, 10, size, -size, -10].map(changed => ['local/app', changed]);
    expected.splice(3, 0, ['local/b', 10]);
    expect(asked).toEqual(expected);
    const used = await place.records.list('used', { limit: 10 });
    expect(used.toSorted()).toEqual([10, 12, size, -10, -size].map(String).sort());
  });

  test('that refuses new links leaves nothing of the push', async () => {
    await open({});
    const { raw, digest } = await pushSmall(hosted, 'local/app', 'a');
    await hosted.manifests.delete('local/app', digest);
    const before = await place.inventory();
    await open({ account: () => Promise.reject(refused) });
    await expect(pushBlob(hosted, 'local/app', bytes('more'))).rejects.toBe(refused);
    await expect(putManifest(hosted, 'local/app', raw, { tags: ['a'] })).rejects.toBe(refused);
    await expect(hosted.blobs.mount('local/b', digest, { isReadable: () => true })).resolves.toBe(false);
    expect(await place.inventory()).toEqual(before);
    expect(await place.records.list('hosted.upload', { limit: 5 })).toEqual([]);
    expect((await hosted.tags.list('local/app', {})).tags).toEqual([]);
  });

  test('sees an upload grow, and stops it before more is written', async () => {
    await open({
      admitUpload(_, size) {
        if (size > 8) throw refused;
      },
    });
    const { id } = await hosted.uploads.start('local/app');
    await hosted.uploads.append('local/app', id, chunk(bytes('12345')));
    await expect(hosted.uploads.append('local/app', id, chunk(bytes('6789')))).rejects.toBe(refused);
    expect(await hosted.uploads.get('local/app', id)).toEqual({ id, size: 5 });
  });
});
