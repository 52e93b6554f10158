// A full disk, wherever it is met: one clear error, nothing kept of the push, and nothing lost.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StorageFailure } from '../../src/content/store.ts';
import { createUploadFiles, type UploadFile, type UploadFiles } from '../../src/content/upload-files.ts';
import type { HostedRepositories } from '../../src/hosted/repositories.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RecordStoreFull } from '../../src/state/store.ts';
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
  smallManifest,
} from './fixture.ts';

let place: Place;
const full = { code: 'UNAVAILABLE', status: 507, message: expect.stringContaining('disk of the registry is full') };
const content = bytes('some content');

beforeEach(async () => {
  place = await createPlace();
  await pushSmall(await place.open(), 'local/app', 'a', { tags: ['a'] });
});

afterEach(async () => {
  await audit(place);
  await place.remove();
});

function noSpace(code: string): Error {
  return Object.assign(new Error(`${code}: no space left on device, write`), { code });
}

/** Drafts that fail in one function. */
async function brokenUploadFiles(change: (file: UploadFile) => Partial<UploadFile>): Promise<UploadFiles> {
  const uploadFiles = await createUploadFiles(place);
  const breakIt = (file: UploadFile): UploadFile => {
    const broken = change(file);
    return {
      append: broken.append ?? file.append,
      commit: broken.commit ?? file.commit,
      truncate: file.truncate,
      keep: file.keep,
      get size() {
        return file.size;
      },
    };
  };
  return {
    ...uploadFiles,
    create: async (id, algorithm, options) => breakIt(await uploadFiles.create(id, algorithm, options)),
    async open(id, algorithm) {
      const file = await uploadFiles.open(id, algorithm);
      return file && breakIt(file);
    },
  };
}

/** After some of the bytes are written. */
function appendSome(file: UploadFile, code: string): UploadFile['append'] {
  return async pieces => {
    await file.append(
      (async function* () {
        for await (const piece of pieces) {
          yield piece.subarray(0, 3);
          throw noSpace(code);
        }
      })(),
    );
  };
}

const places: [string, () => Promise<Partial<Parts>>][] = [
  [
    'while a blob arrives',
    async () => ({ uploadFiles: await brokenUploadFiles(file => ({ append: appendSome(file, 'ENOSPC') })) }),
  ],
  [
    'by a quota of the system',
    async () => ({ uploadFiles: await brokenUploadFiles(file => ({ append: appendSome(file, 'EDQUOT') })) }),
  ],
  [
    'while a blob is kept',
    async () => ({ uploadFiles: await brokenUploadFiles(() => ({ commit: () => Promise.reject(noSpace('ENOSPC')) })) }),
  ],
  [
    'when an upload starts',
    async () => ({
      uploadFiles: { ...(await createUploadFiles(place)), create: () => Promise.reject(noSpace('ENOSPC')) },
    }),
  ],
  [
    'when an upload is recorded',
    async () => ({ records: { ...place.records, put: () => Promise.reject(new RecordStoreFull()) } }),
  ],
  [
    'when a blob is linked',
    async () => ({ records: { ...place.records, write: () => Promise.reject(new RecordStoreFull()) } }),
  ],
];

describe('a disk that is full', () => {
  test.each(places)('%s refuses the push', async (_, parts) => {
    const before = await place.inventory();
    const hosted = await place.open({}, await parts());
    await expect(pushBlob(hosted, 'local/app', content)).rejects.toMatchObject(full);
    await expect(hosted.blobs.head('local/app', digestOf(content))).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(await place.inventory()).toEqual(before);
    await pushBlob(await place.open(), 'local/app', content);
  });

  test('while a chunk arrives ends the upload, for its bytes are a part of what fills it', async () => {
    const uploadFiles = await brokenUploadFiles(file => ({ append: appendSome(file, 'ENOSPC') }));
    const hosted = await place.open({}, { uploadFiles });
    const { id } = await hosted.uploads.start('local/app');
    await expect(hosted.uploads.append('local/app', id, chunk(content))).rejects.toMatchObject(full);
    await expect(hosted.uploads.get('local/app', id)).rejects.toMatchObject({ code: 'BLOB_UPLOAD_UNKNOWN' });
    expect(await uploadFiles.list()).toEqual([]);
  });

  const manifest = smallManifest(bytes('{"seed":"a"}'), bytes('layer of a'), { annotations: { new: 'one' } });
  test.each<[string, () => Partial<Parts>]>([
    [
      'while the bytes of a manifest are written',
      () => ({
        content: {
          ...place.content,
          put: () => Promise.reject(new StorageFailure('it cannot store', { cause: noSpace('ENOSPC') })),
        },
      }),
    ],
    [
      'when a manifest is linked',
      () => ({ records: { ...place.records, write: () => Promise.reject(new RecordStoreFull()) } }),
    ],
  ])('%s refuses the push', async (_, parts) => {
    const hosted = await place.open({}, parts());
    const before = await hosted.tags.resolve('local/app', 'a');
    await expect(putManifest(hosted, 'local/app', manifest, { tags: ['a', 'b'] })).rejects.toMatchObject(full);
    expect(await hosted.tags.resolve('local/app', 'a')).toBe(before);
    expect((await hosted.tags.list('local/app', {})).tags).toEqual(['a']);
  });

  test.each<[string, (hosted: HostedRepositories) => Promise<unknown>]>([
    ['a tag', hosted => hosted.tags.delete('local/app', 'a')],
    ['a manifest', async hosted => hosted.manifests.delete('local/app', await hosted.tags.resolve('local/app', 'a'))],
    ['a blob', hosted => hosted.blobs.delete('local/app', digestOf(content))],
    ['a mount', hosted => hosted.blobs.mount('local/b', digestOf(content), { isReadable: () => true })],
  ])('changes nothing about %s', async (_, change) => {
    await pushBlob(await place.open(), 'local/app', content);
    const before = await place.inventory();
    const hosted = await place.open(
      {},
      { records: { ...place.records, write: () => Promise.reject(new RecordStoreFull()) } },
    );
    await expect(change(hosted)).rejects.toMatchObject(full);
    expect(await place.inventory()).toEqual(before);
    expect((await hosted.tags.list('local/app', {})).tags).toEqual(['a']);
  });
});
