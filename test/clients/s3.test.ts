// Content in a real S3 service: the contract of content stores, with the cache of this machine in front of it.
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { inspect } from 'node:util';
import { CreateMultipartUploadCommand, S3Client } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type BucketStore, createBucketStore, type Damages } from '../../src/cache/read-through/bucket-store.ts';
import { type Bucket, type BucketOptions, openBucket } from '../../src/content/bucket.ts';
import { retryDelay } from '../../src/content/bucket-fault.ts';
import type { ContentStore } from '../../src/content/store.ts';
import type { Damage } from '../../src/content/verification.ts';
import { createMemory } from '../../src/memory.ts';
import { type Digest, digestHex, digestOf, parseDigest } from '../../src/oci/digest.ts';
import { ContentMismatch } from '../../src/oci/verify.ts';
import { RecordStoreAway } from '../../src/state/store.ts';
import { type BudgetPlace, openPlace } from '../cache/eviction/fixture.ts';
import { contentStoreContract } from '../contract/content-store.ts';
import { findMissingTools } from './support/clients.ts';
import {
  OBJECT_STORE_COMMANDS,
  OBJECT_STORE_KEY,
  type ObjectServer,
  startObjectStore,
} from './support/object-store.ts';
import { startRelay } from './support/relay.ts';

/** Longer than a probe is waited for. */
const SLOW_MS = 2_500;
const missing = findMissingTools(OBJECT_STORE_COMMANDS);

describe.skipIf(missing)(`an S3 service${missing ? ` (${missing})` : ''}`, () => {
  let server: ObjectServer;
  let prefixes = 0;
  const key = { ...process.env };

  beforeAll(async () => {
    Object.assign(process.env, OBJECT_STORE_KEY);
    server = await startObjectStore();
  }, 60_000);

  afterAll(async () => {
    process.env = key;
    await server?.close();
  });

  const optionsOf = (prefix: string): BucketOptions => {
    const { endpoint, bucket } = server;
    return { endpoint, bucket, region: 'us-east-1', prefix, pathStyle: true };
  };

  interface Place extends BudgetPlace {
    readonly bucket: Bucket;
    readonly content: BucketStore;
    readonly damages: readonly Damage[];
    fileOf(digest: Digest): string;
  }

  async function open(
    prefix = `test-${prefixes++}/`,
    { directory, damages: found }: { readonly directory?: string; readonly damages?: Damages | undefined } = {},
  ): Promise<Place> {
    // A busy machine may take longer than a moment from a transfer's beginning to its first reader.
    const place = await openPlace(
      directory === undefined ? { unread: { graceMs: 30_000, finishMs: 60_000 } } : { directory },
    );
    const bucket = await openBucket(optionsOf(prefix));
    const damages: Damage[] = [];
    const content = createBucketStore({
      ...{ bucket, folder: 'hosted', cache: place.store, memory: createMemory() },
      ...{ damages: found, onDamaged: damage => damages.push(damage) },
      onFailed() {},
    });
    const fileOf = (digest: Digest) => {
      const hex = digestHex(digest);
      return join(server.folder, prefix, 'hosted/blobs/sha256', hex.slice(0, 2), hex);
    };
    return { ...place, bucket, content, damages, fileOf };
  }

  async function use(prefix?: string, found?: Damages): Promise<Place> {
    const place = await open(prefix, { damages: found });
    onTestFinished(async () => {
      place.bucket.close();
      await place.close();
    });
    return place;
  }

  describe.each([
    ['with a cache that keeps what it got', false],
    ['with a cache that has nothing', true],
  ])('%s', (_, isForgetful) => {
    contentStoreContract(async () => {
      const prefix = `contract-${prefixes++}/`;
      const directory = await mkdtemp(join(tmpdir(), 'veneer-s3-'));
      let place: Place | undefined;
      return {
        async open(): Promise<ContentStore> {
          place = await open(prefix, { directory });
          const { content, store, bucket } = place;
          const forget = async () => {
            const digests = isForgetful ? await place?.inventory() : [];
            for (const digest of digests ?? []) {
              // As an eviction does: what is arriving stays.
              await expect.poll(() => store.isArriving(digest)).toBe(false);
              await store.delete(digest);
            }
          };
          return {
            ...content,
            open: async (...args) => forget().then(() => content.open(...args)),
            read: async (...args) => forget().then(() => content.read(...args)),
            async close() {
              await store.close();
              bucket.close();
            },
          };
        },
        // Every test ends without a temporary file, and without parts of an upload.
        async remove() {
          const leftovers = await readdir(join(directory, 'ingest'));
          const bucket = await openBucket(optionsOf(prefix));
          const uploads = await bucket.abortUploads(new Date(Date.now() + 3_600_000));
          bucket.close();
          await rm(directory, { recursive: true, force: true });
          expect([leftovers, uploads]).toEqual([[], 0]);
        },
      };
    });
  });

  const bytes = randomBytes(10_000_000);
  const digest = digestOf(bytes);
  const store = ({ content }: Place) =>
    content.ingest(new Blob([bytes]).stream(), { digest, size: bytes.byteLength }).done;
  const read = async (body: ReadableStream<Uint8Array> | undefined) =>
    body && digestOf(new Uint8Array(await new Response(body).arrayBuffer()));

  test('has content at the path that it would have on disk', async () => {
    const place = await use();
    await store(place);
    expect(digestOf(await readFile(place.fileOf(digest)))).toBe(digest);
  });

  test('sends what is not cached to all readers from one transfer, which fills the cache', async () => {
    const prefix = `one-transfer-${prefixes++}/`;
    await store(await use(prefix));
    const place = await use(prefix);
    const opened = vi.spyOn(place.bucket, 'open');
    const bodies = await Promise.all(Array.from({ length: 20 }, () => place.content.open(digest)));
    expect(new Set(await Promise.all(bodies.map(read)))).toEqual(new Set([digest]));
    expect(opened).toHaveBeenCalledTimes(1);
    await expect.poll(() => place.inventory()).toEqual([digest]);
    expect(await read(await place.content.open(digest))).toBe(digest);
    expect(opened).toHaveBeenCalledTimes(1);
  });

  test('does not count as stored what only the cache has, as an upstream has sent it', async () => {
    const place = await use();
    await place.store.ingest(new Blob([bytes]).stream(), { digest }).done;
    expect(await place.content.find(digest)).toBeUndefined();
    await store(place);
    expect(digestOf(await readFile(place.fileOf(digest)))).toBe(digest);
  });

  test('ends the transfer that nobody reads any more', async () => {
    const prefix = `left-${prefixes++}/`;
    await store(await use(prefix));
    const place = await use(prefix);
    const reader = (await place.content.open(digest))?.getReader();
    await reader?.read();
    await reader?.cancel();
    await place.settle();
    expect(await place.content.find(digest)).toEqual({ size: bytes.byteLength });
  });

  test('makes a file content by moving it, once the bucket has it', async () => {
    const place = await use();
    const path = join(place.directory, 'upload');
    await writeFile(path, bytes);
    await place.content.commit(path, digest);
    expect(await readdir(place.directory)).not.toContain('upload');
    expect(await place.inventory()).toEqual([digest]);
    expect(digestOf(await readFile(place.fileOf(digest)))).toBe(digest);
  });

  test('never shows a file whose bytes are others than expected, and leaves no parts of it', async () => {
    const { bucket, directory } = await use();
    const path = join(directory, 'upload');
    await writeFile(path, Buffer.concat([bytes.subarray(0, -1), Buffer.of((bytes.at(-1) ?? 0) ^ 1)]));
    const put = bucket.put('key', { path, digest, size: bytes.byteLength });
    await expect(put).rejects.toBeInstanceOf(ContentMismatch);
    expect(await bucket.find('key')).toBeUndefined();
    expect(await bucket.abortUploads(new Date(Date.now() + 3_600_000))).toBe(0);
  });

  test('removes the parts that a crash has left, but none of an upload that may go on', async () => {
    const { bucket } = await use('crashed/');
    const client = new S3Client({ endpoint: server.endpoint, region: 'us-east-1', forcePathStyle: true });
    await client.send(new CreateMultipartUploadCommand({ Bucket: server.bucket, Key: 'crashed/hosted/x' }));
    client.destroy();
    expect(await bucket.abortUploads(new Date(Date.now() - 3_600_000))).toBe(0);
    expect(await bucket.abortUploads(new Date(Date.now() + 3_600_000))).toBe(1);
    expect(await bucket.abortUploads(new Date(Date.now() + 3_600_000))).toBe(0);
  });

  test('breaks a reader of damaged content, which then counts as missing until it is stored again', async () => {
    const prefix = `damaged-${prefixes++}/`;
    const before = await use(prefix);
    await store(before);
    const damaged = Buffer.from(bytes);
    damaged[5] = (damaged[5] ?? 0) ^ 1;
    await writeFile(before.fileOf(digest), damaged);
    const place = await use(prefix);
    await expect(read(await place.content.open(digest))).rejects.toBeInstanceOf(ContentMismatch);
    await expect.poll(() => place.damages).toMatchObject([{ digest, size: bytes.byteLength }]);
    expect(await place.content.find(digest)).toBeUndefined();
    expect(await place.content.open(digest)).toBeUndefined();
    await store(place);
    expect(digestOf(await readFile(place.fileOf(digest)))).toBe(digest);
    expect(await place.content.find(digest)).toBeDefined();
  });

  test('reports damage that is found past a disk that takes nothing, though the records are away', async () => {
    const prefix = `damaged-past-${prefixes++}/`;
    const before = await use(prefix);
    await store(before);
    await writeFile(before.fileOf(digest), Buffer.alloc(bytes.byteLength));
    const records = {
      has: async () => false,
      add: () => Promise.reject(new RecordStoreAway('away')),
      async remove() {},
    };
    const place = await use(prefix, records);
    await rm(join(place.directory, 'ingest'), { recursive: true });
    await expect(read(await place.content.open(digest))).rejects.toBeInstanceOf(ContentMismatch);
    await expect.poll(() => place.damages[0]).toMatchObject({ digest, size: bytes.byteLength });
  });

  test('lists all content, page by page, and what lies beside a digest', async () => {
    const place = await use();
    const folder = dirname(place.fileOf(parseDigest(`sha256:${'ab'.repeat(32)}`)));
    await mkdir(folder, { recursive: true });
    const digests = Array.from({ length: 1100 }, (_, at) =>
      parseDigest(`sha256:ab${at.toString(16).padStart(62, '0')}`),
    );
    for (const each of digests) await writeFile(place.fileOf(each), '');
    await writeFile(join(folder, 'no-digest'), '');
    await store(place);
    const { inventory } = place.content;
    expect(await Array.fromAsync(inventory.list())).toHaveLength(1101);
    expect(await inventory.listBeside(parseDigest(`sha256:${'ab'.repeat(32)}`))).toEqual(digests);
    expect(await inventory.findStoredAt(digest)).toBeInstanceOf(Date);
    expect(await inventory.findStoredAt(digestOf(Buffer.of()))).toBeUndefined();
  });

  test('that is slow is used all the same', async () => {
    const relay = await startRelay(server.endpoint.replace('http://', ''), (answer, outgoing) =>
      setTimeout(() => answer.pipe(outgoing), SLOW_MS),
    );
    const bucket = await openBucket({ ...optionsOf('slow/'), endpoint: `http://${relay.address}` });
    onTestFinished(async () => {
      bucket.close();
      await relay.stop();
    });
    await expect(bucket.checkAccess()).rejects.toMatchObject({ isAway: true });
    expect(await bucket.find('key')).toBeUndefined();
    expect(await bucket.findFault()).toBeUndefined();
  });

  describe('that asks for fewer requests', () => {
    /** A bucket with a place before it where some requests are refused, as AWS does. */
    async function openThrottled(isRefused: (path: string) => boolean) {
      const faults: (string | undefined)[] = [];
      let throttled = 0;
      const refuse = (incoming: IncomingMessage, outgoing: ServerResponse) => {
        if (!isRefused(incoming.url ?? '')) return false;
        incoming.resume().on('end', () => {
          outgoing.writeHead(503, { 'content-type': 'application/xml' });
          outgoing.end('<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>');
        });
        return true;
      };
      const target = server.endpoint.replace('http://', '');
      const relay = await startRelay(target, (answer, outgoing) => answer.pipe(outgoing), refuse);
      const delays: number[] = [];
      const bucket = await openBucket(
        { ...optionsOf(`throttled-${prefixes++}/`), endpoint: `http://${relay.address}` },
        {
          onFault: fault => faults.push(fault?.message),
          onThrottled: () => {
            throttled += 1;
          },
          delayMs(retry, isThrottled) {
            if (isThrottled) delays.push(retryDelay(retry, true));
            return 1;
          },
        },
      );
      onTestFinished(async () => {
        bucket.close();
        await relay.stop();
      });
      return { bucket, faults, delays, count: () => throttled };
    }

    test('gets each of many later, at random, and is not away', async () => {
      const refused = new Map<string, number>();
      const { bucket, faults, delays, count } = await openThrottled(path => {
        const times = (refused.get(path) ?? 0) + 1;
        refused.set(path, times);
        return path.includes('/key-') && times < 9;
      });
      const keys = Array.from({ length: 40 }, (_, n) => `key-${n}`);
      // More retries at the same time than the SDK allows in all.
      expect(await Promise.all(keys.map(key => bucket.open(key)))).toEqual(keys.map(() => undefined));
      expect(count()).toBe(320);
      expect(await bucket.findFault()).toBeUndefined();
      expect(faults).toEqual([]);
      expect(new Set(delays).size).toBe(320);
      expect(Math.max(...delays)).toBeLessThanOrEqual(4_000);
    });

    test('is not away for what it refuses again and again while it answers others', async () => {
      vi.useFakeTimers({ toFake: ['performance'] });
      onTestFinished(() => void vi.useRealTimers());
      const { bucket, faults } = await openThrottled(path => path.includes('/refused'));
      expect(await bucket.find('key')).toBeUndefined();
      const unavailable = { code: 'UNAVAILABLE', status: 503, retryAfterSeconds: 5 };
      await expect(bucket.open('refused')).rejects.toMatchObject(unavailable);
      expect(faults).toEqual([]);
      expect(await bucket.find('key')).toBeUndefined();
    });

    test('is away if it refuses all, until it answers', async () => {
      let refusesAll = true;
      const { bucket, faults } = await openThrottled(() => refusesAll);
      const reason = 'the object store asks for fewer requests (SlowDown, status 503)';
      await expect(bucket.open('key')).rejects.toMatchObject({ status: 503 });
      expect(await bucket.findFault()).toBe(reason);
      refusesAll = false;
      expect(await bucket.find('key')).toBeUndefined();
      expect(faults).toEqual([reason, undefined]);
    });
  });

  describe('that is away', () => {
    test('is waited for by a reader in the middle of a body, and by a writer', async () => {
      const prefix = `away-${prefixes++}/`;
      const place = await use(prefix);
      await store(place);
      const opened = await place.bucket.open(`hosted/blobs/sha256/${digest.slice(7, 9)}/${digest.slice(7)}`);
      const reader = opened?.body.getReader();
      const first = await reader?.read();
      await server.kill();
      const other = place.content.put(Buffer.from('while it is away'));
      const rest = new Response(
        new ReadableStream<Uint8Array>({
          async pull(controller) {
            const { value } = (await reader?.read()) ?? {};
            if (value) controller.enqueue(value);
            else controller.close();
          },
        }),
      ).arrayBuffer();
      await server.start();
      expect(digestOf(Buffer.concat([first?.value ?? Buffer.of(), Buffer.from(await rest)]))).toBe(digest);
      expect(await place.content.find(await other)).toEqual({ size: 16 });
    });

    test('is unavailable for a while, for the next request at once, and back when it answers', async () => {
      const faults: (string | undefined)[] = [];
      const bucket = await openBucket(optionsOf('away/'), { onFault: fault => faults.push(fault?.message) });
      expect(await bucket.findFault()).toBeUndefined();
      await server.kill();
      onTestFinished(() => server.start());
      const unavailable = { code: 'UNAVAILABLE', status: 503, retryAfterSeconds: 5 };
      await expect(bucket.find('key')).rejects.toMatchObject(unavailable);
      await expect(bucket.open('key')).rejects.toMatchObject(unavailable);
      expect(await bucket.findFault()).toBe('the object store does not answer (ECONNREFUSED)');
      await server.start();
      expect(await bucket.find('key')).toBeUndefined();
      expect(await bucket.findFault()).toBeUndefined();
      expect(faults).toEqual(['the object store does not answer (ECONNREFUSED)', undefined]);
      bucket.close();
    });
  });

  test.each([
    ['no such bucket', { bucket: 'absent' }, {}, 'the bucket absent cannot be used: it does not exist: create it'],
    ['another region', { region: 'eu-west-1' }, {}, 'it is in another region: correct content.s3.region'],
    [
      'a wrong secret',
      {},
      { AWS_SECRET_ACCESS_KEY: 'a-wrong-secret' },
      'the secret key is wrong: check AWS_ACCESS_KEY_ID',
    ],
    [
      'an unknown key',
      {},
      { AWS_ACCESS_KEY_ID: 'somebody-else' },
      'the access key is unknown: check AWS_ACCESS_KEY_ID',
    ],
  ])('names the remedy where it refuses: %s', async (_, options, env, message) => {
    Object.assign(process.env, env);
    onTestFinished(() => void Object.assign(process.env, OBJECT_STORE_KEY));
    const bucket = await openBucket({ ...optionsOf('refused/'), ...options });
    const error = await bucket.checkAccess().catch(error => error);
    expect(error.message).toContain(message);
    // What anyone may read.
    expect(await bucket.findFault()).toBe(
      'the object store of the registry refuses its requests: the log of Veneer has the cause',
    );
    expect(inspect(error, { depth: 10 })).not.toMatch(/secret-of|a-wrong-secret|Signature=|Credential=/);
    bucket.close();
  });
});
