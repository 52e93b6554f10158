// Veneer as the mirror of container runtimes: Docker Hub's names at the root, `ns` beside the name, and paths that begin with a registry.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeContent, makeIndex } from '../conformance/documents.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { codeOf, startServer, type TestServer } from '../support/server.ts';

const app = makeIndex([], { annotations: { repository: 'team/app' } });
const official = makeIndex([], { annotations: { repository: 'library/alpine' } });
/** Of repositories whose names begin as a registry's, a hosted one's or a token's would. */
const misleading = makeIndex([], { annotations: { repository: 'misleading' } });
const blob = makeContent('a blob', 'application/octet-stream');

let registry: TestRegistry;
let server: TestServer;

beforeEach(async () => {
  registry = await startRegistry();
  registry.put('team/app', [{ ...app, tags: ['3', '4', '5'] }, blob]);
  registry.put('library/alpine', [{ ...official, tags: ['3'] }]);
  for (const name of ['local/app', 'lab/app', 'ghcr.io/app', 'wt/0123456789ab/app']) {
    registry.put(name, [{ ...misleading, tags: ['3'] }]);
  }
});

afterEach(async () => {
  await server.close();
  await registry.close();
});

/** Upstreams under public hosts and an alias; nothing else is open. */
async function start(settings: Readonly<Record<string, unknown>> = {}): Promise<void> {
  const { url } = registry;
  const upstreams = { 'docker.io': { url }, 'quay.io': { url }, lab: { url } };
  server = await startServer({ openUpstreams: false, upstreams, ...settings });
}

async function get(path: string, headers: Readonly<Record<string, string>> = {}) {
  return server.send('GET', path, { headers });
}

describe('ns is the registry of the whole name', () => {
  test.each([
    ['docker.io', 'library/alpine', official],
    ['index.docker.io', 'library/alpine', official],
    ['registry-1.docker.io', 'alpine', official],
    ['Docker.IO:443', 'library/alpine', official],
    ['quay.io', 'team/app', app],
    ['QUAY.io:443', 'team/app', app],
    ['lab', 'team/app', app],
    ['quay.io', 'local/app', misleading],
    ['quay.io', 'lab/app', misleading],
    ['quay.io', 'ghcr.io/app', misleading],
  ])('ns=%s has %s, and the answer says so', async (ns, name, index) => {
    await start();
    for (const reference of ['3', index.digest]) {
      const { status, headers, body } = await get(`/v2/${name}/manifests/${reference}?ns=${ns}`);
      expect([status, headers['oci-namespace'], body.toString()]).toEqual([200, ns, index.raw.toString()]);
    }
  });

  test.each([
    ['quay.io', 'quay.io/team/app', app],
    ['docker.io', 'registry-1.docker.io/library/alpine', official],
  ])('ns=%s beside a path that begins with it, %s, is said twice', async (ns, name, index) => {
    await start();
    const { status, body } = await get(`/v2/${name}/manifests/3?ns=${ns}`);
    expect([status, body.toString()]).toEqual([200, index.raw.toString()]);
  });

  test('tags, referrers and blobs are in it too, and so is the next page', async () => {
    await start();
    const tags = await get('/v2/team/app/tags/list?n=2&ns=quay.io');
    expect(JSON.parse(tags.body.toString())).toEqual({ name: 'team/app', tags: ['3', '4'] });
    expect(tags.headers.link).toBe('</v2/team/app/tags/list?n=2&last=4&ns=quay.io>; rel="next"');
    const referrers = await get(`/v2/team/app/referrers/${app.digest}?ns=quay.io`);
    const got = await get(`/v2/team/app/blobs/${blob.digest}?ns=quay.io`);
    const head = await server.send('HEAD', `/v2/team/app/blobs/${blob.digest}?ns=quay.io`);
    expect(got.body.toString()).toBe('a blob');
    for (const { status, headers } of [tags, referrers, got, head]) {
      expect([status, headers['oci-namespace']]).toEqual([200, 'quay.io']);
    }
  });

  test('a host of our own is as none', async () => {
    await start({ listen: '127.0.0.1:8080' });
    for (const name of ['lab/team/app', 'quay.io/team/app', 'docker.io/team/app', 'team/app']) {
      expect((await get(`/v2/${name}/manifests/3?ns=localhost:8080`)).status).toBe(200);
    }
    await server.send('PUT', '/v2/local/own/manifests/1?ns=localhost:8080', {
      headers: { 'Content-Type': app.mediaType },
      body: app.raw,
    });
    expect((await get('/v2/local/own/manifests/1?ns=127.0.0.1:8080')).status).toBe(200);
    expect(codeOf(await get('/v2/wt/0123456789ab/app/manifests/3?ns=localhost:8080'))).toBe('NAME_UNKNOWN');
  });
});

describe('ns that leads nowhere', () => {
  test.each([
    ['an unknown registry', 'ns=ghcr.io', 404, 'ns is "ghcr.io": the registry "ghcr.io" is not configured'],
    ['an address', 'ns=127.0.0.1:1', 404, 'is not configured as an upstream'],
    ['a hosted prefix', 'ns=local', 404, 'is not configured as an upstream'],
    ['nothing', 'ns=', 400, 'ns is "": expected one registry'],
    ['two', 'ns=docker.io&ns=quay.io', 400, 'ns is given more than once: expected one registry'],
    ['the same twice', 'ns=docker.io&ns=docker.io', 400, 'more than once'],
    ['a URL', 'ns=http://quay.io', 400, 'expected one registry'],
    ['a path', 'ns=quay.io/team', 400, 'expected one registry'],
    ['user info', 'ns=user@quay.io', 400, 'expected one registry'],
    ['a line break', 'ns=quay.io%0d%0aX: y', 400, 'expected one registry'],
    ['a wildcard', 'ns=_default', 400, 'expected one registry'],
    ['a long name', `ns=${'a'.repeat(300)}.io`, 400, 'expected one registry'],
  ])('%s is refused, with a reason, and nobody is asked', async (_, query, status, message) => {
    await start();
    for (const path of ['manifests/3', `blobs/${blob.digest}`, 'tags/list', `referrers/${app.digest}`]) {
      const answer = await get(`/v2/team/app/${path}?${encodeURI(query).replaceAll('%25', '%')}`);
      expect([answer.status, codeOf(answer)]).toEqual([status, status === 404 ? 'NAME_UNKNOWN' : 'NAME_INVALID']);
      expect(JSON.parse(answer.body.toString()).errors[0].message).toContain(message);
    }
    expect(registry.requests).toEqual([]);
  });

  test('an open registry is as in a path: a private address is not dialled', async () => {
    await start({ openUpstreams: true });
    const answer = await get(`/v2/team/app/manifests/3?ns=${registry.host}`);
    expect([answer.status, codeOf(answer)]).toEqual([403, 'DENIED']);
    expect(registry.requests).toEqual([]);
  });

  test('names of tokens are in no other registry: none gets to know a token', async () => {
    await start();
    const answer = await get('/v2/wt/0123456789ab/app/manifests/3?ns=quay.io');
    expect([answer.status, codeOf(answer)]).toEqual([404, 'NAME_UNKNOWN']);
    expect(registry.requests).toEqual([]);
  });

  test('nothing is pushed to a registry that is mirrored, also where its name would be hosted', async () => {
    await start();
    const sent = { headers: { 'Content-Type': app.mediaType }, body: app.raw };
    const put = await server.send('PUT', '/v2/local/app/manifests/1?ns=quay.io', sent);
    const post = await server.send('POST', '/v2/local/app/blobs/uploads/?ns=quay.io');
    for (const answer of [put, post]) expect([answer.status, codeOf(answer)]).toEqual([405, 'UNSUPPORTED']);
    expect((await get('/v2/local/app/manifests/1')).status).toBe(404);
  });

  test('whatever it is, the answer is a refusal, says nothing of it in headers, and dials no one', async () => {
    await start();
    const alphabet = [
      'a',
      'io',
      '.',
      ':',
      '/',
      '%00',
      '%0a',
      '@',
      '[',
      ']',
      '1',
      '-',
      '_',
      '%2e',
      '%F0%9F%90%B3',
      '#'.replace('#', '%23'),
    ];
    let seed = 7;
    const next = (bound: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % bound;
    };
    for (let round = 0; round < 400; round++) {
      const ns = Array.from({ length: next(9) }, () => alphabet[next(alphabet.length)]).join('');
      const answer = await get(`/v2/team/app/manifests/3?ns=${ns}`);
      expect([400, 404], ns).toContain(answer.status);
      expect(['NAME_INVALID', 'NAME_UNKNOWN'], ns).toContain(codeOf(answer));
      expect(answer.headers['oci-namespace'] ?? decodeURIComponent(ns), ns).toBe(decodeURIComponent(ns));
    }
    expect(registry.requests).toEqual([]);
  });
});

test('the right that is asked for is of the registry and repository that ns and name give', async () => {
  const access = { grants: [{ anyone: true, repositories: ['quay.io/team/**'], allow: ['pull'] }] };
  await start({ access });
  expect((await get('/v2/team/app/manifests/3?ns=quay.io')).status).toBe(200);
  for (const ns of ['docker.io', 'lab']) {
    const { status, headers } = await get(`/v2/team/app/manifests/3?ns=${ns}`);
    expect(status).toBe(401);
    expect(headers['www-authenticate']).toContain(`scope="repository:${ns}/team/app:pull"`);
  }
  expect((await get('/v2/quay.io/team/app/manifests/3?ns=docker.io')).status).toBe(401);
});

test('who sends a token that has expired is told to get one for the registry that ns gives', async () => {
  await start({ access: {} });
  const { status, headers } = await get('/v2/team/app/manifests/3?ns=quay.io', { Authorization: 'Bearer ey.x.y' });
  expect([status, headers['www-authenticate']]).toEqual([
    401,
    expect.stringContaining('scope="repository:quay.io/team/app:pull",error="invalid_token"'),
  ]);
});

test('a pull through the mirror waits for the image that a recipe builds', async () => {
  await start();
  const containerFile = join(server.directory, 'Containerfile');
  await writeFile(containerFile, 'FROM scratch\nLABEL made=here\n');
  const recipes = [{ match: 'docker.io/tools/{name}:{version}', containerFile, platforms: ['linux/amd64'] }];
  const { url } = registry;
  const builds = { backends: ['embedded'], repository: 'local/builds', recipes };
  server = await server.restart({ upstreams: { 'docker.io': { url }, 'quay.io': { url } }, builds });
  const accept = { Accept: 'application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json' };
  const mirrored = await get('/v2/tools/one/manifests/1?ns=docker.io', accept);
  expect([mirrored.status, mirrored.headers['oci-namespace']]).toEqual([200, 'docker.io']);
  for (const path of ['tools/one', 'docker.io/tools/one']) {
    expect((await get(`/v2/${path}/manifests/1`, accept)).body.equals(mirrored.body)).toBe(true);
  }
  expect((await get('/v2/tools/one/manifests/1?ns=quay.io', accept)).status).toBe(404);
});
