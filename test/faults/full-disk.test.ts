// Veneer on a small disk that is full, or runs full: pulls go on, nothing broken is kept, and what comes when there is room again is.
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { listContent } from '../../src/content/inventory.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType } from '../../src/oci/media-type.ts';
import { waitUntil } from '../clients/support/process.ts';
import { generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { findNoSmallDisk, type SmallDisk, startOnSmallDisk } from './small-disk.ts';

const MIB = 2 ** 20;
const DISK_BYTES = 160 * MIB;
const NAME = 'library/app';

const missing = findNoSmallDisk();

describe.skipIf(missing)(`a small disk${missing ? ` (${missing})` : ''}`, { timeout: 60_000 }, () => {
  let folder: string;
  let registry: TestRegistry;
  let disk: SmallDisk;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-small-'));
    registry = await startRegistry();
    const upstreams = { lab: { url: registry.url } };
    disk = await startOnSmallDisk(folder, DISK_BYTES, { upstreams, cache: { maxSize: 'none', tagFreshness: '0s' } });
  });

  afterEach(async () => {
    await disk?.kill();
    await registry.close();
    await rm(folder, { recursive: true });
  });

  test('that is full: images pass through, and nothing of them is kept; with room again, what is pulled is kept', async () => {
    const layer = putBlob(20 * MIB, 'a layer');
    const before = putImage(3);
    await disk.fill();
    for (let round = 0; round < 2; round += 1) {
      expect(digestOf(await read('manifests', '1'))).toBe(before.root.digest);
      await checkImage(before.root, readDescriptor);
      expect(await pull(layer)).toBe(layer);
    }
    expect(await inventory()).toEqual([]);
    expect(await readIngest()).toEqual([]);

    await disk.free();
    const { root, content } = putImage(4);
    const pullAll = async () => {
      await checkImage(root, readDescriptor);
      expect(await pull(layer)).toBe(layer);
    };
    expect(digestOf(await read('manifests', '1'))).toBe(root.digest);
    await pullAll();
    await waitUntil(async () => expect(await inventory()).toEqual([...content.keys(), layer].sort()));
    registry.requests.length = 0;
    await pullAll();
    expect(registry.requests).toEqual([]);
  });

  test('that the cache itself has filled: each pull goes on, the longest unused goes, and what comes after it is kept', async () => {
    for (let at = 0; at < 8; at += 1) {
      const layer = putBlob(20 * MIB, `layer ${at}`);
      // The first pull without room makes it for the next.
      await waitUntil(async () => {
        registry.requests.length = 0;
        expect(await pull(layer)).toBe(layer);
        expect(registry.requests).toEqual([]);
      });
    }
    expect(disk.readOutput()).toMatch(/"reason":"full disk".*the cache made room/);
    expect(await inventory()).not.toContain(digestOf(Buffer.alloc(20 * MIB, 'layer 0 ')));
    expect(await readIngest()).toEqual([]);
  });

  test.each([1, 3, 8, 40])('that has half of the room that a layer of %i MiB needs: it passes through', async mib => {
    const layer = putBlob(mib * MIB, 'a layer');
    await disk.fill((mib * MIB) / 2);
    expect(await pull(layer)).toBe(layer);
    expect(await inventory()).toEqual([]);
    expect(await readIngest()).toEqual([]);
  });

  test('that has half of the room of a layer, whose upstream does not say how long it is: it is right all the same', async () => {
    const raw = Buffer.alloc(20 * MIB, 'who knows how long ');
    const layer = digestOf(raw);
    registry.intercept(({ method }, response) => {
      if (method === 'GET') response.writeHead(200).write(raw);
      return Boolean(response.end());
    });
    await disk.fill(10 * MIB);
    for (let round = 0; round < 2; round += 1) expect(await pull(layer)).toBe(layer);
    expect(await inventory()).toEqual([]);
    await disk.free();
    expect(await pull(layer)).toBe(layer);
    await waitUntil(async () => expect(await inventory()).toEqual([layer]));
  });

  test('that runs full while a layer arrives: its reader gets the rest, and nothing of it is kept', async () => {
    const layer = putBlob(20 * MIB, 'half of it comes, and');
    const { finish, half } = holdTransfer(Buffer.alloc(20 * MIB, 'half of it comes, and '));
    const first = pull(layer);
    await half;
    await waitUntil(async () => expect(await readIngest()).toHaveLength(1));
    await disk.fill();
    finish();
    for (const each of [first, pull(layer)]) expect(await each).toBe(layer);
    expect(await inventory()).toEqual([]);
    expect(await readIngest()).toEqual([]);
  });

  /** The next transfer stops half way until it is told to finish. */
  function holdTransfer(raw: Buffer) {
    const half = Promise.withResolvers<void>();
    const rest = Promise.withResolvers<void>();
    registry.intercept(({ method }, response) => {
      if (method !== 'GET') return false;
      registry.intercept();
      response.writeHead(200, { 'content-length': raw.length }).write(raw.subarray(0, raw.length / 2));
      half.resolve();
      void rest.promise.then(() => response.end(raw.subarray(raw.length / 2)));
      return true;
    });
    return { half: half.promise, finish: rest.resolve };
  }

  function putImage(seed: number) {
    const image = generateImage({ seed, platforms: ['linux/amd64', 'linux/arm64'], layers: 2, family: 'oci' });
    const tags = (digest: string) => (digest === image.root.digest ? { tags: ['1'] } : {});
    registry.put(
      NAME,
      [...image.content].map(([digest, content]) => ({ ...content, ...tags(digest) })),
    );
    return image;
  }

  function putBlob(size: number, seed: string): Digest {
    const raw = Buffer.alloc(size, `${seed} `);
    registry.put(NAME, [{ mediaType: 'application/octet-stream', raw }]);
    return digestOf(raw);
  }

  async function read(kind: string, reference: string): Promise<Uint8Array> {
    const response = await fetch(`http://${disk.address}/v2/lab/${NAME}/${kind}/${reference}`);
    if (response.status !== 200) throw new Error(`${reference}: ${response.status} ${await response.text()}`);
    return response.bytes();
  }

  const readDescriptor = ({ mediaType, digest }: { readonly mediaType: string; readonly digest: Digest }) =>
    read(isIndexType(mediaType) || isManifestType(mediaType) ? 'manifests' : 'blobs', digest);
  const pull = async (digest: Digest) => digestOf(await read('blobs', digest));
  const readIngest = () => readdir(join(disk.dataDir, 'content', 'ingest'));
  const inventory = async () => (await Array.fromAsync(listContent(join(disk.dataDir, 'content')))).sort();
});
