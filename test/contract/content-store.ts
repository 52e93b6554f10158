// What every content store keeps to: each sentence of src/content/store.ts as a test.
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ContentStore, ContentTooLarge } from '../../src/content/store.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { ContentMismatch } from '../../src/oci/verify.ts';

/** Where a store keeps its content: opening it a second time is a restart. */
export interface ContentPlace {
  open(): Promise<ContentStore>;
  remove(): Promise<void>;
}

export function contentStoreContract(createPlace: () => Promise<ContentPlace>): void {
  let place: ContentPlace;
  let store: ContentStore;

  beforeEach(async () => {
    place = await createPlace();
    store = await place.open();
  });

  afterEach(async () => {
    await store.close();
    await place.remove();
  });

  const bytes = randomBytes(2_500_000);
  const digest = digestOf(bytes);
  const expected = { digest, size: bytes.byteLength };

  describe('kept content', () => {
    test('is found, opened and read by the digest that put returns', async () => {
      expect(await store.put(bytes)).toBe(digest);
      expect(await store.find(digest)).toEqual({ size: bytes.byteLength });
      expect(bytes.equals(await collect(await store.open(digest)))).toBe(true);
      expect(bytes.equals((await store.read(digest, bytes.byteLength)) ?? Buffer.of())).toBe(true);
    });

    test('has a digest of the algorithm that put was asked for', async () => {
      const other = digestOf(bytes, 'sha512');
      expect(await store.put(bytes, 'sha512')).toBe(other);
      expect(bytes.equals((await store.read(other, bytes.byteLength)) ?? Buffer.of())).toBe(true);
    });

    test('is not read whole where it is larger than the bound', async () => {
      await store.put(bytes);
      await expect(store.read(digest, bytes.byteLength - 1)).rejects.toBeInstanceOf(ContentTooLarge);
    });

    test('may be empty', async () => {
      const empty = await store.put(new Uint8Array());
      expect(await store.find(empty)).toEqual({ size: 0 });
      expect(await collect(await store.open(empty))).toHaveLength(0);
    });

    test('may be put twice', async () => {
      await store.put(bytes);
      expect(await store.put(bytes)).toBe(digest);
      expect(bytes.equals(await collect(await store.open(digest)))).toBe(true);
    });

    test.each([
      ['the first byte', 0, 0],
      ['a middle part', 1_000_000, 2_200_000],
      ['the last byte', bytes.byteLength - 1, bytes.byteLength - 1],
      ['a part that reaches past the end', 2_000_000, 9_000_000],
    ])('is opened in part: %s', async (_, start, end) => {
      await store.put(bytes);
      const part = await collect(await store.open(digest, { start, end }));
      expect(bytes.subarray(start, end + 1).equals(part)).toBe(true);
    });

    test('may be left half read', async () => {
      await store.put(bytes);
      const reader = (await store.open(digest))?.getReader();
      await reader?.read();
      await reader?.cancel();
      expect(await store.find(digest)).toBeDefined();
    });

    test('is there after a restart', async () => {
      await store.put(bytes);
      await store.close();
      store = await place.open();
      expect(bytes.equals(await collect(await store.open(digest)))).toBe(true);
    });

    test('is gone once deleted, and may be deleted again', async () => {
      await store.put(bytes);
      await store.delete(digest);
      await store.delete(digest);
      expect(await store.find(digest)).toBeUndefined();
    });
  });

  test('content that is not kept is undefined', async () => {
    expect(await store.find(digest)).toBeUndefined();
    expect(await store.open(digest)).toBeUndefined();
    expect(await store.read(digest, 1)).toBeUndefined();
  });

  describe('an ingestion', () => {
    test('keeps a body of a promised digest', async () => {
      const ingestion = store.ingest(bodyOf(bytes), expected);
      expect(await ingestion.done).toEqual(expected);
      expect(await store.find(digest)).toEqual({ size: bytes.byteLength });
    });

    test('keeps a body of an unknown digest under its sha256', async () => {
      expect(await store.ingest(bodyOf(bytes)).done).toEqual(expected);
      expect(await store.find(digest)).toBeDefined();
    });

    test('keeps a body under a promised sha512', async () => {
      const sha512 = digestOf(bytes, 'sha512');
      expect(await store.ingest(bodyOf(bytes), { digest: sha512 }).done).toEqual({ ...expected, digest: sha512 });
      expect(bytes.equals(await collect(await store.open(sha512)))).toBe(true);
    });

    test('keeps an empty body', async () => {
      const ingestion = store.ingest(bodyOf(Buffer.of()));
      expect(await collect(ingestion.open())).toHaveLength(0);
      expect(await ingestion.done).toEqual({ digest: digestOf(Buffer.of()), size: 0 });
    });

    test('works for content that is already kept', async () => {
      await store.put(bytes);
      const ingestion = store.ingest(bodyOf(bytes), expected);
      expect(bytes.equals(await collect(ingestion.open()))).toBe(true);
      expect(await ingestion.done).toEqual(expected);
      expect(bytes.equals(await collect(await store.open(digest)))).toBe(true);
    });

    test('does not show in the store before its end', async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      body.send(bytes);
      expect(await store.find(digest)).toBeUndefined();
      body.end();
      await ingestion.done;
      expect(await store.find(digest)).toBeDefined();
    });

    test('gives 20 readers the whole body while it pulls it once', async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      const readers = Array.from({ length: 20 }, () => collect(ingestion.open()));
      for (let start = 0; start < bytes.byteLength; start += 100_000) body.send(bytes.subarray(start, start + 100_000));
      body.end();
      const bodies = await Promise.all(readers);
      expect(bodies.filter(received => bytes.equals(received))).toHaveLength(20);
      await ingestion.done;
    });

    test('gives a reader what has arrived, but holds back the last chunk until all is verified', async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      const reader = ingestion.open().getReader();
      body.send(bytes.subarray(0, 1000));
      body.send(bytes.subarray(1000));
      expect(bytes.subarray(0, 1000).equals((await reader.read()).value ?? Buffer.of())).toBe(true);
      let isServed = false;
      const rest = reader.read().finally(() => {
        isServed = true;
      });
      await body.isDrained();
      // As long as the store takes for a whole put, a reader has time for one read.
      await store.put(Buffer.from('other'));
      expect(isServed).toBe(false);
      body.end();
      expect((await rest).done).toBe(false);
      await reader.cancel();
      await ingestion.done;
    });

    test('says when it has begun, which is before its end and after its first bytes', async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      body.send(bytes.subarray(0, 1000));
      await ingestion.begun;
      body.send(bytes.subarray(1000));
      body.end();
      await ingestion.done;
    });

    test('has begun, too, when it ends without a byte', async () => {
      await expect(store.ingest(bodyOf(Buffer.of())).begun).resolves.toBeUndefined();
    });

    test("never begins where the body's first bytes fail", async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      const broken = new Error('the upstream broke');
      body.fail(broken);
      await expect(ingestion.begun).rejects.toBe(broken);
    });

    test.each([
      ['the start', 0, 9],
      ['a middle part', 900_000, 2_200_000],
      ['the end', 2_000_000, bytes.byteLength - 1],
    ])('serves a part of the growing content: %s', async (_, start, end) => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      const part = collect(ingestion.open({ start, end }));
      for (let from = 0; from < bytes.byteLength; from += 300_000) body.send(bytes.subarray(from, from + 300_000));
      body.end();
      expect(bytes.subarray(start, end + 1).equals(await part)).toBe(true);
      await ingestion.done;
    });

    test('refuses a part of content of unknown size', async () => {
      const ingestion = store.ingest(bodyOf(bytes), { digest });
      expect(() => ingestion.open({ start: 1, end: 2 })).toThrow(TypeError);
      await ingestion.done;
    });

    test('continues to the end when its readers leave or none ever comes', async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      const leaving = ingestion.open();
      const staying = collect(ingestion.open());
      await leaving.cancel();
      body.send(bytes);
      body.end();
      expect(bytes.equals(await staying)).toBe(true);
      expect(await ingestion.done).toEqual(expected);
    });

    test('serves a reader that comes or continues after the end', async () => {
      const ingestion = store.ingest(bodyOf(bytes), expected);
      const slow = ingestion.open();
      await ingestion.done;
      expect(bytes.equals(await collect(slow))).toBe(true);
      expect(bytes.equals(await collect(ingestion.open()))).toBe(true);
    });

    test.each([
      ['of another digest', bytes.map((byte, at) => (at === 5 ? byte ^ 1 : byte)), expected],
      ['of another digest in its last byte', Buffer.concat([bytes.subarray(0, -1), Buffer.of(0, 1)]), { digest }],
      ['that is too short', bytes.subarray(0, -1), expected],
      ['that is too short, of unpromised size', bytes.subarray(0, -1), { digest }],
      ['that is too long', Buffer.concat([bytes, Buffer.of(1)]), expected],
    ])('never keeps nor delivers whole a body %s', async (_, lie, promised) => {
      const ingestion = store.ingest(bodyOf(Buffer.from(lie)), promised);
      const readers = [drain(ingestion.open()), drain(ingestion.open())];
      await expect(ingestion.done).rejects.toBeInstanceOf(ContentMismatch);
      for (const { received, error } of await Promise.all(readers)) {
        expect(error).toBeInstanceOf(ContentMismatch);
        expect(received).toBeLessThan(Math.min(lie.byteLength, bytes.byteLength));
      }
      expect(await store.find(digest)).toBeUndefined();
      expect((await drain(ingestion.open())).error).toBeInstanceOf(ContentMismatch);
    });

    test('breaks a part, too, when the whole proves wrong', async () => {
      const lie = Buffer.from(bytes);
      lie[lie.byteLength - 1] = (lie.at(-1) ?? 0) ^ 1;
      const ingestion = store.ingest(bodyOf(lie), expected);
      const { received, error } = await drain(ingestion.open({ start: 0, end: 99 }));
      expect(error).toBeInstanceOf(ContentMismatch);
      expect(received).toBeLessThan(100);
    });

    test("rejects with the body's own error, which breaks the readers", async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, expected);
      const reader = drain(ingestion.open());
      body.send(bytes.subarray(0, 1_500_000));
      const broken = new Error('the upstream broke');
      body.fail(broken);
      await expect(ingestion.done).rejects.toBe(broken);
      expect((await reader).error).toBe(broken);
      expect(await store.find(digest)).toBeUndefined();
    });

    test('cancels the body of a lie', async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream, { digest, size: 3 });
      body.send(bytes);
      await expect(ingestion.done).rejects.toBeInstanceOf(ContentMismatch);
      await body.cancelled;
    });

    test('fails when the store closes', async () => {
      const body = createBody();
      const ingestion = store.ingest(body.stream);
      const reader = drain(ingestion.open());
      body.send(bytes);
      await store.close();
      await expect(ingestion.done).rejects.toThrow('closing');
      expect((await reader).error).toBeInstanceOf(Error);
      await body.cancelled;
    });
  });
}

const CHUNK = 64 * 1024;

function bodyOf(bytes: Uint8Array): ReadableStream<Uint8Array> {
  let offset = 0;
  return new ReadableStream({
    pull(controller) {
      if (offset < bytes.byteLength) controller.enqueue(bytes.subarray(offset, offset + CHUNK));
      offset += CHUNK;
      if (offset >= bytes.byteLength) controller.close();
    },
  });
}

/** A body whose sender the test plays. */
function createBody() {
  const cancelled = Promise.withResolvers<void>();
  let control: ReadableStreamDefaultController<Uint8Array> | undefined;
  let drained = Promise.withResolvers<void>();
  const stream = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        control = controller;
      },
      // Asked for more: all that was sent is taken, and the chunk before is on disk.
      pull: () => drained.resolve(),
      cancel: () => cancelled.resolve(),
    },
    { highWaterMark: 0 },
  );
  return {
    stream,
    cancelled: cancelled.promise,
    send(chunk: Uint8Array) {
      drained = Promise.withResolvers();
      control?.enqueue(chunk);
    },
    isDrained: () => drained.promise,
    end: () => control?.close(),
    fail: (error: Error) => control?.error(error),
  };
}

async function collect(stream: ReadableStream<Uint8Array> | undefined): Promise<Uint8Array> {
  if (!stream) throw new Error('the content is not kept');
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function drain(stream: ReadableStream<Uint8Array>): Promise<{ received: number; error?: unknown }> {
  let received = 0;
  try {
    for await (const chunk of stream) received += chunk.byteLength;
    return { received };
  } catch (error) {
    return { received, error };
  }
}
