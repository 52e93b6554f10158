// What the credentials of one client opened: for that client alone and for as long as its scope lasts, though the bytes are kept once.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBlobs } from '../../../src/cache/read-through/blobs.ts';
import { createLinks, type Links, type UpstreamRepository } from '../../../src/cache/read-through/links.ts';
import { createManifests } from '../../../src/cache/read-through/manifests.ts';
import { createNegativeCache } from '../../../src/cache/read-through/negative-cache.ts';
import { createTags } from '../../../src/cache/read-through/tags.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import type { ContentStore } from '../../../src/content/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { mediaTypes } from '../../../src/oci/media-type.ts';
import { createCachedRegistries } from '../../../src/pull/registries.ts';
import type { Registry } from '../../../src/pull/registry.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import type { Upstreams } from '../../../src/upstream/upstream.ts';
import { createUpstreams } from '../../../src/upstream/upstreams.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { PATIENT } from '../../support/patience.ts';
import { createPrivacy, type Privacy } from '../../support/private-registry.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';

const memory = createMemory();

const MINUTE = 60_000;
const blob = Buffer.from('the bytes of a layer');
const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: [] }));
const [blobDigest, manifestDigest] = [digestOf(blob), digestOf(manifest)];
const alice = { username: 'alice', password: 'a' };
const bob = { username: 'bob', password: 'b' };
const carol = { username: 'carol', password: 'c' };
const users = {
  alice: { password: 'a', repositories: ['app', 'other'] },
  bob: { password: 'b', repositories: ['bob'] },
  carol: { password: 'c', repositories: ['app'] },
};

let directory: string;
let registry: TestRegistry;
let thief: TestRegistry;
let privacy: Privacy;
let content: ContentStore;
let records: RecordStore;
let links: Links;
/** Links are written after it. */
let mayWrite: Promise<void>;
let upstreams: Upstreams;
let nowMs: number;
let registryOf: ReturnType<typeof createCachedRegistries>;

beforeEach(async () => {
  nowMs = Date.UTC(2030, 0, 1);
  const now = () => new Date(nowMs);
  directory = await mkdtemp(join(tmpdir(), 'veneer-scopes-'));
  [registry, thief] = [await startRegistry(), await startRegistry()];
  for (const name of ['app', 'other', 'bob']) {
    if (name !== 'bob') registry.put(name, [{ mediaType: 'application/octet-stream', raw: blob }]);
    registry.put(name, [
      { mediaType: mediaTypes.ociIndex, raw: name === 'bob' ? Buffer.from('{}') : manifest, tags: ['1'] },
    ]);
  }
  privacy = createPrivacy({ scheme: 'Basic', users });
  registry.intercept(privacy.intercept);
  content = await createDiskStore({ directory });
  records = createMemoryStore({ now });
  mayWrite = Promise.resolve();
  const write: RecordStore['write'] = (...args) => mayWrite.then(() => records.write(...args));
  links = createLinks({ ...records, write }, memory);
  upstreams = createUpstreams({
    memory,
    entries: { lab: { url: registry.url, passCredentials: true }, thief: { url: thief.url } },
    openUpstreams: false,
    allowPrivateUrls: false,
    timeouts: PATIENT,
    retries: 0,
    scopes: { key: Buffer.alloc(32, 1), lifeMs: 5 * MINUTE },
    clock: { now, wait: async () => {} },
  });
  const negativeCache = createNegativeCache({ memory, memoryMs: 10 * MINUTE, now });
  const manifests = createManifests({ memory, content, links, negativeCache });
  const policy = {
    tagFreshnessMs: 60 * MINUTE,
    staleMaxAgeMs: 7 * 24 * 60 * MINUTE,
    staleOn: ['unavailable', 'notFound', 'unauthorized'],
    negativeMs: 10 * MINUTE,
  } as const;
  registryOf = createCachedRegistries({
    manifests,
    tags: createTags({ memory, records, now, policy, manifests }),
    blobs: createBlobs({ content, links, onFailed: () => {} }),
  });
});

afterEach(async () => {
  await upstreams.close();
  await content.close();
  await Promise.all([registry.close(), thief.close()]);
  await rm(directory, { recursive: true });
});

/** Every way to what is kept of a repository. */
const ROUTES: Readonly<Record<string, (place: Registry, repository: string) => Promise<unknown>>> = {
  'a tag': (place, repository) => place.resolveTag(repository, '1'),
  'a manifest': (place, repository) => place.getManifest(repository, manifestDigest),
  'a blob': async (place, repository) => textOf(await (await place.getBlob(repository, blobDigest)).open()),
  'a look at a blob': (place, repository) => place.headBlob(repository, blobDigest),
  'a config': (place, repository) =>
    place.readConfig(repository, { mediaType: mediaTypes.ociConfig, digest: blobDigest, size: blob.length }),
  'the tags': (place, repository) => place.listTags(repository, {}),
  referrers: (place, repository) => place.findReferrers(repository, manifestDigest),
};

describe.each(Object.entries(ROUTES))('%s', (_, ask) => {
  beforeEach(async () => {
    for (const each of Object.values(ROUTES)) await each(as(alice), 'app');
    await expect.poll(() => links.holdersOf(blobDigest)).not.toEqual([]);
  });

  test.each([
    ['another client', bob, 403],
    ['nobody', undefined, 401],
    ['the same name with another password', { ...alice, password: 'guess' }, 401],
  ])('that one client opened is not for %s', async (_client, who, status) => {
    await expect(ask(as(who), 'app')).rejects.toMatchObject({ status });
  });

  test('is for another client whom the upstream lets have it', async () => {
    await ask(as(carol), 'app');
    expect(registry.requests.at(-1)?.headers.authorization).toBe(`Basic ${btoa('carol:c')}`);
  });

  test('is lost with the rights at the upstream, at the end of the scope', async () => {
    privacy.revoke('alice');
    nowMs += 5 * MINUTE;
    await expect(ask(as(alice), 'app')).rejects.toMatchObject({ status: 401 });
  });

  test('is kept from a client that was shut out although the upstream does not answer', async () => {
    registry.intercept((_request, response) => Boolean(response.writeHead(503).end()));
    nowMs += 5 * MINUTE;
    await expect(ask(as(alice), 'app')).rejects.toMatchObject({ status: 502 });
  });
});

describe('for the one that opened it', () => {
  test('it is served without asking until the scope ends, and then a HEAD is all that it costs', async () => {
    const kept = ['a tag', 'a manifest', 'a blob', 'a look at a blob', 'a config'].flatMap(
      route => ROUTES[route] ?? [],
    );
    for (const ask of kept) await ask(as(alice), 'app');
    await expect.poll(() => links.holdersOf(blobDigest)).not.toEqual([]);
    registry.requests.length = 0;
    for (const ask of kept) await ask(as(alice), 'app');
    expect(registry.requests).toEqual([]);
    nowMs += 5 * MINUTE;
    for (const ask of kept) await ask(as(alice), 'app');
    const sent = registry.requests.filter(({ headers }) => headers.authorization);
    expect(new Set(sent.map(({ method }) => method))).toEqual(new Set(['HEAD']));
  });

  test.each(['a blob', 'a look at a blob', 'a config'])(
    '%s is not asked for while its link is written',
    async route => {
      const { promise, resolve } = Promise.withResolvers<void>();
      mayWrite = promise;
      await ROUTES['a blob']?.(as(alice), 'app');
      await expect.poll(() => links.findEarlier(placeOf(alice, 'app'), blobDigest)).toBeDefined();
      registry.requests.length = 0;
      await ROUTES[route]?.(as(alice), 'app');
      expect(registry.requests).toEqual([]);
      await expect(ROUTES[route]?.(as(bob), 'app')).rejects.toMatchObject({ status: 403 });
      resolve();
    },
  );

  test('it is sent once, to a second client and to a second repository too', async () => {
    for (const ask of Object.values(ROUTES)) await ask(as(alice), 'app');
    const places = [[carol, 'app'] as const, [alice, 'other'] as const];
    for (const [who, repository] of places) {
      registry.requests.length = 0;
      for (let round = 0; round < 2; round += 1) {
        await ROUTES['a blob']?.(as(who), repository);
        await ROUTES['a manifest']?.(as(who), repository);
      }
      const sent = registry.requests.filter(({ headers }) => headers.authorization);
      expect(sent.map(({ method, url }) => `${method} ${url}`)).toEqual([
        `GET /v2/${repository}/blobs/${blobDigest}`,
        `GET /v2/${repository}/manifests/${manifestDigest}`,
      ]);
    }
  });

  test('it is sent again where a HEAD is refused after the scope has ended', async () => {
    for (const ask of Object.values(ROUTES)) await ask(as(alice), 'app');
    await expect.poll(() => links.holdersOf(blobDigest)).not.toEqual([]);
    nowMs += 5 * MINUTE;
    registry.intercept((request, response) => {
      if (request.method !== 'HEAD') return privacy.intercept(request, response);
      response.writeHead(405).end();
      return true;
    });
    expect(await ROUTES['a blob']?.(as(alice), 'app')).toBe(`${blob}`);
    expect(await ROUTES['a manifest']?.(as(alice), 'app')).toMatchObject({ digest: manifestDigest });
  });
});

test.each(['a manifest', 'a blob', 'a look at a blob', 'a config'])(
  '%s is not in a repository of another client that lacks it',
  async route => {
    for (const ask of Object.values(ROUTES)) await ask(as(alice), 'app');
    await expect.poll(() => links.holdersOf(blobDigest)).not.toEqual([]);
    await expect(ROUTES[route]?.(as(bob), 'bob')).rejects.toMatchObject({ status: 404 });
  },
);

test('a transfer that continues is not followed by another client', async () => {
  let finish = () => {};
  registry.intercept((request, response) => {
    if (privacy.intercept(request, response)) return true;
    response.writeHead(200, { 'content-length': blob.length }).write(blob.subarray(0, 5));
    finish = () => response.end(blob.subarray(5));
    return true;
  });
  const opened = await as(alice).getBlob('app', blobDigest);
  await expect(as(bob).getBlob('app', blobDigest)).rejects.toMatchObject({ status: 403 });
  await expect(as(undefined).getBlob('app', blobDigest)).rejects.toMatchObject({ status: 401 });
  const text = textOf(await opened.open());
  finish();
  expect(await text).toBe(`${blob}`);
});

test('a 404 for one client is not one for another', async () => {
  registry.intercept((request, response) => {
    if (request.headers.authorization !== `Basic ${btoa('bob:b')}`) return privacy.intercept(request, response);
    response.writeHead(404).end();
    return true;
  });
  for (const route of ['a tag', 'a manifest']) {
    await expect(ROUTES[route]?.(as(bob), 'app')).rejects.toMatchObject({ status: 404 });
    await expect(ROUTES[route]?.(as(alice), 'app')).resolves.toBeDefined();
  }
});

test('an upstream that says that it has a blob, and never sent it, has to send it', async () => {
  await ROUTES['a blob']?.(as(alice), 'app');
  await expect.poll(() => links.holdersOf(blobDigest)).not.toEqual([]);
  thief.intercept((request, response) => {
    response.writeHead(200, { 'content-length': blob.length });
    response.end(request.method === 'HEAD' ? undefined : Buffer.alloc(blob.length));
    return true;
  });
  const stolen = await registryOf(upstreams.get('thief')).getBlob('app', blobDigest);
  await expect(textOf(await stolen.open())).rejects.toThrow();
  expect(await ROUTES['a blob']?.(as(alice), 'app')).toBe(`${blob}`);
});

describe('to the cache', () => {
  beforeEach(async () => {
    for (const route of ['a manifest', 'a blob']) {
      for (const who of [alice, carol]) await ROUTES[route]?.(as(who), 'app');
      await ROUTES[route]?.(as(alice), 'other');
    }
    await expect.poll(() => Array.fromAsync(links.list())).toHaveLength(4);
  });

  test('content is that of its repositories, regardless of who brought it and when', async () => {
    nowMs += 60 * MINUTE;
    const names = async (repository?: string) =>
      (await Array.fromAsync(links.list(repository))).map(link => `${link.repository} ${link.digest}`);
    const expected = ['app', 'other'].flatMap(name => [blobDigest, manifestDigest].map(d => `lab/${name} ${d}`));
    expect((await names()).sort()).toEqual(expected.sort());
    expect((await names('lab/app')).sort()).toEqual(expected.filter(name => name.startsWith('lab/app')).sort());
    expect(await links.holdersOf(blobDigest)).toEqual(['lab/app', 'lab/other']);
  });

  test('what is forgotten leaves nothing that lasts', async () => {
    await links.forget([blobDigest, manifestDigest]);
    nowMs += 5 * MINUTE;
    await records.sweep();
    for (const collection of ['link', 'linked', 'tag']) {
      expect(await records.list(collection, { limit: 10 })).toEqual([]);
    }
  });
});

function as(who: typeof alice | undefined): Registry {
  return registryOf(upstreams.get('lab', () => who));
}

function placeOf(who: typeof alice, repository: string): UpstreamRepository {
  return { upstream: upstreams.get('lab', () => who), repository };
}

function textOf(stream: ReadableStream<Uint8Array>): Promise<string> {
  return new Response(stream).text();
}
