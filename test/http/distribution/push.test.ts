// Pushes as they come over a socket: broken off, slow, at the same time, too large or misspelt.
import { once } from 'node:events';
import { readdir, stat } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { descriptorOf, makeContent, makeImage, makeIndex } from '../../conformance/documents.ts';
import { openRepository, type Repository } from '../../conformance/repository.ts';
import { codeOf, startServer, type TestServer } from '../../support/server.ts';

const blob = makeContent('0123456789'.repeat(10), '');
const index = makeIndex([]);

let server: TestServer;
let repository: Repository;
/** The path of an upload after the name. */
let upload: string;

beforeAll(async () => {
  server = await startServer();
  repository = openRepository(server, 'local/app');
});

afterAll(() => server.close());

beforeEach(async () => {
  upload = await repository.startUpload();
});

describe('an upload', () => {
  test('answers with a relative Location, the range that is there, and its id', async () => {
    const { status, headers } = await repository.send('PATCH', upload, { body: blob.raw.subarray(0, 10) });
    expect([status, headers.location, headers.range]).toEqual([202, `/v2/local/app${upload}`, '0-9']);
    expect(headers['docker-upload-uuid']).toBe(upload.split('/').at(-1));
  });

  test('continues where a client broke off', async () => {
    const socket = await open('PATCH', upload, { 'Content-Length': '100' });
    socket.write(blob.raw.subarray(0, 42));
    await untilStored(42);
    socket.destroy();
    const headers = { 'Content-Range': '42-99' };
    expect((await repository.send('PATCH', upload, { headers, body: blob.raw.subarray(42) })).status).toBe(202);
    expect((await repository.send('PUT', `${upload}?digest=${blob.digest}`)).status).toBe(201);
    expect((await repository.send('GET', `/blobs/${blob.digest}`)).body.equals(blob.raw)).toBe(true);
  });

  test('takes one of two chunks that come at the same time, and refuses the other', async () => {
    const headers = { 'Content-Range': '0-49', 'Content-Length': '50' };
    const [first, second] = [await open('PATCH', upload, headers), await open('PATCH', upload, headers)];
    for (const socket of [first, second]) socket.write(blob.raw.subarray(0, 50));
    const statuses = (await Promise.all([first, second].map(statusOf))).sort();
    expect(statuses).toEqual([202, 416]);
    expect((await repository.send('GET', upload)).headers.range).toBe('0-49');
  });

  test('takes bytes as slowly as they come', async () => {
    const socket = await open('PUT', `${upload}?digest=${blob.digest}`, { 'Content-Length': '100' });
    for (const byte of blob.raw) {
      socket.write(Buffer.of(byte));
      await new Promise(setImmediate);
    }
    expect(await statusOf(socket)).toBe(201);
  });

  test('tells a client that waits for it to go on', async () => {
    const headers = { 'Content-Length': '100', Expect: '100-continue' };
    const socket = await open('PUT', `${upload}?digest=${blob.digest}`, headers);
    expect(String((await once(socket, 'data'))[0])).toMatch(/^HTTP\/1\.1 100 Continue\r\n/);
    socket.write(blob.raw);
    expect(await statusOf(socket)).toBe(201);
  });

  test.each([
    ['0-9', 11, 400, 'SIZE_INVALID'],
    ['0-9', 9, 400, 'SIZE_INVALID'],
    ['1-10', 10, 416, 'RANGE_INVALID'],
    ['9-0', 10, 416, 'RANGE_INVALID'],
    ['-1-8', 10, 416, 'RANGE_INVALID'],
    ['bytes 0-9/10', 10, 416, 'RANGE_INVALID'],
    ['0-99999999999999999999', 10, 416, 'RANGE_INVALID'],
    ['nonsense', 10, 416, 'RANGE_INVALID'],
  ])('refuses a chunk for %s with %i bytes, and keeps what it has', async (range, bytes, status, code) => {
    const headers = { 'Content-Range': range };
    const answer = await repository.send('PATCH', upload, { headers, body: blob.raw.subarray(0, bytes) });
    expect([answer.status, codeOf(answer)]).toEqual([status, code]);
    expect((await repository.send('GET', upload)).headers.range).toBe('0-0');
  });

  test.each(['PATCH', 'PUT'])('refuses a range without the bytes that it promises (%s)', async method => {
    const socket = await open(method, `${upload}?digest=${blob.digest}`, { 'Content-Range': '0-9' });
    expect(await statusOf(socket)).toBe(400);
    expect((await repository.send('GET', upload)).headers.range).toBe('0-0');
  });

  test.each(['', '?digest=', '?digest=sha256:abc', `?digest=${blob.digest}%0d%0aX-Injected:1`])(
    'ends with a digest alone (PUT %s)',
    async query => {
      const answer = await repository.send('PUT', `${upload}${query}`, { body: blob.raw });
      expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
      expect(answer.headers['x-injected']).toBeUndefined();
      expect((await repository.send('GET', upload)).status).toBe(204);
    },
  );

  test('counts a Content-Type and its parameters for nothing', async () => {
    const headers = { 'Content-Type': 'text/plain; charset=utf-16' };
    const answer = await repository.send('PUT', `${upload}?digest=${blob.digest}`, { headers, body: blob.raw });
    expect(answer.status).toBe(201);
  });

  test.each(['..%2f..%2f..%2frecords.db', '%00', 'x'.repeat(4000), '00000000-0000-4000-8000-000000000000', "' OR 1"])(
    'has an id that we gave out (%s)',
    async id => {
      for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
        const path = `/blobs/uploads/${encodeURI(id).replaceAll('%25', '%')}?digest=${blob.digest}`;
        const answer = await repository.send(method, path);
        expect([method, answer.status, codeOf(answer)]).toEqual([method, 404, 'BLOB_UPLOAD_UNKNOWN']);
      }
    },
  );

  test.each(['..', '%2e%2e', '../../other/blobs/uploads/x'])(
    'is not reached by a path that climbs (%s)',
    async path => {
      for (const method of ['GET', 'PATCH', 'PUT', 'DELETE']) {
        expect((await repository.send(method, `/blobs/uploads/${path}`)).status).toBeGreaterThanOrEqual(400);
      }
      expect((await repository.send('GET', upload)).status).toBe(204);
    },
  );

  test('that is percent-encoded is the same', async () => {
    const [, head = '', id = ''] = /^(.*\/)([^/]+)$/.exec(upload) ?? [];
    const encoded = [...id].map(character => `%${character.charCodeAt(0).toString(16)}`).join('');
    expect((await repository.send('GET', `${head}${encoded}`)).headers.location).toBe(`/v2/local/app${upload}`);
  });

  test.each([
    ['a digest that is none', 'mount=nonsense&from=local/other', 400],
    ['no digest', 'mount=', 400],
    ['a source that is no name', `mount=${blob.digest}&from=../../x`, 202],
    ['an upper case source', `mount=${blob.digest}&from=LOCAL/OTHER`, 202],
    ['an empty source', `mount=${blob.digest}&from=`, 202],
    ['a very long source', `mount=${blob.digest}&from=${'a/'.repeat(3000)}`, 202],
    ['an algorithm that we do not know', 'digest-algorithm=sha384', 400],
    ['an algorithm that we know', 'digest-algorithm=sha512', 202],
  ])('begins with %s as it can', async (_, query, status) => {
    await repository.send('DELETE', `/blobs/${blob.digest}`);
    expect((await repository.send('POST', `/blobs/uploads/?${query}`)).status).toBe(status);
  });

  test.each<[string, Readonly<Record<string, string>>, number]>([
    ['another digest', {}, 400],
    ['a range that is none', { 'Content-Range': 'nonsense' }, 416],
    ['a range of another length', { 'Content-Range': '0-1' }, 400],
    ['a range that begins later', { 'Content-Range': '1-100' }, 416],
  ])('of a single request leaves nothing behind when it is refused for %s', async (_, headers, status) => {
    const before = await listFilled();
    const wrong = makeContent('other bytes', '').digest;
    const answer = await repository.send('POST', `/blobs/uploads/?digest=${wrong}`, { headers, body: blob.raw });
    expect([answer.status, answer.headers.location]).toEqual([status, undefined]);
    expect((await repository.send('HEAD', `/blobs/${wrong}`)).status).toBe(404);
    expect(await listFilled()).toEqual(before);
  });
});

describe('a manifest', () => {
  test('of unknown length that is too large is refused to a client that sends all of it first', async () => {
    const socket = await open('PUT', '/manifests/large', {
      'Transfer-Encoding': 'chunked',
      'Content-Type': index.mediaType,
    });
    const block = ' '.repeat(1024 * 1024);
    for (let i = 0; i < 6; i++) socket.write(`${block.length.toString(16)}\r\n${block}\r\n`);
    socket.write('0\r\n\r\n');
    expect(await statusOf(socket)).toBe(413);
    expect((await repository.send('HEAD', '/manifests/large')).status).toBe(404);
  });

  test('is refused while those of others take the memory for them, unless it is small', async () => {
    const blocks = Buffer.alloc(3.5 * 1024 * 1024, ' ');
    const headers = { 'Content-Length': `${blocks.length + 1}`, 'Content-Type': index.mediaType };
    const others = await Promise.all(Array.from({ length: 3 }, () => open('PUT', '/manifests/other', headers)));
    for (const socket of others) socket.write(blocks);
    const push = () =>
      repository.send('PUT', '/manifests/large', { headers, body: Buffer.concat([blocks, blocks.subarray(0, 1)]) });
    await expect.poll(async () => (await push()).status).toBe(503);
    expect((await push()).headers['retry-after']).toBe('2');
    expect((await repository.pushManifest(index, 'small')).status).toBe(201);
    for (const socket of others) socket.write(' ');
    expect(await Promise.all(others.map(statusOf))).toEqual([400, 400, 400]);
    expect((await push()).status).toBe(400);
  });

  test('that refers to what is not there brings a warning that says to what, and any other none', async () => {
    const sparse = makeIndex([descriptorOf(makeImage('not pushed'))]);
    const answer = await repository.pushManifest(sparse, 'sparse');
    expect([answer.status, answer.headers.warning]).toEqual([
      201,
      `299 - "local/app lacks content that this manifest refers to, and cannot serve it: ${makeImage('not pushed').digest}"`,
    ]);
    expect((await repository.pushManifest(index, 'whole')).headers.warning).toBeUndefined();
  });

  test('that lacks very much is warned of in 4096 bytes', async () => {
    const entries = Array.from({ length: 200 }, (_, i) =>
      descriptorOf(makeImage(`not pushed ${i}`, { algorithm: 'sha512' })),
    );
    const { warning = '' } = (await repository.pushManifest(makeIndex(entries), 'sparse')).headers;
    expect(warning).toMatch(/and 190 more"$/);
    expect(Buffer.byteLength(String(warning))).toBeLessThanOrEqual(4096);
  });

  test.each(['x%0d%0aX-Injected', 'x%00', 'x%20y', '%E2%80%AE'])('has no such tag as %s', async tag => {
    for (const path of [`/manifests/${tag}`, `/manifests/${index.digest}?tag=${tag}`]) {
      const answer = await repository.pushManifest(index, path.slice('/manifests/'.length));
      expect([answer.status, codeOf(answer)]).toEqual([400, 'TAG_INVALID']);
      expect(answer.headers['x-injected']).toBeUndefined();
    }
  });
});

test.each(['wt/0123456789ab/library/alpine', 'wt/local/app'])(
  'what a token serves is not pushed to, and the answer does not repeat the token (%s)',
  async name => {
    const other = openRepository(server, name);
    for (const answer of [await other.pushManifest(index, '1'), await other.send('DELETE', '/manifests/1')]) {
      expect([answer.status, codeOf(answer)]).toEqual([405, 'UNSUPPORTED']);
      expect(answer.body.toString()).toContain('names under wt/ can only be pulled');
      expect(answer.body.toString()).not.toContain('0123456789ab');
    }
  },
);

describe('what is hosted', () => {
  beforeEach(async () => {
    await repository.pushManifest(index, '1');
    await repository.pushBlob(blob);
  });

  test.each([
    ['/manifests/1', index.digest],
    [`/manifests/${index.digest}`, index.digest],
    [`/blobs/${blob.digest}`, blob.digest],
  ])('is not sent again to who has it (%s)', async (path, digest) => {
    for (const tag of [`"${digest}"`, `W/"${digest}"`, `"x", "${digest}"`, '*']) {
      const { status, body } = await repository.send('GET', path, { headers: { 'If-None-Match': tag } });
      expect([status, body.byteLength]).toEqual([304, 0]);
    }
    const changed = await repository.send('GET', path, { headers: { 'If-None-Match': '"x"' } });
    expect([changed.status, changed.headers.etag]).toEqual([200, `"${digest}"`]);
  });

  test.each([
    ['bytes=10-19', 206, '0123456789'],
    ['bytes=0-1,5-6', 200, blob.raw.toString()],
    ['lines=1-2', 200, blob.raw.toString()],
    ['bytes=x', 200, blob.raw.toString()],
  ])('is sent in one range, or whole (%s)', async (range, status, content) => {
    const answer = await repository.send('GET', `/blobs/${blob.digest}`, { headers: { Range: range } });
    expect([answer.status, answer.body.toString()]).toEqual([status, content]);
  });
});

/** A request whose head is sent. */
async function open(method: string, path: string, headers: Readonly<Record<string, string>>): Promise<Socket> {
  const socket = connect(server.port, '127.0.0.1');
  await once(socket, 'connect');
  // What is written after a refusal breaks.
  socket.on('error', () => {});
  const lines = Object.entries({ Host: '127.0.0.1', Connection: 'close', ...headers }).map(line => line.join(': '));
  socket.write(`${method} /v2/local/app${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
  return socket;
}

/** The status of the answer, once the server has closed. */
async function statusOf(socket: Socket): Promise<number> {
  return Number((await text(socket)).split(' ')[1]);
}

/** Waits until the upload's draft has what was sent. The upload itself is taken by the request that sends. */
async function untilStored(bytes: number): Promise<void> {
  const id = upload.split('/').at(-1) ?? '';
  const path = join(server.directory, 'data/hosted/drafts', id);
  const size = async () => (await stat(path, { throwIfNoEntry: false }))?.size ?? 0;
  while ((await size()) < bytes) await new Promise(setImmediate);
}

/** The drafts that have bytes: uploads that were only begun have none. */
async function listFilled(): Promise<readonly string[]> {
  const drafts = join(server.directory, 'data/hosted/drafts');
  const names = await readdir(drafts);
  const sizes = await Promise.all(names.map(async name => (await stat(join(drafts, name))).size));
  return names.filter((_, at) => (sizes[at] ?? 0) > 0);
}
