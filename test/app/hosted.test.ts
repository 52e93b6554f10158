// Hosted repositories through the whole app, as the configuration has them.
import { afterEach, describe, expect, test } from 'vitest';
import { descriptorOf, makeContent, makeImage, makeIndex, partsOf } from '../conformance/documents.ts';
import { openRepository } from '../conformance/repository.ts';
import { codeOf, startServer, type TestServer } from '../support/server.ts';

const index = makeIndex([]);
const moved = makeIndex([], { annotations: { moved: 'yes' } });
const blob = makeContent('a blob', '');

let server: TestServer;

afterEach(() => server.close());

describe('a prefix', () => {
  test('hosts what is below it, before the default upstream', async () => {
    const upstreams = { lab: { url: 'http://127.0.0.1:1' } };
    server = await startServer({ hosted: { prefixes: ['team/own/', 'library/'] }, upstreams });
    for (const name of ['team/own/app', 'team/own/deep/app', 'library/alpine']) {
      const repository = openRepository(server, name);
      expect((await repository.pushManifest(index, '1')).status).toBe(201);
      expect((await repository.send('GET', '/manifests/1')).body.equals(index.raw)).toBe(true);
    }
    for (const name of ['lab/other', 'team/own', 'team/app', 'local/app', 'alpine']) {
      const answer = await openRepository(server, name).pushManifest(index, '1');
      expect([name, answer.status, codeOf(answer)]).toEqual([name, 405, 'UNSUPPORTED']);
    }
  });

  test('keeps what was pushed while it is gone', async () => {
    server = await startServer();
    await openRepository(server, 'local/app').pushManifest(index, '1');
    server = await server.restart({ hosted: { prefixes: [] }, defaultUpstream: 'none' });
    expect((await server.send('GET', '/v2/local/app/manifests/1')).status).toBe(404);
    server = await server.restart({});
    expect((await server.send('GET', '/v2/local/app/manifests/1')).body.equals(index.raw)).toBe(true);
  });
});

test('an upload continues after a restart', async () => {
  server = await startServer();
  const before = openRepository(server, 'local/app');
  const upload = await before.startUpload();
  await before.send('PATCH', upload, { body: blob.raw.subarray(0, 3) });
  server = await server.restart({});
  const { send } = openRepository(server, 'local/app');
  expect((await send('GET', upload)).headers.range).toBe('0-2');
  const headers = { 'Content-Range': `3-${blob.size - 1}` };
  const put = await send('PUT', `${upload}?digest=${blob.digest}`, { headers, body: blob.raw.subarray(3) });
  expect(put.status).toBe(201);
  expect((await send('GET', `/blobs/${blob.digest}`)).body.equals(blob.raw)).toBe(true);
});

const image = makeImage('sparse');
const { config } = partsOf('sparse');

describe.each([
  ['refuse', { image: 404, index: 404 }],
  ['indexes', { image: 404, index: 201 }],
  ['allow', { image: 201, index: 201 }],
])('where sparse manifests are to %s', (sparse, statuses) => {
  test('only those are taken', async () => {
    server = await startServer({ hosted: { sparse } });
    const repository = openRepository(server, 'local/app');
    await repository.pushBlob(config);
    const missing = makeIndex([descriptorOf(makeContent('missing', image.mediaType))]);
    for (const [content, status] of [
      [image, statuses.image],
      [missing, statuses.index],
    ] as const) {
      const answer = await repository.pushManifest(content, '1');
      expect(answer.status).toBe(status);
      if (status === 404) expect(codeOf(answer)).toBe('MANIFEST_BLOB_UNKNOWN');
    }
  });

  test('a subject may be missing', async () => {
    server = await startServer({ hosted: { sparse } });
    const referrer = makeIndex([], { subject: descriptorOf(image) });
    expect((await openRepository(server, 'local/app').pushManifest(referrer)).status).toBe(201);
  });
});

test.each([
  ['tags', '/manifests/1', [405, 202, 202]],
  ['manifests', `/manifests/${index.digest}`, [202, 405, 202]],
  ['blobs', `/blobs/${blob.digest}`, [202, 202, 405]],
])('what is not to be deleted stays (%s)', async (kind, _, statuses) => {
  server = await startServer({ hosted: { deletes: { [kind]: false } } });
  const repository = openRepository(server, 'local/app');
  await repository.pushManifest(index, '1');
  await repository.pushBlob(blob);
  const paths = ['/manifests/1', `/manifests/${index.digest}`, `/blobs/${blob.digest}`];
  for (const [at, path] of paths.entries()) {
    const answer = await repository.send('DELETE', path);
    expect([path, answer.status]).toEqual([path, statuses[at]]);
    if (answer.status === 405) expect((await repository.send('HEAD', path)).status).toBe(200);
  }
});

test('an immutable tag is set once, and neither moves nor goes', async () => {
  const immutableTags = [{ repositories: ['local/**'], tags: ['v*'] }];
  server = await startServer({ hosted: { immutableTags } });
  const repository = openRepository(server, 'local/team/app');
  for (const tag of ['v1', 'v1', 'latest']) expect((await repository.pushManifest(index, tag)).status).toBe(201);
  const refused = [
    await repository.pushManifest(moved, 'v1'),
    await repository.pushManifest(moved, `${moved.digest}?tag=other&tag=v1`),
    await repository.send('DELETE', '/manifests/v1'),
    await repository.send('DELETE', `/manifests/${index.digest}`),
  ];
  for (const answer of refused) expect([answer.status, codeOf(answer)]).toEqual([403, 'DENIED']);
  expect((await repository.pushManifest(moved, 'latest')).status).toBe(201);
  const { body } = await repository.send('GET', '/tags/list');
  expect(JSON.parse(body.toString()).tags).toEqual(['latest', 'v1']);
  expect((await repository.send('HEAD', '/manifests/v1')).headers['docker-content-digest']).toBe(index.digest);
});
