// Blobs of an upstream: what a damaged or a full disk does to their pulls, which is nothing that a client could see.
import { mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Blobs, createBlobs } from '../../../src/cache/read-through/blobs.ts';
import { createLinks, type Links, type UpstreamRepository } from '../../../src/cache/read-through/links.ts';
import { createDiskStore } from '../../../src/content/disk.ts';
import { type ContentStore, StorageFailure } from '../../../src/content/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { digestHex, digestOf } from '../../../src/oci/digest.ts';
import { ContentMismatch } from '../../../src/oci/verify.ts';
import type { Upstreams } from '../../../src/upstream/upstream.ts';
import { createUpstreams } from '../../../src/upstream/upstreams.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { PATIENT } from '../../support/patience.ts';
import { startRegistry, type TestRegistry } from '../../support/registry.ts';

const memory = createMemory();

const raw = Buffer.from('the bytes of a layer');
const digest = digestOf(raw);
const hex = digestHex(digest);

let directory: string;
let registry: TestRegistry;
let content: ContentStore;
let upstreams: Upstreams;
let blobs: Blobs;
let links: Links;
let failures: unknown[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-blobs-'));
  registry = await startRegistry();
  for (const repository of ['app', 'other']) {
    registry.put(repository, [{ mediaType: 'application/octet-stream', raw }]);
  }
  content = await createDiskStore({ directory });
  upstreams = createUpstreams({
    memory,
    entries: { lab: { url: registry.url } },
    openUpstreams: false,
    allowPrivateUrls: false,
    timeouts: PATIENT,
    retries: 0,
  });
  failures = [];
  links = createLinks(createMemoryStore(), memory);
  blobs = createBlobs({ content, links, onFailed: (_, error) => failures.push(error) });
});

afterEach(async () => {
  await upstreams.close();
  await content.close();
  await registry.close();
  await rm(directory, { recursive: true });
});

describe('a kept blob', () => {
  const path = () => join(directory, 'blobs', 'sha256', hex.slice(0, 2), hex);

  beforeEach(async () => {
    expect(await pull()).toBe(`${raw}`);
    // The transfer is over when its link is there.
    await expect.poll(() => links.find(origin('app'), digest)).toBeDefined();
    registry.requests.length = 0;
  });

  test.each([
    ['pulled', pull],
    ['asked for', head],
  ])('that has lost its end is fetched again when it is %s', async (_, ask) => {
    await truncate(path(), 5);
    await ask();
    expect(await pull()).toBe(`${raw}`);
    await expect.poll(() => content.find(digest)).toEqual({ size: raw.length });
  });

  test('is sent once to another repository, and kept once', async () => {
    for (let round = 0; round < 2; round += 1) {
      expect(await pull('other')).toBe(`${raw}`);
    }
    expect(registry.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([`GET /v2/other/blobs/${digest}`]);
  });

  test.each([3, raw.length])('is no other repository’s that is sent %i wrong bytes, and stays', async bytes => {
    registry.intercept((request, response) => {
      response.writeHead(200, { 'content-length': bytes });
      response.end(request.method === 'HEAD' ? undefined : Buffer.alloc(bytes));
      return true;
    });
    for (let round = 0; round < 2; round += 1) {
      await expect(pull('other')).rejects.toBeInstanceOf(ContentMismatch);
      expect(await blobs.head(origin('other'), digest)).toEqual({ size: bytes });
      expect(await blobs.readCached(origin('other'), digest, raw.length)).toBeUndefined();
    }
    expect(await links.find(origin('other'), digest)).toBeUndefined();
    expect(await pull()).toBe(`${raw}`);
  });

  test('is read whole only within a bound', async () => {
    expect(await blobs.readCached(origin('app'), digest, raw.length)).toEqual(raw);
    expect(await blobs.readCached(origin('app'), digest, raw.length - 1)).toBeUndefined();
    await truncate(path(), 2 ** 31);
    expect(await blobs.readCached(origin('app'), digest, raw.length)).toBeUndefined();
  });
});

describe('a disk that takes nothing', () => {
  beforeEach(() => rm(join(directory, 'ingest'), { recursive: true }));

  test('does not stop a pull, and is heard of', async () => {
    expect(await pull()).toBe(`${raw}`);
    expect(failures).toEqual([expect.any(StorageFailure)]);
    expect(await content.find(digest)).toBeUndefined();
  });

  test('does not stop many pulls at once, nor the pull of a part', async () => {
    const pulls = Array.from({ length: 5 }, () => pull());
    expect(await Promise.all(pulls)).toEqual(Array(5).fill(`${raw}`));
    const blob = await blobs.get(origin('app'), digest);
    expect(await textOf(await blob.open({ start: 4, end: 8 }))).toBe('bytes');
  });

  test('does not let other bytes than the promised ones through', async () => {
    registry.intercept((_request, response) => {
      response.writeHead(200, { 'content-length': raw.length }).end(Buffer.alloc(raw.length));
      return true;
    });
    await expect(pull()).rejects.toBeInstanceOf(ContentMismatch);
  });
});

test('an upstream that breaks before the first byte is an error, not a broken body', async () => {
  registry.intercept((_request, response) => {
    response.writeHead(200, { 'content-length': raw.length });
    response.flushHeaders();
    setImmediate(() => response.destroy());
    return true;
  });
  await expect(pull()).rejects.toMatchObject({ status: 502 });
});

function origin(repository: string): UpstreamRepository {
  return { upstream: upstreams.get('lab'), repository };
}

async function pull(repository = 'app'): Promise<string> {
  const blob = await blobs.get(origin(repository), digest);
  return textOf(await blob.open());
}

async function head(): Promise<void> {
  expect(await blobs.head(origin('app'), digest)).toEqual({ size: raw.length });
}

function textOf(stream: ReadableStream<Uint8Array>): Promise<string> {
  return new Response(stream).text();
}
