// The documents of an image: as few are read as it takes, few at a time, and never more than an image may have, whatever its index says of
// them.
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { SourceReader } from '../../src/augment/source.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { chooseImage, listImages } from '../../src/pull/images.ts';
import { createDocumentLimit, withinBudget } from '../../src/pull/source-reader.ts';

const AMD64 = { os: 'linux', architecture: 'amd64' };
const ARM64 = { os: 'linux', architecture: 'arm64' };

interface Fixture {
  readonly index: Manifest;
  readonly reader: SourceReader;
  /** The kinds of what was read, in order. */
  readonly reads: string[];
  /** The most that were being read at a time. */
  peak(): number;
}

/** An index without platforms, of manifests of so many bytes; `sizeSaid` is what it says of them. */
function createFixture(
  platforms: readonly { os: string; architecture: string }[],
  bytes: number,
  sizeSaid = bytes,
): Fixture {
  const documents = new Map<string, Uint8Array>();
  const reads: string[] = [];
  let [current, peak] = [0, 0];
  const keep = (raw: Uint8Array) => {
    documents.set(digestOf(raw), raw);
    return { digest: digestOf(raw), size: raw.byteLength };
  };
  const encode = (value: object) => Buffer.from(JSON.stringify(value));
  const entries = platforms.map((platform, i) => {
    const config = keep(encode({ ...platform, author: `${i}`, rootfs: { type: 'layers', diff_ids: [] } }));
    const fields = { schemaVersion: 2, mediaType: mediaTypes.ociManifest, layers: [] };
    const small = encode({ ...fields, config: { mediaType: mediaTypes.ociConfig, ...config } });
    const padded = Buffer.concat([small, Buffer.alloc(Math.max(0, bytes - small.length), ' ')]);
    return { mediaType: mediaTypes.ociManifest, ...keep(padded), size: sizeSaid };
  });
  const index = encode({ schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: entries });

  async function read(kind: string, { digest }: ContentDescriptor): Promise<Uint8Array> {
    reads.push(kind);
    peak = Math.max(peak, ++current);
    await setImmediate();
    current -= 1;
    return documents.get(digest) ?? Buffer.of();
  }

  return {
    index: parseManifest(index, mediaTypes.ociIndex),
    reads,
    peak: () => peak,
    reader: {
      readManifest: async descriptor => parseManifest(await read('manifest', descriptor), mediaTypes.ociManifest),
      readConfig: descriptor => read('config', descriptor),
    },
  };
}

describe('an image for one platform, of an index that names none', () => {
  test('is the first, and what comes after it is not read', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }), async areWanted => {
        const platforms = areWanted.map(isWanted => (isWanted ? AMD64 : ARM64));
        const { index, reader, reads, peak } = createFixture(platforms, 500);
        const first = areWanted.indexOf(true);
        const chosen = await chooseImage(index, AMD64, reader).catch(error => error.code);
        const count = first < 0 ? areWanted.length : first + 1;
        expect(reads).toEqual(Array.from({ length: count }, () => ['manifest', 'config']).flat());
        expect(peak()).toBe(1);
        if (first < 0) expect(chosen).toBe('MANIFEST_UNKNOWN');
        else expect(chosen).toMatchObject({ kind: 'image' });
      }),
    );
  });

  test.each([MAX_MANIFEST_BYTES, 2])(
    'is looked for in 64 MiB at most, where 150 manifests of 4 MiB are said to have %i bytes',
    async said => {
      const { index, reader, reads } = createFixture(Array(150).fill(ARM64), MAX_MANIFEST_BYTES, said);
      await expect(chooseImage(index, AMD64, reader)).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
      expect(reads.filter(kind => kind === 'manifest').length).toBeLessThanOrEqual(17);
    },
  );
});

test('all images of an index are read within the same budget, and few at a time', async () => {
  const { index, reader, peak, reads } = createFixture(Array(150).fill(AMD64), MAX_MANIFEST_BYTES, 2);
  await expect(listImages(index, reader)).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
  reads.length = 0;
  if (index.kind !== 'index') throw new Error(index.kind);
  const bounded = withinBudget(reader);
  const all = await Promise.allSettled(index.manifests.map(entry => bounded.readManifest(entry)));
  expect(all.filter(({ status }) => status === 'fulfilled')).toHaveLength(16);
  expect(peak()).toBeLessThanOrEqual(16);
  expect(reads.length).toBeLessThanOrEqual(32);
});

test('images of many bytes take turns, small ones pass by, and a failing one lets the next start', async () => {
  const limit = createDocumentLimit({ freeBytes: 1000, maxLarge: 1 });
  const { index, reader } = createFixture([AMD64], 2000, 2);
  const small = createFixture([AMD64], 500);
  const [entry, smallEntry] = [index, small.index].map(each => (each.kind === 'index' ? each.manifests[0] : undefined));
  if (!entry || !smallEntry) throw new Error('no entry');
  const order: string[] = [];
  const firstMayEnd = Promise.withResolvers<void>();
  const first = limit.run(reader, async held => {
    await held.readManifest(entry);
    order.push('first');
    await firstMayEnd.promise;
    throw new Error('it fails');
  });
  await expect.poll(() => order).toEqual(['first']);
  const second = limit.run(reader, async held => {
    await held.readManifest(entry);
    order.push('second');
  });
  await limit.run(small.reader, async held => {
    await held.readManifest(smallEntry);
    order.push('small');
  });
  expect(order).toEqual(['first', 'small']);
  firstMayEnd.resolve();
  await expect(first).rejects.toThrow('it fails');
  await second;
  expect(order).toEqual(['first', 'small', 'second']);
});
