// Lists of tags, page by page. distribution-spec "Listing Tags".
import { afterAll, beforeAll, expect, test } from 'vitest';
import { generateImage } from '../support/images.ts';
import { codeOf, startServer, type TestServer } from '../support/server.ts';
import { makeContent, makeIndex } from './documents.ts';
import { openRepository } from './repository.ts';

/** In ASCII order. */
const TAGS = ['1', '10', '2', 'B', 'Z-last', '_a', 'a', 'b', 'latest'];

let server: TestServer;

beforeAll(async () => {
  server = await startServer();
  const { pushManifest } = openRepository(server, 'local/app');
  for (const tag of [...TAGS].reverse()) await pushManifest(makeIndex([]), tag);
});

afterAll(() => server.close());

test('has all tags in ASCII order', async () => {
  expect(await list('')).toEqual({ tags: TAGS, link: undefined });
});

test.each([
  ['?n=100', TAGS],
  ['?n=9', TAGS],
  ['?n=0', []],
  ['?n=0&last=a', []],
  ['?last=a', ['b', 'latest']],
  ['?last=latest', []],
  ['?last=Bx', ['Z-last', '_a', 'a', 'b', 'latest']],
  ['?last=', TAGS],
  ['?n=2&last=b', ['latest']],
])('has no page after this one (%s)', async (query, tags) => {
  expect(await list(query)).toEqual({ tags, link: undefined });
});

test.each([1, 2, 4, 8])('leads from page to page (n=%i)', async n => {
  const found: string[] = [];
  let next: string | undefined = `/v2/local/app/tags/list?n=${n}`;
  while (next !== undefined) {
    const { status, headers, body } = await server.send('GET', next);
    const { tags } = JSON.parse(body.toString());
    expect([status, tags.length]).toEqual([200, Math.min(n, TAGS.length - found.length)]);
    found.push(...tags);
    next = /^<(\/[^>]+)>; rel="next"$/.exec(String(headers.link ?? ''))?.[1];
  }
  expect(found).toEqual(TAGS);
});

test.each(['-1', 'ten', '1.5', '', '9999999999'])('refuses n=%s', async n => {
  const answer = await server.send('GET', `/v2/local/app/tags/list?n=${n}`);
  expect([answer.status, codeOf(answer)]).toEqual([400, 'UNSUPPORTED']);
});

test('of a repository that has nothing are unknown', async () => {
  const answer = await server.send('GET', '/v2/local/none/tags/list');
  expect([answer.status, codeOf(answer)]).toEqual([404, 'NAME_UNKNOWN']);
});

test('of a repository without tags are an empty list', async () => {
  await openRepository(server, 'local/untagged').pushManifest(makeIndex([]));
  const { status, body } = await server.send('GET', '/v2/local/untagged/tags/list');
  expect([status, JSON.parse(body.toString())]).toEqual([200, { name: 'local/untagged', tags: [] }]);
});

test.each([
  ['', ['1']],
  ['?n=1', ['1']],
  ['?last=0', ['1']],
  ['?n=0', []],
  ['?last=1', []],
])('of a token are its own (%s)', async (query, tags) => {
  const { root, content } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
  const { pushBlob, pushManifest } = openRepository(server, 'local/image');
  for (const [digest, { mediaType, raw }] of content) {
    const part = makeContent(raw, mediaType);
    if (!/manifest|index/.test(mediaType)) await pushBlob(part);
    else await pushManifest(part, digest === root.digest ? '1' : digest);
  }
  const headers = { 'Content-Type': 'application/json' };
  const wanted = { containerImage: 'local/image:1', containerConfig: { env: ['A=1'] } };
  const { body } = await server.send('POST', '/v1alpha2/container', { headers, body: JSON.stringify(wanted) });
  const { pathname } = new URL(`http://${JSON.parse(body.toString()).targetImage}`);
  const answer = await server.send('GET', `/v2${pathname.replace(/:1$/, '')}/tags/list${query}`);
  expect([answer.status, JSON.parse(answer.body.toString()).tags]).toEqual([200, tags]);
});

async function list(query: string) {
  const { status, headers, body } = await server.send('GET', `/v2/local/app/tags/list${query}`);
  expect([status, headers['content-type']]).toEqual([200, 'application/json']);
  const { name, tags } = JSON.parse(body.toString());
  expect(name).toBe('local/app');
  return { tags, link: headers.link };
}
