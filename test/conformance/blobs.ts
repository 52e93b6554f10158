// Blobs by every way to push them, under both digest algorithms. distribution-spec "Pushing blobs", "Pulling blobs", "Deleting Blobs".
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestAlgorithm } from '../../src/oci/digest.ts';
import { type Answer, codeOf } from '../support/server.ts';
import { type Content, makeContent } from './documents.ts';
import { expectGone, openRepository, type Registry, type Repository, type StartRegistry } from './repository.ts';

let server: Registry;
let repository: Repository;
let other: Repository;

/** Answers the request that ends the push. */
type Push = (blob: Content) => Promise<Answer>;

const postOnly: Push = blob => repository.send('POST', `/blobs/uploads/?digest=${blob.digest}`, { body: blob.raw });

const postAndPut: Push = blob => repository.pushBlob(blob);

const stream: Push = async blob => {
  const upload = await repository.startUpload();
  expect((await repository.send('PATCH', upload, { body: Readable.from([blob.raw]) })).status).toBe(202);
  return repository.send('PUT', `${upload}?digest=${blob.digest}`);
};

const oneChunk: Push = blob => pushChunks(blob, [[0, blob.size]], { lastByPut: false });
const chunks: Push = blob => pushChunks(blob, thirdsOf(blob), { lastByPut: false });
const chunksAndPut: Push = blob => pushChunks(blob, thirdsOf(blob), { lastByPut: true });
const outOfOrder: Push = async blob => {
  const [first, second, third] = thirdsOf(blob);
  const upload = await repository.startUpload();
  expect((await sendChunk(upload, blob, first)).status).toBe(202);
  const refused = await sendChunk(upload, blob, third);
  expect([refused.status, codeOf(refused)]).toEqual([416, 'RANGE_INVALID']);
  expect(await statusOf(upload)).toEqual([204, `0-${first[1] - 1}`]);
  for (const each of [second, third]) expect((await sendChunk(upload, blob, each)).status).toBe(202);
  return repository.send('PUT', `${upload}?digest=${blob.digest}`);
};

const pushes: readonly (readonly [string, Push])[] = [
  ['POST only', postOnly],
  ['POST and PUT', postAndPut],
  ['a stream', stream],
  ['one chunk', oneChunk],
  ['chunks', chunks],
  ['chunks, the last by PUT', chunksAndPut],
  ['chunks out of order', outOfOrder],
];

export function testBlobs(start: StartRegistry): void {
  beforeAll(async () => {
    server = await start();
    repository = openRepository(server, 'local/repo1');
    other = openRepository(server, 'local/repo2');
  });

  afterAll(() => server.close());

  describe.each(['sha256', 'sha512'] as const)('a blob by %s', algorithm => {
    test.each(pushes)('is pushed by %s', async (name, push) => {
      const blob = makeContent(`${name} `.repeat(100), '', algorithm);
      const { status, headers } = await push(blob);
      expect([status, headers['docker-content-digest']]).toEqual([201, blob.digest]);
      expect(headers.location).toBe(`/v2/local/repo1/blobs/${blob.digest}`);
      await expectPulled(repository, blob);
      await expectDeleted(repository, blob);
    });

    test.each([
      ['no bytes at all', ''],
      ['an empty object', '{}'],
    ])('is pushed with %s', async (_, text) => {
      for (const [, push] of pushes.slice(0, 3)) {
        const blob = makeContent(text, '', algorithm);
        expect((await push(blob)).status).toBe(201);
        await expectPulled(repository, blob);
        await expectDeleted(repository, blob);
      }
    });

    test.each(pushes)('is refused with another digest, pushed by %s', async (name, push) => {
      const { digest } = makeContent(`promised ${name}`, '', algorithm);
      const answer = await push({ ...makeContent(`sent ${name} `.repeat(100), ''), digest });
      expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
      expect((await repository.send('GET', `/blobs/${digest}`)).status).toBe(404);
    });

    test.each([
      ['from where it is', '&from=local/repo2'],
      ['from wherever it is', ''],
      ['from there although another place is named', '&from=local/nowhere'],
    ])('is mounted %s', async (name, from) => {
      const blob = makeContent(`mounted ${name}`, '', algorithm);
      expect((await other.pushBlob(blob)).status).toBe(201);
      const { status, headers } = await repository.send('POST', `/blobs/uploads/?mount=${blob.digest}${from}`);
      expect([status, headers.location]).toEqual([201, `/v2/local/repo1/blobs/${blob.digest}`]);
      await expectPulled(repository, blob);
      for (const each of [repository, other]) await expectDeleted(each, blob);
    });

    test('is uploaded where it cannot be mounted', async () => {
      const blob = makeContent('missing', '', algorithm);
      const answer = await repository.send('POST', `/blobs/uploads/?mount=${blob.digest}&from=local/repo2`);
      expect(answer.status).toBe(202);
      const put = await server.send('PUT', `${answer.headers.location}?digest=${blob.digest}`, { body: blob.raw });
      expect(put.status).toBe(201);
      await expectPulled(repository, blob);
    });

    test('is not there before it is pushed', async () => {
      const { digest } = makeContent('never pushed', '', algorithm);
      for (const method of ['HEAD', 'GET', 'DELETE']) {
        expect((await repository.send(method, `/blobs/${digest}`)).status).toBe(404);
      }
    });

    test.each([
      ['bytes=500-1499', 500, 1500],
      ['bytes=500-', 500, 2048],
      ['bytes=-500', 1548, 2048],
      ['bytes=2000-5000', 2000, 2048],
    ])('is pulled in part (%s)', async (range, start, end) => {
      const blob = makeContent(Buffer.alloc(2048, 'ranges'), '', algorithm);
      await repository.pushBlob(blob);
      const { status, headers, body } = await repository.send('GET', `/blobs/${blob.digest}`, {
        headers: { Range: range },
      });
      expect([status, headers['content-length']]).toEqual([206, `${end - start}`]);
      expect(headers['content-range']).toBe(`bytes ${start}-${end - 1}/2048`);
      expect(body.equals(Buffer.from(blob.raw).subarray(start, end))).toBe(true);
    });

    test.each(['bytes=500-0', 'bytes=5000-10000'])('has no part beyond its end (%s)', async range => {
      const blob = makeContent(Buffer.alloc(2048, 'ranges'), '', algorithm);
      await repository.pushBlob(blob);
      const answer = await repository.send('GET', `/blobs/${blob.digest}`, { headers: { Range: range } });
      expect([answer.status, codeOf(answer)]).toEqual([416, 'RANGE_INVALID']);
    });
  });

  test('a cancelled upload is known no more', async () => {
    const upload = await repository.startUpload();
    expect((await repository.send('DELETE', upload)).status).toBe(204);
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      const answer = await repository.send(method, upload);
      expect([method, answer.status, codeOf(answer)]).toEqual([method, 404, 'BLOB_UPLOAD_UNKNOWN']);
    }
  });
}

type Span = readonly [start: number, end: number];

function thirdsOf({ size }: Content): readonly [Span, Span, Span] {
  const third = Math.ceil(size / 3);
  return [
    [0, third],
    [third, 2 * third],
    [2 * third, size],
  ];
}

async function pushChunks(
  blob: Content,
  spans: readonly Span[],
  { lastByPut }: { lastByPut: boolean },
): Promise<Answer> {
  const upload = await repository.startUpload();
  const last = lastByPut ? spans.at(-1) : undefined;
  for (const span of lastByPut ? spans.slice(0, -1) : spans) {
    const { status, headers } = await sendChunk(upload, blob, span);
    expect([status, headers.range]).toEqual([202, `0-${span[1] - 1}`]);
    expect(await statusOf(upload)).toEqual([204, `0-${span[1] - 1}`]);
  }
  return sendChunk(upload, blob, last ?? [blob.size, blob.size], 'PUT');
}

/** A PUT that sends no bytes has no Content-Range. */
function sendChunk(upload: string, { raw, digest }: Content, [start, end]: Span, method = 'PATCH'): Promise<Answer> {
  const headers = {
    'Content-Type': 'application/octet-stream',
    ...(end > start && { 'Content-Range': `${start}-${end - 1}` }),
  };
  const query = method === 'PUT' ? `?digest=${digest}` : '';
  return repository.send(method, `${upload}${query}`, { headers, body: raw.subarray(start, end) });
}

async function statusOf(upload: string) {
  const { status, headers } = await repository.send('GET', upload);
  expect(headers.location).toBe(`/v2/local/repo1${upload}`);
  return [status, headers.range];
}

async function expectPulled({ send }: Repository, { digest, raw }: Content): Promise<void> {
  for (const method of ['HEAD', 'GET']) {
    const { status, headers, body } = await send(method, `/blobs/${digest}`);
    expect([status, headers['content-length']]).toEqual([200, `${raw.byteLength}`]);
    expect(headers['docker-content-digest']).toBe(digest);
    expect(body.equals(method === 'GET' ? raw : Buffer.alloc(0))).toBe(true);
  }
  expect(makeContent(raw, '', digestAlgorithm(digest)).digest).toBe(digest);
}

async function expectDeleted(from: Repository, { digest }: Content): Promise<void> {
  expect((await from.send('DELETE', `/blobs/${digest}`)).status).toBe(202);
  await expectGone(from, `/blobs/${digest}`);
}
