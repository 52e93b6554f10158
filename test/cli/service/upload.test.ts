// Pushing a blob in chunks, over connections that break.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type UploadOptions, uploadBlob } from '../../../src/cli/sender.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { type BuildService, startBuildService } from '../build-service.ts';

const BYTES = new TextEncoder().encode('0123456789');
const REPOSITORY = 'local/builds';

let service: BuildService;
let arrived: number[];

beforeEach(async () => {
  service = await startBuildService();
  arrived = [];
});

afterEach(() => service.close());

function upload(bytes: Uint8Array<ArrayBuffer> = BYTES, options: UploadOptions = {}) {
  const blob = { bytes: new Blob([bytes]), digest: digestOf(bytes) };
  return uploadBlob(service, REPOSITORY, blob, {
    chunkBytes: 4,
    onProgress: count => arrived.push(count),
    patience: { retries: 2, minTimeout: 0, maxTimeout: 0 },
    ...options,
  });
}

const kept = async (bytes: Uint8Array) =>
  (await service.registry.send('GET', `/v2/${REPOSITORY}/blobs/${digestOf(bytes)}`)).body;

const methods = () => service.requests.map(({ method }) => method);

test('a blob goes in chunks, and how much has arrived is reported', async () => {
  await upload();
  expect(await kept(BYTES)).toEqual(Buffer.from(BYTES));
  expect(methods()).toEqual(['HEAD', 'POST', 'PATCH', 'PATCH', 'PATCH', 'PUT']);
  expect(arrived).toEqual([0, 4, 8, 10]);
});

test('a blob of no bytes arrives', async () => {
  await upload(new Uint8Array());
  expect(methods()).toEqual(['HEAD', 'POST', 'PUT']);
  expect(await kept(new Uint8Array())).toHaveLength(0);
});

test('a blob that is there is not sent', async () => {
  await upload();
  service.requests.length = 0;
  arrived.length = 0;
  await upload();
  expect(methods()).toEqual(['HEAD']);
  expect(arrived).toEqual([]);
});

test.each([
  ['before it arrived', 'before'],
  ['after it arrived', 'after'],
] as const)('a chunk that broke %s is not sent twice', async (_, when) => {
  service.breakChunk = { at: 2, when };
  await upload();
  expect(await kept(BYTES)).toEqual(Buffer.from(BYTES));
  const expected = { before: ['PATCH', 'GET', 'PATCH', 'PATCH'], after: ['PATCH', 'GET', 'PATCH'] };
  expect(methods().slice(2)).toEqual(['PATCH', ...expected[when], 'PUT']);
});

test('a repository that nobody may push to is reported with what would help', async () => {
  await expect(
    uploadBlob(service, 'library/alpine', { bytes: new Blob([BYTES]), digest: digestOf(BYTES) }),
  ).rejects.toThrow(/answered 405, .*: large content is pushed there before the request: add the repository/);
});
