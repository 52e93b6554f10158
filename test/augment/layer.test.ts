// Everything that a layer can be, and can pretend to be.
import { buffer } from 'node:stream/consumers';
import { setTimeout } from 'node:timers/promises';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { pack } from 'tar-stream';
import { expect, test } from 'vitest';
import { createSemaphore, createWork, InvalidLayer } from '../../src/augment/budget.ts';
import { describeLayer, type LayerClaims, type LayerLimits, type LayerWork } from '../../src/augment/layer.ts';
import { digestOf } from '../../src/oci/digest.ts';

const LIMITS = { maxUnpackedBytes: 4 * 1024 * 1024, maxRatio: 1000 };
const SKIPPABLE = Buffer.from([0x53, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);

const tar = await tarOf(Buffer.from('hello'.repeat(3000)));
const [first, second] = [tar.subarray(0, 3000), tar.subarray(3000)];
const gzip = gzipSync(tar);
const zstd = zstdCompressSync(tar);

test.each([
  { packing: 'a gzip', bytes: gzip, compression: 'gzip' },
  { packing: 'a gzip of several members', bytes: cat(gzipSync(first), gzipSync(second)), compression: 'gzip' },
  { packing: 'a zstd', bytes: zstd, compression: 'zstd' },
  {
    packing: 'a zstd of several frames',
    bytes: cat(zstdCompressSync(first), zstdCompressSync(second)),
    compression: 'zstd',
  },
  {
    packing: 'a zstd with skippable frames',
    bytes: cat(SKIPPABLE, zstdCompressSync(first), SKIPPABLE, zstdCompressSync(second), SKIPPABLE),
    compression: 'zstd',
  },
  { packing: 'a plain tar', bytes: tar, compression: 'none' },
])('describes $packing, in chunks of any size', async ({ bytes, compression }) => {
  const expected = { digest: digestOf(bytes), size: bytes.byteLength, diffId: digestOf(tar), compression };
  for (const chunkBytes of [1, 7, 511, bytes.byteLength]) {
    expect(await describe(bytes, {}, LIMITS, chunkBytes)).toEqual(expected);
  }
});

test('describes an archive without entries', async () => {
  const empty = Buffer.alloc(1024);
  expect(await describe(gzipSync(empty))).toMatchObject({ diffId: digestOf(empty), compression: 'gzip' });
  expect(await describe(empty)).toMatchObject({ diffId: digestOf(empty), compression: 'none' });
});

test('takes claims that fit, in the algorithm that they use', async () => {
  const claims = { gzipDigest: digestOf(gzip, 'sha512'), gzipSize: gzip.byteLength, tarDigest: digestOf(tar) };
  expect(await describe(gzip, claims)).toMatchObject({ digest: claims.gzipDigest, diffId: claims.tarDigest });
});

test.each<{ claim: string; claims: LayerClaims; says: string }>([
  { claim: 'gzipDigest', claims: { gzipDigest: digestOf(tar) }, says: digestOf(gzip) },
  { claim: 'tarDigest', claims: { tarDigest: digestOf(gzip) }, says: digestOf(tar) },
  { claim: 'gzipSize', claims: { gzipSize: gzip.byteLength + 1 }, says: `${gzip.byteLength} bytes` },
  { claim: 'gzipSize', claims: { gzipSize: gzip.byteLength - 1 }, says: `${gzip.byteLength - 1}` },
])('refuses a wrong $claim', async ({ claim, claims, says }) => {
  const error = await failure(gzip, claims);
  expect(error).toBeInstanceOf(InvalidLayer);
  expect(error.message).toContain(claim);
  expect(error.message).toContain(says);
});

test.each([
  { what: 'no bytes', bytes: Buffer.alloc(0), says: /empty/ },
  { what: 'a truncated gzip', bytes: gzip.subarray(0, -3), says: /corrupt or truncated/ },
  { what: 'a gzip with a wrong checksum', bytes: flipped(gzip, gzip.byteLength - 8), says: /corrupt or truncated/ },
  { what: 'a truncated zstd', bytes: zstd.subarray(0, -3), says: /corrupt or truncated/ },
  { what: 'a corrupt zstd', bytes: flipped(zstd, 4), says: /corrupt or truncated/ },
  { what: 'a truncated second frame', bytes: cat(zstd, zstd.subarray(0, -3)), says: /corrupt or truncated/ },
  { what: 'zeros after a gzip', bytes: cat(gzip, Buffer.alloc(600)), says: /bytes follow the end of its gzip/ },
  { what: 'garbage after a gzip', bytes: cat(gzip, Buffer.from('garbage')), says: /corrupt|follow/ },
  { what: 'garbage after a zstd', bytes: cat(zstd, Buffer.from('garbage')), says: /bytes follow the end of its zstd/ },
  { what: 'a text', bytes: Buffer.from('<html>not here</html>'.repeat(100)), says: /not a tar/ },
  { what: 'a packed text', bytes: gzipSync('hello'.repeat(1000)), says: /not a tar/ },
  { what: 'a packed nothing', bytes: gzipSync(''), says: /not a tar/ },
  { what: 'less than a block', bytes: tar.subarray(0, 511), says: /not a tar/ },
  { what: 'a tar with a broken first header', bytes: flipped(tar, 3), says: /not a tar/ },
  { what: 'one byte', bytes: gzip.subarray(0, 1), says: /not a tar/ },
])('refuses $what', async ({ bytes, says }) => {
  for (const chunkBytes of [1, 100, 1 << 20]) {
    const error = await failure(bytes, {}, LIMITS, chunkBytes);
    expect(error).toBeInstanceOf(InvalidLayer);
    expect(error.message).toMatch(says);
  }
});

test.each([
  { packing: 'gzip', bytes: gzip },
  { packing: 'zstd', bytes: zstd },
  { packing: 'none', bytes: tar },
])('refuses more unpacked bytes than the limit ($packing)', async ({ bytes }) => {
  const limits = { ...LIMITS, maxUnpackedBytes: tar.byteLength - 1 };
  const error = await failure(bytes, {}, limits);
  expect(error).toBeInstanceOf(InvalidLayer);
  expect(error.message).toContain(`${tar.byteLength - 1} bytes`);
  expect(await describe(bytes, {}, { ...limits, maxUnpackedBytes: tar.byteLength })).toBeDefined();
});

test('refuses a bomb by its ratio, but only beyond the free bytes', async () => {
  const zeros = Buffer.alloc(1024 * 1024);
  const limits = { ...LIMITS, maxRatio: 100 };
  for (const bomb of [gzipSync(zeros), zstdCompressSync(zeros)]) {
    const error = await failure(bomb, {}, { ...limits, ratioFreeBytes: 64 * 1024 });
    expect(error).toBeInstanceOf(InvalidLayer);
    expect(error.message).toContain('100:1');
    expect(await describe(bomb, {}, limits)).toMatchObject({ diffId: digestOf(zeros) });
  }
});

test.each([
  { what: 'a bomb', bytes: gzipSync(Buffer.alloc(1024 * 1024)).subarray(0, 900), limits: { maxUnpackedBytes: 20_000 } },
  { what: 'corrupt bytes', bytes: cat(gzip.subarray(0, 10), Buffer.alloc(50, 0xff)), limits: {} },
  { what: 'trailing bytes', bytes: cat(zstd, Buffer.from('garbage')), limits: {} },
  { what: 'a text', bytes: Buffer.from('no tar '.repeat(100)), limits: {} },
])('cancels a sender who stalls after $what', async ({ bytes, limits }) => {
  let isCancelled = false;
  const body = new ReadableStream<Uint8Array>({
    start: controller => controller.enqueue(bytes),
    cancel: () => {
      isCancelled = true;
    },
  });
  await expect(describeLayer(body, {}, { ...LIMITS, ...limits })).rejects.toBeInstanceOf(InvalidLayer);
  expect(isCancelled).toBe(true);
});

test('reads no more of an endless body than the limit', async () => {
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.enqueue(sent++ === 0 ? tar : Buffer.alloc(64 * 1024));
    },
  });
  await expect(describeLayer(body, {}, LIMITS)).rejects.toThrow(`${LIMITS.maxUnpackedBytes} bytes`);
  expect(sent).toBeLessThan(LIMITS.maxUnpackedBytes / (64 * 1024) + 4);
});

test('reads no more than the limit of a zstd that never unpacks to anything', async () => {
  const frames = cat(...Array.from({ length: 1000 }, () => SKIPPABLE));
  const body = new ReadableStream<Uint8Array>({ pull: controller => controller.enqueue(frames) });
  await expect(describeLayer(body, {}, { ...LIMITS, maxUnpackedBytes: 100_000 })).rejects.toThrow(
    'limit of 100000 bytes',
  );
});

test.each([0, 100])('passes on the error of a body that breaks after %i bytes', async sent => {
  const broken = new Error('connection reset');
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (sent > 0 && controller.desiredSize === 1) controller.enqueue(gzip.subarray(0, sent));
      controller.error(broken);
    },
  });
  await expect(describeLayer(body, {}, LIMITS)).rejects.toBe(broken);
});

test.each([0, 100, gzip.byteLength])(
  'ends when its client leaves, %i bytes after the start of a sender who stalls',
  async sent => {
    const client = new AbortController();
    let reason: unknown;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent > 0 && controller.desiredSize === 1) controller.enqueue(gzip.subarray(0, sent));
        setImmediate(() => client.abort(new Error('gone')));
        return new Promise(() => {});
      },
      cancel: given => {
        reason ??= given;
      },
    });
    const work = createWork(client.signal, LIMITS.maxUnpackedBytes);
    await expect(describeLayer(body, {}, { ...LIMITS, work })).rejects.toThrow('gone');
    expect(reason).toEqual(new Error('gone'));
  },
);

test('unpacks no further when its client leaves in the midst of it', async () => {
  const client = new AbortController();
  const bomb = gzipSync(cat(tar, Buffer.alloc(64 * 1024 * 1024)));
  let unpackedBytes = 0;
  const work = {
    signal: client.signal,
    unpacked(bytes: number) {
      unpackedBytes += bytes;
      if (unpackedBytes > 1024 * 1024) client.abort(new Error('gone'));
    },
  };
  const limits = { maxUnpackedBytes: 2 ** 30, maxRatio: 1e6, work, semaphore: createSemaphore(1) };
  await expect(describe(bomb, {}, limits, bomb.byteLength)).rejects.toThrow('gone');
  const atEnd = unpackedBytes;
  await setTimeout(50);
  expect([unpackedBytes, atEnd < 4 * 1024 * 1024]).toEqual([atEnd, true]);
  // The turn was given back.
  expect(await describe(gzip, {}, { ...LIMITS, semaphore: limits.semaphore })).toMatchObject({ diffId: digestOf(tar) });
});

test('counts what all layers of a request unpack to', async () => {
  const work = createWork(new AbortController().signal, tar.byteLength * 2);
  await describe(gzip, {}, { ...LIMITS, work });
  await describe(zstd, {}, { ...LIMITS, work });
  await expect(describe(gzip, {}, { ...LIMITS, work })).rejects.toThrow(
    'all layers of a request together unpack to more',
  );
});

test('gives out as many turns as there are, in order, and none to who has left', async () => {
  const semaphore = createSemaphore(1);
  const end = await semaphore.acquire(undefined);
  const leaver = new AbortController();
  const order: string[] = [];
  const left = semaphore.acquire(leaver.signal);
  const next = semaphore.acquire(undefined).then(endNext => {
    order.push('next');
    endNext();
  });
  const last = semaphore.acquire(new AbortController().signal).then(() => order.push('last'));
  leaver.abort(new Error('gone'));
  await expect(left).rejects.toThrow('gone');
  await expect(semaphore.acquire(leaver.signal)).rejects.toThrow('gone');
  expect(order).toEqual([]);
  end();
  await Promise.all([next, last]);
  expect(order).toEqual(['next', 'last']);
});

function describe(
  bytes: Uint8Array,
  claims: LayerClaims = {},
  limits: LayerLimits & LayerWork = LIMITS,
  chunkBytes = 1000,
) {
  return describeLayer(streamOf(bytes, chunkBytes), claims, limits);
}

async function failure(...args: Parameters<typeof describe>): Promise<Error> {
  const outcome = await describe(...args).catch((error: unknown) => error);
  if (outcome instanceof Error) return outcome;
  throw new Error('it was not refused');
}

function streamOf(bytes: Uint8Array, chunkBytes: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.byteLength) return controller.close();
      controller.enqueue(bytes.subarray(at, at + chunkBytes));
      at += chunkBytes;
    },
  });
}

async function tarOf(content: Buffer): Promise<Buffer> {
  const archive = pack();
  archive.entry({ name: 'hello.txt', mtime: new Date(0) }, content);
  archive.finalize();
  return buffer(archive);
}

function cat(...parts: Uint8Array[]): Buffer {
  return Buffer.concat(parts);
}

function flipped(bytes: Uint8Array, at: number): Buffer {
  return Buffer.from(bytes.map((byte, index) => (index === at ? byte ^ 0xff : byte)));
}
