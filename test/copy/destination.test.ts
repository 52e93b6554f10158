// Destinations: hosted repositories and those of another registry take the same pushes, verify them, and say the same of what is wrong.
import { createHash, randomBytes } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf, encodeDigest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { makeIndex } from '../conformance/documents.ts';
import { type Copying, createCopying } from './copying.ts';

let fixture: Copying;

beforeAll(async () => {
  fixture = await createCopying({ maxUploads: 4 });
});

afterAll(() => fixture.close());

const mediaType = 'application/octet-stream';
const describeBlob = (raw: Uint8Array) => ({ mediaType, digest: digestOf(raw), size: raw.byteLength });
const openOf = (raw: Uint8Array) => async () => ReadableStream.from(raw.byteLength > 0 ? [raw] : []);

describe.each(['local/app', 'away/local/app'])('%s', repository => {
  const destination = () => fixture.deps.openDestination(repository);

  test('has the full name of its repository', () => {
    expect(destination().repository).toBe(repository);
  });

  test.each([0, 1, 2_000_000])('takes a blob of %i bytes, once', async size => {
    const raw = randomBytes(size);
    const blob = describeBlob(raw);
    expect(await destination().hasBlob(blob.digest)).toBe(false);
    let opened = 0;
    const open = async () => {
      opened++;
      return openOf(raw)();
    };
    await destination().putBlob(blob, open);
    await destination().putBlob(blob, open);
    expect([opened, await destination().hasBlob(blob.digest)]).toEqual([1, true]);
    expect(digestOf(await fixture.readFrom(repository)(blob))).toBe(blob.digest);
  });

  const right = Buffer.from('the right bytes');

  test.each([
    ['of another digest', Buffer.from('the wrong bytes')],
    ['that are too many', Buffer.concat([right, right])],
    ['that are too few', right.subarray(3)],
    ['that are none', Buffer.of()],
  ])('refuses bytes %s, and has no such blob', async (_, raw) => {
    const work = destination().putBlob(describeBlob(right), openOf(raw));
    await expect(work).rejects.toMatchObject({ name: 'RegistryError', code: 'DIGEST_INVALID' });
    expect(await destination().hasBlob(digestOf(right))).toBe(false);
  });

  const gone = new RegistryError('BLOB_UNKNOWN', 'the source has it no more');

  test.each([
    ['before the first byte', async () => Promise.reject(gone)],
    [
      'in the middle',
      async () =>
        ReadableStream.from(
          (async function* () {
            yield right.subarray(0, 3);
            throw gone;
          })(),
        ),
    ],
  ])('fails as the source of the bytes fails %s, however often', async (_, open) => {
    for (let i = 0; i < 6; i++) await expect(destination().putBlob(describeBlob(right), open)).rejects.toBe(gone);
  });

  test('takes a manifest under its tags, or by its digest alone', async () => {
    const { raw, digest, mediaType } = makeIndex([]);
    await destination().putManifest({ raw, digest, mediaType, tags: [] });
    expect(await destination().findTag('none')).toBeUndefined();
    await destination().putManifest({ raw, digest, mediaType, tags: ['a', 'b'] });
    expect([await destination().findTag('a'), await destination().findTag('b')]).toEqual([digest, digest]);
  });

  test('knows where a tag is now, regardless of who moved it', async () => {
    const [before, after] = [makeIndex([]), makeIndex([], { annotations: { moved: 'yes' } })];
    await destination().putManifest({ ...before, tags: ['moving'] });
    expect(await destination().findTag('moving')).toBe(before.digest);
    await fixture.deps.openDestination(repository).putManifest({ ...after, tags: ['moving'] });
    expect(await destination().findTag('moving')).toBe(after.digest);
  });

  test('takes nothing once its signal has aborted', async () => {
    const aborted = fixture.deps.openDestination(repository, { signal: AbortSignal.abort(new Error('enough')) });
    await expect(aborted.putBlob(describeBlob(randomBytes(9)), openOf(randomBytes(9)))).rejects.toThrow('enough');
    await expect(aborted.putManifest({ ...makeIndex([]), tags: [] })).rejects.toThrow('enough');
  });

  test('takes a large blob piece by piece, and holds little of it', async () => {
    const pieces = 4096;
    const hash = createHash('sha256');
    const piece = new Uint8Array(65_536);
    for (let i = 0; i < pieces; i++) hash.update(piece);
    const blob = { mediaType, digest: encodeDigest('sha256', hash), size: pieces * piece.byteLength };
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    async function* read() {
      for (let i = 0; i < pieces; i++) {
        most = Math.max(most, process.memoryUsage().arrayBuffers - before);
        yield piece.slice();
        await turn();
      }
    }
    await destination().putBlob(blob, async () => ReadableStream.from(read()));
    expect(await destination().hasBlob(blob.digest)).toBe(true);
    expect(most).toBeLessThan(blob.size / 2);
  });
});

test.each(['ghcr.io/app', 'nowhere/../app', 'local/'])('opens no destination for %s', name => {
  expect(() => fixture.deps.openDestination(name)).toThrow(RegistryError);
});
