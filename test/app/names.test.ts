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
  expect([answer.status, codeOf(answer)]).toEqual([404, 'NAME_UNKNOWN']);
});

test.each(['', 'localhost:8080/', '127.0.0.1:8080/', '[::1]:8080/', 'veneer.example/'])(
  'before a hosted name our own host "%s" means nothing more, in a path and in a request',
  async host => {
    const grants = [{ anyone: true, repositories: ['**'], allow: ['pull', 'push'] }];
    server = await startServer({ publicUrl: 'https://veneer.example', access: { grants } });
    const headers = { 'Content-Type': official.mediaType };
    await server.send('PUT', '/v2/local/app/manifests/1', { headers, body: official.raw });
    expect((await server.send('HEAD', `/v2/${host}local/app/manifests/1`)).status).toBe(200);
    const body = JSON.stringify({ containerImage: `${host}local/app:1` });
    const asked = { headers: { 'Content-Type': 'application/json' }, body };
    const answer = await server.send('POST', '/v1alpha1/inspect', asked);
    expect([answer.status, answer.body.toString()]).toEqual([200, expect.stringContaining(official.digest)]);
  },
);

test('an upstream that the configuration names has its host to itself', async () => {
  server = await startServer({ listen: registry.host, upstreams: { [registry.host]: { url: registry.url } } });
  const { status, body } = await server.send('GET', `/v2/${registry.host}/team/app/manifests/3`);
  expect([status, body.toString()]).toEqual([200, other.raw.toString()]);
});

test.each(['', 'localhost:8080/', 'veneer.example/'])(
  '"%swt/…" is a token, and no upstream gets to know it',
  async host => {
    server = await startServer({
      publicUrl: 'https://veneer.example',
      upstreams: { 'docker.io': { url: registry.url } },
    });
    const name = `${host}wt/0123456789ab/library/alpine`;
    for (const query of ['', '?ns=veneer.example']) {
      const answer = await server.send('GET', `/v2/${name}/manifests/3${query}`);
      expect([answer.status, codeOf(answer)]).toEqual([404, 'NAME_UNKNOWN']);
    }
    const headers = { 'Content-Type': 'application/json' };
    for (const [path, field] of [
      ['/v1alpha2/container', 'containerImage'],
      ['/v1alpha1/inspect', 'containerImage'],
    ]) {
      const answer = await server.send('POST', `${path}`, {
        headers,
        body: JSON.stringify({ [`${field}`]: `${name}:3` }),
      });
      expect(answer.status).toBe(400);
    }
    expect(registry.requests).toEqual([]);
  },
);
