// What is no manifest, or not there; tags by parameters; and requests that share a connection with those that fail.
// distribution-spec "Determining Support", "Pushing Manifests", "Error Codes".
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { codeOf, startServer, type TestServer } from '../support/server.ts';
import { type Content, makeContent, makeImage, makeIndex, partsOf } from './documents.ts';
import { openRepository, type Repository } from './repository.ts';

const LIMIT = 4 * 1024 * 1024;
const absent = makeContent('never pushed', mediaTypes.ociManifest);

let server: TestServer;
let repository: Repository;

beforeAll(async () => {
  server = await startServer();
  repository = openRepository(server, 'local/app');
  await repository.pushManifest(makeIndex([]), '1');
});

afterAll(() => server.close());

test.each(['/v2/', '/v2'])('%s says that the API is there', async path => {
  const { status, headers } = await server.send('GET', path);
  expect([status, headers['docker-distribution-api-version']]).toEqual([200, 'registry/2.0']);
});

test.each([
  [absent.digest, 404, 'MANIFEST_UNKNOWN'],
  ['missing', 404, 'MANIFEST_UNKNOWN'],
  ['sha256:baddigeststring', 400, 'DIGEST_INVALID'],
  [`sha384:${'0'.repeat(96)}`, 400, 'DIGEST_INVALID'],
  ['-tag', 400, 'TAG_INVALID'],
  ['a'.repeat(129), 400, 'TAG_INVALID'],
])('%s is not to be had, or deleted', async (reference, status, code) => {
  for (const method of ['GET', 'DELETE']) {
    const answer = await repository.send(method, `/manifests/${reference}`);
    expect([method, answer.status, codeOf(answer)]).toEqual([method, status, code]);
  }
  const head = await repository.send('HEAD', `/manifests/${reference}`);
  expect([head.status, head.body.byteLength]).toEqual([status, 0]);
});

const image = makeImage('refused');
const index = makeIndex([]);

test.each<[string, Partial<Content>, string | undefined, number, string]>([
  ['another digest', { raw: Buffer.concat([index.raw, Buffer.from('  ')]) }, undefined, 400, 'DIGEST_INVALID'],
  ['no digest', {}, 'sha256:baddigeststring', 400, 'DIGEST_INVALID'],
  ['no tag', {}, '.hidden', 400, 'TAG_INVALID'],
  ['no JSON', { raw: Buffer.from('{') }, '1', 400, 'MANIFEST_INVALID'],
  ['no object', { raw: Buffer.from('[]') }, '1', 400, 'MANIFEST_INVALID'],
  ['nothing', { raw: Buffer.alloc(0) }, '1', 400, 'MANIFEST_INVALID'],
  ['another type than it says', { mediaType: mediaTypes.ociManifest }, '1', 400, 'MANIFEST_INVALID'],
  ['more bytes than a manifest may have', { raw: Buffer.alloc(LIMIT + 1, ' ') }, '1', 413, 'SIZE_INVALID'],
  ['blobs that are not there', image, '1', 404, 'MANIFEST_BLOB_UNKNOWN'],
])('a manifest with %s is refused', async (_, content, reference, status, code) => {
  const answer = await repository.pushManifest({ ...index, ...content }, reference);
  expect([answer.status, codeOf(answer)]).toEqual([status, code]);
  const { headers } = await repository.send('HEAD', '/manifests/1');
  expect(headers['docker-content-digest']).toBe(index.digest);
});

test('a manifest of as many bytes as it may have is taken', async () => {
  const json = Buffer.from(index.raw).toString();
  const largest = makeContent(json.padEnd(LIMIT), index.mediaType);
  expect((await repository.pushManifest(largest)).status).toBe(201);
});

test.each([`${mediaTypes.ociIndex}; charset=utf-8`, `${mediaTypes.ociIndex} ;q=1`, mediaTypes.ociIndex.toUpperCase()])(
  'parameters and case of a Content-Type do not count (%s)',
  async mediaType => {
    expect((await repository.pushManifest({ ...index, mediaType }, 'typed')).status).toBe(201);
    const { headers } = await repository.send('HEAD', '/manifests/typed');
    expect(headers['content-type']).toBe(mediaTypes.ociIndex);
  },
);

test('tags are set by parameters of a push by digest, and confirmed', async () => {
  const { headers } = await repository.pushManifest(index, `${index.digest}?tag=x&tag=y&tag=x`);
  expect(String(headers['oci-tag']).split(', ').sort()).toEqual(['x', 'y']);
  for (const tag of ['x', 'y']) {
    const head = await repository.send('HEAD', `/manifests/${tag}`);
    expect(head.headers['docker-content-digest']).toBe(index.digest);
  }
});

test.each([
  ['one that is none', 'tag=x&tag=-', 400],
  ['too many', Array.from({ length: 51 }, (_, i) => `tag=t${i}`).join('&'), 414],
])('of tags with %s among them none is set', async (_, query, status) => {
  const fresh = openRepository(server, 'local/tag-parameters');
  const answer = await fresh.pushManifest(index, `${index.digest}?${query}`);
  expect([answer.status, codeOf(answer)]).toEqual([status, 'TAG_INVALID']);
  expect((await fresh.send('GET', '/tags/list')).status).toBe(404);
});

test('a push that moves a tag leaves the manifest that it pointed to', async () => {
  const moved = makeIndex([], { annotations: { moved: 'yes' } });
  await repository.pushManifest(index, 'moves');
  await repository.pushManifest(moved, 'moves');
  const { headers } = await repository.send('HEAD', '/manifests/moves');
  expect(headers['docker-content-digest']).toBe(moved.digest);
  expect((await repository.send('HEAD', `/manifests/${index.digest}`)).status).toBe(200);
});

test('a blob that a manifest needs stays', async () => {
  const { config, layers } = partsOf('needed');
  for (const blob of [config, ...layers]) await repository.pushBlob(blob);
  await repository.pushManifest(makeImage('needed'), 'needed');
  const answer = await repository.send('DELETE', `/blobs/${config.digest}`);
  expect([answer.status, codeOf(answer)]).toEqual([405, 'UNSUPPORTED']);
});

test('one connection continues after answers without a body, and after deletions', async () => {
  const { digest } = makeContent('a blob', '');
  const requests = [
    ['HEAD', `/blobs/${absent.digest}`, 404],
    ['HEAD', `/blobs/${absent.digest}`, 404],
    ['HEAD', '/manifests/missing', 404],
    ['DELETE', `/blobs/${digest}`, 404],
    ['HEAD', `/blobs/${absent.digest}`, 404],
    ['GET', '/tags/list', 200],
  ] as const;
  const heads = requests.map(([method, path, status]) => {
    const connection = status === 200 ? 'close' : 'keep-alive';
    return `${method} /v2/local/app${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: ${connection}\r\n\r\n`;
  });
  const socket = connect(server.port, '127.0.0.1');
  socket.write(heads.join(''));
  const answers = (await text(socket)).split(/(?=HTTP\/1\.1 )/);
  expect(answers.map(answer => Number(answer.split(' ')[1]))).toEqual(requests.map(([, , status]) => status));
  expect(answers.map(answer => answer.split('\r\n\r\n')[1] !== '')).toEqual([false, false, false, true, false, true]);
});
