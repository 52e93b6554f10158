// Requests that are meant to break hosted repositories: each is refused by name, and nothing else changes.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { descriptorOf, makeContent, makeIndex } from '../conformance/documents.ts';
import { openRepository, type Repository } from '../conformance/repository.ts';
import { type Answer, codeOf, startServer, type TestServer } from '../support/server.ts';

const index = makeIndex([]);
const blob = makeContent('a blob', '');

let server: TestServer;
let repository: Repository;

beforeAll(async () => {
  server = await startServer({ defaultUpstream: 'none' });
  repository = openRepository(server, 'local/app');
  await repository.pushManifest(index, '1');
});

afterAll(() => server.close());

test.each([
  ['local%2f..%2fx', 400, 'NAME_INVALID'],
  ['local/x%2f..', 400, 'NAME_INVALID'],
  ['local//x', 400, 'NAME_INVALID'],
  ['local/', 400, 'NAME_INVALID'],
  ['local/x/', 400, 'NAME_INVALID'],
  ['local/X', 400, 'NAME_INVALID'],
  ['local/x%00', 400, 'NAME_INVALID'],
  ['local/x%0d%0aX-Injected:1', 404, 'UNKNOWN'],
  ['local/x%20y', 400, 'NAME_INVALID'],
  ['local/-x', 400, 'NAME_INVALID'],
  ['local/x:1', 400, 'NAME_INVALID'],
  ['local/x%40sha256', 400, 'NAME_INVALID'],
  [`local/${'x'.repeat(256)}`, 400, 'NAME_INVALID'],
  [`local/${'x'.repeat(252)}`, 400, 'NAME_INVALID'],
  ['LOCAL/x', 404, 'NAME_UNKNOWN'],
  ['Local/x', 404, 'NAME_UNKNOWN'],
  ['local', 404, 'NAME_UNKNOWN'],
  ['localx/x', 404, 'NAME_UNKNOWN'],
  ['local/../x', 404, 'NAME_UNKNOWN'],
])('nothing is pushed as %s', async (name, status, code) => {
  const push = { headers: { 'Content-Type': index.mediaType }, body: index.raw };
  const answers = [
    await server.send('PUT', `/v2/${name}/manifests/1`, push),
    await server.send('POST', `/v2/${name}/blobs/uploads/?digest=${blob.digest}`, { body: blob.raw }),
  ];
  for (const answer of answers) {
    expect([answer.status, codeOf(answer)]).toEqual([status, code]);
    expect(answer.headers['x-injected']).toBeUndefined();
  }
});

test('a name that is written in another way is the same', async () => {
  for (const name of ['local%2Fapp', '%6cocal/app', 'x/../local/app']) {
    expect((await server.send('GET', `/v2/${name}/manifests/1`)).body.equals(index.raw)).toBe(true);
  }
});

test.each(['manifests', 'blobs', 'uploads', 'tags', 'list', 'referrers', 'wt'])(
  'a repository may be called as a part of a path is (%s)',
  async word => {
    const odd = openRepository(server, `local/${word}/${word}`);
    await odd.pushBlob(blob);
    expect((await odd.pushManifest(index, '1')).status).toBe(201);
    for (const path of ['/manifests/1', '/tags/list', `/blobs/${blob.digest}`]) {
      expect([path, (await odd.send('GET', path)).status]).toEqual([path, 200]);
    }
  },
);

const HEX = '0'.repeat(64);

test.each([
  `sha256:${'A'.repeat(64)}`,
  `SHA256:${HEX}`,
  `sha512:${HEX}`,
  `sha256:${HEX}0`,
  `sha256:${HEX}%0d%0aX-Injected:1`,
  `sha256:..%2f..%2f${'0'.repeat(58)}`,
  `sha256:${HEX}%00`,
  `sha1:${'0'.repeat(40)}`,
  `sha256+b64:${HEX}`,
  `constructor:${HEX}`,
])('%s is no digest', async digest => {
  const upload = await repository.startUpload();
  const answers = [
    await repository.send('GET', `/manifests/${digest}`),
    await repository.pushManifest(index, digest),
    await repository.send('GET', `/blobs/${digest}`),
    await repository.send('DELETE', `/blobs/${digest}`),
    await repository.send('GET', `/referrers/${digest}`),
    await repository.send('GET', `/referrers/${index.digest}?last=${digest.replace('+', '%2B')}`),
    await repository.send('POST', `/blobs/uploads/?mount=${digest}`),
    await repository.send('PUT', `${upload}?digest=${digest}`, { body: blob.raw }),
  ];
  for (const answer of answers) {
    expect([answer.status, codeOf(answer)]).toEqual([400, 'DIGEST_INVALID']);
    expect(answer.headers['x-injected']).toBeUndefined();
  }
});

test('the first of very many uploads continues', async () => {
  const first = await repository.startUpload();
  await repository.send('PATCH', first, { body: blob.raw.subarray(0, 3) });
  for (let i = 0; i < 1100; i++) await openRepository(server, `local/app/${i % 2}`).startUpload();
  const put = await repository.send('PUT', `${first}?digest=${blob.digest}`, { body: blob.raw.subarray(3) });
  expect(put.status).toBe(201);
});

test('uploads that nobody ends fill neither the disk nor another repository', async () => {
  const flooded = openRepository(server, 'local/flooded');
  for (let i = 0; i < 1000; i++) await flooded.startUpload();
  for (const query of ['', `?digest=${blob.digest}`, `?mount=${makeContent('nowhere', '').digest}`]) {
    const answer = await flooded.send('POST', `/blobs/uploads/${query}`, { body: blob.raw });
    expect([answer.status, codeOf(answer)]).toEqual([429, 'TOOMANYREQUESTS']);
  }
  expect((await repository.send('POST', `/blobs/uploads/?digest=${blob.digest}`, { body: blob.raw })).status).toBe(201);
});

test('indexes below indexes are served, and neither augmented nor searched without end', async () => {
  let top = index;
  for (let i = 0; i < 100; i++) {
    top = makeIndex([descriptorOf(top)], { annotations: { level: `${i}` } });
    expect((await repository.pushManifest(top)).status).toBe(201);
  }
  await repository.pushManifest(top, 'deep');
  expect((await repository.send('GET', `/manifests/${top.digest}`)).body.equals(top.raw)).toBe(true);
  await expectBadImage('deep');
  const headers = { Accept: 'application/vnd.oci.image.manifest.v1+json' };
  const narrowed = await repository.send('GET', '/manifests/deep', { headers });
  expect([narrowed.status, codeOf(narrowed)]).toEqual([400, 'MANIFEST_INVALID']);
});

test('a manifest that nests without end is kept as it is, and not augmented', async () => {
  const depth = 1_000_000;
  const json = `{"schemaVersion":2,"mediaType":"${index.mediaType}","manifests":[],"x":${'['.repeat(depth)}${']'.repeat(depth)}}`;
  const nested = makeContent(json, index.mediaType);
  const { status } = await repository.pushManifest(nested, 'nested');
  expect([201, 400]).toContain(status);
  await expectBadImage('nested');
  expect((await server.send('GET', '/health/live')).status).toBe(200);
});

test('a manifest may name what objects inherit', async () => {
  const json = `{"schemaVersion":2,"mediaType":"${index.mediaType}","manifests":[],"annotations":{"__proto__":"a","constructor":"b"},"__proto__":{"manifests":1},"subject":${JSON.stringify(descriptorOf(index))}}`;
  const odd = makeContent(json, index.mediaType);
  expect((await repository.pushManifest(odd, 'odd')).status).toBe(201);
  expect((await repository.send('GET', '/manifests/odd')).body.equals(odd.raw)).toBe(true);
  const { status, body } = await repository.send('GET', `/referrers/${index.digest}`);
  expect([status, body.toString()]).toEqual([200, expect.stringContaining(odd.digest)]);
});

test('a manifest has no more references than there are records for it', async () => {
  const entries = Array.from({ length: 8193 }, (_, i) => descriptorOf(makeContent(`${i}`, index.mediaType)));
  const answer = await repository.pushManifest(makeIndex(entries), 'many');
  expect([answer.status, codeOf(answer)]).toEqual([400, 'MANIFEST_INVALID']);
});

async function expectBadImage(tag: string): Promise<void> {
  const requests: readonly (readonly [string, object])[] = [
    ['/v1alpha2/container', { containerImage: `local/app:${tag}`, containerConfig: { env: ['A=1'] } }],
    ['/v1alpha1/inspect?platform=linux/amd64', { containerImage: `local/app:${tag}` }],
  ];
  for (const [path, body] of requests) {
    const headers = { 'Content-Type': 'application/json' };
    const answer: Answer = await server.send('POST', path, { headers, body: JSON.stringify(body) });
    expect([path, answer.status]).toEqual([path, 400]);
  }
}
