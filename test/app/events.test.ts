// What requests do is told to webhooks: who did it, from where, and to what; with no token in it.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type BuildRecord, buildRecordSchema } from '../../src/builds/record.ts';
import type { NewEvent, RegistryEvent } from '../../src/events/event.ts';
import { createRegistryEvents } from '../../src/http/distribution/registry-events.ts';
import { basic } from '../access/fixture.ts';
import { makeContent, makeIndex } from '../conformance/documents.ts';
import { type Receiver, receive } from '../events/receiver.ts';
import { type GeneratedImage, generateImage } from '../support/images.ts';
import type { Sent } from '../support/server.ts';
import { type GuardedServer, startGuarded } from './callers.ts';

const index = makeIndex([]);
const blob = makeContent('a blob', '');

let receiver: Receiver;
let server: GuardedServer;

beforeEach(async () => {
  receiver = await receive();
  const on = ['push', 'pull', 'delete'];
  const headers = { Authorization: 'Bearer endpoint-secret' };
  server = await startGuarded({ events: { endpoints: [{ name: 'hook', url: receiver.url.href, headers, on }] } });
});

afterEach(() => server.close());

test('a push, a pull and a deletion come in their order, with who, what and how', async () => {
  await send('writer', 'POST', `/v2/local/app/blobs/uploads/?digest=${blob.digest}`, { body: blob.raw });
  await send('writer', 'PUT', '/v2/local/app/manifests/1', manifest());
  await send('reader', 'GET', '/v2/local/app/manifests/1');
  await send('reader', 'GET', `/v2/local/app/manifests/${index.digest}`);
  await send('cleaner', 'DELETE', '/v2/local/app/manifests/1');
  await send('cleaner', 'DELETE', `/v2/local/app/manifests/${index.digest}`);

  const place = { repository: 'local/app', digest: index.digest };
  const content = { ...place, mediaType: index.mediaType, size: index.size };
  const events = await received(6);
  expect(events.map(({ action, actor, target, request }) => [action, actor.name, request.method, target])).toEqual([
    [
      'push',
      'writer',
      'POST',
      expect.objectContaining({ digest: blob.digest, mediaType: 'application/octet-stream', size: blob.size }),
    ],
    ['push', 'writer', 'PUT', expect.objectContaining({ ...content, tag: '1' })],
    ['pull', 'reader', 'GET', expect.objectContaining({ ...content, tag: '1' })],
    ['pull', 'reader', 'GET', expect.objectContaining(content)],
    ['delete', 'cleaner', 'DELETE', expect.objectContaining({ repository: 'local/app', tag: '1' })],
    ['delete', 'cleaner', 'DELETE', expect.objectContaining(place)],
  ]);
  for (const { request } of events) expect(request).toMatchObject({ addr: '127.0.0.1', useragent: 'docker/29.0.0' });
  expect(receiver.posts[0]?.headers.authorization).toBe('Bearer endpoint-secret');
  expect(server.log.join('')).not.toContain('endpoint-secret');
});

test('what is asked for by HEAD, or refused, is no event', async () => {
  await send('writer', 'PUT', '/v2/local/app/manifests/1', manifest());
  await send('reader', 'HEAD', '/v2/local/app/manifests/1');
  await send('reader', 'PUT', '/v2/local/app/manifests/2', manifest());
  await send('blind', 'GET', '/v2/local/app/manifests/1');
  await send('reader', 'GET', '/v2/local/app/manifests/none');
  await send('cleaner', 'DELETE', '/v2/local/app/manifests/1');
  expect((await received(2)).map(({ action }) => action)).toEqual(['push', 'delete']);
});

test('a target that can be read here has its address, by a Host of loopback alone', async () => {
  for (const [tag, Host] of [
    ['1', `127.0.0.1:${server.port}`],
    ['2', 'veneer.example'],
  ] as const) {
    const headers = { ...manifest().headers, Host };
    await send('writer', 'PUT', `/v2/local/app/manifests/${tag}`, { headers, body: index.raw });
  }
  const url = `http://127.0.0.1:${server.port}/v2/local/app/manifests/${index.digest}`;
  expect((await received(2)).map(({ target }) => 'url' in target && target.url)).toEqual([url, false]);
  expect((await send('writer', 'GET', new URL(url).pathname)).status).toBe(200);
});

test('each of many pushes at the same time has its own actor', async () => {
  const users = ['writer', 'admin', 'blind'];
  const tags = Array.from({ length: 30 }, (_, i) => `${users[i % 3]}-${i}`);
  await Promise.all(
    tags.map(async tag => {
      const url = `http://127.0.0.1:${server.port}/v2/local/app/manifests/${tag}`;
      const headers = { 'Content-Type': index.mediaType, Authorization: basic(tag.split('-')[0] ?? '', 'password') };
      expect((await fetch(url, { method: 'PUT', headers, body: Buffer.from(index.raw) })).status).toBe(201);
    }),
  );
  const events = await received(30);
  expect(events.map(({ target }) => ('tag' in target ? target.tag : undefined)).sort()).toEqual([...tags].sort());
  for (const { target, actor } of events) expect(actor.name).toBe('tag' in target && target.tag?.split('-')[0]);
});

test('a pull by token names the image, and not the token', async () => {
  const image = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
  await push(image);
  const { body } = await send('admin', 'POST', '/v1alpha2/container', {
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ containerImage: 'local/app:1', containerConfig: { env: ['A=1'] } }),
  });
  const { requestId, targetImage, targetDigest } = JSON.parse(body.toString());
  const name = new URL(`http://${targetImage}`).pathname.slice(1).replace(/:1$/, '');
  expect((await server.send('GET', `/v2/${name}/manifests/1`)).status).toBe(200);

  const pulls = (await received(image.content.size + 1)).filter(({ action }) => action === 'pull');
  expect(pulls.map(({ target, actor }) => [target, actor])).toEqual([
    [expect.objectContaining({ repository: 'local/app', tag: '1', digest: targetDigest }), {}],
  ]);
  expect(JSON.stringify(receiver.posts)).not.toContain(requestId);
});

test('an access token and a bearer token are named as what they are', async () => {
  for (const by of ['access token', 'bearer token'] as const) {
    const authorization = await server.authorizationOf({ user: 'writer', by }, 'repository:local/app:pull,push');
    const headers = { ...manifest().headers, ...(authorization && { Authorization: authorization }) };
    await server.send('PUT', '/v2/local/app/manifests/1', { headers, body: index.raw });
  }
  const names = (await received(2)).map(({ actor }) => actor.name);
  expect(names).toEqual([expect.stringMatching(/^token:[0-9a-f]{12}$/), 'writer']);
});

test('a build that succeeds is reported, with who asked for it and the name of its image', async () => {
  await server.close();
  receiver = await receive();
  const endpoint = { name: 'hook', url: receiver.url.href, on: ['build'] };
  server = await startGuarded({ events: { endpoints: [endpoint] }, builds: { backends: ['embedded'] } });
  const ids = ['FROM scratch\nCOPY missing /', 'FROM scratch\nLABEL a=b'].map(async (file, at) => {
    const containerFile = Buffer.from(file).toString('base64');
    const { body } = await send('writer', 'POST', '/v1alpha2/container', {
      headers: { 'Content-Type': 'application/json', Host: `127.0.0.1:${server.port}` },
      body: JSON.stringify({ containerFile, buildRepository: 'local/app', buildTag: `${at}` }),
    });
    return JSON.parse(body.toString()).buildId;
  });
  for (const id of await Promise.all(ids)) await send('writer', 'GET', `/v1alpha1/builds/${id}/logs`);
  const digest = (await send('writer', 'HEAD', '/v2/local/app/manifests/1')).headers['docker-content-digest'];
  expect(await received(1)).toEqual([
    {
      id: expect.any(String),
      timestamp: expect.any(String),
      action: 'build',
      target: { repository: 'local/app', tag: '1', digest },
      actor: { name: 'writer' },
      request: { method: '' },
    },
  ]);
});

test('a build that nobody asked for by a request was asked for by Veneer', () => {
  const emitted: NewEvent[] = [];
  const { built } = createRegistryEvents({ emit: async event => void emitted.push(event) });
  for (const caller of ['', ':recipes', 'ada']) built(buildRecordOf(caller));
  expect(emitted.map(({ actor }) => actor)).toEqual([{}, { name: 'veneer' }, { name: 'ada' }]);
});

test('what no request did was done by Veneer', () => {
  const emitted: unknown[] = [];
  const { changed } = createRegistryEvents({ emit: async event => void emitted.push(event) });
  changed({
    kind: 'delete',
    repository: 'local/app',
    digest: index.digest,
    mediaType: index.mediaType,
    size: index.size,
  });
  expect(emitted).toEqual([
    {
      action: 'delete',
      target: { repository: 'local/app', digest: index.digest },
      actor: { name: 'veneer' },
      request: { method: '' },
    },
  ]);
});

function buildRecordOf(caller: string): BuildRecord {
  const target = { repository: 'local/app' };
  return buildRecordSchema.parse({
    ...{ id: 'bd-0123456789abcdef_1', image: 'local/app:1', status: 'succeeded', digest: index.digest, caller },
    ...{ priority: 0, createdAt: '2030-01-01T00:00:00Z', starts: 1 },
    spec: { kind: 'containerfile', containerFile: 'FROM a', platforms: ['linux/amd64'], bases: {}, target },
  });
}

function manifest(): Sent {
  return { headers: { 'Content-Type': index.mediaType }, body: index.raw };
}

/** All events, once `count` of them have come. */
async function received(count: number): Promise<readonly RegistryEvent[]> {
  for (let posts = 1; ; posts++) {
    await receiver.arrived(posts);
    const events = receiver.posts.flatMap(post => post.events);
    if (events.length >= count) return events;
  }
}

async function push({ root, content }: GeneratedImage): Promise<void> {
  for (const [digest, { mediaType, raw: body }] of content) {
    const headers = { 'Content-Type': mediaType };
    const reference = digest === root.digest ? '1' : digest;
    if (!/manifest|index/.test(mediaType)) {
      await send('admin', 'POST', `/v2/local/app/blobs/uploads/?digest=${digest}`, { body });
    } else await send('admin', 'PUT', `/v2/local/app/manifests/${reference}`, { headers, body });
  }
}

function send(user: string, method: string, path: string, { headers, body }: Sent = {}) {
  const all = { ...headers, Authorization: basic(user, 'password'), 'User-Agent': 'docker/29.0.0' };
  return server.send(method, path, { headers: all, ...(body && { body }) });
}
