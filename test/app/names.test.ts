// What the names in a path mean: a registry by its host, an alias, or the default upstream.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { makeIndex } from '../conformance/documents.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { codeOf, startServer, type TestServer } from '../support/server.ts';

const official = makeIndex([], { annotations: { repository: 'library/alpine' } });
const other = makeIndex([], { annotations: { repository: 'team/app' } });

let registry: TestRegistry;
let server: TestServer;

beforeEach(async () => {
  registry = await startRegistry();
  registry.put('library/alpine', [{ ...official, tags: ['3'] }]);
  registry.put('team/app', [{ ...other, tags: ['3'] }]);
});

afterEach(async () => {
  await server.close();
  await registry.close();
});

test.each([
  ['alpine', official],
  ['library/alpine', official],
  ['docker.io/alpine', official],
  ['docker.io/library/alpine', official],
  ['index.docker.io/alpine', official],
  ['registry-1.docker.io/library/alpine', official],
  ['team/app', other],
  ['docker.io/team/app', other],
  ['lab/team/app', other],
])(
  '%s is found at docker.io, which is the default, where its one-word names are below library/',
  async (name, index) => {
    const { url } = registry;
    server = await startServer({ upstreams: { 'docker.io': { url }, lab: { url } } });
    const { status, body } = await server.send('GET', `/v2/${name}/manifests/3`);
    expect([status, body.toString()]).toEqual([200, index.raw.toString()]);
  },
);

test('another default upstream has names as they are, and no library/', async () => {
  server = await startServer({ upstreams: { lab: { url: registry.url } }, defaultUpstream: 'lab' });
  expect((await server.send('GET', '/v2/team/app/manifests/3')).status).toBe(200);
  const answer = await server.send('GET', '/v2/alpine/manifests/3');
  expect([answer.status, codeOf(answer)]).toEqual([404, 'MANIFEST_UNKNOWN']);
});
